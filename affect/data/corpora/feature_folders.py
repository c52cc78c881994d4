"""From rows and the names of features to a `FeatureCorpus`: folders below `<root>/features`, one a feature."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from affect.cache import cache_folder, kept_json
from affect.data import copies
from affect.data.array_file import read_header
from affect.data.corpora.layout import Layout
from affect.data.corpus import Exclusion
from affect.data.feature_corpus import ABSENT, MODALITIES, PRESENT, FeatureCorpus, Stream, Table, read_table
from affect.data.files import open_file
from affect.errors import AffectError, first_few, first_line, nearest, reading

_LOG = logging.getLogger("affect")

_COLUMNS = Features({name: Value("string") for name in ("id", "part", "emotion")} | {"valence": Value("float64")})
_SHOWN = 3
_NONE: Mapping[str, Sequence[str]] = {}


def corpus_of_features(
    layout: Layout, root: Path, rows: Sequence[Mapping[str, Any]], asked: Mapping[str, Sequence[str]], *,
    scale: tuple[float, float], widths: Sequence[int] | None = None, classes: Sequence[str] | None = None,
    listed: Mapping[str, Sequence[str]] = _NONE, exclusions: Sequence[Exclusion] = (), inferred: bool = False,
    groups: Sequence[str] = (),
) -> FeatureCorpus:  # fmt: skip
    """Return rows (id, part, emotion, valence) with the features `asked` for, by modality.

    `widths` are those that the streams must have, audio first; `classes` those of your own data, and `groups` further
    columns of its rows; `listed` the files of each row ("": none) of features that a table lists. Raises AffectError
    for features that can't be used.
    """
    wanted = [(modality, feature) for modality in MODALITIES for feature in asked.get(modality, ())]
    folders = [root / feature if feature in listed else _feature_folder(root, modality, feature, listed)
               for modality, feature in wanted]  # fmt: skip
    repeated = next((pair for k, pair in enumerate(wanted) if pair in wanted[:k]), None)
    if repeated:
        raise AffectError(f"{repeated[0]} feature {repeated[1]!r} is named more than once")
    if widths is not None and len(widths) != len(wanted):
        raise AffectError(f"widths names {len(widths)} numbers for {len(wanted)} features")
    ids = [row["id"] for row in rows]
    digest = hashlib.sha256(layout.name.encode())
    for row in rows:
        further = [row[name] for name in groups]
        digest.update(json.dumps([row["id"], row["part"], row["emotion"], str(row["valence"]), *further]).encode())
    labelled = digest.hexdigest()[:16]
    streams: list[Stream] = []
    tables: list[Table] = []
    absences = [*exclusions]
    for index, (modality, feature) in enumerate(wanted):
        table = read_table(folders[index], ids, cache_folder(), listed.get(feature))
        width = table.values.shape[1]
        if widths is not None and width != widths[index]:
            raise AffectError(f"{modality} feature {feature!r} has {width} numbers, not the {widths[index]} asked for")
        streams.append(Stream(modality, feature, width))
        tables.append(table)
        absences += _absences(layout.name, streams[-1], ids, table)
        digest.update(json.dumps([modality, feature, table.digest]).encode())
    _say_copies(layout.name, rows, streams, tables, labelled)
    columns = Features({**_COLUMNS, **{name: Value("string") for name in groups}})
    states = np.stack([table.states for table in tables], 1) if tables else np.zeros((len(rows), 0), np.uint8)
    return FeatureCorpus(
        name=layout.name, fingerprint=digest.hexdigest()[:16], labelled=labelled, scale=scale, inferred=inferred,
        classes=layout.classes if classes is None else tuple(classes),
        utterances=Dataset.from_dict({key: [row[key] for row in rows] for key in columns}, features=columns),
        groups=tuple(groups),
        streams=tuple(streams), exclusions=absences, present=states == PRESENT, absent=states == ABSENT,
        arrays=tuple(table.values for table in tables), stores=tuple(table.store for table in tables),
    )  # fmt: skip


def _say_copies(
    name: str, rows: Sequence[Mapping[str, Any]], streams: Sequence[Stream], tables: Sequence[Table], labelled: str
) -> None:
    """Log utterances that have all vectors of another one; words alone may be said again."""
    heard = [k for k, stream in enumerate(streams) if stream.modality != "text"]

    def contents() -> list[str]:
        made: list[str] = []
        for row in range(len(rows)):
            digest = hashlib.sha256()
            for table in tables:
                digest.update(table.states[row].tobytes() + table.values[row].tobytes())
            there = any(tables[k].states[row] == PRESENT for k in heard)
            made.append(digest.hexdigest()[:16] if there else "")
        return made

    kept = kept_json("copies", (labelled, [table.digest for table in tables], heard), contents)
    by_part: dict[str, list[tuple[str, str]]] = {}
    for row, content in zip(rows, kept, strict=True):
        by_part.setdefault(row["part"], []).append((row["id"], content))
    copies.say(name, by_part, "utterances with the very same features")
    copies.check(name, by_part, "utterances with the very same features", refuse=None)


def features_below(root: Path) -> dict[str, str]:
    """Return the folders below `root`/features, by name, with what the first file of each says: its width and type."""
    return {name: _look(root / "features" / name) for name in _feature_names(root)}


def _feature_names(root: Path) -> list[str]:
    with reading(root / "features"):
        return sorted(path.name for path in (root / "features").iterdir() if path.is_dir() and path.name[0] != ".")


def _feature_folder(root: Path, modality: str, name: str, listed: Iterable[str]) -> Path:
    """Return a feature's folder, which may lie deeper than others; raises AffectError where it isn't there.

    Those `listed` by a table are named beside what there is.
    """
    there = sorted({*listed, *(_feature_names(root) if not listed or (root / "features").is_dir() else ())})
    place = root / "features" / name
    if name and not name.startswith("/") and ".." not in PurePosixPath(name).parts and place.is_dir():
        return place
    close = nearest(name, there)
    hint = f"{close} " if there and close.startswith("did") else ""
    raise AffectError(f"{root} has no {modality} feature {name!r}: {hint}there are: {', '.join(there) or 'none'}")


def _look(folder: Path) -> str:
    """Return what a feature's first file says; its frames are those of the first folder where it has no files."""
    places = (folder, *sorted(path for path in folder.iterdir() if path.is_dir()))
    first = next((path for place in places for path in sorted(place.glob("*.npy")) if path.name[0] != "."), None)
    if first is None:
        return "no .npy file"
    try:
        with open_file(first) as file:
            shape, _, dtype = read_header(file)
    except (OSError, ValueError) as error:
        return f"{first.name} cannot be read ({first_line(error)})"
    return f"{shape[-1] if shape else 0} numbers, {dtype}"


def _absences(corpus: str, stream: Stream, ids: Sequence[str], table: Table) -> list[Exclusion]:
    """Return an exclusion for each file that isn't there, and log how many there are."""
    missing = [name for name, state in zip(ids, table.states, strict=True) if state == ABSENT]
    if missing:
        _LOG.warning(
            "%s: %s feature %s has no file of %d of %d utterances, which count as missing: %s",
            *(corpus, stream.modality, stream.name, len(missing), len(ids), first_few(missing)),
        )
    return [Exclusion(what=name, reason=f"absent feature file: {stream.name}") for name in missing]
