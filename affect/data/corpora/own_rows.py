"""A row of a user's own table: what it has to say, its recording, and which part of that it is of."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from affect.data.corpora.columns import ColumnsError, matched, proposed, told
from affect.data.corpora.labels import UnusableError, label, labelled, pointed
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.segments import CUT, RECORDING, TIMES, name_of, seconds, segment_of, without_lengths
from affect.data.corpora.utterances import Row
from affect.data.corpus import LABELS

_LOG = logging.getLogger("affect")

REQUIRED = ("path", "speaker", "valence", "arousal")
OPTIONAL = (
    "id", "dominance", "emotion", "split", "session", "dialogue", "start", "end", "duration", "transcript", "gender",
    "script",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OwnRows:
    """Makes rows of the records of a table: its column of each of ours, and those of the user's own that are kept."""

    names: Mapping[str, str]
    further: Sequence[str]
    files: NamedFiles
    scale: tuple[float, float] | None = None
    decimal: str = "."

    def row(self, cells: Mapping[str, str]) -> Row:
        """Return a record as a row; raises UnusableError."""
        own = {column: pointed(cells[column], self.decimal) for column in self.further}
        given = {name: cells[self.names[name]] if name in self.names else "" for name in (*REQUIRED, *OPTIONAL)}
        for name in ("path", "speaker"):
            if name in self.names and not given[name]:
                raise UnusableError(f"no {name}")
        row: Row = {**own, **given}
        row |= {name: label(name, given[name], self.scale, self.decimal) for name in LABELS}
        labelled(row)
        part = segment_of({name: given[name] for name in TIMES if name in self.names}, decimal=self.decimal)
        row["start"] = seconds(given["start"], self.decimal)
        path = self.files.find(given["path"])
        recording = Path(given["path"].replace("\\", "/")).as_posix()
        row |= {"id": given["id"] or recording, "path": str(path), RECORDING: recording}
        if part is not None:
            row |= {"id": given["id"] or name_of(recording, part), CUT: part}
        return row


def names_of(table: object, present: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the table's column of each of ours that it has; raises ColumnsError where one that is needed is missing.

    Needed are a path, labels (classes alone are labels, too), and speakers, or a `split` in their place.
    """
    names = without_lengths(matched(present, (*REQUIRED, *OPTIONAL), given))
    optional = {*(LABELS if "emotion" in names else ()), *(("speaker",) if "split" in names else ())}
    needed = [*(name for name in REQUIRED if name not in optional), *given]
    lacking = next((name for name in needed if name not in names), None)
    free = [column for column in present if column not in names.values()]
    likely = proposed(free, [name for name in (*REQUIRED, *OPTIONAL) if name not in names])
    if lacking is None:
        if likely:
            _LOG.info("%s: columns that may be ours: %s", table, told(likely))
        return names
    mapped = {name: column for name, column in {**names, **likely}.items() if name != column}
    there = ", ".join(present) or "none"
    words = f"{table} has no column {given.get(lacking, lacking)!r}; it has: {there}"
    raise ColumnsError(words, mapped if likely else {})
