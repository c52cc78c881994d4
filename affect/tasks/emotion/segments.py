"""Segments of dialogues: the plan's unit for models that remember what was said before.

A segment is a row of its own: `members` are the ids of its utterances in the order they were said, `rows` where
they stand in the corpus, `length` the sum of theirs.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from affect.errors import AffectError

_LOG = logging.getLogger("affect")


def segments(part: Dataset, places: Mapping[str, int], size: int | None) -> Dataset:
    """Return the dialogues of a part, cut into segments of `size` consecutive utterances (None: whole dialogues).

    `places` says where each id stands in the corpus. Utterances are ordered by `start` (seconds), by id where a
    dialogue has no such times. A last segment may be shorter. Raises AffectError where there are no dialogues.
    """
    held = part.select_columns(["id", "session", "dialogue", "speaker", "length", "start"])
    dialogues: dict[tuple[str, str], list[dict[str, object]]] = defaultdict(list)
    for row in held:
        dialogues[str(row["session"]), str(row["dialogue"])].append(row)
    if len(dialogues) == len(part):
        raise AffectError("model.dialogue needs dialogues: here each utterance is one of its own")
    untimed = sum(any(row["start"] != row["start"] for row in rows) for rows in dialogues.values())
    if untimed:
        _LOG.warning("%d of %d dialogues have no start times: their utterances go by id", untimed, len(dialogues))
    found: dict[str, list[object]] = {"id": [], "members": [], "rows": [], "length": []}
    for key in sorted(dialogues):
        ordered = _in_order(dialogues[key])
        step = size or len(ordered)
        for first in range(0, len(ordered), step):
            members = ordered[first : first + step]
            names = [str(row["id"]) for row in members]
            found["id"].append(f"{names[0]}+{len(names) - 1}")
            found["members"].append(names)
            found["rows"].append([places[name] for name in names])
            found["length"].append(float(np.sum([row["length"] for row in members])))
    return Dataset.from_dict(found)


def _in_order(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    if any(row["start"] != row["start"] for row in rows):
        return sorted(rows, key=lambda row: str(row["id"]))
    return sorted(rows, key=lambda row: (row["start"], row["id"]))
