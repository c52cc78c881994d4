"""What a corpus holds, in words, and which layout a folder has."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from affect.data import splits
from affect.data.corpora import csv_folder, emobank, emodb, iemocap, msp_podcast
from affect.data.corpora.utterances import kind
from affect.data.corpus import Corpus
from affect.errors import AffectError

LISTED = 10
"""Exclusions that are named unless all are asked for."""

_LABELS = ("valence", "arousal", "dominance")


def detect(root: str | Path) -> str:
    """Return the name of the reader for a folder: `iemocap`, `emodb`, `msp_podcast`, `emobank`, `csv_folder` or `hub`.

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
            "no Labels/labels_consensus.csv (msp_podcast), no emobank.csv (emobank), no labels.csv (csv_folder), "
            "no datasets folder (hub)"
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
        *_exclusions(corpus, listed),
    ]
    return "\n".join(line for line in lines if line)


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
    lines = []
    for name in _LABELS:
        values = np.asarray(columns[name], np.float64)
        given = values[np.isfinite(values)]
        if not len(given):
            lines.append(f"{name}: none")
            continue
        missing = f", missing for {len(values) - len(given)}" if len(given) < len(values) else ""
        lines.append(
            f"{name}: mean {given.mean():.3f}, deviation {given.std():.3f}, "
            f"from {given.min():.3f} to {given.max():.3f}{missing}"
        )
    return lines


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


def _exclusions(corpus: Corpus, listed: int | None) -> list[str]:
    if not corpus.exclusions:
        return ["exclusions: none"]
    reasons = Counter(kind(exclusion) for exclusion in corpus.exclusions)
    width = math.floor(math.log10(max(reasons.values()))) + 1
    lines = [f"exclusions: {len(corpus.exclusions)}"]
    lines += [f"  {count:{width}d} {reason}" for reason, count in reasons.most_common()]
    lines += [f"    {exclusion.what}: {exclusion.reason}" for exclusion in corpus.exclusions[:listed]]
    left = len(corpus.exclusions[listed:]) if listed is not None else 0
    if left:
        lines.append(f"    ... and {left} more (--all lists them)")
    return lines
