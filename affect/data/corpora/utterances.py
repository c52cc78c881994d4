"""From the rows that a reader found to a `Corpus`: audio verified, faults listed, a fingerprint taken."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data import copies
from affect.data.corpora.labels import UnusableError, gender_of, infer_scale
from affect.data.corpora.raters import one_row_each
from affect.data.corpora.segments import CUT, STILL, are_cut, cut, is_still
from affect.data.corpus import LABELS, Corpus, Exclusion, Ratings, held, kind, summary
from affect.data.files import unreadable_name
from affect.data.table_file import number
from affect.errors import AffectError

if TYPE_CHECKING:
    from datasets import Dataset

    from affect.data.corpora.layout import Layout
    from affect.data.corpora.verification import Verdict

_LOG = logging.getLogger("affect")

TEXTS = (
    "id", "session", "dialogue", "script", "speaker", "gender", "emotion", "transcript", "split", "path", "digest",
)  # fmt: skip
"""Columns of text, "" where unknown. `digest` is the SHA-256 of the audio file."""

NUMBERS = (*LABELS, "duration", "start", "offset")
"""Columns of numbers, NaN where unknown; in seconds `duration`, `start` (in its dialogue) and `offset` (in its file, of
a part of a recording)."""

MADE = ("duration", "offset", "digest", "audio", "length", "prosody", "speaker_embedding")
"""Columns that affect fills itself: a user's own of these names are not taken over."""

OFF_SCALE = "label out of range"
"""Why a row is left out whose label is not on its corpus's scale."""
_MANY = ((10, 0.1), (3, 0.25))
"""Labels off their scale, and a share of all, that are no slips any more: of a large corpus, and of any."""

Row = dict[str, Any]


def verified(corpus: str, rows: Iterable[Row], exclusions: Sequence[Exclusion]) -> tuple[list[Row], list[Exclusion]]:
    """Return the rows whose `path` is sound audio, by id, and all exclusions: repeated ids and bad audio, too."""
    # Imported here: it loads a decoder, which a corpus of texts and a recipe's help have no use for.
    from affect.data.corpora.verification import verify

    rows, repeated = without_repeats({**row, "path": os.path.abspath(row["path"])} for row in rows)
    rows, odd = _readable(rows)
    kept, faulty = with_verdicts(rows, verify([Path(row["path"]) for row in rows], corpus))
    return kept, [*exclusions, *repeated, *odd, *faulty]


def _readable(rows: Sequence[Row]) -> tuple[list[Row], list[Exclusion]]:
    """Return the rows whose names are text, and the others as exclusions."""
    odd = sorted({row["id"] for row in rows if unreadable_name(row["id"] + row["path"])})
    left_out = [Exclusion(what=name, reason="name that is no UTF-8: of it or its file") for name in odd]
    return [row for row in rows if row["id"] not in odd], left_out


def corpus_of_files(
    layout: Layout, rows: Sequence[Row], exclusions: Sequence[Exclusion], *, root: Path | str,
    scale: tuple[float, float] | None = None, further: Sequence[str] = (), raters: str | None = None,
) -> Corpus:  # fmt: skip
    """Return the corpus of rows of the user's own, of which several may name one `path`: parts of it (`CUT`), raters.

    Raises AffectError as `corpus_of_rows` does, and for several rows of one recording that `raters` does not average.
    """
    from affect.data.corpora.verification import verify

    rows, odd = _readable([{**row, "path": os.path.abspath(row["path"])} for row in rows])
    kept, faulty = with_verdicts(rows, verify([Path(row["path"]) for row in rows], layout.name))
    kept, again, ratings = one_of_each(kept, raters, further)
    left_out = [*exclusions, *odd, *faulty, *again]
    return corpus_of_rows(layout, kept, left_out, root=root, scale=scale, further=further, ratings=ratings)


