"""Scores of whole recordings: DER with its parts, JER and speakers counted, a recording and in all, and their page.

Which recordings are scored, and how a silent, a missing or a superfluous one counts, is as in dscore but for one rule:
false alarms of a recording without scored speech are in the total, where dscore and md-eval leave them out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

from affect.data.rttm import Rttm, Span, Turn, read_rttm, read_uem
from affect.errors import AffectError, first_few
from affect.metrics.diarization import Errors, by_speaker, compare, united
from affect.tables import counted, escaped, grid

_LISTED = 10
"""Recordings that a warning names; of more their number is said."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of a recording, or of several, which are pooled by adding them."""

    errors: Errors = Errors()
    jaccard: tuple[float, ...] = ()
    """The Jaccard error of each reference speaker of each recording."""
    speakers: int = 0
    predicted_speakers: int = 0
    miscounts: tuple[int, ...] = ()
    """Predicted less reference speakers of each recording."""

    def __add__(self, other: Score) -> Score:
        """Return the score of both together."""
        return Score(
            errors=self.errors + other.errors,
            jaccard=self.jaccard + other.jaccard,
            speakers=self.speakers + other.speakers,
            predicted_speakers=self.predicted_speakers + other.predicted_speakers,
            miscounts=self.miscounts + other.miscounts,
        )

    @property
    def der(self) -> float:
        """The diarization error rate; NaN where no reference speech is scored."""
        return self.errors.rate

    @property
    def jer(self) -> float:
        """The mean Jaccard error of all reference speakers; NaN where there are none."""
        return math.fsum(self.jaccard) / len(self.jaccard) if self.jaccard else math.nan

    @property
    def speaker_count_error(self) -> float:
        """The mean absolute difference of predicted and reference speakers of a recording; NaN of no recording."""
        return sum(map(abs, self.miscounts)) / len(self.miscounts) if self.miscounts else math.nan

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers as JSON has them: rates as fractions, times in seconds, what is not defined as null."""
        numbers = {
            "der": self.der,
            "missed": self.errors.missed,
            "false_alarm": self.errors.false_alarm,
            "confusion": self.errors.confusion,
            "speech": self.errors.speech,
            "jer": self.jer,
            "speakers": self.speakers,
            "predicted_speakers": self.predicted_speakers,
            "speaker_count_error": self.speaker_count_error,
        }
        return {name: None if math.isnan(value) else value for name, value in numbers.items()}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The score of each recording by name, how it was taken, and what was done about what did not fit."""

    recordings: dict[str, Score]
    collar: float
    skip_overlap: bool
    warnings: tuple[str, ...]

    @property
    def total(self) -> Score:
        """The score of all recordings together."""
        return reduce(add, self.recordings.values(), Score())

    def json(self) -> str:
        """Return settings, total, recordings and warnings as JSON."""
        record = {
            "collar": self.collar,
            "skip_overlap": self.skip_overlap,
            "total": self.total.to_dict(),
            "recordings": {name: score.to_dict() for name, score in self.recordings.items()},
            "warnings": self.warnings,
        }
        return json.dumps(record, indent=2, ensure_ascii=False)

    def markdown(self) -> str:
        """Return a line of settings, a table that ends with the total, and the warnings."""
        total = self.total
        rows = [_cells(name, score, _signed(score.miscounts[0])) for name, score in self.recordings.items()]
        rows.append(_cells("total", total, f"{total.speaker_count_error:.2f}"))
        settings = [
            counted(len(self.recordings), "recording"),
            f"collar {self.collar:g} s" + " each side" * (self.collar > 0),
            "overlap left out" if self.skip_overlap else "overlap scored",
        ]
        parts = [", ".join(settings), grid(_HEAD, rows), "\n".join(f"- {escaped(text)}" for text in self.warnings)]
        return "\n\n".join(part for part in parts if part)


