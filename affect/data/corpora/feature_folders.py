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
from affect.data.corpus import Exclusion, held
from affect.data.feature_corpus import ABSENT, MODALITIES, PRESENT, SAME, FeatureCorpus, Stream, Table, read_table
from affect.data.feature_files import ENDING
from affect.data.files import open_file
from affect.errors import AffectError, first_few, first_line, nearest, reading

_LOG = logging.getLogger("affect")

_TYPES = {"id": "string", "part": "string", "emotion": "string", "valence": "float64", "digest": "string"}
_COLUMNS = Features({name: Value(kind) for name, kind in _TYPES.items()})
_SHOWN = 3
_NONE: Mapping[str, list[str]] = {}


def corpus_of_features(
    layout: Layout, root: Path, rows: Sequence[Mapping[str, Any]], asked: Mapping[str, Sequence[str]], *,
    scale: tuple[float, float], widths: Sequence[int] | None = None, classes: Sequence[str] | None = None,
    listed: Mapping[str, list[str]] = _NONE, exclusions: Sequence[Exclusion] = (), inferred: bool = False,
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
    absences: list[Exclusion] = []
    left_out = [*exclusions]
    for index, (modality, feature) in enumerate(wanted):
        table = read_table(folders[index], ids, cache_folder(), listed.get(feature))
        width = table.values.shape[1]
        if widths is not None and width != widths[index]:
            raise AffectError(f"{modality} feature {feature!r} has {width} numbers, not the {widths[index]} asked for")
        streams.append(Stream(modality, feature, width))
        tables.append(table)
        absences += _absences(layout.name, streams[-1], ids, table)
        # The files of rows that are left out have a name.
        named = {f"{folders[index].name}/{each.what}{end}" for each in exclusions for end in ("", ENDING)}
        left_out += [each for each in table.left_out if each.what not in named]
        digest.update(json.dumps([modality, feature, table.digest]).encode())
    contents = _contents(len(rows), streams, tables)
    rows = [{**row, "digest": content} for row, content in zip(rows, contents, strict=True)]
    columns = Features({**_COLUMNS, **{name: Value("string") for name in groups}})
    states = np.stack([table.states for table in tables], 1) if tables else np.zeros((len(rows), 0), np.uint8)
    corpus = FeatureCorpus(
        name=layout.name, fingerprint=digest.hexdigest()[:16], labelled=labelled, scale=scale, inferred=inferred,
        classes=layout.classes if classes is None else tuple(classes),
        utterances=Dataset.from_dict({key: [row[key] for row in rows] for key in columns}, features=columns),
        groups=tuple(groups),
        streams=tuple(streams), exclusions=[*left_out, *absences], present=states == PRESENT, absent=states == ABSENT,
        arrays=tuple(table.values for table in tables), stores=tuple(table.store for table in tables),
        listed=tuple(filter(None, sum(listed.values(), []))),
    )  # fmt: skip
    if left_out:
        # Absent files are told with each feature.
        _LOG.warning("%s: %s", layout.name, held(len(rows), "utterance", left_out))
    copies.say(layout.name, copies.by_part(corpus.utterances), SAME)
    return corpus


def _contents(count: int, streams: Sequence[Stream], tables: Sequence[Table]) -> list[str]:
    """Return a digest of all vectors of each utterance, "" without sound and film: words alone may be said again."""
    names = [f"{stream.modality} {stream.name}" for stream in streams]
    heard = [k for k, stream in enumerate(streams) if stream.modality != "text"]

    def digest(row: int) -> str:
        there = [table.states[row] == PRESENT for table in tables]
        vectors = zip(names, tables, there, strict=True)
        own = {name: table.values[row] if has else None for name, table, has in vectors}
        return copies.digest(own) if any(there[k] for k in heard) else ""

    def make() -> list[str]:
        return copies.telling([digest(row) for row in range(count)])

    made: list[str] = kept_json("digests", (names, [table.digest for table in tables]), make) if heard else []
    return made or [""] * count


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
    reasons = {name: f"absent feature file: {stream.name}" for name in missing}
    return [Exclusion(what=name, reason=table.reasons.get(name, reason)) for name, reason in reasons.items()]
