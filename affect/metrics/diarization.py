"""Diarization error rate (DER) and Jaccard error rate (JER), exact on the intervals: there is no frame grid.

Legend: a segment is (start, end, speaker) in seconds; R speakers of the reference, S of the prediction, T stretches
of time in which nothing changes. A speaker's own segments that overlap are one, so a speaker counts once however
often a file says so; those that only touch keep their seam, at which a collar is left out.

Source: the definitions of NIST's Rich Transcription evaluations (md-eval) and of DIHARD (JER), by the rules of dscore:
without a UEM all time is scored (md-eval stops at the reference's ends, which forgives false alarms beyond them).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from affect.metrics.regression import Floats

Segment = tuple[float, float, Hashable]
Span = tuple[float, float]

_DUST = 1e-6
"""Seconds: a shorter overlap is rounding (onset + duration, each of three digits), not an overlap."""

_TIE = 1e-7
"""Of mappings that share equally much in the UEM the one is taken that shares most of what is scored."""


@dataclass(frozen=True)
class Errors:
    """Seconds of speech that are wrong, by kind, and seconds of reference speech (overlap: once a speaker)."""

    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0
    speech: float = 0.0

    @property
    def rate(self) -> float:
        """Return the DER: wrong over reference speech, which may exceed 1; NaN where nobody speaks."""
        return (self.missed + self.false_alarm + self.confusion) / self.speech if self.speech > 0 else math.nan

    def __add__(self, other: Errors) -> Errors:
        """Return the errors of both together: rates of recordings are pooled by their seconds, not averaged."""
        return Errors(
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
            self.speech + other.speech,
        )


@dataclass(frozen=True)
class Comparison:
    """All scores of one recording."""

    errors: Errors
    jaccard: dict[Hashable, float]
    """The Jaccard error of each reference speaker."""
    predicted_speakers: int
    """Speakers of the prediction with time in the UEM."""


def compare(
    prediction: Iterable[Segment],
    reference: Iterable[Segment],
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
    uem: Iterable[Span] | None = None,
) -> Comparison:
    """Return what `errors` and `jaccard` return of one recording. Raises ValueError as `errors` does."""
    times = _Timeline(prediction, reference, uem, collar, skip_overlap)
    speaking = int(np.count_nonzero(times.predicted @ times.seconds))
    return Comparison(_errors(times), _jaccard(times), speaking)


def errors(
    prediction: Iterable[Segment],
    reference: Iterable[Segment],
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
    uem: Iterable[Span] | None = None,
) -> Errors:
    """Return the errors of one recording under the one-to-one mapping of speakers that shares most time.

    The mapping is that of all time in the UEM, also of what `collar` and `skip_overlap` leave out. `collar`: seconds
    on each side of every boundary of the reference that are not scored (md-eval's meaning: .25; pyannote's .5 is the
    same). `skip_overlap` leaves out time in which several speak in the reference. `uem`: the spans that are scored.
    Raises ValueError for times that are not finite, an end before its start, or a negative collar.
    """
    return _errors(_Timeline(prediction, reference, uem, collar, skip_overlap))


def speaker_map(
    prediction: Iterable[Segment], reference: Iterable[Segment], *, uem: Iterable[Span] | None = None
) -> dict[Hashable, Hashable]:
    """Return the reference's speaker of each predicted one, by most time in common; one that shares none is left out.

    Raises ValueError as `errors` does.
    """
    times = _Timeline(prediction, reference, uem)
    shared = times.shared(times.seconds)
    return {
        times.predicted_names[s]: times.reference_names[r]
        for r, s in zip(*(side.tolist() for side in times.mapping()), strict=True)
        if shared[r, s] > 0
    }


def jaccard(
    prediction: Iterable[Segment], reference: Iterable[Segment], *, uem: Iterable[Span] | None = None
) -> dict[Hashable, float]:
    """Return the Jaccard error of each reference speaker, in [0, 1]: 1 - time in common / time of either.

    Speakers are mapped so that the mean is least, and one without a partner has 1. No collar, overlap in (as DIHARD
    defines it). A speaker with no time in the UEM is left out. Raises ValueError as `errors` does.
    """
    return _jaccard(_Timeline(prediction, reference, uem))


def score(
    predictions: Sequence[Iterable[Segment]],
    references: Sequence[Iterable[Segment]],
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
    uems: Sequence[Iterable[Span] | None] | None = None,
) -> dict[str, float]:
    """Return `der`, its parts in seconds, `speech` and `jer` of recordings, pooled.

    DER: seconds of all recordings are added up before they are divided, so a recording without speech adds its false
    alarms. JER: the mean over all speakers of all recordings, without collar and with overlap. Both are NaN where
    nobody speaks in any reference. Raises ValueError for unequal numbers of recordings, and as `errors` does.
    """
    spans = [None] * len(references) if uems is None else uems
    if not len(predictions) == len(references) == len(spans):
        raise ValueError(f"{len(predictions)} predictions, {len(references)} references and {len(spans)} UEMs differ")
    total = Errors()
    each: list[float] = []
    for prediction, reference, uem in zip(predictions, references, spans, strict=True):
        compared = compare(prediction, reference, collar=collar, skip_overlap=skip_overlap, uem=uem)
        total += compared.errors
        each += compared.jaccard.values()
    return {
        "der": total.rate,
        "jer": float(np.mean(each)) if each else math.nan,
        "missed": total.missed,
        "false_alarm": total.false_alarm,
        "confusion": total.confusion,
        "speech": total.speech,
    }


def by_speaker(segments: Iterable[Segment]) -> dict[Hashable, list[Span]]:
    """Return each speaker's segments in order, those that overlap made one; empty ones are dropped.

    Raises ValueError for times that are not finite, or an end before its start.
    """
    turns: dict[Hashable, list[Span]] = {}
    for start, end, speaker in segments:
        span = _checked(start, end, f"speaker {speaker!r}")
        if span[1] > span[0]:
            turns.setdefault(speaker, []).append(span)
    return {speaker: united(spans, -_DUST) for speaker, spans in turns.items()}


def united(spans: Iterable[Span], gap: float = _DUST) -> list[Span]:
    """Return the spans in order, those made one that are `gap` seconds apart at most (less than 0: that overlap)."""
    whole: list[Span] = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1] + gap:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


class _Timeline:
    """Who speaks when: `reference` [R, T] and `predicted` [S, T] are 0 or 1.

    `seconds` [T] are those in the UEM, `weight` [T] those of them that are scored.
    """

    def __init__(
        self,
        prediction: Iterable[Segment],
        reference: Iterable[Segment],
        uem: Iterable[Span] | None,
        collar: float = 0.0,
        skip_overlap: bool = False,
    ):
        if not 0 <= collar < math.inf:
            raise ValueError(f"the collar must be zero or more seconds, not {collar}")
        predicted, spoken = by_speaker(prediction), by_speaker(reference)
        spans = None if uem is None else united([_checked(start, end, "the UEM") for start, end in uem])
        borders = [time for turns in spoken.values() for turn in turns for time in turn] if collar else []
        zones = united([(time - collar, time + collar) for time in borders])
        edges = {
            time for turns in (*predicted.values(), *spoken.values(), spans or [], zones) for t in turns for time in t
        }
        self._edges = np.array(sorted(edges), dtype=np.float64)
        self.predicted_names, self.predicted = list(predicted), self._rows(list(predicted.values()))
        self.reference_names, self.reference = list(spoken), self._rows(list(spoken.values()))
        self.seconds: Floats = np.diff(self._edges)
        if spans is not None:
            self.seconds *= self._rows([spans])[0]
        self.weight: Floats = self.seconds * (1 - self._rows([zones])[0])
        if skip_overlap:
            self.weight *= self.reference.sum(0) < 2

    def _rows(self, turns: Sequence[Sequence[Span]]) -> Floats:
        rows = np.zeros((len(turns), max(0, len(self._edges) - 1)))
        for row, spans in zip(rows, turns, strict=True):
            for start, stop in np.searchsorted(self._edges, np.array(spans).reshape(-1, 2)).tolist():
                row[start:stop] = 1.0
        return rows

    def shared(self, seconds: Floats) -> Floats:
        """Return how many of `seconds` [T] both speak, [R, S]."""
        table: Floats = (self.reference * seconds) @ self.predicted.T
        return table

    def mapping(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the speakers of the reference and of the prediction that belong together, a pair a place."""
        table = self.shared(self.seconds) + _TIE * self.shared(self.weight)
        rows, columns = linear_sum_assignment(table, maximize=True)
        return rows, columns


