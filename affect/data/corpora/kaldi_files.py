"""The files of a Kaldi data folder, read as text: nothing in them is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from affect.data import table_file
from affect.data.corpora.columns import matched
from affect.data.corpus import Exclusion
from affect.data.table_file import Cells, read_text
from affect.errors import AffectError

Records = list[tuple[int, Cells]]
"""Of a table: the line on which each ends, and its cells."""

SCP, SEGMENTS, SPEAKERS, GENDERS, WORDS = "wav.scp", "segments", "utt2spk", "spk2gender", "text"


def lines(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, name and the rest of each line.

    Raises AffectError for a line of one word, a name that stands on two lines, and no text.
    """
    names: set[str] = set()
    for number, line in enumerate(read_text(file).split("\n"), 1):
        name, *rest = line.split(maxsplit=1)[:2] if line.strip() else ("",)
        if name and not rest:
            raise AffectError(f"{file} line {number}: {name!r} stands alone")
        if name in names:
            raise AffectError(f"{file} line {number}: {name!r} is listed more than once")
        if name:
            names.add(name)
            yield number, name, rest[0].strip()


def utterances(folder: Path, sources: Mapping[str, str]) -> dict[str, tuple[str, float, float]]:
    """Return recording, start and end (infinite: the recording's) of each utterance, in seconds.

    Without a file of segments an utterance is one of the recordings, `sources` by name. Raises AffectError for a
    malformed line.
    """
    file = folder / SEGMENTS
    if not file.is_file():
        return {name: (name, 0.0, float("inf")) for name in sources}
    times = {}
    for number, name, rest in lines(file):
        fields = rest.split()
        try:
            recording, start, end = fields[0], table_file.number(fields[1]), table_file.number(fields[2])
            right = len(fields) in (3, 4) and start >= 0 and (end == -1 or end >= start)
        except (ValueError, IndexError):
            right = False
        if not right:
            raise AffectError(f"{file} line {number}: a segment is NAME RECORDING START END, not {name} {rest[:60]}")
        times[name] = (recording, start, float("inf") if end == -1 else end)
    return times


def cells(folder: Path) -> dict[str, dict[str, str]]:
    """Return path, start, end, speaker, gender and transcript of each utterance, as a table would have them.

    Where the folder has no wav.scp there is none; what a file of it does not say is not there.
    """
    if not (folder / SCP).is_file():
        return {}
    sources = {name: rest for _, name, rest in lines(folder / SCP)}
    said_by, genders, words = (
        {name: rest for _, name, rest in lines(folder / file)} if (folder / file).is_file() else {}
        for file in (SPEAKERS, GENDERS, WORDS)
    )
    rows: dict[str, dict[str, str]] = {}
    for name, (recording, start, end) in utterances(folder, sources).items():
        times = {"start": f"{start!r}", "end": "-1" if end == float("inf") else f"{end!r}"}
        row = {"path": sources.get(recording, ""), **(times if (folder / SEGMENTS).is_file() else {})}
        if name in said_by:
            row |= {"speaker": said_by[name]}
            row |= {"gender": genders[said_by[name]]} if said_by[name] in genders else {}
        rows[name] = row | ({"transcript": words[name]} if name in words else {})
    return rows


def beside(
    table: Path, present: list[str], records: Records, given: Mapping[str, str]
) -> tuple[list[str], Records, list[Exclusion]]:
    """Return columns and records of a table without paths with what Kaldi's files beside it say of their utterances.

    Utterances without a line are exclusions.
    """
    utterances = {} if "path" in matched(present, ("path",), given) else cells(table.parent)
    counts = {column: sum(row[column] in utterances for _, row in records) for column in present}
    name = max(counts, key=lambda column: counts[column], default="")
    if not counts.get(name):
        return present, records, []
    further = [*dict.fromkeys(column for row in utterances.values() for column in row if column not in present)]
    filled = [(line, {**dict.fromkeys(further, ""), **utterances.get(row[name], {}), **row}) for line, row in records]
    left = sorted(utterances.keys() - {row[name] for _, row in records})
    absent = [Exclusion(what=each, reason=f"utterance without a line in {table.name}") for each in left]
    if "id" not in present:
        further.append("id")
        filled = [(line, {**row, "id": row[name]}) for line, row in filled]
    return [*present, *further], filled, absent
