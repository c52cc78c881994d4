"""Diarization error rate as a module of `evaluate`; self-contained, so it can be pushed as it is."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.optimize import linear_sum_assignment

_DESCRIPTION = """
Diarization error rate: (missed + false alarm + confusion) / reference speech, exact on the intervals, under the
one-to-one mapping of speakers that shares most time; and the Jaccard error rate. Recordings are pooled by seconds.
"""

_INPUTS = """
Args:
    predictions: one item a recording: a list of {"start": seconds, "end": seconds, "speaker": name}, or RTTM text.
    references: the same, in the same form as predictions.
    collar: seconds on each side of every boundary of the reference that are not scored.
    skip_overlap: leave out time in which several speakers of the reference speak.
    uem: one item a recording: a list of (start, end) that are scored, or None for all time; None: all time of all.

Returns:
    der: may exceed 1; NaN where no reference has speech.
    jer: mean Jaccard error of all reference speakers, in [0, 1], without collar and with overlap.
    missed, false_alarm, confusion, speech: seconds of errors by kind, and of reference speech.

Examples:
    >>> import evaluate
    >>> der = evaluate.load("affect/metrics/evaluate_modules/der")
    >>> der.compute(
    ...     predictions=[[{"start": 0, "end": 8, "speaker": "x"}]],
    ...     references=[[{"start": 0, "end": 6, "speaker": "ann"}, {"start": 6, "end": 10, "speaker": "ben"}]],
    ... )
    {'der': 0.4, 'jer': 0.625, 'missed': 2.0, 'false_alarm': 0.0, 'confusion': 2.0, 'speech': 10.0}
