"""Clips made worse, without a label: the clean one has to rank above. And one feature moved in time against the others.

Legend: T frames, W numbers of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import augment
from affect.task import Key
from affect.tasks.talking_face.config import SOUND

Frames = NDArray[np.float32]
Clip = Mapping[str, Frames | None]
"""Frames [T, W] by feature; what a clip lacks is None or not there."""

_LEAST = 0.3
"""Of a corruption's strength, which is drawn up to 1: of a weak one nobody could tell which is which."""
_LATEST = 16
"""Frames by which sound is moved at most, of a short clip half of them: by all of them it is where it was."""


def late(frames: Frames, by: int) -> Frames:
    """Return frames [T, W] moved by so many; those that leave at one end come in at the other.

    One frame in place of them, or silence, would be heard by itself: models learn that, and not lateness.
    """
    return np.roll(frames, by, axis=0)


def heard(clip: Clip) -> int:
    """Return how many frames the feature of sound has that has the most, 0 without sound."""
    return max((len(frames) for name, frames in clip.items() if SOUND in name and frames is not None), default=0)


def offset(clip: Clip, share: float) -> dict[str, Frames | None]:
    """Return a clip whose features of sound are late by a share of its time, whatever their frame rates."""
    return {n: late(f, round(share * len(f))) if f is not None and SOUND in n else f for n, f in clip.items()}


def frozen(frames: Frames, strength: float, random: Generator) -> Frames:
    """Return frames [T, W] of which a share of up to `strength` is the one before, as where a video drops them."""
    return held(frames, random.uniform(size=len(frames)) >= 0.8 * strength)


def held(frames: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[Any]:
    """Return frames [T, ...], the one before in place of each that is not `kept` [T]; the first one stays."""
    return frames[np.maximum.accumulate(np.where(kept, np.arange(len(frames)), 0))]


def blurred(frames: Frames, strength: float, random: Generator) -> Frames:
    """Return frames [T, W] averaged over up to nine neighbours."""
    half = max(1, round(4 * strength))
    totals = np.cumsum(np.pad(frames, ((half + 1, half), (0, 0)), mode="edge"), axis=0, dtype=np.float64)
    width = 2 * half + 1
    return np.asarray((totals[width:] - totals[:-width]) / width, np.float32)


def noisy(frames: Frames, strength: float, random: Generator) -> Frames:
    """Return frames [T, W] with noise of up to twice each number's own deviation in the clip."""
    deviation = 2 * strength * frames.std(0, dtype=np.float64)
    return np.asarray(frames + deviation * random.standard_normal(frames.shape), np.float32)


_OF_FRAMES: tuple[Callable[[Frames, float, Generator], Frames], ...] = (frozen, blurred, noisy)


def corrupted(id: str, clip: Clip, key: Key) -> dict[str, Frames | None]:
    """Return a clip made worse: its sound is moved, or one of its features frozen, blurred or noisy."""
    random = augment.generator(key.seed, key.epoch, id, what="corruption")
    there = sorted(name for name, frames in clip.items() if frames is not None)
    if not there:
        return dict(clip)
    strength = float(random.uniform(_LEAST, 1))
    sound = heard(clip)
    kind = int(random.integers(len(_OF_FRAMES) + (sound > 0 and len(there) > 1)))
    if kind == len(_OF_FRAMES):
        by = min(max(1, round(_LATEST * strength)), max(1, sound // 2))
        return offset(clip, int(random.choice([-1, 1])) * by / sound)
    name = there[int(random.integers(len(there)))]
    frames = clip[name]
    assert frames is not None
    return {**clip, name: _OF_FRAMES[kind](frames, strength, random)}
