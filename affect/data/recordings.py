"""Recordings of several speakers with their turns: one row a recording, and windows of them to train on.

What a layout's reader found is held against the audio here, alike for all layouts. A recording that can't be used is an
exclusion, also where all of its turns lie outside of its audio, and so is every turn, or piece of one, that is left
out of a recording that can.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray

from affect.data import audio
from affect.data.activity import RATE, SampleTurn, excerpt, in_samples
from affect.data.augment import number
from affect.data.corpora.segments import is_still
from affect.data.corpora.verification import Verdict, verify
from affect.data.corpus import Exclusion, held, summary
from affect.data.files import absence, unreadable_name
from affect.data.rttm import Span, Turn, joined
from affect.errors import AffectError
from affect.tables import counted

_LOG = logging.getLogger("affect")

_DUST = 1e-6
"""Of a sample: what is left of seconds * rate where it should be a whole number."""
_CUT = 0.01
"""Seconds by which a turn may end after its recording without a word: times are rounded."""
_TURN = {"start": Value("float64"), "end": Value("float64"), "speaker": Value("string")}
_SPAN = {"start": Value("float64"), "end": Value("float64")}
_FEATURES = Features(
    id=Value("string"), path=Value("string"), part=Value("string"), seconds=Value("float64"), length=Value("float64"),
    channels=Value("int64"), digest=Value("string"), turns=List(_TURN), uem=List(_SPAN),
)  # fmt: skip
_PIECE = {"start": Value("int64"), "end": Value("int64"), "speaker": Value("string")}
_WINDOW = Features(
    id=Value("string"), recording=Value("string"), path=Value("string"), part=Value("string"), start=Value("int64"),
    samples=Value("int64"), length=Value("float64"), turns=List(_PIECE),
)  # fmt: skip

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """A recording as a layout names it: its audio, turns, and spans that are annotated (None: all of it)."""

    id: str
    path: Path
    turns: Sequence[Turn]
    uem: Sequence[Span] | None = None
    part: str = ""
    empty: int = 0
    """Turns without length that are not among `turns` any more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingCorpus:
    """Recordings with turns, and what was left out.

    `recordings` has the columns id, path, part (train, valid, test or ""), seconds, length (the same), channels (of
    the file, which are averaged), digest, turns (start, end in seconds, speaker; no two of one speaker at once) and uem
    (start, end: what is annotated). `still` are ids of silent or constant recordings.
    `fingerprint` changes with any turn, span or audio file.
    """

    name: str
    recordings: Dataset
    exclusions: Sequence[Exclusion] = field(default_factory=list)
    still: tuple[str, ...] = ()
    fingerprint: str

    @property
    def identity(self) -> str:
        """What reports and comparisons call it: its name, and the beginning of its fingerprint."""
        return f"{self.name}@{self.fingerprint[:8]}"

    def part(self, *parts: str) -> Dataset:
        """Return the recordings of some parts; raises AffectError where there are none."""
        rows = [row for row, part in enumerate(self.recordings["part"][:]) if part in parts]
        if not rows:
            there = ", ".join(sorted({*self.recordings["part"][:]} - {""})) or "none"
            raise AffectError(f"{self.name} has no recording of the part {' or '.join(parts)}; its parts: {there}")
        return self.recordings.select(rows)


def corpus_of(name: str, root: Path, annotated: Iterable[Annotated], left_out: Sequence[Exclusion]) -> RecordingCorpus:
    """Return the corpus of what a layout's reader found: recordings whose audio is sound, by id.

    Raises AffectError where no recording can be used.
    """
    exclusions = list(left_out)
    every: list[Annotated] = []
    for each in sorted(annotated, key=lambda each: each.id):
        if unreadable_name("".join((each.id, str(each.path), *(turn.speaker for turn in each.turns)))):
            exclusions.append(Exclusion(what=each.id, reason="name that is no UTF-8: of it, its file or a speaker"))
        else:
            every.append(each)
    rows: list[dict[str, Any]] = []
    still: list[str] = []
    for each, verdict in zip(every, verify([each.path for each in every], name), strict=True):
        if reason := _fault(each, verdict):
            exclusions.append(Exclusion(what=each.id, reason=reason))
        else:
            rows.append(_row(each, verdict, exclusions))
            still += [each.id] if is_still(verdict.still, 0.0, verdict.duration) else []
    told = summary(exclusions)
    if not rows:
        raise AffectError(f"{name}: no recording of {root} can be used ({told or 'it holds none'})")
    if exclusions:
        _LOG.warning("%s: %s", name, held(len(rows), "recording", exclusions))
    digest = hashlib.sha256(name.encode())
    for row in rows:
        digest.update(json.dumps({column: row[column] for column in row if column != "path"}, sort_keys=True).encode())
    table = Dataset.from_list(rows, features=_FEATURES)
    if still:
        _LOG.warning("%s: %d recordings are silent or constant, %s for one", name, len(still), still[0])
    return RecordingCorpus(
        name=name, recordings=table, exclusions=exclusions, still=tuple(still), fingerprint=digest.hexdigest()[:16]
    )


def _fault(each: Annotated, verdict: Verdict) -> str:
    """Return why a recording can't be used, "" where it can."""
    if verdict.fault:
        return f"bad audio: {verdict.fault}"
    real = [turn for turn in each.turns if turn.end > turn.start]
    # Another recording's turns, or the whole one's beside an excerpt: without them speech would be taken for silence.
    if real and not _inside(real, verdict.duration):
        first = min(turn.start for turn in real)
        count = counted(len(real), "turn")
        return f"no turn inside of the audio: of {verdict.duration:g} s, {count} from {first:g} s on"
    return ""


