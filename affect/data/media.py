"""The media that features are extracted from: listed by a CSV, lying in a folder, or held by a `datasets` source."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Audio, Dataset, Value, Video, concatenate_datasets

from affect.data.corpora import hub_source
from affect.data.corpora.columns import matched
from affect.data.corpora.hub_dataset import is_saved
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.segments import TIMES, name_of, without_lengths
from affect.data.corpus import summary
from affect.data.endings import FILM, SOUND
from affect.data.excerpts import Excerpt, excerpts, settled
from affect.data.files import files_below
from affect.data.table_file import SEPARATORS, read_csv, surplus
from affect.errors import AffectError, first_line, nearest

if TYPE_CHECKING:
    from affect.data.corpora.verification import Verdict

_LOG = logging.getLogger("affect")

COLUMNS = ("name", "audio", "video", "text", "path", "boxes", *TIMES)
"""What a source may have of an utterance: `path` is audio or video where it has none of these and no text, `boxes` are
the faces of its video (`faces.read_boxes`), and times say which part of its files it is."""
_FILES = ("audio", "video", "path")

_LONGEST = 200
"""Bytes of a name: a file's name may have 255, and its ending and that of a half-written file come on top."""


@dataclass(frozen=True, kw_only=True)
class Medium:
    """What there is of one utterance: files (or their bytes) and words; None is what the source does not have.

    An empty `text` is an utterance without a word. The name is that of the feature file to be: no folder, and no two
    media have the same.
    """

    name: str
    audio: Path | bytes | None = None
    video: Path | bytes | None = None
    text: str | None = None
    boxes: Path | None = None
    part: Excerpt = Excerpt()
    """What is asked for of its files."""

    @property
    def sound(self) -> Path | bytes | None:
        """Where the voice is to be heard: the recording, or else the video."""
        return self.video if self.audio is None else self.audio


def film(video: Path, feature: str, *, boxes: bool) -> Medium:
    """Return a video, with `boxes` and the CSV of faces beside it; raises AffectError where `feature` lacks that."""
    faces = video.with_suffix(".csv")
    if boxes and not faces.is_file():
        raise AffectError(f"{video}: {feature} is of faces: {faces} (py-feat's or OpenFace's) has to lie beside it")
    return Medium(name=video.stem, video=video, boxes=faces if boxes else None)


def read_media(source: str, *, columns: Mapping[str, str] | None = None, root: Path | None = None) -> Sequence[Medium]:
    """Return the media of a CSV (or TSV), a folder of files, or a `datasets` source, in its order.

    - a CSV has any of the columns name, audio, video, text, boxes; files lie below `root`, or else beside the CSV. With
      start and end (or duration), as training's tables have them, an utterance is that part of its files (`cut`). A
      column path (or file), of sound or videos, does where audio, video and text are missing;
    - a folder's sound and video files, those in folders below too, are named by their stems;
    - a source is what `datasets` reads (save_to_disk, parquet, a folder with metadata, a name on the Hub): columns as
      in a CSV, or of Audio and Video, all parts together. Files and bytes are fetched when a medium is asked for.

    `columns` maps our names to the source's. Without a column of names, a file's stem is the name. Raises AffectError
    where the source can't be read, lacks a column, holds nothing, a name is repeated or can't be a file's, or not one
    of the files is there.
    """
    mapped = dict(columns or {})
    for name in mapped:
        if name not in COLUMNS:
            raise AffectError(f"columns names {name!r}, which is none of: {', '.join(COLUMNS)}")
    path = Path(source)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _from_csv(path, mapped, root or path.parent)
    if path.is_dir() and not is_saved(path):
        for option, value in (("columns", mapped), ("root", root)):
            if value:
                raise AffectError(f"{option} does nothing here: {source} is a folder of media files")
        return _from_folder(path)
    parts, left_out = hub_source.tables(source)
    if left_out:
        _LOG.warning("%s: %d are left out (%s)", source, len(left_out), summary(left_out))
    table = _joined(source, list(parts.values()))
    return _Rows(source, table, mapped, root or (path if path.is_dir() else path.parent))


