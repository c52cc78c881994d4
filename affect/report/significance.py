"""What a paired difference may be called: one judgement for the words, the tables and the colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from affect.report.systems import Estimate
from affect.tables import counted, probability

Strength = Literal["unknown", "no interval", "within noise", "not confirmed", "one seed", "really"]

CHANCE = 0.05
GROUPS = 10
"""Bootstrap groups that "really" needs. Of two equal systems (6 groups, 3 seeds, errors shared within a group) the
interval leaves out 0 in 12 % of cases and not in 5 %, and in 7 % the paired test agrees."""

PAIRS = 6
"""Folds (or seeds) from which the paired test counts: of fewer even equal signs all through give no p under .05."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How sure a difference is (`strength`), its side, and the words that say both."""

    strength: Strength
    better: bool = False
    tail: str = ""

    def said(self, name: str = "") -> str:
        """Return the judgement in a few words, with the `name` of what is compared with where one is given."""
        if self.strength == "unknown":
            return "can't be compared" + (f" with {name}" if name else "")
        if self.strength == "no interval":
            return "no interval, so not shown to be real"
        if self.strength == "within noise":
            return "within noise" + (f" of {name}" if name else "")
        really = "really " if self.strength == "really" else ""
        return f"{really}{'better' if self.better else 'worse'}{f' than {name}' if name else ''}{self.tail}"


def judge(
    estimate: Estimate, *, groups: int, unit: str, single: bool, p: float = math.nan, pairs: int = 0, doubt: str = "",
    sign: int = 1,
) -> Judgement:  # fmt: skip
    """Return what a difference (ours minus theirs, of a measure whose better side is `sign`) may be called.

    "really" is said where the interval leaves out 0, rests on at least GROUPS groups, and where the paired test agrees
    (p at most CHANCE) if there is one over at least PAIRS pairs; of fewer the groups alone decide. `doubt` is another
    reason to hold it for unconfirmed.
    """
    if math.isnan(estimate.value):
        return Judgement(strength="unknown")
    if math.isnan(estimate.low):
        return Judgement(strength="no interval")
    if estimate.low <= 0 <= estimate.high:
        return Judgement(strength="within noise")
    better, one = sign * estimate.low > 0, " with one seed" if single else ""
    tested = pairs >= PAIRS and not math.isnan(p)
    refused = tested and p > CHANCE
    if groups >= GROUPS and not refused and not doubt:
        return Judgement(strength="one seed" if single else "really", better=better, tail=one)
    # A p under .05 beside "not confirmed" needs its reason.
    reason = doubt or ("too few of them" if tested and not refused else "")
    why = ", ".join(filter(None, [probability(p) if tested else "", reason]))
    tail = f" on these {counted(groups, unit)}{one}, not confirmed{f' ({why})' if why else ''}"
    return Judgement(strength="not confirmed", better=better, tail=tail)


def few(groups: int, unit: str) -> str:
    """Return the sentence that warns of an interval over few groups; "" where they are enough."""
    if not 1 < groups < GROUPS:
        return ""
    return f"{counted(groups, unit)} are few: the intervals are rough, and rather too narrow."
