"""Who speaks when: turns drawn by simple rules, or with the pauses, overlaps and order of real conversations.

The floor is held by the speaker whose turn ends last of those that have begun. Each next turn is told by its gap to the
end of the floor's turn: a pause, or, below 0, an overlap. Source of the fitted kind: Landini et al. 2022, "From
Simulated Mixtures to Simulated Conversations as Training Data for End-to-End Neural Diarization". There pauses and
overlaps are drawn each for itself; here a turn is drawn whole, from real ones after a turn of about the same length,
so that short answers stay inside long turns.

Legend: M real turns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data.activity import RATE
from affect.data.rttm import Turn, joined
from affect.data.simulation import Simulation
from affect.errors import AffectError

Placed = tuple[int, int, int]
"""A turn: its first sample, which may lie before the conversation, the sample after its last, and who speaks."""

_STEP = RATE // 100
_PLACES = 16
"""Places that are tried for a turn of the uniform kind."""
_LOOSE = 0.01
"""How far from the share of overlap asked for a turn may lead, if it leads away from it."""
_OUTSIDE = 64
"""What counts as the number of speakers outside of a conversation, and more than it: no step of it has so many."""
_BEFORE = 10.0
"""Seconds before a conversation of the fitted kind, at least, from which on its turns are drawn."""
_TRIES = 20
_NEAR = 8
"""One in so many of the real turns follows a turn of about the same length."""


@dataclass(frozen=True, eq=False)
class TurnTaking:
    """Real turns, sorted by the length of the floor's turn that they follow, all in seconds [M].

    `gap` lies between the end of the floor's turn and the start of theirs, `same` says that the floor's speaker goes
    on. `back` is the probability that, of several others, the one speaks who held the floor before; NaN where there
    never were several.
    """

    held: NDArray[np.float64]
    gap: NDArray[np.float64]
    length: NDArray[np.float64]
    same: NDArray[np.bool_]
    back: float

    def summary(self) -> dict[str, float]:
        """Return means in seconds (of pauses: before the same and before another speaker) and shares."""
        overlapped = self.gap < 0
        parts: dict[str, NDArray[Any]] = {
            "turn": self.length, "pause_same": self.gap[self.same], "pause_other": self.gap[~self.same & ~overlapped],
            "overlap": -self.gap[overlapped], "same": self.same, "overlapped": overlapped,
        }  # fmt: skip
        return {name: float(np.mean(values)) if len(values) else 0.0 for name, values in parts.items()}


def fit(recordings: Mapping[str, Iterable[Turn]]) -> TurnTaking:
    """Return the turn taking of the turns of recordings; raises AffectError where no turn follows another."""
    rows: list[tuple[float, float, float, bool]] = []
    backs: list[bool] = []
    for turns in recordings.values():
        ordered = joined(turns)
        several = len({turn.speaker for turn in ordered}) > 2
        floor, before = ordered[0] if ordered else Turn(0.0, 0.0, ""), ""
        for turn in ordered[1:]:
            goes_on = turn.speaker == floor.speaker
            rows.append((floor.end - floor.start, turn.start - floor.end, turn.end - turn.start, goes_on))
            if several and not goes_on and before:
                backs.append(turn.speaker == before)
            if turn.end > floor.end:
                before = before if goes_on else floor.speaker
                floor = turn
    if not rows:
        raise AffectError("no turn follows another one: there is no turn taking to be fitted to")
    held, gap, length, same = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return TurnTaking(held, gap, length, same, float(np.mean(backs)) if backs else math.nan)


def overlap_ratio(turns: Iterable[tuple[int, int, object]]) -> float:
    """Return the share of the time with speech in which several turns are at once, 0 without any."""
    edges = sorted(edge for start, end, _ in turns for edge in ((start, 1), (end, -1)))
    speech = overlap = several = last = 0
    for at, change in edges:
        speech += (at - last) * (several > 0)
        overlap += (at - last) * (several > 1)
        several, last = several + change, at
    return overlap / speech if speech else 0.0


def fitted(random: Generator, speakers: int, size: int, real: TurnTaking) -> list[Placed]:
    """Return turns of speakers 0 to `speakers` - 1 that go on as real ones do, for `size` samples."""
    count, ends = len(real.held), np.zeros(speakers)
    half = max(1, count // (2 * _NEAR))
    length = float(real.length[random.integers(count)])
    # The conversation is a window of a longer one, which has been going on for a while.
    start, holder, before = -float(random.uniform(_BEFORE, 2 * _BEFORE)), 0, -1
    end, seconds, turns = start + length, size / RATE, [(start, start + length, 0)]
    ends[0], tries = end, 0
    while end < seconds:
        middle = min(max(int(np.searchsorted(real.held, end - start)), half), max(half, count - half))
        row = int(random.integers(max(0, middle - half), min(count, middle + half)))
        gap, length = float(real.gap[row]), float(real.length[row])
        # As far inside of the floor's turn as that of the real one, so never before it.
        gap *= (end - start) / float(real.held[row]) if gap < 0 else 1.0
        speaker, coin, pick = holder, random.random(), random.random()
        if speakers == 1:
            gap = abs(gap)
        begin = end + gap
        if not real.same[row] and speakers > 1:
            # Nobody speaks twice at once: another real turn is taken, or, after many, one without a pause.
            free = [each for each in range(speakers) if each != holder and ends[each] <= begin]
            if not free and (tries := tries + 1) < _TRIES:
                continue
            if not free:
                begin, free = end, [each for each in range(speakers) if each != holder]
            if before in free and len(free) > 1 and not math.isnan(real.back):
                free = [before] if coin < real.back else [each for each in free if each != before]
            speaker = free[int(pick * len(free))]
        tries = 0
        turns.append((begin, begin + length, speaker))
        ends[speaker] = begin + length
        if begin + length > end:
            before = before if speaker == holder else holder
            start, end, holder = begin, begin + length, speaker
    return [(round(a * RATE), round(b * RATE), speaker) for a, b, speaker in turns]


def uniform(random: Generator, speakers: int, size: int, rules: Simulation) -> list[Placed]:
    """Return turns of speakers 0 to `speakers` - 1 for `size` samples, by the rules for a main one and the others.

    Speaker 0 has turns with pauses. The others' are inserted in turn, each at that one of some random places which
    brings the share of overlap nearest to what is asked for, until each has as much as the main one or no place is
    left that does.
    """
    shortest, longest = (round(seconds * RATE) for seconds in rules.turn)

    def drawn(most: int, least: int = 0) -> int:
        return int(random.integers(least, most + 1))

    turns: list[Placed] = []
    # The conversation is a window of a longer one: it may begin inside a turn.
    at = -drawn(longest + round(rules.gap * RATE))
    while at < size:
        length = drawn(longest, shortest)
        turns.append((at, at + length, 0))
        at += length + drawn(round(rules.gap * RATE))
    # Around the conversation, too, so that a turn may reach beyond it; there nobody counts.
    steps, around = -(-size // _STEP), -(-longest // _STEP) + 1
    speaking = np.zeros((speakers, steps + 2 * around), np.bool_)
    for start, end, _ in turns:
        speaking[0, max(0, start // _STEP + around) : max(0, end // _STEP + around)] = True
    count = np.full(speaking.shape[1], _OUTSIDE, np.int8)
    count[around : around + steps] = speaking[0, around : around + steps]
    due = int(count[around : around + steps].sum())
    speech, overlap, left, missed = due, 0, list(range(1, speakers)), 0
    spoken = [0] * speakers
    while left and missed < 2 * len(left):
        speaker, length = left.pop(0), drawn(longest, shortest)
        whole = -(-length // _STEP)
        starts = random.integers(around - whole // 2, around + steps - whole // 2, _PLACES)
        pieces = starts[:, None] + np.arange(whole)
        there = count[pieces]
        silent, single = (there == 0).sum(axis=1), (there == 1).sum(axis=1)
        off = np.abs((overlap + single) / np.maximum(speech + silent, 1) - rules.overlap)
        off[speaking[speaker][pieces].any(axis=1)] = math.inf
        best, now = int(off.argmin()), abs(overlap / max(speech, 1) - rules.overlap)
        # The first turn of a speaker is put somewhere in any case, if there is room.
        if off[best] <= (max(now, _LOOSE) if spoken[speaker] else 1.0):
            start = int(starts[best])
            turns.append(((start - around) * _STEP, (start - around) * _STEP + length, speaker))
            speaking[speaker, start : start + whole] = True
            count[start : start + whole] += 1
            speech, overlap = speech + int(silent[best]), overlap + int(single[best])
            spoken[speaker] += int((there[best] < _OUTSIDE).sum())
            missed = 0
        else:
            missed += 1
        if spoken[speaker] < due:
            left.append(speaker)
    return turns