def corpus_of_rows(
    layout: Layout, rows: Sequence[Row], exclusions: Sequence[Exclusion], *, root: Path | str,
    scale: tuple[float, float] | None = None, further: Sequence[str] = (), ratings: Ratings | None = None,
) -> Corpus:  # fmt: skip
    """Return the corpus of rows that can all be used; a scale that neither user nor layout knows is inferred.

    Without sessions or dialogues, both are the speaker. `further` are columns of the user's own: those of numbers alone
    become labels, the others groups. Logs what is left out, the inferred scale, silence, and what labels are means of.
    Raises AffectError without a row.
    """
    told = summary(exclusions)
    if not rows:
        raise AffectError(f"{layout.name}: no utterance of {root} can be used ({told or 'it holds none'})")
    if exclusions:
        _LOG.warning("%s: %s", layout.name, held(len(rows), "utterance", exclusions))
    if scale is None and layout.scale is not None:
        _check_scale(layout, len(rows), exclusions)
    if ratings is not None:
        _LOG.info("%s: labels are %s", layout.name, ratings)
    still = tuple(row["id"] for row in rows if row.get(STILL))
    if still:
        _LOG.warning("%s: %d recordings are silent or constant, %s for one", layout.name, len(still), still[0])
    # Of texts alone it is the text.
    contents = [(row["id"], row.get("digest") or ("" if layout.has_audio else row["transcript"])) for row in rows]
    copies.say(layout.name, {"": contents}, "recordings" if layout.has_audio else "texts")
    labels = tuple(column for column in further if _numeric(row.get(column) for row in rows))
    groups = tuple(column for column in further if column not in labels)
    rows = [_complete(row, labels) for row in rows]
    scale = scale or layout.scale
    return Corpus(
        name=layout.name, utterances=dataset_of(rows, labels, groups), exclusions=list(exclusions),
        scale=scale or _inferred(layout.name, rows, labels), inferred=scale is None, mapped=layout.mapped,
        labels=labels, groups=groups, still=still, ratings=ratings,
        fingerprint=_fingerprint(layout.name, rows, (*labels, *groups)),
    )  # fmt: skip


def _check_scale(layout: Layout, rows: int, exclusions: Sequence[Exclusion]) -> None:
    """Raise AffectError where many labels lie off the scale that a layout has: those of another corpus, or scale."""
    off = [each.reason for each in exclusions if kind(each) == OFF_SCALE]
    if not any(len(off) >= fewest and len(off) > share * (rows + len(off)) for fewest, share in _MANY):
        return
    # What the reasons say of the scale itself comes behind.
    values = [float(text) for reason in off for text in re.findall(r"-?\d+(?:\.\d+)?", reason.partition(" on ")[0])]
    low, high = layout.scale or (0.0, 0.0)
    raise AffectError(
        f"{layout.name}: {len(off)} of {rows + len(off)} utterances have labels off its scale, {low:g} to {high:g}: "
        f"they go from {min(values):g} to {max(values):g}; is it another corpus, or on another scale?"
    )


def _complete(row: Row, labels: Sequence[str]) -> Row:
    own = {name: number(row.get(name)) for name in labels}
    groups = {name: row.get(name) or row.get("speaker") for name in ("session", "dialogue")}
    return {**row, **own, **groups, "gender": gender_of(row.get("gender"))}


def _numeric(cells: Iterable[object]) -> bool:
    """Say whether cells are numbers, some of them there."""
    try:
        values = [number(cell) for cell in cells]
    except ValueError:
        return False
    return any(value == value for value in values)


def _inferred(name: str, rows: Sequence[Row], labels: Sequence[str]) -> tuple[float, float]:
    """Return the scale of the ratings, or of the user's own labels where there are none, and log it."""
    ratings = [row[name] for row in rows for name in LABELS if name in row]
    own = [row[name] for row in rows for name in labels]
    given = [value for value in ratings if value == value] or [value for value in own if value == value]
    scale = infer_scale(given)
    if given:
        _LOG.warning(
            "%s: no scale was given: %g to %g is taken, the labels go from %g to %g (--data.scale says another)",
            *(name, *scale, min(given), max(given)),
        )
    return scale


