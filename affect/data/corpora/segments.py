"""Utterances that are a part of their recording, from a start to an end: how tables write times, and what is cut.

Times are seconds (12.5), clock times (0:12.5, 00:00:12,500) or pandas' (0 days 00:00:12.500000). No end, NaT and
Kaldi's -1 are the end of the recording.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from affect.data.corpora.labels import UnusableError
from affect.data.table_file import number

if TYPE_CHECKING:
    from affect.data.corpora.verification import Verdict

Row = dict[str, Any]

TIMES = ("start", "end", "duration")
"""Columns that say which part of its recording a row is."""

CUT, RECORDING, STILL = "affect:cut", "affect:recording", "affect:still"
"""What a row says that no table can: its start and end in its recording, what that is called, whether it is still."""

_CLOCK = re.compile(r"(?:(\d+)\s+days?,?\s*\+?)?(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)")
_ROUNDED = 0.05
"""Seconds by which an end may lie behind its recording: times are rounded."""
_ALIKE = 0.1
"""Seconds by which files that are cut already may differ from what their times say."""
_MOST = 0.9
"""The share of such files that makes all of them cut."""
_FRAME = 0.01
"""Seconds by which what is still may be known to be shorter."""


def seconds(text: object, decimal: str = ".") -> float:
    """Return a time in seconds, NaN where it is missing; raises ValueError where it is none."""
    plain = str(text).strip()
    if plain.lower() == "nat":
        return math.nan
    match = _CLOCK.fullmatch(plain)
    if match is None:
        return number(plain, decimal)
    days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
    return ((24 * days + hours) * 60 + minutes) * 60 + float(match[4].replace(",", "."))


def cut_of(start: object, end: object, duration: object = "", *, decimal: str = ".") -> tuple[float, float] | None:
    """Return start and end in seconds (infinite: the recording's) of a row's times, None where it is all of it.

    Raises UnusableError for times that are none.
    """
    times: list[float] = []
    for name, text in (("start", start), ("end", end), ("duration", duration)):
        try:
            times.append(seconds(text, decimal))
        except ValueError:
            raise UnusableError(f"{name} is no time: {str(text)[:40]!r}") from None
    first, last, length = times
    if all(time != time for time in times):
        return None
    first = 0.0 if first != first else first
    if last != last:
        last = first + length
    # NaT, an empty cell, and Kaldi's -1.
    last = math.inf if last != last or last == -1 else last
    if first == 0 and last == math.inf:
        return None
    if not 0 <= first < last:
        raise UnusableError(f"segment without length: from {first:g} to {last:g} s")
    return first, last


def segment_of(row: Mapping[str, object], *, decimal: str = ".") -> tuple[float, float] | None:
    """Return the part of its recording that a row is, of its `TIMES`, as `cut_of` does; None where it is all of it."""
    part = cut_of(*(row.get(name, "") for name in TIMES), decimal=decimal)
    # A start alone is when something is said in its dialogue.
    return part if "end" in row or "duration" in row else None


def without_lengths(names: Mapping[str, str]) -> dict[str, str]:
    """Return columns by our names, that of durations beside times alone: of whole recordings it is measured."""
    timed = "start" in names or "end" in names
    return {ours: theirs for ours, theirs in names.items() if timed or ours != "duration"}


def name_of(recording: str, cut: tuple[float, float]) -> str:
    """Return what a part of a recording is called where the table has no name for it."""
    start, end = (f"{value:.3f}".rstrip("0").rstrip(".") for value in cut)
    return f"{recording}@{start}-{end}" if cut[1] < math.inf else f"{recording}@{start}"


def is_still(spans: Sequence[tuple[float, float]], start: float, end: float) -> bool:
    """Say whether all from `start` to `end` (seconds) lies in one of the still `spans` of a recording."""
    return any(first - _FRAME <= start and end <= last + _FRAME for first, last in spans)


def are_cut(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> bool:
    """Say whether the files are cut already, nearly all as long as their times say: those are of the dialogue then.

    `rows` are those that name a start and an end (`CUT`).
    """
    if len({verdict.digest for verdict in verdicts}) < len(rows):
        return False
    pairs = [(row[CUT], verdict.duration) for row, verdict in zip(rows, verdicts, strict=True) if not verdict.fault]
    alike = sum(abs(end - start - duration) <= _ALIKE for (start, end), duration in pairs)
    return bool(pairs) and alike >= _MOST * len(pairs)


def cut(row: Row, verdict: Verdict) -> Row:
    """Return a row of a part of a sound recording; raises UnusableError where that does not hold it.

    It gets `offset` and `duration`, a `digest` of its own, and its recording as dialogue where it names none.
    """
    start, end = row[CUT]
    if end == math.inf:
        end = verdict.duration
    if start >= verdict.duration or end > verdict.duration + _ROUNDED:
        raise UnusableError(f"segment beyond the audio: {start:g} to {end:g} s of {verdict.duration:.3f} s")
    duration = min(end, verdict.duration) - start
    digest = hashlib.sha256(f"{verdict.digest} {start:.6f} {duration:.6f}".encode()).hexdigest()
    return {
        **row, "start": start, "offset": start, "duration": duration, "digest": digest,
        "dialogue": row.get("dialogue") or row.get(RECORDING) or verdict.digest[:12],
        STILL: is_still(verdict.still, start, start + duration),
    }  # fmt: skip
