"""A clip in a few hundred numbers, for the models that a network is held against: small images over time, and sound.

Legend: D numbers of a clip, T images, S pixels of a side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affect.data.audio import Samples
from affect.data.clip import Clip, square
from affect.data.functionals import FUNCTIONAL_NAMES, functionals
from affect.tasks.talking_face.media import SOUND_RATE, Media

VERSION = 2
"""To be raised when the same clip gives other numbers."""
_SIDE = 8
"""Pixels of a side of the images whose colours are told one by one."""
SEEN = 2 * 3 * _SIDE**2 + 2

Floats = NDArray[np.float64]


def of_clip(own: Clip, media: Media) -> Floats:
    """Return what `media` takes of a clip as numbers [D], NaN for what the clip lacks."""
    seen = seen_of(own.images) if media.video else np.zeros(0)
    heard = heard_of(own.sound) if media.audio else np.zeros(0)
    return np.concatenate([seen, heard])


def seen_of(images: NDArray[np.uint8] | None) -> Floats:
    """Return mean and deviation over time of small images, how much changes between them and how sharp they are.

    Of images [T, S, S, 3], from 0 to 1, in `SEEN` numbers; NaN without any.
    """
    if images is None or not len(images):
        return np.full(SEEN, np.nan)
    small = np.stack([square(image, _SIDE) for image in images]) / 255
    moved = np.abs(np.diff(small, axis=0)).mean() if len(small) > 1 else 0.0
    sharp = np.abs(np.diff(images.astype(np.float32), axis=2)).mean() / 255
    return np.concatenate([small.mean(0).ravel(), small.std(0).ravel(), [moved, sharp]])


def heard_of(sound: Samples | None) -> Floats:
    """Return the functionals of a sound; NaN without any."""
    if sound is None or not len(sound):
        return np.full(len(FUNCTIONAL_NAMES), np.nan)
    return functionals(sound, SOUND_RATE).astype(np.float64)