def own_columns(present: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return the columns of the user's own beside those `taken` as ours; logs those whose names affect needs.

    Raises AffectError for a name that can't be shown, which no table takes.
    """
    left = [column for column in present if column and column not in {*taken}]
    hidden = next((column for column in left if not column.isprintable()), None)
    if hidden is not None:
        raise AffectError(f"a column is called {hidden[:40]!r}, which is no name: rename it")
    shadowed = [column for column in left if column in (*TEXTS, *NUMBERS, *MADE)]
    if shadowed:
        _LOG.warning("not taken over, since affect fills columns of these names itself: %s", ", ".join(shadowed))
    return [column for column in left if column not in shadowed]


def one_of_each(
    rows: Sequence[Row], raters: str | None, further: Sequence[str]
) -> tuple[list[Row], list[Exclusion], Ratings | None]:
    """Return a row a recording and a recording an id, by id, what is left out, and what ratings are averaged."""
    rows, again, ratings = one_row_each(rows, raters, further)
    kept, repeated = without_repeats(rows)
    return kept, [*again, *(replace(each, reason="id of another recording") for each in repeated)], ratings


def without_repeats(rows: Iterable[Row]) -> tuple[list[Row], list[Exclusion]]:
    """Return the rows sorted by id, and the later rows of an id as exclusions."""
    first: dict[str, Row] = {}
    repeated = [
        Exclusion(what=row["id"], reason="listed more than once")
        for row in rows
        if first.setdefault(row["id"], row) is not row
    ]
    return [first[key] for key in sorted(first)], repeated


def with_verdicts(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> tuple[list[Row], list[Exclusion]]:
    """Return the rows whose audio is sound, cut where they are parts of it, and the others as exclusions.

    They have `duration`, `digest` and `STILL`; files that are cut already, as their lengths say, are left as they are.
    """
    parts = [(row, each) for row, each in zip(rows, verdicts, strict=True) if row.get(CUT)]
    whole = bool(parts) and are_cut([row for row, _ in parts], [each for _, each in parts])
    if whole:
        _LOG.info("the files are as long as start and end say: they are cut already, and those are of a dialogue")
    kept: list[Row] = []
    left_out: list[Exclusion] = []
    for row, each in zip(rows, verdicts, strict=True):
        try:
            if each.fault:
                raise UnusableError(f"bad audio: {each.fault}")
            still = is_still(each.still, 0.0, each.duration)
            own = {**row, "duration": each.duration, "digest": each.digest, STILL: still}
            kept.append(cut(row, each) if row.get(CUT) and not whole else own)
        except UnusableError as error:
            left_out.append(Exclusion(what=row["id"], reason=str(error)))
    return kept, left_out


def dataset_of(rows: Sequence[Row], labels: Sequence[str] = (), groups: Sequence[str] = ()) -> Dataset:
    """Return the rows as a dataset with the columns `TEXTS`, `NUMBERS`, and a user's own labels and groups."""
    from datasets import Dataset, Features, Value

    texts, numbers = (*TEXTS, *groups), (*NUMBERS, *labels)
    columns: dict[str, list[Any]] = {name: [row.get(name) or "" for row in rows] for name in texts}
    columns |= {name: [row.get(name, float("nan")) for row in rows] for name in numbers}
    features = {name: Value("string") for name in texts} | {name: Value("float64") for name in numbers}
    return Dataset.from_dict(columns, features=Features(features))


def _fingerprint(name: str, rows: Iterable[Row], further: Sequence[str]) -> str:
    """Return a hash of ids, groups, labels and the content of every audio file, wherever the corpus lies."""
    columns = [*(column for column in (*TEXTS, *LABELS) if column != "path"), *sorted(further)]
    digest = hashlib.sha256("\0".join((name, *sorted(further))).encode())
    for row in sorted(rows, key=lambda row: str(row["id"])):
        values = [row.get(column) for column in columns]
        plain = ["" if value is None or value != value else str(value) for value in values]
        digest.update(json.dumps(plain).encode())
    return digest.hexdigest()[:16]
