"""From the rows that a reader found to a `Corpus`: audio verified, faults listed, a fingerprint taken."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora.labels import UnusableError, infer_scale, number
from affect.data.corpus import LABELS, Corpus, Exclusion
from affect.errors import AffectError

if TYPE_CHECKING:
    from datasets import Dataset

    from affect.data.corpora.verification import Verdict

_LOG = logging.getLogger("affect")

TEXTS = (
    *("id", "session", "dialogue", "script", "speaker", "gender", "emotion", "transcript"),
    *("split", "path", "digest"),
)
"""Columns of text, "" where unknown. `digest` is the SHA-256 of the audio file."""

NUMBERS = (*LABELS, "duration", "start")
"""Columns of numbers, NaN where unknown; `duration` and `start` (in its dialogue) in seconds."""

MADE = ("duration", "digest", "audio", "length", "prosody", "speaker_embedding")
"""Columns that affect fills itself: a user's own of these names are not taken over."""

Row = dict[str, Any]


def corpus_of_files(
    name: str,
    rows: Iterable[Row],
    exclusions: Sequence[Exclusion],
    *,
    root: Path,
    scale: tuple[float, float] | None,
    mapped: bool = False,
    further: Sequence[str] = (),
) -> Corpus:
    """Return the corpus of rows that have a `path`: bad audio becomes an exclusion, the rest a dataset.

    `further` are columns of the user's own; the rest is as `corpus_of_rows` has it, which raises.
    """
    # Imported here: it loads a decoder, which a corpus of texts and a recipe's help have no use for.
    from affect.data.corpora.verification import verify

    rows, repeated = without_repeats({**row, "path": os.path.abspath(row["path"])} for row in rows)
    verdicts = verify([Path(row["path"]) for row in rows], name)
    kept, faulty = with_verdicts(rows, [verdicts[Path(row["path"])] for row in rows])
    left_out = [*exclusions, *repeated, *faulty]
    return corpus_of_rows(name, kept, left_out, root=root, scale=scale, mapped=mapped, further=further)


def corpus_of_rows(
    name: str,
    rows: Sequence[Row],
    exclusions: Sequence[Exclusion],
    *,
    root: Path | str,
    scale: tuple[float, float] | None,
    mapped: bool = False,
    further: Sequence[str] = (),
) -> Corpus:
    """Return the corpus of rows that can all be used; where `scale` is None it is inferred, and logged.

    `further` columns of numbers alone become labels, the others groups. Raises AffectError where there is no row.
    """
    log_exclusions(name, rows, exclusions, root)
    labels = tuple(column for column in further if _numeric(row.get(column) for row in rows))
    groups = tuple(column for column in further if column not in labels)
    rows = [{**row, **{column: number(row.get(column)) for column in labels}} for row in rows]
    return Corpus(
        name=name,
        utterances=dataset_of(rows, labels, groups),
        exclusions=list(exclusions),
        scale=_inferred(name, rows, labels) if scale is None else scale,
        inferred=scale is None,
        mapped=mapped,
        labels=labels,
        groups=groups,
        fingerprint=fingerprint(name, rows, (*labels, *groups)),
    )


def _numeric(cells: Iterable[object]) -> bool:
    """Say whether cells are numbers, some of them there."""
    try:
        values = [number(cell) for cell in cells]
    except ValueError:
        return False
    return any(value == value for value in values)


def _inferred(name: str, rows: Sequence[Row], labels: Sequence[str]) -> tuple[float, float]:
    """Return the scale of the ratings, or of the user's own labels where there are none, and log it."""
    values = [row.get(label, float("nan")) for row in rows for label in LABELS]
    if all(value != value for value in values):
        values = [row[label] for row in rows for label in labels]
    given = [value for value in values if value == value]
    scale = infer_scale(given)
    if given:
        _LOG.warning(
            "%s: no scale was given: %g to %g is taken, the labels go from %g to %g (--data.scale says another)",
            *(name, *scale, min(given), max(given)),
        )
    return scale


def own_columns(present: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return the columns of the user's own beside those `taken` as ours; logs those whose names affect needs."""
    left = [column for column in present if column and column not in {*taken}]
    shadowed = [column for column in left if column in (*TEXTS, *NUMBERS, *MADE)]
    if shadowed:
        _LOG.warning("not taken over, since affect fills columns of these names itself: %s", ", ".join(shadowed))
    return [column for column in left if column not in shadowed]


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


def dataset_of(rows: Sequence[Row], labels: Sequence[str] = (), groups: Sequence[str] = ()) -> Dataset:
    """Return the rows as a dataset with the columns `TEXTS`, `NUMBERS`, and a user's own labels and groups."""
    from datasets import Dataset, Features, Value

    texts, numbers = (*TEXTS, *groups), (*NUMBERS, *labels)
    columns: dict[str, list[Any]] = {name: [row.get(name) or "" for row in rows] for name in texts}
    columns |= {name: [row.get(name, float("nan")) for row in rows] for name in numbers}
    features = {name: Value("string") for name in texts} | {name: Value("float64") for name in numbers}
    return Dataset.from_dict(columns, features=Features(features))


def fingerprint(name: str, rows: Iterable[Row], further: Sequence[str] = ()) -> str:
    """Return a hash of ids, groups, labels and the content of every audio file, wherever the corpus lies."""
    columns = [*(column for column in (*TEXTS, *LABELS) if column != "path"), *sorted(further)]
    digest = hashlib.sha256("\0".join((name, *sorted(further))).encode())
    for row in sorted(rows, key=lambda row: str(row["id"])):
        digest.update(json.dumps([_plain(row.get(column)) for column in columns]).encode())
    return digest.hexdigest()[:16]


def _plain(value: object) -> str:
    return "" if value is None or value != value else str(value)


def labelled(row: Mapping[str, Any]) -> None:
    """Raise UnusableError where a row has neither a rating nor an emotion."""
    if all(row.get(name, float("nan")) != row.get(name, float("nan")) for name in LABELS) and not row.get("emotion"):
        raise UnusableError("no label")
