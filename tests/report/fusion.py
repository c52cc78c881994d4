"""Run folders of experiments with three modalities with a chosen quality, as the trainer writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from affect.training import run_dir

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
SHARES = (0.26, 0.24, 0.2, 0.12, 0.14, 0.04)
SIZES = {"train": 150, "test1": 60, "test2": 80, "test3": 40}
TESTS = ("test1", "test2", "test3")
SUBSETS = ("A", "T", "V", "AT", "AV", "TV")
CONDITIONS = (
    *(f"subset={subset}" for subset in SUBSETS), "missing=0.0", "missing=0.7", "snr=10", "snr=0", "shuffle=A",
    "shuffle=T", "shuffle=V",
)  # fmt: skip
WORTH = {"A": 0.6, "T": 0.45, "V": 0.35}


def labels(part: str, size: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return a part's ids, classes [N] and valences [N], the same in every run."""
    random = np.random.default_rng(sum(map(ord, part)))
    emotion = random.choice(len(CLASSES), size, p=SHARES)
    emotion[: len(CLASSES)] = np.arange(len(CLASSES))
    valence = np.round((np.array([0, -2, 3, -2.5, -1, 1])[emotion] + random.normal(0, 1, size)) * 4) / 4
    return [f"{part}_{i:04d}" for i in range(size)], emotion, valence


@cache
def trait(name: str) -> np.ndarray:
    """Return what is odd about an utterance [C + 1], for every model alike."""
    return np.random.default_rng(sum(map(ord, name[:-4])) * 10000 + int(name[-4:])).normal(size=len(CLASSES) + 1)


def strength(condition: str) -> float:
    """Return how much of a model's knowledge a condition leaves."""
    kind, _, value = condition.partition("=")
    if kind == "subset":
        return min(1.0, sum(WORTH[letter] for letter in value) / 1.2)
    if kind == "missing":
        return 1 - 0.7 * float(value)
    return {"20": 0.95, "10": 0.8, "5": 0.6, "0": 0.4, "A": 0.4, "T": 0.6, "V": 0.7}[value]


def lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def edit(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the records of a file of lines."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = change(records)
    lines(path, records if found is None else found)


def edit_document(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def f1_of(x: np.ndarray, y: np.ndarray) -> float:
    """Return weighted F1, by hand."""
    total = 0.0
    for c in range(len(CLASSES)):
        right, either = np.sum((x == c) & (y == c)), np.sum(x == c) + np.sum(y == c)
        total += np.sum(y == c) / len(y) * (2 * right / either if either else 0.0)
    return float(total)


class Model:
    """A made-up model that knows the labels with a signal of `skill` and noise of its own."""

    def __init__(self, seed: int, fold: int, skill: float, sizes: Mapping[str, int]):
        self.seed, self.fold, self.skill, self.sizes = seed, fold, skill, sizes

    def part(self, part: str) -> tuple[list[str], np.ndarray, np.ndarray]:
        source = "train" if part == "valid" else part
        ids, emotion, valence = labels(source, self.sizes[source])
        if part != "valid":
            return ids, emotion, valence
        mine = np.random.default_rng((self.seed, 99)).permutation(len(ids))[self.fold - 1 :: 5]
        return [ids[i] for i in mine], emotion[mine], valence[mine]

    def says(self, part: str, left: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return logits [N, C] and valences [N], with `left` of what it knows."""
        ids, emotion, valence = self.part(part)
        # The noise is mostly the utterance's own, so that models err alike.
        shared = np.array([trait(name) for name in ids])
        own = np.random.default_rng((self.seed, self.fold, len(ids))).normal(size=shared.shape)
        noise = 0.9 * shared + 0.45 * own
        logits = left * self.skill * np.eye(len(CLASSES))[emotion] + noise[:, :-1]
        return logits.round(4), (0.9 * left * valence + 0.5 * noise[:, -1]).round(4)


def scores(logits: np.ndarray, valence: np.ndarray, emotion: np.ndarray, rated: np.ndarray | None) -> dict[str, Any]:
    f1 = f1_of(logits.argmax(1), emotion)
    mse = None if rated is None else float(np.mean((valence - rated) ** 2))
    found = {"f1": f1, "acc": float(np.mean(logits.argmax(1) == emotion)), "mse": mse}
    return found | {"emoval": None if mse is None else f1 - 0.25 * mse}


def rows(model: Model, part: str, logits: np.ndarray, valence: np.ndarray) -> list[dict[str, Any]]:
    ids, emotion, rated = model.part(part)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    shares = shifted / shifted.sum(1, keepdims=True)
    return [
        {
            "id": name,
            "prediction": {"emotion": CLASSES[int(logits[i].argmax())], "valence": float(valence[i])},
            "target": {"emotion": CLASSES[emotion[i]], "valence": None if part == "test3" else float(rated[i])},
            "probability": {"emotion": dict(zip(CLASSES, shares[i].tolist(), strict=True))},
            "logits": logits[i].tolist(),
            "present": "ATV",
        }
        for i, name in enumerate(ids)
    ]


def write_conditions(path: Path, model: Model, attention: bool, conditions: Sequence[str]) -> None:
    """Write the rows of every part under each condition, as the trainer does."""
    written = {}
    for part in ("valid", *TESTS):
        for condition in conditions:
            found = rows(model, part, *model.says(part, strength(condition)))
            kind, _, value = condition.partition("=")
            random = np.random.default_rng(len(found))
            for row in found:
                if kind == "subset":
                    row["present"] = value
                elif kind == "missing":
                    row["present"] = "".join(letter for letter in "ATV" if random.random() >= float(value))
                if attention:
                    row["attention"] = shares(value if kind == "subset" else "ATV")
            written[f"{part}@{condition}"] = found
    run_dir.write_rows(path, written)


def shares(given: str) -> dict[str, float]:
    """Return what a fusion with a softmax looks at."""
    held = {letter: share for letter, share in zip("ATV", (0.5, 0.3, 0.2), strict=True) if letter in given}
    return {name: held.get(name[0].upper(), 0.0) / sum(held.values()) for name in ("audio", "text", "video")}


def write(
    folder: Path,
    seed: int,
    fold: int,
    *,
    skill: float = 2.0,
    attention: bool = True,
    finished: bool = True,
    epochs: int = 12,
    best: int = 8,
    warmup: int = 3,
    rate: float = 0.2,
    train_emoval: float = 0.3,
    protocol: str = "strict",
    sizes: Mapping[str, int] = SIZES,
    conditions: Sequence[str] = CONDITIONS,
) -> Path:
    """Write the folder of one seed and fold; `best` is the kept epoch, from 0."""
    path = folder / f"seed{seed}" / f"fold{fold}"
    path.mkdir(parents=True)
    model = Model(seed, fold, skill, sizes)
    recipe = {"experiment": folder.name, "task": "multimodal_emotion", "seed": seed, "protocol": protocol}
    recipe["data"] = {"corpus": "mer2023", "fold": fold, "folds": 5}
    recipe["model"] = {"name": "attention_robust", "dropout": 0.35, "modality_dropout": rate, "warmup": warmup}
    recipe |= {"optim": {"lr": 5e-4}, "train": {"epochs": 12, "patience": 30, "batch": 32}}
    (path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    presence = {
        part: {"audio": n, "text": n - n // 20, "video": n - n // 30, "all": n - n // 12} for part, n in sizes.items()
    }
    facts = {"packages": {"torch": "2.13.0"}, "corpus": "mer2023", "fingerprint": "abc", "classes": list(CLASSES)}
    facts |= {"utterances": dict(sizes), "presence": presence, "started": "2026-01-01T10:00:00"}
    facts |= {"command": f"accelerate launch recipes/mer2023.py {folder.name} --seeds 6"}
    (path / "environment.json").write_text(json.dumps(facts), encoding="utf-8")
    said = {part: model.says(part) for part in ("valid", *TESTS)}
    found: dict[str, Any] = {}
    for part, (logits, valence) in said.items():
        _, emotion, rated = model.part(part)
        found[part] = scores(logits, valence, emotion, None if part == "test3" else rated)
    found["train"] = found["valid"] | {"emoval": train_emoval}
    events: list[dict[str, Any]] = []
    for epoch in range(epochs):
        p = rate * min(1.0, max(0.0, (epoch - warmup) / warmup)) if warmup else rate
        step = 10 * (epoch + 1)
        for at in (step - 5, step):
            loss = 2.0 * np.exp(-epoch / 6) + 0.1 * fold + 0.05 * (at % 10)
            events.append({"event": "step", "step": at, "epoch": epoch, "loss": loss, "terms": {}, "grad_norm": 1.0,
                           "lr": {"all": 5e-4}, "schedule": {"modality_dropout": p}})  # fmt: skip
        emoval = found["valid"]["emoval"] - 0.01 * abs(epoch - best)
        events.append(
            {"event": "eval", "evaluation": "valid", "step": step, "epoch": epoch, "scores": {"emoval": emoval}}
        )
    if finished:
        events.append({"event": "end", "step": 10 * epochs, "best_step": 10 * (best + 1), "best_epoch": best,
                       "scores": found})  # fmt: skip
        for part, (logits, valence) in said.items():
            found_rows = [
                row | ({"attention": shares("ATV")} if attention else {}) for row in rows(model, part, logits, valence)
            ]
            lines(path / f"predictions-{part}.jsonl", found_rows)
            always = np.tile([1.0, 0, 0, 0, 0, 0], (len(logits), 1))
            trivial = rows(model, part, always, np.full(len(logits), -0.4))
            kept = [{key: row[key] for key in ("id", "prediction", "target")} for row in trivial]
            lines(path / f"baseline-majority-{part}.jsonl", kept)
        write_conditions(path, model, attention, conditions)
    lines(path / "metrics.jsonl", events)
    return path


def experiment(folder: Path, seeds: Sequence[int] = (0,), folds: Sequence[int] = (1, 2, 3, 4, 5), **told: Any) -> Path:
    """Write all seeds and folds of an experiment and return its folder."""
    for seed in seeds:
        for fold in folds:
            write(folder, seed, fold, **told)
    return folder


def load_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, by id."""
    return sorted(map(json.loads, path.read_text(encoding="utf-8").splitlines()), key=lambda row: row["id"])
