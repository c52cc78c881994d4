"""From the rows that a reader found to a `Corpus`: audio verified, faults listed, a fingerprint taken."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from affect.data.corpora.verification import Verdict, verify
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError

_LOG = logging.getLogger("affect")

TEXTS = (
    *("id", "session", "dialogue", "script", "speaker", "gender", "emotion", "transcript"),
    *("split", "path", "digest"),
)
"""Columns of text, "" where unknown. `digest` is the SHA-256 of the audio file."""

NUMBERS = ("valence", "arousal", "dominance", "duration", "start")
"""Columns of numbers, NaN where unknown; `duration` and `start` (in its dialogue) in seconds."""

LABELS = ("valence", "arousal", "dominance")

FEATURES = Features({name: Value("string") for name in TEXTS} | {name: Value("float64") for name in NUMBERS})

Row = dict[str, Any]


def corpus_of_files(
    name: str,
    rows: Iterable[Row],
    exclusions: Sequence[Exclusion],
    *,
    root: Path,
    scale: tuple[float, float],
    mapped: bool = False,
) -> Corpus:
    """Return the corpus of rows that have a `path`: bad audio becomes an exclusion, the rest a dataset.

    Raises AffectError where no utterance is left.
    """
    rows, repeated = without_repeats({**row, "path": os.path.abspath(row["path"])} for row in rows)
    verdicts = verify([Path(row["path"]) for row in rows], name)
    kept, faulty = with_verdicts(rows, [verdicts[Path(row["path"])] for row in rows])
    left_out = [*exclusions, *repeated, *faulty]
    log_exclusions(name, kept, left_out, root)
    return Corpus(
        name=name,
        utterances=dataset_of(kept),
        exclusions=left_out,
        scale=scale,
        mapped=mapped,
        fingerprint=fingerprint(name, kept),
    )


def without_repeats(rows: Iterable[Row]) -> tuple[list[Row], list[Exclusion]]:
    """Return the rows sorted by id, and the later rows of an id as exclusions."""
    first: dict[str, Row] = {}
    repeated: list[Exclusion] = []
    for row in rows:
        if row["id"] in first:
            repeated.append(Exclusion(what=row["id"], reason="listed more than once"))
        else:
            first[row["id"]] = row
    return [first[key] for key in sorted(first)], repeated


def with_verdicts(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> tuple[list[Row], list[Exclusion]]:
    """Return the rows whose audio is sound, with `duration` and `digest`, and the others as exclusions."""
    kept: list[Row] = []
    faulty: list[Exclusion] = []
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict.fault:
            faulty.append(Exclusion(what=row["id"], reason=f"bad audio: {verdict.fault}"))
        else:
            kept.append({**row, "duration": verdict.duration, "digest": verdict.digest})
    return kept, faulty


def log_exclusions(name: str, kept: Sequence[Row], exclusions: Sequence[Exclusion], root: Path | str) -> None:
    """Log how much is left out and why; raises AffectError where nothing is left."""
    reasons = Counter(kind(exclusion) for exclusion in exclusions)
    summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    if not kept:
        raise AffectError(f"{name}: no utterance of {root} can be used ({summary or 'it holds none'})")
    if exclusions:
        _LOG.warning("%s: %d utterances, %d exclusions (%s)", name, len(kept), len(exclusions), summary)


def kind(exclusion: Exclusion) -> str:
    """Return the sort of reason, to count by: what stands before the first colon."""
    return exclusion.reason.partition(":")[0]


def dataset_of(rows: Sequence[Row]) -> Dataset:
    """Return the rows as a dataset with every column of `FEATURES`."""
    columns: dict[str, list[Any]] = {name: [row.get(name) or "" for row in rows] for name in TEXTS}
    columns |= {name: [row.get(name, float("nan")) for row in rows] for name in NUMBERS}
    return Dataset.from_dict(columns, features=FEATURES)


def fingerprint(name: str, rows: Iterable[Row]) -> str:
    """Return a hash of ids, groups, labels and the content of every audio file, wherever the corpus lies."""
    columns = [column for column in (*TEXTS, *LABELS) if column != "path"]
    digest = hashlib.sha256(name.encode())
    for row in sorted(rows, key=lambda row: str(row["id"])):
        digest.update(json.dumps([_plain(row.get(column)) for column in columns]).encode())
    return digest.hexdigest()[:16]


def _plain(value: object) -> str:
    return "" if value is None or value != value else str(value)