def _inside(turns: Sequence[Turn], seconds: float) -> list[Turn]:
    """Return the turns that begin before the end of so many seconds, and end after their start."""
    return [turn for turn in turns if turn.start < seconds and turn.end > 0]


def _row(each: Annotated, verdict: Verdict, exclusions: list[Exclusion]) -> dict[str, Any]:
    """Return a recording's row; turns, and pieces of them, that lie outside of its audio become an exclusion."""
    seconds = verdict.duration
    real = [turn for turn in each.turns if turn.end > turn.start]
    inside = [turn._replace(start=max(turn.start, 0.0)) for turn in _inside(real, seconds)]
    beyond = sum(seconds + _CUT < turn.end < math.inf or turn.start < 0 for turn in real if turn.start < seconds)
    uem = [(0.0, seconds)] if each.uem is None else [(max(a, 0.0), min(b, seconds)) for a, b in each.uem]
    spans = joined(Turn(start, end, "") for start, end in uem if start < end)
    counts = {
        "zero-length turns": each.empty + len(each.turns) - len(real),
        f"turns outside of the audio: of {seconds:g} s, cut": beyond,
        f"turns outside of the audio: of {seconds:g} s, all of it": len(real) - len(inside),
        "nothing annotated: the UEM lies outside of the audio": not spans,
    }
    exclusions += [
        Exclusion(what=each.id, reason=reason if count is True else f"{reason}: {count}")
        for reason, count in counts.items()
        if count
    ]
    turns = joined(turn._replace(end=min(turn.end, seconds)) for turn in inside)
    if len(turns) < len(inside):
        _LOG.info(
            "%s: %d turns go on another one of their speaker, and are one with it", each.id, len(inside) - len(turns)
        )
    channels = verdict.channels
    if channels > 1:
        _LOG.warning("%s: its %d channels are averaged", each.id, channels)
    return {
        "id": each.id, "path": str(each.path), "part": each.part, "seconds": seconds, "length": seconds,
        "channels": channels, "digest": verdict.digest, "turns": [turn._asdict() for turn in turns],
        "uem": [{"start": start, "end": end} for start, end, _ in spans],
    }  # fmt: skip


def turns_of(row: Row) -> list[Turn]:
    """Return the turns of a recording's row, in seconds."""
    return [Turn(**turn) for turn in row["turns"]]


def windows(recordings: Dataset, seconds: float, shift: float) -> Dataset:
    """Return windows of what is annotated of recordings, to train on: `seconds` long, `shift` seconds apart.

    Of each span the last window ends where it ends; a span that is shorter is one window. Columns are id, recording,
    path, part, start and samples (at 16 kHz), length in seconds, and turns (start, end, speaker) in samples of the
    window.
    """
    size, step = round(seconds * RATE), round(shift * RATE)
    rows: list[dict[str, Any]] = []
    for row in recordings:
        turns, total = in_samples(turns_of(row)), math.floor(row["seconds"] * RATE + _DUST)
        for span in row["uem"]:
            first = math.ceil(span["start"] * RATE - _DUST)
            stop = min(math.floor(span["end"] * RATE + _DUST), total)
            starts = [*range(first, stop - size + 1, step)]
            if stop > first and (not starts or starts[-1] + size < stop):
                starts.append(max(first, stop - size))
            for start in starts:
                samples = min(size, stop - start)
                own = [turn._asdict() for turn in excerpt(turns, start, samples)]
                rows.append({
                    "id": f"{row['id']}@{start}", "recording": row["id"], "path": row["path"], "part": row["part"],
                    "start": start, "samples": samples, "length": samples / RATE, "turns": own,
                })  # fmt: skip
    return Dataset.from_list(rows, features=_WINDOW)


def sound_of(window: Row) -> NDArray[np.float32]:
    """Return the samples [S] at 16 kHz of a window's row; raises AffectError where its file has changed."""
    return audio.span(window["path"], window["start"], window["samples"])


def sample_turns_of(window: Row) -> list[SampleTurn]:
    """Return the turns of a window's row, in its samples."""
    return [SampleTurn(**turn) for turn in window["turns"]]


class Partners:
    """For each window another one of its recording, from which its speakers' embeddings may come."""

    def __init__(self, windows: Dataset):
        self._ids, self._recordings = list(windows["id"]), list(windows["recording"])
        self._starts, self._sizes = np.array(windows["start"]), np.array(windows["samples"])
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, recording in enumerate(self._recordings):
            rows[recording].append(row)
        self._rows = {recording: np.array(own) for recording, own in rows.items()}

    def of(self, row: int, seed: int, epoch: int) -> int:
        """Return the row of another window, one that shares no sample with it where there is one, else itself."""
        others = self._rows[self._recordings[row]]
        others = others[others != row]
        starts, start = self._starts[others], self._starts[row]
        apart = others[(starts >= start + self._sizes[row]) | (starts + self._sizes[others] <= start)]
        choice = apart if len(apart) else others if len(others) else np.array([row])
        return int(choice[number(seed, epoch, self._ids[row], what="partner window") % len(choice)])


def located(name: str, *folders: Path) -> Path | None:
    """Return the file of a name, absolute or relative to a folder or the working one; None where it is not there."""
    paths = (folder / name for folder in (*folders, Path()))
    return next((path for path in paths if not absence(path)), None)
