"""The predictions of a run under its test conditions: subsets of modalities, missing rates, noise, shuffling.

`conditions.npz` beside the predictions. Legend: K conditions, N utterances, C classes, M modalities.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.errors import first_line
from affect.report.multimodal.names import LETTERS, PARTS
from affect.report.multimodal.rows import Names, Rows

FILE = "conditions.npz"


@dataclass(frozen=True)
class Part:
    """What a model says of a part's `ids` [N]: `logits` [K, N, C], `valence` [K, N], `attention` [K, N, M] or None."""

    ids: Names
    logits: NDArray[Any]
    valence: NDArray[Any]
    attention: NDArray[Any] | None
    masks: dict[str, NDArray[np.bool_]]
    """By condition which modalities of an utterance the model was given [N, M]."""


@dataclass(frozen=True)
class Conditions:
    """The conditions by name, in the file's order, and the predictions by part."""

    names: tuple[str, ...] = ()
    parts: dict[str, Part] = field(default_factory=dict)

    def rows(self, part: str, name: str, known: Rows) -> Rows | None:
        """Return a part's predictions under a condition, with the labels of `known`; None where there are none."""
        found = self.parts.get(part)
        if found is None or name not in self.names:
            return None
        place = self.names.index(name)
        return known.said(found.ids, found.logits[place], found.valence[place])


def read(folder: Path, classes: int, problems: list[str]) -> Conditions:
    """Return a run's conditions, none where it has none; `problems` gets a line for what can't be read."""
    path = folder / FILE
    if not path.is_file():
        return Conditions()
    try:
        # Without pickles: reading a file never runs what is in it.
        with np.load(path, allow_pickle=False) as content:
            held = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        problems.append(f"{FILE} can't be read: {first_line(error)}")
        return Conditions()
    names = held.get("conditions")
    if names is None or names.ndim != 1 or names.dtype.kind != "U":
        problems.append(f"{FILE} names no conditions")
        return Conditions()
    known = tuple(str(name) for name in names)
    parts = {}
    for part in PARTS:
        found = {key.removeprefix(f"{part}/"): value for key, value in held.items() if key.startswith(f"{part}/")}
        if not found:
            continue
        wrong = _wrong(found, len(known), classes)
        if wrong:
            problems.append(f"{FILE}: {part}/{wrong}")
            continue
        masks = {key.removeprefix("masks/"): value.astype(bool) for key, value in found.items() if "masks/" in key}
        parts[part] = Part(found["ids"], found["logits"], found["valence"], found.get("attention"), masks)
    return Conditions(known, parts)


def _wrong(found: dict[str, NDArray[Any]], count: int, classes: int) -> str:
    """Return what is wrong with a part's arrays ("": nothing)."""
    ids = found.get("ids")
    if ids is None or ids.ndim != 1 or ids.dtype.kind != "U":
        return "ids are missing"
    if len(np.unique(ids)) < len(ids):
        return "ids hold one more than once"
    size = len(ids)
    shapes = {"logits": (count, size, classes), "valence": (count, size), "attention": (count, size, len(LETTERS))}
    for name, shape in shapes.items():
        array = found.get(name)
        if array is None and name == "attention":
            continue
        if array is None or array.shape != shape or array.dtype.kind != "f":
            return f"{name} must be floats {list(shape)}" + ("" if array is None else f", not {list(array.shape)}")
    for name, array in found.items():
        if "masks/" in name and array.shape != (size, len(LETTERS)):
            return f"{name} must be {[size, len(LETTERS)]}, not {list(array.shape)}"
    return ""
