"""Manifests of lhotse: recordings and supervisions, .jsonl or .jsonl.gz, read as files: lhotse is not needed.

Which part they are of, a word in their names says: `ami_recordings_train.jsonl.gz`. Nothing is run or downloaded: a
recording whose source is a command or an address is refused, with its name.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data import table_file
from affect.data.corpora.kinds import RECORDINGS
from affect.data.corpora.labels import UnusableError
from affect.data.corpora.layout import Layout
from affect.data.corpus import Exclusion
from affect.data.files import read_bytes
from affect.data.parts import part_of_names
from affect.data.table_file import json_object
from affect.errors import AffectError

if TYPE_CHECKING:
    from affect.data.recordings import Annotated, RecordingCorpus
    from affect.data.rttm import Turn

_ENDINGS = (".jsonl", ".jsonl.gz")


def read(root: str | Path) -> RecordingCorpus:
    """Return the recordings of all manifests of a folder with the turns that the supervisions say.

    A path that is not absolute is looked for from its manifest's folder and from the working folder; the channels of a
    recording are averaged, and their turns joined. Raises AffectError for a line that is no recording or supervision,
    and where no recording can be used.
    """
    from affect.data.recordings import corpus_of

    folder = CORPUS.find(root)
    left_out: list[Exclusion] = []
    turns = _turns(folder, left_out)
    annotated: dict[str, Annotated] = {}
    for file in _manifests(folder, "recordings"):
        for number, line in _lines(file):
            try:
                made = _recording(file, line, turns)
                if made.id in annotated:
                    raise UnusableError(f"listed more than once: in {file.name}, too")
                annotated[made.id] = made
            except UnusableError as error:
                left_out.append(Exclusion(what=str(line["id"]), reason=str(error)))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise AffectError(f"{file} line {number}: it is no recording of lhotse ({error!r})") from error
    for name in turns.keys() - annotated.keys() - {exclusion.what for exclusion in left_out}:
        left_out.append(Exclusion(what=name, reason="no recording: supervisions alone name it"))
    return corpus_of(CORPUS.name, folder, annotated.values(), sorted(left_out, key=lambda each: each.what))


def _recording(file: Path, line: dict[str, Any], turns: dict[str, list[Turn]]) -> Annotated:
    """Return a recording; raises UnusableError, and others for a line of another kind."""
    from affect.data.recordings import Annotated, located

    name, (source, *others) = str(line["id"]), line["sources"]
    if others:
        raise UnusableError(f"several files: {1 + len(others)}, of which one a recording is read")
    if source["type"] != "file":
        raise UnusableError(f"a {source['type']} and no file, which is not run or loaded: {source['source'][:60]}")
    if line.get("transforms"):
        raise UnusableError("transforms, which are not applied: save the recording as it is to be")
    path = located(source["source"], file.parent)
    if path is None:
        raise UnusableError(f"no audio: {source['source'][:60]}")
    if name not in turns:
        raise UnusableError("no turns: no supervision of it has a speaker")
    return Annotated(id=name, path=path, turns=turns[name], part=part_of_names(file.name))


def _turns(folder: Path, left_out: list[Exclusion]) -> dict[str, list[Turn]]:
    """Return the turns by recording; those without a speaker are added to `left_out`."""
    from affect.data.rttm import Turn

    turns: defaultdict[str, list[Turn]] = defaultdict(list)
    for file in _manifests(folder, "supervisions"):
        for number, line in _lines(file):
            try:
                name, start, length = (
                    str(line["recording_id"]),
                    table_file.number(line["start"]),
                    table_file.number(line["duration"]),
                )
                if not 0 <= length < float("inf") or start != start:
                    raise ValueError(f"a duration of {length:g}")
            except (KeyError, TypeError, ValueError) as error:
                raise AffectError(f"{file} line {number}: it is no supervision of lhotse ({error!r})") from error
            if line.get("speaker"):
                # lhotse rounds so, too: start + duration would leave dust.
                turns[name].append(Turn(start, round(start + length, 9), str(line["speaker"])))
            else:
                left_out.append(Exclusion(what=str(line.get("id", name)), reason="no speaker"))
    return turns


def _manifests(folder: Path, kind: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{kind}*") if path.name.endswith(_ENDINGS))


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and object of each line; raises AffectError for what is none."""
    try:
        data = read_bytes(file)
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise AffectError(f"{file} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, json_object(line, f"{file} line {number}")


CORPUS = Layout(
    name="lhotse_manifests",
    read=read,
    kind=RECORDINGS,
    columns=("part", "turns"),
    holds=lambda folder: all(_manifests(folder, kind) for kind in ("recordings", "supervisions")),
    sign="recordings and supervisions .jsonl",
    about="These are recordings of several speakers, a collection of your own.",
)
