"""Several rows of one recording, one a rater: averaged where that is asked for, else refused, never the first alone."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from affect.data.agreement import alpha_of_names, alpha_of_numbers
from affect.data.corpus import LABELS, Exclusion, Ratings
from affect.data.table_file import number
from affect.errors import AffectError

_LOG = logging.getLogger("affect")

Row = dict[str, Any]

MEAN = "mean"
"""What a recipe's `raters` may be: each number the mean, the class that most raters gave."""

_RATER = re.compile(r"(rater|annotator|evaluator|worker|listener|coder)([ _-]?(id|name|nr|no))?", re.IGNORECASE)
"""Columns that name who rated."""
_SHARED = ("speaker", "split", "session", "dialogue")
"""Columns by which a corpus is split: raters can't differ in them."""


def names_rater(column: str) -> bool:
    """Say whether a column tells who rated, which a mean has no use for."""
    return _RATER.fullmatch(column.strip()) is not None


def one_row_each(
    rows: Sequence[Row], raters: str | None, further: Sequence[str] = ()
) -> tuple[list[Row], list[Exclusion], Ratings | None]:
    """Return a row a recording (or part of one), what is left out, and what is known of the ratings averaged.

    Rows are of one recording where their `path` and `digest` are the same. `further` are columns of the user's own:
    numbers are averaged, texts that differ are emptied. Raises AffectError for rows that differ in a label unless
    `raters` averages them, and then for those that differ in speaker or part.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.get("path") or "", row["digest"]].append(row)
    several = [group for group in groups.values() if len(group) > 1]
    if raters is not None:
        ties = Counter[str]()
        averaged = [_averaged(group, further, ties) if len(group) > 1 else group[0] for group in groups.values()]
        if ties:
            _LOG.warning("%d recordings have no emotion that most raters gave: it counts as missing", ties.total())
        return averaged, [], _ratings([*groups.values()])
    if rated := [group for group in several if _differ(group)]:
        words = f"{sum(map(len, rated))} rows are of {len(rated)} recordings and differ in labels ({_shown(rated[0])})"
        raise AffectError(f"{words}: one a rater? --data.raters mean averages them; parts? give start and end")
    again = {id(row) for group in several for row in _repeats(group)}
    repeated = [Exclusion(what=row["id"], reason="listed more than once") for row in rows if id(row) in again]
    return [row for row in rows if id(row) not in again], repeated, None


def _values(group: Sequence[Row], name: str) -> list[Any]:
    """Return what rows say under a name, those that say something: no NaN, no empty text."""
    return [row[name] for row in group if row.get(name) not in (None, "") and row[name] == row[name]]


def _differ(group: Sequence[Row]) -> bool:
    """Say whether rows differ in a label that several of them have."""
    return any(len(set(_values(group, name))) > 1 for name in (*LABELS, "emotion"))


def _repeats(group: Sequence[Row]) -> list[Row]:
    """Return the rows of a group whose id an earlier one has; another id is another utterance of the same bytes."""
    first: dict[str, Row] = {}
    return [row for row in group if first.setdefault(row["id"], row) is not row]


def _shown(group: Sequence[Row]) -> str:
    name = next(name for name in (*LABELS, "emotion") if len(set(_values(group, name))) > 1)
    values = ", ".join(f"{value:g}" if isinstance(value, float) else value for value in _values(group, name)[:3])
    return f"{group[0]['id']}: {name} {values}"


def _averaged(group: Sequence[Row], further: Sequence[str], ties: Counter[str]) -> Row:
    """Return the mean row of a recording; an emotion without a majority is "", and counted in `ties`."""
    for name in _SHARED:
        if len(values := sorted(set(_values(group, name)))) > 1:
            raise AffectError(
                f"{group[0]['id']} has rows of the {name} {values[0]!r} and {values[1]!r}: raters agree on it"
            )
    # Of texts the first that there is.
    row = {name: next(iter(_values(group, name)), value) for name, value in group[0].items()}
    for name in LABELS:
        if values := _values(group, name):
            row[name] = sum(values) / len(values)
    votes = Counter(_values(group, "emotion")).most_common(2)
    if len(votes) == 2 and votes[0][1] == votes[1][1]:
        row["emotion"] = ""
        ties["emotion"] += 1
    elif votes:
        row["emotion"] = votes[0][0]
    return row | {name: _mean_or_same(_values(group, name)) for name in further}


def _mean_or_same(texts: Sequence[str]) -> str:
    """Return the mean of cells that are all numbers, the text that all say, or ""."""
    try:
        numbers = [number(text) for text in texts]
    except ValueError:
        return texts[0] if len(set(texts)) == 1 else ""
    numbers = [value for value in numbers if value == value]
    return repr(sum(numbers) / len(numbers)) if numbers else ""


def _ratings(groups: Sequence[Sequence[Row]]) -> Ratings:
    agreement = {name: alpha_of_numbers([_values(group, name) for group in groups]) for name in LABELS}
    agreement["emotion"] = alpha_of_names([_values(group, "emotion") for group in groups])
    kept = {name: alpha for name, alpha in agreement.items() if not math.isnan(alpha)}
    return Ratings(rows=sum(map(len, groups)), recordings=len(groups), agreement=kept)
