"""Tiny features of your own: a table of labels with parts of any name, and vectors that tell the class."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affect.recipe import Optim, Train
from affect.tasks.multimodal_emotion.config import Data, Model, MultimodalEmotion

CLASSES = ("calm", "glad", "sad")
FEATURES: dict[str, Any] = {"audio": ("audio",), "text": ("text",), "video": ()}
WIDTHS = {"audio": 5, "text": 4}


def write(
    root: Path, parts: Mapping[str, int], *, classes: Sequence[str] = CLASSES, scale: tuple[float, float] = (-1, 1),
    columns: Sequence[str] = ("name", "emotion", "valence", "part"), listed: bool = False,
) -> Path:  # fmt: skip
    """Write utterances of `parts`, classes in turn, with labels.csv of these columns; `listed`: with those of files."""
    rng = np.random.default_rng(0)
    rows = []
    for part, count in parts.items():
        for k in range(count):
            name, label = f"{part}_{k:02d}", k % len(classes)
            low, high = scale
            facts = {"name": name, "emotion": classes[label], "part": part, "speaker": f"{part} {k // 3}"}
            facts["valence"] = f"{low + (high - low) * (label + 0.5) / len(classes):g}"
            for feature, width in WIDTHS.items():
                values = rng.normal(size=width).astype(np.float32)
                values[label] += 3
                file = root / (f"files/{name}-{feature}.npy" if listed else f"features/{feature}/{name}.npy")
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, values)
                facts[feature] = str(file.relative_to(root))
            rows.append(facts)
    table(root, rows, [*columns, *(WIDTHS if listed else ())])
    return root


def table(root: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], name: str = "labels.csv") -> None:
    """Write a table of these columns."""
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def recipe(root: Path, *, targets: tuple[Any, ...] = ("emotion",), normalise: bool = False, **data: Any):
    """Return a recipe of a few small steps on audio and text."""
    return MultimodalEmotion(
        data=Data(**{"corpus": "feature_table", "root": str(root), **FEATURES, **data}),
        model=Model(hidden=8, dropout=0.1, modality_dropout=0.3, normalise=normalise),
        targets=targets,
        protocol="toolkit",
        optim=Optim(lr=5e-3, schedule="constant", warmup=0.0, clip=None),
        train=Train(batch=8, epochs=2, workers=0, trackers=(), budget=1000.0, mode="hold"),
    )
