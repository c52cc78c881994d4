"""RTTM and UEM files (who speaks when, and what of it is scored), and turns of which no two are at once.

Source: the formats of NIST's Rich Transcription evaluations, as md-eval reads them. All times are seconds.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TextIO

from affect.data import table_file
from affect.data.files import readable
from affect.data.table_file import read_text
from affect.errors import AffectError, no_file

Span = tuple[float, float]

_OTHER_TYPES = {
    *(
        "SEGMENT",
        "NOSCORE",
        "NO_RT_METADATA",
        "LEXEME",
        "NON-LEX",
        "NON-SPEECH",
        "FILLER",
        "EDIT",
        "IP",
        "SU",
        "CB",
        "A/P",
    ),
    *("SPKR-INFO", "NOSPEECH"),
}
"""What else a line of an RTTM may be; a first word that is none of these tells of another kind of file."""

_DIGITS = 9
"""Decimals of a turn's end: onset + duration leaves dust beyond them, and a seam of two turns would become a gap."""
_LATEST = 1e10
"""Seconds, three centuries: beyond any clock's, and a duration to add to is left its milliseconds."""


class Turn(NamedTuple):
    """A speaker's stretch of speech, in seconds."""

    start: float
    end: float
    speaker: str


class Rttm(dict[str, list[Turn]]):
    """The turns of each recording in the file's order, and by recording what was dropped or joined.

    A recording of which every line was dropped has an empty list.
    """

    def __init__(self) -> None:
        """Begin with no recording."""
        super().__init__()
        self.empty: Counter[str] = Counter()
        """Turns without length, which are dropped."""
        self.repeated: Counter[str] = Counter()
        """Lines that say again what an earlier one said, which are dropped."""
        self.channels: dict[str, set[str]] = {}
        """The channels, whose turns are joined."""
        self.files: dict[str, list[Path]] = {}
        """The files that name it, whose turns are joined."""


def read_rttm(path: Path | str) -> Rttm:
    """Return the turns of an RTTM file, or of all .rttm files below a folder; an empty one is a silent recording.

    SPEAKER lines alone are turns: type, recording, channel, onset, duration, two fields, speaker, and up to two more.
    Lines of other types, comments (;) and blank lines are passed over. Raises AffectError for a file that can't be
    read, and naming file and line for a line that is none of these or whose times are not.
    """
    rttm, lines = Rttm(), set[tuple[object, ...]]()
    for file in files_of(Path(path), "RTTM"):
        silent = Path(path).is_dir()
        for number, fields in _lines(file):
            if fields[0] in _OTHER_TYPES:
                continue
            if fields[0] != "SPEAKER":
                raise AffectError(f"{file} line {number}: {fields[0]!r} is no type of an RTTM line")
            if not 8 <= len(fields) <= 10:
                raise AffectError(f"{file} line {number}: a SPEAKER line has 8 to 10 fields, not {len(fields)}")
            silent = False
            _, recording, channel, onset, duration, _, _, speaker, *_ = fields
            start, length = (_seconds(value, file, number) for value in (onset, duration))
            turns = rttm.setdefault(recording, [])
            rttm.channels.setdefault(recording, set()).add(channel)
            if (files := rttm.files.setdefault(recording, [])) != [file] and file not in files:
                files.append(file)
            line = (recording, channel, start, length, speaker)
            if not length:
                rttm.empty[recording] += 1
            elif line in lines:
                rttm.repeated[recording] += 1
            else:
                lines.add(line)
                turns.append(Turn(start, round(start + length, _DIGITS), speaker))
        if silent:
            rttm.setdefault(file.stem, [])
    return rttm


def read_uem(path: Path | str) -> dict[str, list[Span]]:
    """Return the spans of each recording that a UEM file, or all .uem files below a folder, say are scored.

    A line is recording, channel, start, end; channels are joined. Raises AffectError for a file that can't be read, and
    naming file and line for a line that is none or whose times are not.
    """
    spans: dict[str, list[Span]] = {}
    for file in files_of(Path(path), "UEM"):
        for number, fields in _lines(file):
            if len(fields) != 4:
                raise AffectError(f"{file} line {number}: a line of a UEM has 4 fields, not {len(fields)}")
            start, end = (_seconds(value, file, number) for value in fields[2:])
            if end < start:
                raise AffectError(f"{file} line {number}: it ends at {end:g} s, before it starts at {start:g} s")
            spans.setdefault(fields[0], []).append((start, end))
    return spans


def write_rttm(stream: TextIO, recording: str, turns: Iterable[Turn]) -> None:
    """Write a line a turn, to the millisecond and in the order given; what rounds to nothing is left out."""
    for start, end, speaker in turns:
        # The ends are rounded, not the durations: turns that touch stay so.
        begin, length = round(1000 * start), round(1000 * end) - round(1000 * start)
        if length > 0:
            where = f"{word(recording)} 1 {begin / 1000:.3f} {length / 1000:.3f}"
            stream.write(f"SPEAKER {where} <NA> <NA> {word(speaker)} <NA> <NA>\n")


def exclusive(turns: Iterable[Turn]) -> list[Turn]:
    """Return turns of which no two are at once, in order: where several speak, the one whose turn began last has it.

    So a short answer inside a long turn is kept, and the long one goes on after it. Of turns that begin together the
    one that ends first has it, then the one whose name is first. A speaker's turns that overlap or touch are one turn.
    """
    waiting = sorted(joined(turns), reverse=True)
    edges = sorted({time for turn in waiting for time in (turn.start, turn.end)})
    speaking: list[tuple[float, float, str]] = []
    alone: list[Turn] = []
    for at, until in pairwise(edges):
        while waiting and waiting[-1].start <= at:
            start, end, speaker = waiting.pop()
            heapq.heappush(speaking, (-start, end, speaker))
        while speaking and speaking[0][1] <= at:
            heapq.heappop(speaking)
        if speaking:
            alone.append(Turn(at, until, speaking[0][2]))
    return joined(alone)


def joined(turns: Iterable[Turn]) -> list[Turn]:
    """Return the turns in order of their starts, those of one speaker that overlap or touch made one."""
    last: dict[str, int] = {}
    whole: list[Turn] = []
    for turn in sorted(turns):
        place = last.get(turn.speaker)
        if place is not None and turn.start <= whole[place].end:
            whole[place] = whole[place]._replace(end=max(whole[place].end, turn.end))
        else:
            last[turn.speaker] = len(whole)
            whole.append(turn)
    return whole


def files_of(path: Path, kind: str) -> list[Path]:
    """Return a file itself, or those of a kind (RTTM, UEM) in a folder and below it; raises AffectError for none."""
    if not path.is_dir():
        if not path.exists():
            raise no_file(f"{kind} file", path)
        return [path]
    files = readable(path, frozenset({f".{kind.lower()}"}))
    if not files:
        raise AffectError(f"{path} holds no .{kind.lower()} file")
    return files


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and fields of each line that is neither blank nor a comment."""
    for number, line in enumerate(read_text(path).replace("\r", "\n").split("\n"), 1):
        fields = line.split()
        if fields and fields[0][0] not in ";#":
            yield number, fields


def _seconds(text: str, file: Path, number: int) -> float:
    try:
        value = table_file.number(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LATEST:
        raise AffectError(f"{file} line {number}: {text!r} is no time in seconds, from 0 to {_LATEST:g}")
    return value


def word(name: str) -> str:
    """Return a name as RTTM writes it: fields are parted by blanks, so that blanks become _."""
    return "_".join(name.split()) or "_"
