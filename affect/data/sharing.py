"""What parts share that learning or choosing must not see of a test: a speaker, a dialogue, an identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from affect.tables import counted, plural

LEARNED = ("train", "valid")
"""The parts by which something is learned or chosen: tests may share with each other what they like."""


def shared(parts: Mapping[str, Sequence[str | None]], what: str) -> dict[tuple[str, str], str]:
    """Return what training or validation shares with another part, in words, by both parts.

    `parts` have `what` (speaker) each of their rows is of, "" or None where nobody knows.
    """
    ordered = [*(part for part in LEARNED if part in parts), *(part for part in parts if part not in LEARNED)]
    told: dict[tuple[str, str], str] = {}
    for first, second in combinations(ordered, 2):
        both = sorted({*filter(None, parts[first])} & {*filter(None, parts[second])})
        if both and first in LEARNED:
            rows = sum(value in both for value in parts[second])
            told[first, second] = (
                f"{first} and {second} share {len(both):,} of the {plural(what)}, {both[0]!r} for one, "
                f"with {rows:,} of the {counted(len(parts[second]), 'row')} of {second}"
            )
    return told