"""

_CITATION = """
@inproceedings{fiscus2006rich,
  title = {The Rich Transcription 2006 Spring Meeting Recognition Evaluation},
  author = {Fiscus, Jonathan G. and Ajot, Jerome and Michel, Martial and Garofolo, John S.},
  booktitle = {Machine Learning for Multimodal Interaction},
  year = {2006}
}
"""

_DUST = 1e-6
"""Seconds: a shorter overlap is rounding (onset + duration, each of three digits), not an overlap."""

_TIE = 1e-7
"""Of mappings that share equally much in the UEM the one is taken that shares most of what is scored."""


class DiarizationErrorRate(evaluate.Metric):  # type: ignore[misc]  # evaluate carries no types
    """The diarization error rate of recordings, with its parts and the Jaccard error rate."""

    def _info(self) -> Any:
        segments = [
            {
                "start": datasets.Value("float64"),
                "end": datasets.Value("float64"),
                "speaker": datasets.Value("string"),
            }
        ]
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            # Two forms; evaluate takes the first that fits. A column has one type, so a segment is no mixed tuple.
            features=[
                datasets.Features({"predictions": text, "references": text}),
                datasets.Features({"predictions": segments, "references": segments}),
            ],
        )

    def _compute(
        self, predictions: Any, references: Any, collar: float = 0.0, skip_overlap: bool = False, uem: Any = None
    ) -> dict[str, float]:
        if not 0 <= collar < math.inf:
            raise ValueError(f"the collar must be zero or more seconds, not {collar}")
        spans = [None] * len(references) if uem is None else list(uem)
        if len(spans) != len(references):
            raise ValueError(f"{len(references)} recordings have {len(spans)} UEMs")
        totals, jaccard = np.zeros(4), []
        for predicted, reference, scored in zip(map(_turns, predictions), map(_turns, references), spans, strict=True):
            region = None if scored is None else _united([_checked(start, end) for start, end in scored])
            timeline = _timeline(predicted, reference, region, collar, skip_overlap)
            totals += _errors(*timeline)
            jaccard += _jaccard(*timeline[:3])
        missed, false_alarm, confusion, speech = totals.tolist()
        return {
            "der": (missed + false_alarm + confusion) / speech if speech > 0 else math.nan,
            "jer": float(np.mean(jaccard)) if jaccard else math.nan,
            "missed": missed,
            "false_alarm": false_alarm,
            "confusion": confusion,
            "speech": speech,
        }


def _turns(recording: Any) -> list[Any]:
    """Return the turns of each speaker, in order, those that overlap made one."""
    turns: dict[str, Any] = {}
    for start, end, speaker in _lines(recording) if isinstance(recording, str) else map(_segment, recording):
        span = _checked(start, end)
        if span[1] > span[0]:
            turns.setdefault(speaker, []).append(span)
    return [_united(spans, -_DUST) for spans in turns.values()]


def _segment(row: Any) -> tuple[float, float, str]:
    return row["start"], row["end"], row["speaker"]


def _lines(text: str) -> list[tuple[float, float, str]]:
    """Return the segments of an RTTM: SPEAKER file channel onset duration <NA> <NA> speaker, spaces between."""
    segments, files = [], set()
    for line in text.split("\n"):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        if not 8 <= len(fields) <= 10:
            raise ValueError(f"an RTTM line has 8 to 10 fields, not {len(fields)}: {line!r}")
        onset, duration = float(fields[3]), float(fields[4])
        segments.append((onset, onset + duration, fields[7]))
        files.add(fields[1])
    if len(files) > 1:
        raise ValueError(f"an item is one recording, but its RTTM names {len(files)}: {', '.join(sorted(files))}")
    return segments


def _checked(start: float, end: float) -> tuple[float, float]:
    if not (math.isfinite(start) and math.isfinite(end) and start <= end):
        raise ValueError(f"a segment runs from {start} to {end}: times are finite and end after they start")
    return float(start), float(end)


def _united(spans: Any, gap: float = _DUST) -> list[tuple[float, float]]:
    """Return the spans in order, those made one that are `gap` seconds apart at most (less than 0: that overlap)."""
    whole: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1] + gap:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


def _timeline(prediction: Any, truth: Any, region: Any, collar: float, skip_overlap: bool) -> tuple[Any, Any, Any, Any]:
    """Return who speaks in the prediction [S, T] and the reference [R, T], seconds in the UEM and scored ones [T]."""
    borders = [time for turns in truth for turn in turns for time in turn] if collar else []
    zones = _united([(time - collar, time + collar) for time in borders])
    edges = np.array(
        sorted({t for turns in (*prediction, *truth, region or [], zones) for span in turns for t in span})
    )

    def rows(speakers: Any) -> Any:
        table = np.zeros((len(speakers), max(0, len(edges) - 1)))
        for row, turns in zip(table, speakers, strict=True):
            for start, stop in np.searchsorted(edges, np.array(turns).reshape(-1, 2)).tolist():
                row[start:stop] = 1.0
        return table

    predicted, reference = rows(prediction), rows(truth)
    seconds = np.diff(edges)
    if region is not None:
        seconds = seconds * rows([region])[0]
    weight = seconds * (1 - rows([zones])[0])
    if skip_overlap:
        weight = weight * (reference.sum(0) < 2)
    return predicted, reference, seconds, weight


def _errors(predicted: Any, reference: Any, seconds: Any, weight: Any) -> Any:
    """Return the seconds missed, of false alarm, of confusion, and of reference speech [4]."""
    claimed, spoken = predicted.sum(0), reference.sum(0)
    shared = (reference * weight) @ predicted.T
    # Speakers are mapped on all time in the UEM, also on what a collar or overlap leaves out.
    mapping = linear_sum_assignment((reference * seconds) @ predicted.T + _TIE * shared, maximize=True)
    right = shared[mapping].sum()
    both = np.minimum(spoken, claimed)
    # Rounding may leave less than no confusion.
    confusion = max(0.0, both @ weight - right)
    return np.array([(spoken - both) @ weight, (claimed - both) @ weight, confusion, spoken @ weight])


def _jaccard(predicted: Any, reference: Any, seconds: Any) -> list[float]:
    """Return the Jaccard error of each speaker who has time in the scored reference."""
    reference = reference[reference @ seconds > 0]
    shared = (reference * seconds) @ predicted.T
    either = (reference @ seconds)[:, None] + (predicted @ seconds)[None, :] - shared
    error = 1 - np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    chosen = linear_sum_assignment(error)
    errors: list[float] = error[chosen].tolist()
    return errors + [1.0] * (len(reference) - len(errors))