def parts_of(media: Sequence[Medium], *, seen: bool) -> list[Excerpt]:
    """Return the parts of media that their source asks for, `excerpts.settled` by their sound, or images if `seen`.

    What has none of these is left to whoever reads it.
    """
    from affect.data.corpora.verification import in_threads, verdict, verify

    asked = list(media.parts) if isinstance(media, _Rows) else [medium.part for medium in media]
    if all(part.span is None for part in asked):
        return asked
    verdicts: dict[int, Verdict] = {}
    files: dict[int, Path] = {}
    for place, part in enumerate(asked):
        if part.span is None:
            continue
        medium = media[place]
        source = medium.video if seen else medium.sound
        if isinstance(source, Path):
            files[place] = source
        elif source is not None:
            verdicts[place] = _seen(source) if seen else verdict(source, medium.name)
        else:
            asked[place] = Excerpt()
    unique = list(dict.fromkeys(files.values()))
    judged = in_threads(_seen, unique, "measuring videos") if seen else verify(unique, "excerpts")
    by_file = dict(zip(unique, judged, strict=True))
    verdicts |= {place: by_file[file] for place, file in files.items()}
    return settled(asked, lambda places: [verdicts[place] for place in places])


def cut(media: Sequence[Medium], parts: Sequence[Excerpt]) -> Sequence[Medium]:
    """Return media with these parts of each in place of what was asked for."""
    return _Parts(media, parts)


def _seen(source: Path | bytes) -> Verdict:
    """Return the verdict on a video by what its header says of its length."""
    from affect.data import video
    from affect.data.corpora.verification import Verdict

    digest = hashlib.sha256(source if isinstance(source, bytes) else str(source).encode("utf-8", "surrogatepass"))
    try:
        return Verdict(duration=video.seconds_of(source), digest=digest.hexdigest())
    except AffectError as error:
        return Verdict(fault=first_line(error))


def check_names(names: Iterable[str], source: str) -> None:
    """Raise AffectError for a name that is none of a file, or stands for two media of `source`."""
    counts = Counter(iter(names))
    if not counts:
        raise AffectError(f"{source}: lists no media")
    for name, count in counts.items():
        reason = _unsafe(name)
        if reason:
            raise AffectError(f"{source}: the name {name[:60]!r} {reason}; it is to name a feature file")
        if count > 1:
            raise AffectError(f"{source}: the name {name!r} stands for {count} media; names must differ")


def _unsafe(name: str) -> str:
    """Return what makes a name unfit for a file, or nothing."""
    if not name.strip():
        return "is empty"
    if name.startswith("."):
        return "begins with a dot"
    if name != name.strip() or not name.isprintable() or set(name) & set('/\\:*?"<>|'):
        return "has a character that file names can't have"
    return f"has more than {_LONGEST} bytes" if len(name.encode()) > _LONGEST else ""


def _from_folder(folder: Path) -> list[Medium]:
    files: dict[str, Path] = {}
    paths, left_out = files_below(folder, lambda name: Path(name).suffix.lower() in SOUND | FILM)
    if left_out:
        _LOG.warning("%s: %d are left out (%s)", folder, len(left_out), summary(left_out))
    for path in paths:
        other = files.setdefault(path.stem, path)
        if other != path:
            raise AffectError(f"{other} and {path} would both be named {path.stem!r}: list them in a CSV")
    if not files:
        raise AffectError(f"{folder}: holds no sound or video file, nor a table that datasets reads")
    check_names(files, str(folder))
    return [
        Medium(name=name, video=path) if path.suffix.lower() in FILM else Medium(name=name, audio=path)
        for name, path in files.items()
    ]


def _from_csv(path: Path, mapped: Mapping[str, str], root: Path) -> list[Medium]:
    header, records = read_csv(path, (), separators=SEPARATORS)
    columns = _columns(str(path), header, mapped)
    media: list[Medium] = []
    named = NamedFiles(root)
    for line, cells in records:
        if odd := surplus(cells):
            raise AffectError(f"{path}:{line}: {odd}; quote texts with commas")
        ours = {name: cells[column] for name, column in columns.items()}
        part = _part(ours)
        if "name" not in ours:
            ours["name"] = _stem([ours.get(column) for column in _FILES], f"{path}:{line}", part)
        media.append(_medium(ours, named, part, f"{path}:{line}"))
    check_names((medium.name for medium in media), str(path))
    files = [file for medium in media for file in (medium.audio, medium.video) if isinstance(file, Path)]
    # Not one is there: the root is wrong, not the files.
    if files and not any(os.path.isfile(file) for file in files):
        raise AffectError(f"none of {len(files)} files is there, the first would be {files[0]}: is {root} the root?")
    return media


def _columns(source: str, header: Sequence[str], mapped: Mapping[str, str]) -> dict[str, str]:
    """Return the source's name of each of our columns that it has."""
    for ours, theirs in mapped.items():
        if theirs not in header:
            raise AffectError(f"{source} has no column {theirs!r} for {ours}: {nearest(theirs, header)}")
    columns = without_lengths(matched(header, COLUMNS, mapped))
    if columns.keys() & {"audio", "video", "text"}:
        columns.pop("path", None)
    elif "path" not in columns:
        raise AffectError(f"{source} has no column audio, video or text (columns maps them): {nearest('', header)}")
    return columns


