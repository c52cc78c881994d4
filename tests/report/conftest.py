"""Run folders with known numbers: predictions are built to have a given CCC exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affect import figures
from affect.findings import Plot
from tests.report import fusion
from tests.report.fusion import lines

REPORT = {
    "valence": (0.6496, 0.6779, 0.4720, 0.5634, 0.5464),
    "arousal": (0.7309, 0.6825, 0.6637, 0.6569, 0.7424),
}
Write = Callable[..., Path]


def predictions_of(target: np.ndarray, ccc: float, random: np.random.Generator) -> np.ndarray:
    """Return predictions [N] of the target's mean and deviation whose CCC with it is exactly `ccc`."""
    spread = (target - target.mean()) / target.std()
    noise = random.normal(size=len(target))
    noise -= noise.mean()
    noise -= spread * (noise @ spread) / len(target)
    noise /= noise.std()
    return target.mean() + target.std() * (ccc * spread + np.sqrt(1 - ccc**2) * noise)


def rows(fold: int, part: str, scores: Mapping[str, float], size: int, seed: int, dialogues: bool) -> list[dict]:
    session = f"Ses{fold:02d}" if part == "test" else f"Ses{fold + 1:02d}"
    labels = np.random.default_rng(fold if part == "test" else 100 + fold)
    random = np.random.default_rng((seed, fold))
    found = [{"id": f"{session}_{i:04d}", "prediction": {}, "target": {}} for i in range(size)]
    for i, row in enumerate(found):
        row |= {"speaker": session + "FM"[i % 2], "session": session}
        row["dialogue"] = f"{session}_impro{i % 10:02d}" if dialogues else None
    for name, score in scores.items():
        target = np.clip(labels.normal(3, 0.9, size), 1, 5).round(1)
        for row, p, t in zip(found, predictions_of(target, score, random), target, strict=True):
            row["prediction"][name], row["target"][name] = float(p), float(t)
    return found


@pytest.fixture
def write_run() -> Write:
    """Return a function that writes a finished run as the trainer does; every part of it can be told."""

    def write(
        folder: Path,
        fold: int,
        test: Mapping[str, float],
        *,
        seed: int = 0,
        valid: Mapping[str, float] | None = None,
        baselines: Mapping[str, Mapping[str, float]] | None = None,
        size: int = 200,
        dialogues: bool = True,
        finished: bool = True,
        waiting: float = 0.02,
        environment: Mapping[str, Any] | None = None,
        epochs: int = 6,
    ) -> Path:
        path = folder / f"seed{seed}" / f"fold{fold}"
        path.mkdir(parents=True)
        valid = dict(test) if valid is None else dict(valid)
        recipe = {"task": "emotion", "experiment": folder.name, "seed": seed}
        recipe["targets"] = list(test)
        recipe["data"] = {"corpus": "iemocap", "fold": fold, "split": "session"}
        recipe |= {"optim": {"lr": 1e-4, "encoder_lr": 1e-5, "clip": None}, "train": {"batch": 64, "evaluate_every": 1}}
        recipe["model"] = {"encoder": "microsoft/wavlm-large", "train_encoder": "transformer"}
        (path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        facts = {"versions": {"torch": "2.13.0"}, "world": 1, "fingerprint": "abc", "mapped": False}
        (path / "environment.json").write_text(json.dumps(facts | dict(environment or {})), encoding="utf-8")
        events: list[dict[str, Any]] = []
        random = np.random.default_rng((seed, fold, 7))
        for step in range(1, 20 * epochs + 1):
            loss = 0.35 + 0.6 * np.exp(-step / 30) + 0.05 * random.normal()
            events.append({"event": "step", "step": step, "epoch": (step - 1) // 20, "loss": loss, "grad_norm": 1.0})
            if step % 20 == 0:
                share = 1 - 0.5 * np.exp(-step / 30)
                scores = {f"ccc_{name}": share * value for name, value in valid.items()}
                event = {
                    "event": "eval",
                    "evaluation": "valid",
                    "step": step,
                    "epoch": step // 20 - 1,
                    "scores": scores,
                }
                events.append(event)
        if finished:
            parts = {part: {f"ccc_{k}": v for k, v in s.items()} for part, s in (("valid", valid), ("test", test))}
            events.append({"event": "end", "step": 20 * epochs, "best_step": 20 * (epochs - 1), "scores": parts})
            lines(path / "predictions-valid.jsonl", rows(fold, "valid", valid, size, seed, dialogues))
            lines(path / "predictions-test.jsonl", rows(fold, "test", test, size, seed, dialogues))
            for name, scores in (baselines or {}).items():
                lines(path / f"baseline-{name}-test.jsonl", rows(fold, "test", scores, size, 50, dialogues))
        lines(path / "metrics.jsonl", events)
        lines(path / "timing.jsonl", [{"step": s, "seconds": 1.0, "waiting": waiting} for s in range(1, 9)])
        return path

    return write


@pytest.fixture
def report_runs(tmp_path: Path, write_run: Write) -> Path:
    """The five folds of report 000's v2, with fold 5's validation CCC-V of .69."""
    folder = tmp_path / "v2"
    for fold in range(1, 6):
        test = {name: values[fold - 1] for name, values in REPORT.items()}
        write_run(folder, fold, test, valid=test | {"valence": 0.69} if fold == 5 else None)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One experiment of three modalities and two seeds, to be copied and never changed."""
    return fusion.experiment(tmp_path_factory.mktemp("made") / "robust_v3", (0, 1))


@pytest.fixture
def fused(made: Path, tmp_path: Path) -> Path:
    """A copy of that experiment."""
    return Path(shutil.copytree(made, tmp_path / "runs" / made.name))


@pytest.fixture
def plain(made: Path, tmp_path: Path) -> Path:
    """A copy of that experiment without its rows under conditions."""
    ignored = shutil.ignore_patterns("*@*")
    return Path(shutil.copytree(made, tmp_path / "runs" / made.name, ignore=ignored))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without the time that drawing takes: every plot is an empty file."""

    def save(plots: Iterable[Plot], folder: Path) -> dict[str, str]:
        folder.mkdir(parents=True, exist_ok=True)
        names = [plot.name for plot in plots]
        for name in names:
            (folder / f"{name}.png").write_bytes(b"")
        return {name: f"{folder.name}/{name}.png" for name in names}

    monkeypatch.setattr(figures, "save", save)
