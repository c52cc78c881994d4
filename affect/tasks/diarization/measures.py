"""The measures of diarization, of predicted rows: a row is a recording with its turns.

Importing it loads no tensor library. Errors of recordings are added up before they are divided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from affect.data.activity import activity, in_samples
from affect.data.rttm import Turn
from affect.metrics.bootstrap import draws
from affect.metrics.diarization import Comparison, Errors, compare, errors
from affect.task import Measure, Row

TURNS = "turns"
"""What is predicted of a row, and what is its target: a list of [start, end, speaker] in seconds."""
REAL = "real_"
"""What names of parts begin with whose rows are recordings; the others' are simulated conversations."""
KINDS = ("missed", "false_alarm", "confusion")
"""The parts of a DER."""
_FRAME = 160
"""Samples of the frames in which report 004 counts speakers."""

Parts = tuple[float, float]
"""What a recording adds to the numerator and to the denominator of a rate."""


def turns_in(row: Row, side: str) -> list[Turn]:
    """Return the turns of a row's prediction or target."""
    return [Turn(float(start), float(end), str(speaker)) for start, end, speaker in row[side][TURNS]]


def compared(row: Row) -> Comparison:
    """Return how a row's prediction compares with its target, in what is annotated of it."""
    sides = [tuple(turns_in(row, side)) for side in ("prediction", "target")]
    return _compared(*sides, tuple(spans_of(row)))


@lru_cache(maxsize=4096)
def _compared(
    hypothesis: tuple[Turn, ...], reference: tuple[Turn, ...], uem: tuple[tuple[float, float], ...]
) -> Comparison:
    # Several measures of the same rows ask.
    return compare(hypothesis, reference, uem=uem)


def errors_of(rows: Iterable[Row]) -> Errors:
    """Return the errors of rows together."""
    return sum((compared(row).errors for row in rows), Errors())


def errors_by_overlap(rows: Iterable[Row]) -> tuple[Errors, Errors]:
    """Return the errors of rows together where one speaks at most, and where several speak at once."""
    alone, both = Errors(), Errors()
    for row in rows:
        single = errors(turns_in(row, "prediction"), turns_in(row, "target"), skip_overlap=True, uem=spans_of(row))
        alone, both = alone + single, both + compared(row).errors
    several = {name: max(0.0, getattr(both, name) - getattr(alone, name)) for name in (*KINDS, "speech")}
    return alone, Errors(**several)


def spans_of(row: Row) -> list[tuple[float, float]]:
    """Return what of a row's recording is annotated."""
    return [(start, end) for start, end in row["uem"]]


def _rate(part: str) -> Callable[[Row], Parts]:
    def parts(row: Row) -> Parts:
        seconds = compared(row).errors
        kinds = KINDS if part == "der" else (part,)
        return math.fsum(getattr(seconds, kind) for kind in kinds), seconds.speech

    return parts


def _jaccard(row: Row) -> Parts:
    rates = compared(row).jaccard.values()
    return math.fsum(rates), float(len(rates))


def _miscount(row: Row) -> Parts:
    comparison = compared(row)
    return float(abs(comparison.predicted_speakers - len(comparison.jaccard))), 1.0


def _counted(row: Row) -> Parts:
    """Return what report 004 takes for a DER: frames in which speakers are too many or too few, of all frames."""
    frames = max(1, round(row["seconds"] * 16_000) // _FRAME)
    numbers = []
    for side in ("prediction", "target"):
        turns = in_samples(turns_in(row, side))
        names = sorted({turn.speaker for turn in turns})
        numbers.append(activity(turns, names, frames, _FRAME).sum(0, dtype=np.int64))
    return float(np.abs(numbers[0] - numbers[1]).sum()), float(frames)


def _measure(
    name: str, title: str, parts: Callable[[Row], Parts], *, headline: bool = False, aliases: tuple[str, ...] = ()
) -> Measure:
    """Return a rate of rows: the sum of what each adds above, by the sum of what it adds below."""

    def score(rows: Sequence[Row]) -> float:
        above, below = (math.fsum(column) for column in _columns(rows, parts))
        return above / below if below else math.nan

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> NDArray[np.float64]:
        size = int(groups.max()) + 1
        above, below = (np.bincount(groups, column, minlength=size) for column in _columns(rows, parts))
        counts = draws(size, 1000, 0).astype(np.float64)
        totals = counts @ below
        return np.where(totals > 0, (counts @ above) / np.where(totals > 0, totals, 1.0), np.nan)

    return Measure(
        name=name, title=title, score=score, better="lower", groups=(), replicates=replicates, headline=headline,
        aliases=aliases,
    )  # fmt: skip


def _columns(rows: Sequence[Row], parts: Callable[[Row], Parts]) -> Iterator[list[float]]:
    # Rows that a model lacks, or whose targets two experiments do not share, are handed over too: they add nothing.
    there = (all(isinstance(row[side].get(TURNS), list) for side in ("prediction", "target")) for row in rows)
    pairs = [parts(row) if whole else (0.0, 0.0) for row, whole in zip(rows, there, strict=True)]
    yield [above for above, _ in pairs]
    yield [below for _, below in pairs]


MEASURES = (
    _measure("der", "DER", _rate("der"), headline=True),
    _measure("missed", "missed", _rate("missed")),
    _measure("false_alarm", "false alarm", _rate("false_alarm")),
    _measure("confusion", "confusion", _rate("confusion")),
    _measure("jer", "JER", _jaccard, headline=True),
    _measure("speaker_count_error", "speakers too many or too few", _miscount),
    _measure("counted", "DER by counts", _counted),
)
"""DER first: it chooses checkpoints. All are better where lower, with collar 0 and overlap scored."""