def _part(cells: Mapping[str, Any]) -> Excerpt:
    (part,) = excerpts([{name: cells[name] for name in TIMES if name in cells}])
    return replace(part, id="")


def _medium(cells: Mapping[str, Any], files: NamedFiles, part: Excerpt, where: str) -> Medium:
    """Return the medium of a row: the files that it names, bytes as they are."""
    audio, video, path, boxes = (_file(cells.get(column), files) for column in (*_FILES, "boxes"))
    if isinstance(path, Path) and path.suffix.lower() in FILM:
        video = path
    elif path is not None:
        audio = path
    if isinstance(boxes, bytes):
        raise AffectError(f"{where}: boxes are bytes; they must be the name of a CSV")
    text = None if "text" not in cells else "" if cells["text"] is None else str(cells["text"]).strip()
    return Medium(name=cells["name"], audio=audio, video=video, text=text, boxes=boxes, part=part)


def _file(value: Any, files: NamedFiles) -> Path | bytes | None:
    """Return what a cell names or holds: text, bytes, or {"bytes", "path"}."""
    if isinstance(value, Mapping):
        held = value.get("bytes")
        return held if held is not None else _file(value.get("path"), files)
    return value if isinstance(value, bytes) else files.place(str(value)) if value else None


def _stem(paths: Iterable[str | None], where: str, part: Excerpt) -> str:
    """Return the name of a row without a column of names: the stem of its first file, with the times of a part."""
    for path in paths:
        if path:
            return Path(path).stem if part.span is None else name_of(Path(path).stem, part.span)
    raise AffectError(f"{where}: has no name, neither a column `name` (columns maps it) nor a file with a name")


def _joined(source: str, parts: Sequence[Dataset]) -> Dataset:
    """Return all parts as one table, whose media are left encoded."""
    encoded = []
    for part in parts:
        for name, feature in part.features.items():
            if isinstance(feature, (Audio, Video)):
                part = part.cast_column(name, type(feature)(decode=False))
        encoded.append(part)
    try:
        return concatenate_datasets(encoded)
    except (ValueError, TypeError) as error:
        raise AffectError(f"{source}: its parts differ in their columns: {first_line(error)}") from error


class _Rows(Sequence[Medium]):
    """The media of a table, fetched one by one: the bytes of all might not fit into memory."""

    def __init__(self, source: str, table: Dataset, mapped: Mapping[str, str], root: Path) -> None:
        self._source = source
        self._files = NamedFiles(root)
        self._known = _columns(source, table.column_names, mapped)
        self._table = table.select_columns(list(dict.fromkeys(self._known.values())))
        self.parts = self._read_parts()
        self._names = self._read_names()
        check_names(self._names, source)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        at = range(len(self))[place]
        row = self._table[at]
        cells = {ours: row[theirs] for ours, theirs in self._known.items()}
        return _medium({**cells, "name": self._names[at]}, self._files, self.parts[at], f"{self._source}, row {at}")

    def _read_names(self) -> list[str]:
        if "name" in self._known:
            return ["" if name is None else str(name).strip() for name in self._table[self._known["name"]]]
        files = [self._paths(self._known[name]) for name in _FILES if name in self._known]
        return [
            _stem([paths[at] for paths in files], f"{self._source}, row {at}", part)
            for at, part in enumerate(self.parts)
        ]

    def _read_parts(self) -> list[Excerpt]:
        times = {name: list(self._table[self._known[name]]) for name in TIMES if name in self._known}
        return [_part({name: column[at] for name, column in times.items()}) for at in range(len(self._table))]

    def _paths(self, column: str) -> list[str | None]:
        """Return the paths of a column without the bytes beside them."""
        feature = self._table.features[column]
        if feature in (Value("string"), Value("large_string")):
            return list(self._table[column])
        if not isinstance(feature, (Audio, Video)) and not (isinstance(feature, dict) and "path" in feature):
            raise AffectError(f"{self._source}: has no column of names (columns maps it), and {column} has none")
        # Of the Arrow table: rows would bring the bytes along.
        chunks = self._table.select_columns([column]).with_format("arrow")[:][column].chunks
        return [path for chunk in chunks for path in chunk.field("path").to_pylist()]


class _Parts(Sequence[Medium]):
    """Media of which something else is asked for."""

    def __init__(self, media: Sequence[Medium], parts: Sequence[Excerpt]) -> None:
        self._media, self._parts = media, parts

    def __len__(self) -> int:
        return len(self._media)

    def __getitem__(self, place: Any) -> Any:
        return replace(self._media[place], part=self._parts[place])
