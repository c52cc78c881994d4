"""What a corpus holds, in words, and which layout a folder has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data import corpora, splits
from affect.data.corpora import csv_folder, emobank, emodb, iemocap, mer2023, msp_podcast
from affect.data.corpora.utterances import kind
from affect.data.corpus import Corpus, Exclusion
from affect.data.feature_corpus import MODALITIES, FeatureCorpus
from affect.errors import AffectError

LISTED = 10
"""Exclusions that are named unless all are asked for."""

_LABELS = ("valence", "arousal", "dominance")


def detect(root: str | Path) -> str:
    """Return the name of the reader for a folder: a module of `corpora` such as `iemocap` or `mer2023`, or `hub`.

    `hub` is a folder that the `datasets` library wrote (save_to_disk, parquet, an audiofolder with metadata).
    Raises AffectError where it is none of them.
    """
    path = Path(root)
    if not path.is_dir():
        raise AffectError(f"{path} is not a folder")
    for name, find in (
        ("iemocap", iemocap.find_root),
        ("emodb", emodb.find_root),
        ("msp_podcast", msp_podcast.find_root),
        ("emobank", emobank.find_table),
        ("mer2023", mer2023.find_root),
    ):
        try:
            find(path)
        except AffectError:
            continue
        return name
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return "hub"
    if any(next(path.glob(pattern), None) for pattern in ("**/*.parquet", "metadata.csv", "*/metadata.csv")):
        return "hub"
    try:
        csv_folder.find_table(path)
    except AffectError as error:
        raise AffectError(
            f"{path} is no known corpus: no Session1/dialog/EmoEvaluation (iemocap), no 03a01Fa.wav (emodb), "
            "no Labels/labels_consensus.csv (msp_podcast), no emobank.csv (emobank), no label-6way.npz (mer2023), "
            "no labels.csv (csv_folder), no datasets folder (hub)"
        ) from error
    return "csv_folder"


def describe(corpus: Corpus, *, listed: int | None = LISTED) -> str:
    """Return what `affect inspect` prints: counts, durations, labels, exclusions, folds and the fingerprint.

    Exclusions are counted by reason, and the first `listed` of them (None: all) named.
    """
    data = corpus.utterances
    columns = {
        name: list(data[name])
        for name in data.column_names
        if name in ("session", "speaker", "dialogue", "emotion", "gender", "duration", "transcript", *_LABELS)
    }
    low, high = corpus.scale
    mapped = ", mapped from the emotion, not rated" if corpus.mapped else ""
    lines = [
        f"{corpus.name}: {len(data)} utterances, fingerprint {corpus.fingerprint}",
        f"scale: {low:g} to {high:g}{mapped}",
        _durations(columns["duration"]),
        _groups(columns),
        *_counts(columns),
        *_labels(columns),
        *_folds(corpus),
        *_exclusions(corpus.exclusions, listed),
    ]
    return "\n".join(line for line in lines if line)


def features_of(name: str, root: str | Path, options: Mapping[str, Any]) -> FeatureCorpus:
    """Return a corpus of features with those that `audio_feature`, `text_feature` and `video_feature` of options name.

    Without any of these, with the usual ones that are there. Raises AffectError as the reader does.
    """
    if "audio" in options:
        raise AffectError(f"corpus {name!r} has no recordings for --audio; its features are named by --audio-feature")
    others = {option: value for option, value in options.items() if not option.endswith("_feature")}
    chosen = {m: tuple(options[f"{m}_feature"]) for m in MODALITIES if f"{m}_feature" in options}
    if not chosen:
        there = {feature.name for feature in mer2023.features(root)}
        chosen = {m: (usual,) for m, usual in mer2023.USUAL.items() if usual in there}
    return corpora.read_features(name, root, **chosen, **others)


def describe_features(corpus: FeatureCorpus, root: str | Path, *, listed: int | None = LISTED) -> str:
    """Return what `affect inspect` prints of MER2023: counts, labels, the features there, and what is missing.

    The last is said of each stream of `corpus` by part; the features there are all those below `root`.
    """
    data = corpus.utterances
    parts = list(dict.fromkeys(data["part"][:]))
    rows = {part: corpus.indices(part) for part in parts}
    emotions, valences = np.asarray(data["emotion"][:]), np.asarray(data["valence"][:], np.float64)
    lines = [
        f"{corpus.name}: {len(data)} utterances, fingerprint {corpus.fingerprint}",
        "by part: " + ", ".join(f"{part} {len(rows[part])}" for part in parts),
    ]
    for part in parts:
        counts = Counter(emotions[rows[part]].tolist())
        shown = [f"{name or '(none)'} {counts[name]}" for name in (*corpus.classes, "") if name or counts[name]]
        lines.append(f"emotion, {part}: {', '.join(shown)}")
    lines += [_numbers(f"valence, {part}", valences[rows[part]]) for part in parts]
    found = mer2023.features(root)
    lines.append(f"features: {len(found)}")
    lines += [f"  {one.name}: {one.fault or f'{one.width} numbers, {one.dtype}'}" for one in found]
    lines += _presence(corpus, rows)
    return "\n".join((*lines, *_exclusions(corpus.exclusions, listed)))


def _presence(corpus: FeatureCorpus, rows: dict[str, NDArray[np.int64]]) -> list[str]:
    """Say how many vectors of each stream are there, all zero, or without a file, in each part."""
    lines = ["presence, as present / all zero / no file:"]
    for index, (key, stream) in enumerate(zip(corpus.keys, corpus.streams, strict=True)):
        counts = []
        for part, mine in rows.items():
            present, absent = (int(mask[mine, index].sum()) for mask in (corpus.present, corpus.absent))
            counts.append(f"{part} {present} / {len(mine) - present - absent} / {absent}")
        lines.append(f"  {key} {stream.name} ({stream.width}): {', '.join(counts)}")
    if corpus.streams:
        whole = [f"{part} {int(corpus.present[mine].all(axis=1).sum())}" for part, mine in rows.items()]
        lines.append(f"  all of them: {', '.join(whole)}")
    unnamed = [modality for modality in MODALITIES if modality not in {stream.modality for stream in corpus.streams}]
    lines += [f"  {modality}: not looked at, name a feature (--{modality}-feature)" for modality in unnamed]
    return lines


def _durations(durations: list[float]) -> str:
    values = np.asarray(durations, np.float64)
    if not np.isfinite(values).any():
        return "durations: none, there is no audio"
    return f"durations: mean {values.mean():.2f} s, longest {values.max():.2f} s, total {values.sum() / 3600:.2f} h"


def _groups(columns: dict[str, list[Any]]) -> str:
    distinct = {name: len(set(columns[name]) - {""}) for name in ("session", "dialogue", "speaker")}
    words = sum(bool(text) for text in columns.get("transcript", []))
    counted = ", ".join(f"{count} {name}s" for name, count in distinct.items())
    return f"groups: {counted}; {words} utterances with a transcript"


def _counts(columns: dict[str, list[Any]]) -> list[str]:
    lines = []
    for name in ("session", "speaker", "gender", "emotion"):
        counts = Counter(value or "(none)" for value in columns.get(name, []))
        if set(counts) == {"(none)"}:
            continue
        ordered = counts.most_common() if name == "emotion" else sorted(counts.items())
        shown = ", ".join(f"{value} {count}" for value, count in ordered[:24])
        more = f", and {len(ordered) - 24} more" if len(ordered) > 24 else ""
        lines.append(f"by {name}: {shown}{more}")
    return lines


def _labels(columns: dict[str, list[Any]]) -> list[str]:
    return [_numbers(name, np.asarray(columns[name], np.float64)) for name in _LABELS]


def _numbers(title: str, values: NDArray[np.float64]) -> str:
    given = values[np.isfinite(values)]
    if not len(given):
        return f"{title}: none"
    missing = f", missing for {len(values) - len(given)}" if len(given) < len(values) else ""
    return (
        f"{title}: mean {given.mean():.3f}, deviation {given.std():.3f}, "
        f"from {given.min():.3f} to {given.max():.3f}{missing}"
    )


def _folds(corpus: Corpus) -> list[str]:
    """Say which splits the corpus allows: a first fold is made of each kind."""
    lines = []
    for way in splits.KINDS:
        try:
            groups = splits.folds(corpus.utterances, way)
            parts = splits.split(corpus.utterances, way, 1)
        except AffectError as error:
            lines.append(f"split by {way}: not possible, {error}")
            continue
        sizes = " / ".join(str(len(parts[part])) for part in splits.PARTS)
        shown = ", ".join(groups[:6]) + (" ..." if len(groups) > 6 else "")
        lines.append(f"split by {way}: {len(groups)} folds ({shown}); fold 1 has {sizes} train / valid / test")
    return lines


def _exclusions(exclusions: Sequence[Exclusion], listed: int | None) -> list[str]:
    if not exclusions:
        return ["exclusions: none"]
    reasons = Counter(kind(exclusion) for exclusion in exclusions)
    width = math.floor(math.log10(max(reasons.values()))) + 1
    lines = [f"exclusions: {len(exclusions)}"]
    lines += [f"  {count:{width}d} {reason}" for reason, count in reasons.most_common()]
    lines += [f"    {exclusion.what}: {exclusion.reason}" for exclusion in exclusions[:listed]]
    left = len(exclusions[listed:]) if listed is not None else 0
    if left:
        lines.append(f"    ... and {left} more (--all lists them)")
    return lines