def _errors(times: _Timeline) -> Errors:
    weight, spoken, predicted = times.weight, times.reference.sum(0), times.predicted.sum(0)
    right = float(times.shared(weight)[times.mapping()].sum())
    return Errors(
        missed=float(np.maximum(spoken - predicted, 0) @ weight),
        false_alarm=float(np.maximum(predicted - spoken, 0) @ weight),
        # Rounding may leave less than nothing.
        confusion=max(0.0, float(np.minimum(spoken, predicted) @ weight) - right),
        speech=float(spoken @ weight),
    )


def _jaccard(times: _Timeline) -> dict[Hashable, float]:
    shared = times.shared(times.seconds)
    spoken, predicted = times.reference @ times.seconds, times.predicted @ times.seconds
    either = spoken[:, None] + predicted[None, :] - shared
    error = 1.0 - np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    # A speaker who never speaks here must not take a partner that another could use.
    speaks = np.flatnonzero(spoken > 0)
    rows, columns = linear_sum_assignment(error[speaks])
    rates = dict.fromkeys(speaks.tolist(), 1.0)
    rates.update({int(speaks[r]): float(error[speaks[r], s]) for r, s in zip(rows, columns, strict=True)})
    return {times.reference_names[r]: value for r, value in rates.items()}


def _checked(start: float, end: float, whose: str) -> Span:
    if not (math.isfinite(start) and math.isfinite(end) and start <= end):
        raise ValueError(f"a segment of {whose} runs from {start} to {end}: times are finite and end after they start")
    return float(start), float(end)
