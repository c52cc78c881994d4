"""What a model loses and gains by being made smaller: measured on clips of its run, and held against limits.

Errors are shares of a score's scale. Clips are scored one by one, as a user's are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from datasets import Dataset, concatenate_datasets

from affect import tasks
from affect.errors import AffectError
from affect.metrics.quality import srcc
from affect.tables import counted
from affect.task import SPREAD, VALID, Row
from affect.tasks.talking_face import intervals
from affect.tasks.talking_face.config import Signature
from affect.tasks.talking_face.predict import Inputs, Scorer
from affect.tasks.talking_face.task import TalkingFaceTask

_MOST = 500
"""Clips of a part that are scored, evenly spread over it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may not be exceeded: errors as shares of the scale, and ratios to the model before."""

    max_error: float
    mean_error: float
    srcc_drop: float
    """By how much the SRCC of a score may fall."""
    size: float
    latency: float
    """Infinite in every format unless one is given: it is of the machine that exports."""

    def __post_init__(self) -> None:
        """Raise AffectError for a limit that nothing exceeds, for it is no number."""
        for name, limit in vars(self).items():
            if math.isnan(limit):
                raise AffectError(f"{name} is a limit, and NaN is none: nothing would exceed it")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a gate let through: the lines that say what was measured, and the largest difference of a score."""

    lines: tuple[str, ...]
    difference: float


class RunClips:
    """The clips of the run whose best weights lie in a folder."""

    def __init__(self, folder: Path) -> None:
        """Read the run's recipe and corpus; raises AffectError where they are not there."""
        run = folder.absolute().parents[1]
        if not (run / "recipe.json").is_file():
            raise AffectError(f"{folder} is of no run's folder: what is exported is held against clips of its run")
        self.task = cast(TalkingFaceTask, tasks.make(tasks.read_recipe(run / "recipe.json")))
        self.tested = self.task.tests or [VALID]

    def rows(self, *parts: str, most: int = _MOST) -> Dataset:
        """Return rows of parts, evenly spread over them."""
        whole = concatenate_datasets([self.task.parts[part] for part in parts])
        return whole.select(np.linspace(0, len(whole) - 1, min(len(whole), most)).astype(int))

    def inputs(self, row: Row) -> Inputs:
        """Return what the model takes of a row."""
        return self.task.clips.batch([row], None).inputs

    def intervals(self, scorer: Scorer, data: Signature, level: float) -> dict[str, object]:
        """Return this model's intervals of a level by the validation clips, by test clips where those were trained on.

        Without such a part there are none.
        """
        parts = self.task.tests if self.task.recipe.data.train_all else [VALID]
        if not parts:
            return {}
        scored = [(row, scorer(self.inputs(row))) for row in self.rows(*parts)]
        groups = self.task.corpus.groups
        rows: list[Row] = []
        for row, outputs in scored:
            spread = {name: outputs[name + SPREAD] for name, _, _ in data.scores if name + SPREAD in outputs}
            target = {name: row[name] for name, _, _ in data.scores}
            rows.append({"prediction": outputs, "target": target, **({"spread": spread} if spread else {}),
                          **{name: row[name] for name in groups}})  # fmt: skip
        return intervals.of_rows(rows, data, level)


def judge(
    clips: RunClips, data: Signature, before: Scorer, after: Scorer, sizes: tuple[int, int], limits: Limits
) -> Judged:
    """Return what was measured of `after`, beside the model `before`, whose files have these `sizes` in bytes.

    Raises AffectError, with all of it in one line, where a limit is exceeded.
    """
    rows = clips.rows(*clips.tested)
    old, new, seconds = _both(clips, rows, before, after)
    scales = {name: high - low for name, low, high in data.scores}
    errors = {name: np.abs(new[name] - old[name]) for name in scales}
    shares = {name: errors[name] / scale for name, scale in scales.items()}
    worst = max(shares, key=lambda name: float(np.max(shares[name])))
    ratio = seconds[1] / seconds[0]
    drops, told = _correlations(rows, old, new, scales)
    measured = {
        "size": (sizes[1] / sizes[0], f"size: {_megabytes(sizes[1])} of {_megabytes(sizes[0])} MB"),
        "latency": (ratio, f"latency: {1e3 * seconds[1]:.2f} of {1e3 * seconds[0]:.2f} ms a clip"),
        "max_error": (float(np.max(shares[worst])), f"largest error, as a share of the scale ({worst})"),
        "mean_error": (float(np.mean([*shares.values()])), "mean error, as a share of the scale"),
        "srcc_drop": (max([0.0, *drops]), f"largest fall of SRCC ({told})"),
    }
    lines, over = [f"held against {counted(len(rows), 'clip')} ({', '.join(clips.tested)})"], []
    for name, (value, words) in measured.items():
        limit = getattr(limits, name)
        lines.append(f"{words}: {value:.2g}" + (f" ({name} {limit:g})" if math.isfinite(limit) else ""))
        # NaN exceeds any limit.
        over += [] if value <= limit else [name]
    if over:
        raise AffectError(f"over the limit of {', '.join(over)}, so nothing is kept: " + "; ".join(lines))
    return Judged(lines=tuple(lines), difference=max(float(values.max()) for values in errors.values()))


def _both(
    clips: RunClips, rows: Dataset, before: Scorer, after: Scorer
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[float, float]]:
    """Return the outputs [R] of both models by name, and their median seconds a clip, measured in turn."""
    outputs: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    seconds: tuple[list[float], list[float]] = ([], [])
    for row in rows:
        given = clips.inputs(row)
        for k, scorer in enumerate((before, after)):
            start = time.perf_counter()
            outputs[k].append(scorer(given))
            seconds[k].append(time.perf_counter() - start)
    old, new = ({name: np.array([one[name] for one in each]) for name in each[0]} for each in outputs)
    return old, new, (float(np.median(seconds[0])), float(np.median(seconds[1])))


def _correlations(
    rows: Dataset, old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], scores: Iterable[str]
) -> tuple[list[float], str]:
    """Return by how much SRCC fell, of each score that has one, and words on all of them."""
    drops, told = [], []
    for name in scores:
        target = np.asarray(rows[name], np.float64)
        own = srcc(old[name], target)
        if math.isfinite(own):
            # A constant has none, and what is no number tells nothing: all of it is lost.
            other = srcc(new[name], target) if np.isfinite(new[name]).all() else math.nan
            drops.append(own - other if math.isfinite(other) else own)
            told.append(f"{name} {own:.3f} to {other:.3f}")
    return drops, ", ".join(told) or "not defined on these clips"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f}"