def score_recordings(
    references: Mapping[str, Sequence[Turn]],
    hypotheses: Mapping[str, Sequence[Turn]],
    uems: Mapping[str, Sequence[Span]] | None = None,
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> Scores:
    """Return the scores of recordings by name, each as `affect.metrics.diarization.compare` takes it.

    Scored are the references, of which those that the hypotheses lack are all missed. Where UEMs are given, what they
    name is scored, and what they alone name is a recording in which nobody should speak. All else is left out. Warnings
    name what does not fit. Raises ValueError as `compare` does.
    """
    scores: dict[str, Score] = {}
    for name in sorted(references if uems is None else uems):
        compared = compare(
            hypotheses.get(name, ()),
            references.get(name, ()),
            collar=collar,
            skip_overlap=skip_overlap,
            uem=None if uems is None else uems[name],
        )
        speakers, predicted = len(compared.jaccard), compared.predicted_speakers
        scores[name] = Score(
            errors=compared.errors,
            jaccard=tuple(compared.jaccard.values()),
            speakers=speakers,
            predicted_speakers=predicted,
            miscounts=(predicted - speakers,),
        )
    warnings = [
        *(["no UEM: scored is the extent of reference and hypothesis together"] if uems is None else []),
        *_unmatched(references, hypotheses, scores),
        *_warning("UEM: regions that overlap were joined", _overlapping(uems or {})),
        *_warning("reference: a speaker's own overlaps were merged", _own_overlaps(references, scores)),
        *_warning("hypothesis: a speaker's own overlaps were merged", _own_overlaps(hypotheses, scores)),
        *_silent(scores),
    ]
    return Scores(recordings=scores, collar=collar, skip_overlap=skip_overlap, warnings=tuple(warnings))


def score_files(
    reference: Path, hypothesis: Path, uem: Path | None = None, *, collar: float = 0.0, skip_overlap: bool = False
) -> Scores:
    """Return the scores of RTTM files, or of folders of them, and warn also of what reading dropped or joined.

    Raises AffectError where a file can't be read, a line is malformed, or there is nothing to score.
    """
    references, hypotheses = read_rttm(reference), read_rttm(hypothesis)
    uems = None if uem is None else read_uem(uem)
    scores = score_recordings(references, hypotheses, uems, collar=collar, skip_overlap=skip_overlap)
    if not scores.recordings:
        raise AffectError(f"nothing to score: {reference if uem is None else uem} names no recording")
    if references and not references.keys() & scores.recordings:
        raise AffectError(f"nothing to score: {uem} names no recording of {reference}")
    reading = [
        warning
        for side, rttm in (("reference", references), ("hypothesis", hypotheses))
        for warning in _reading(side, rttm, scores.recordings)
    ]
    return replace(scores, warnings=(*reading, *scores.warnings))


_HEAD = [
    *("recording", "DER %", "missed s", "false alarm s", "confusion s", "speech s"),
    *("JER %", "speakers", "predicted", "count error"),
]


def _cells(name: str, score: Score, miscount: str) -> list[str]:
    errors = score.errors
    seconds = (errors.missed, errors.false_alarm, errors.confusion, errors.speech)
    counts = (score.speakers, score.predicted_speakers)
    return [
        *(name, _percent(score.der), *(f"{value:.3f}" for value in seconds), _percent(score.jer)),
        *(*map(str, counts), miscount),
    ]


def _percent(rate: float) -> str:
    """Return a rate in percent with two decimals, with four where it is below .1, a dash where there is none."""
    if math.isnan(rate):
        return "-"
    return f"{100 * rate:.2f}" if rate == 0 or rate >= 0.001 else f"{100 * rate:.4f}"


def _signed(number: int) -> str:
    return f"{number:+d}" if number else "0"


def _warning(words: str, names: Iterable[str]) -> list[str]:
    """Return the warning that says `words` of the names, none where there are none."""
    listed = list(names)
    return [f"{words}: {first_few(listed, _LISTED)}"] if listed else []


def _unmatched(
    references: Mapping[str, Sequence[Turn]], hypotheses: Mapping[str, Sequence[Turn]], scored: Mapping[str, Score]
) -> list[str]:
    missing = [name for name in scored if references.get(name) and name not in hypotheses]
    outside = [name for name in references if name not in scored]
    extra = [name for name, turns in hypotheses.items() if turns and name not in references and name not in scored]
    return [
        *_warning("not in the hypothesis, so all missed", missing),
        *_warning("not in the reference, so left out", extra),
        *_warning("not in the UEM, so left out", outside),
    ]


def _overlapping(uems: Mapping[str, Sequence[Span]]) -> list[str]:
    return [name for name, spans in uems.items() if len(united(spans, -1e-6)) < len(spans)]


def _own_overlaps(sides: Mapping[str, Sequence[Turn]], scored: Mapping[str, Score]) -> list[str]:
    """Return name and number of turns that went into an earlier one of their speaker."""
    counts = {
        name: sum(end > start for start, end, _ in turns) - sum(map(len, by_speaker(turns).values()))
        for name, turns in sides.items()
        if name in scored
    }
    return [f"{name} {count}" for name, count in counts.items() if count]


def _silent(scores: Mapping[str, Score]) -> list[str]:
    silent = {name: score.errors.false_alarm for name, score in scores.items() if not score.errors.speech > 0}
    seconds = math.fsum(silent.values())
    left_out = f"md-eval and dscore leave these out: {seconds:.3f} s of false alarms, which are in the total"
    return [*_warning("no scored speech", silent), *[left_out] * (seconds > 0)]


def _reading(side: str, rttm: Rttm, scored: Mapping[str, Score]) -> list[str]:
    """Return warnings of what reading one side dropped or joined, of recordings that are scored."""
    channels = {name: sorted(numbers) for name, numbers in rttm.channels.items() if len(numbers) > 1}
    joined = [f"{name} ({', '.join(numbers)})" for name, numbers in channels.items() if name in scored]
    files = [name for name, paths in rttm.files.items() if len(paths) > 1 and name in scored]
    return [
        *_warning(f"{side}: turns without length were dropped", _counts(rttm.empty, scored)),
        *_warning(f"{side}: lines that repeat another were dropped", _counts(rttm.repeated, scored)),
        *_warning(f"{side}: channels were joined", joined),
        *_warning(f"{side}: several files were joined", files),
    ]


def _counts(numbers: Mapping[str, int], scored: Mapping[str, Score]) -> list[str]:
    return [f"{name} {number}" for name, number in numbers.items() if name in scored]
