"""Finished runs of diarization with known faults, written as the trainer does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from affect import report
from affect.metrics import chance
from affect.report import Study
from affect.tasks.diarization.config import Data, Diarization, Loss
from affect.tasks.diarization.diagnostics import THRESHOLDS
from affect.tasks.diarization.trivial import NAMES, trivially

PARTS = ("test_2_speakers_8s", "test_2_speakers_32s", "test_3_speakers_8s")
RECIPE = Diarization(data=Data(held_out=4))


def conversation(name: str, speakers: int, seconds: float, fault: str = "", late: float = 0.1) -> dict[str, Any]:
    """Return a row whose speakers take turns of 2 s that overlap by .5 s, and are told `late`, with a fault."""
    starts = [1.5 * place for place in range(int(seconds // 1.5))]
    turns = [[at, min(at + 2.0, seconds), f"s{place % speakers}"] for place, at in enumerate(starts)]
    told = [[min(a + late, b), b, speaker[1:]] for a, b, speaker in turns]
    if fault == "silent":
        told = told[:0]
    if fault == "one" or (fault == "long" and seconds > 8):
        told = [[a, b, "0"] for a, b, _ in told]
    if fault == "split":
        told = [[a, b, f"{speaker}{place // speakers % 2}"] for place, (a, b, speaker) in enumerate(told)]
    if fault == "joined":
        told = [[a, b, "0" if speaker == "1" else speaker] for a, b, speaker in told]
    return {
        "id": name, "prediction": {"turns": told}, "target": {"turns": turns}, "recording": name,
        "uem": [[0.0, seconds]], "speakers": speakers, "seconds": seconds, "overlap": 0.3,
    }  # fmt: skip


def rows(part: str, size: int = 3, fault: str = "") -> list[dict[str, Any]]:
    """Return rows of a part, each told a little later than the one before."""
    speakers, seconds = (2, 16.0) if part == "valid" else (int(part[5]), float(part.split("_")[-1].strip("s")))
    return [conversation(f"{part}_{k}", speakers, seconds, fault, 0.1 + 0.05 * k) for k in range(size)]


def told(fault: str = "", share: float = 1.0, arcface: float | None = None, right: float = 0.1) -> dict[str, float]:
    """Return the means of diagnostics of a step, `share` of the way from chance to what is learned."""
    rate = 0.2
    spread = 0.0 if fault == "constant" else 0.3 * share
    best = 0.2 if fault == "threshold" else 0.5
    means = {
        "positive_rate": rate, "active_slots": 2.0, "taught_slots": 3.0, "predicted_mean": rate,
        "predicted_square": rate**2 + spread**2, "predicted_active": rate + spread,
        "predicted_silent": rate - spread / 4,
        "bce": chance.entropy(rate) * (1.0 if fault == "chance" else 1 - 0.7 * share), "compared_speakers": 2.5,
    }  # fmt: skip
    means |= {f"der_{100 * each:.0f}": 0.3 + abs(each - best) for each in THRESHOLDS}
    if arcface is not None:
        means |= {"arcface": arcface, "valid_speakers": 2.0, "speakers_right": right, "weight_bce": 1.0}
        means["weight_arcface"] = 0.1 if fault == "weights" else 0.1 * (1 + share)
    return means


def written(
    folder: Path, fault: str = "", *, recipe: Diarization = RECIPE, seeds: int = 1, diagnosed: bool = True,
    arcface: float | None = None, right: float = 0.1, ders: tuple[float, ...] = (0.9, 0.45, 0.4), size: int = 3,
) -> Study:  # fmt: skip
    """Write finished runs and return their study; `ders` are those of validation by epoch."""
    for seed in range(seeds):
        path = folder / f"seed{seed}" / "fold1"
        path.mkdir(parents=True)
        for part in (*PARTS, "valid"):
            made = rows(part, size, fault)
            dump(path / f"predictions-{part}.jsonl", made)
            for name in NAMES if part != "valid" else ():
                dump(path / f"baseline-{name}-{part}.jsonl", [trivially(row, name) for row in made])
        (path / "recipe.json").write_text(
            json.dumps(replace(recipe, seed=seed).to_dict() | {"experiment": folder.name})
        )
        facts = {"corpus": "voices@1", "fingerprint": "1", "voices": {"training": 40, "validation": 4, "test": 12}}
        (path / "environment.json").write_text(json.dumps(facts))
        dump(path / "metrics.jsonl", events(fault, diagnosed, arcface, ders, right))
    return Study(runs=report.read(folder), name=folder.name, folder=folder)


def events(
    fault: str, diagnosed: bool, arcface: float | None, ders: tuple[float, ...], right: float
) -> list[dict[str, Any]]:
    """Return the lines of a log, ten steps an epoch."""
    count, lines = 10 * len(ders), []
    for step in range(1, count + 1):
        alike = chance.contrastive(2.5 * RECIPE.train.batch, 40)
        terms = {"bce": 0.6 - 0.4 * step / count, "speakers": alike if fault == "alike" else 2.0 - 1.5 * step / count}
        line = {"event": "step", "step": step, "epoch": (step - 1) // 10, "loss": sum(terms.values()), "terms": terms}
        line |= {"grad_norm": 1.0 + 0.01 * (step % 7), "undefined": []}
        if diagnosed and step % 2 == 0:
            line["diagnostics"] = told(fault, step / count, arcface, right)
        lines.append(line)
        if step % 10 == 0:
            scores = {"der": ders[step // 10 - 1], "jer": ders[step // 10 - 1]}
            place = {"event": "eval", "step": step, "epoch": step // 10 - 1, "scores": scores}
            lines += [place | {"evaluation": name} for name in ("train", "valid")]
    best = 10 * (1 + ders.index(min(ders)))
    end = {"event": "end", "step": count, "best_step": best, "best_epoch": best // 10 - 1}
    return [*lines, end | {"scores": {"train": {"der": min(ders)}, "valid": {"der": min(ders)}}}]


def dump(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


LEARNED = replace(RECIPE, loss=Loss(arcface=True, learned=True))
