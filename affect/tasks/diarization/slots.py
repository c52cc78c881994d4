"""Whom the slots of a training block are for: who is enrolled, whom the pseudo-speaker stands for, what the rest is.

Legend: N slots, K speakers (of the block, and others that could be enrolled), T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.tasks.diarization.config import EMPTY, NON_SPEAKER, PSEUDO, Loss, Model


@dataclass(frozen=True)
class Slots:
    """Of one block: what its slots hold and are taught."""

    slots: NDArray[np.int64]
    """[N]: a speaker by number (0 to K - 1), or PSEUDO, NON_SPEAKER, EMPTY. The first are pseudo-speakers."""
    owner: NDArray[np.int64]
    """[N]: whose activity a slot bears, -1 for nobody's; of the pseudo-speakers' those without a slot, by arrival."""
    activity: NDArray[np.float32]
    """[N, T]: labels, NaN where nothing is taught. The first slots are taught the candidates in their place."""
    candidates: NDArray[np.float32]
    """[K, T]: the activity of those who speak and have no slot, NaN for the others."""


def assign(
    spoken: NDArray[Any], enrollable: NDArray[np.bool_], model: Model, loss: Loss, random: Generator | None
) -> Slots:
    """Return the slots of a block in which `spoken` [K, T] tells who speaks when.

    Only those that are `enrollable` [K] (whose embedding is at hand) may be enrolled; one who never speaks here is
    enrolled too, and taught silence. `random` decides who stays unknown, as the loss says, and the order of slots;
    without it nobody is enrolled, as at the start of a recording.
    """
    speaks: NDArray[np.bool_] = np.any(spoken, axis=1)
    enrolled = _enrolled(speaks, enrollable, loss, random)
    free = model.slots - model.pseudo
    present, absent = _shuffled(np.flatnonzero(enrolled & speaks), random), np.flatnonzero(enrolled & ~speaks)
    # Those for whom there is no slot are not enrolled after all.
    present = present[:free]
    rest = free - len(present)
    most = {"mask": rest, "non": (rest + 1) // 2, "pseudo": 0}[model.padding]
    chosen = np.concatenate([present, _shuffled(absent, random)[:most]])
    filler = {"mask": EMPTY, "non": NON_SPEAKER, "pseudo": PSEUDO}[model.padding]
    slots = np.full(model.slots, filler, np.int64)
    slots[: model.pseudo] = PSEUDO - np.arange(model.pseudo)
    slots[model.pseudo : model.pseudo + len(chosen)] = chosen
    new = speaks.copy()
    new[present] = False
    owner = np.where(slots >= 0, slots, -1)
    newcomers = _by_arrival(spoken, new)[: model.pseudo]
    owner[: len(newcomers)] = newcomers
    activity = np.where(owner[:, None] >= 0, spoken[owner], 0).astype(np.float32)
    activity[slots == EMPTY] = np.nan
    if loss.labelled == "speakers":
        activity[owner < 0] = np.nan
    candidates = np.where(new[:, None], spoken, np.nan).astype(np.float32)
    return Slots(slots, owner, activity, candidates)


def _enrolled(
    speaks: NDArray[np.bool_], enrollable: NDArray[np.bool_], loss: Loss, random: Generator | None
) -> NDArray[np.bool_]:
    """Return who is enrolled [K]: nobody, all but one or some of those who speak, or all who can be."""
    if random is None or random.random() < loss.empty:
        return np.zeros_like(enrollable)
    enrolled = enrollable.copy()
    there = np.flatnonzero(speaks & enrollable)
    if len(there) and random.random() < loss.mask_prob:
        if loss.masked == "one":
            enrolled[random.choice(there)] = False
        else:
            enrolled[random.choice(there, random.integers(1, len(there) + 1), replace=False)] = False
    return enrolled


def _by_arrival(spoken: NDArray[Any], among: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return those `among` [K] in the order in which they begin to speak."""
    places = np.flatnonzero(among)
    return places[spoken[places].argmax(1).argsort(kind="stable")] if len(places) else places


def _shuffled(places: NDArray[np.intp], random: Generator | None) -> NDArray[np.intp]:
    return places if random is None else random.permutation(places)
