"""Rooms: what a microphone hears of a voice at a distance, neither later nor louder than the voice itself.

Reflections up to 50 ms after the direct sound come from the image method (Allen and Berkley 1979), with walls that are
all alike, by Eyring's formula for the reverberation time; what follows is noise that decays, with the power that
images have on average there (their density grows with the square of time as their power falls with it).
Source of the two corrections: public room simulations make speech longer, louder and later than its labels say. Here
the direct sound's delay is taken out, and the level is restored.

Legend: S samples, L samples of a response, I images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data.activity import RATE

Samples = NDArray[np.float32]

_SOUND = 343.0
"""Metres a second."""
_EARLY = 0.05
"""Seconds after the direct sound from which on reflections are too many to be told apart."""
_HEARD = 2 / 3
"""Share of the reverberation time that is computed: down to -40 dB, where a voice or noise covers it."""
_FACING = 0.5
"""Power of a talker's sound in other directions, on average, over that to the front, where the microphone is."""
_MOST = 2.0
"""Power of all reflections over the direct sound's, at most (3 dB): speech is to be heard where its label is."""
_MARGIN = 0.3
"""Metres from a wall, at least, of whoever speaks or listens."""
_SMALLEST, _LARGEST = (3.0, 3.0, 2.4), (9.0, 7.0, 3.6)
_ORDERS = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
_SIDES = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])


@dataclass(frozen=True, eq=False)
class Room:
    """A room: its sides and the place of its microphone [3] in metres, and its reverberation time in seconds."""

    sides: NDArray[np.float64]
    microphone: NDArray[np.float64]
    decay: float


def drawn(random: Generator, decay: tuple[float, float]) -> Room:
    """Return a room whose reverberation time lies in the range `decay`, its microphone somewhere in its middle."""
    sides = random.uniform(_SMALLEST, _LARGEST)
    return Room(sides, sides * random.uniform(0.35, 0.65, 3), float(random.uniform(*decay)))


def response(random: Generator, room: Room, distance: float) -> Samples:
    """Return what the microphone hears [L] of an impulse from a random direction, `distance` metres away.

    It begins with the direct sound, whose delay is taken out and whose height is 1. Where a wall is nearer than that,
    the impulse comes from before it.
    """
    direction = random.normal(0.0, 1.0, 3) * (1.0, 1.0, 0.2)
    place = room.microphone + distance * direction / np.linalg.norm(direction)
    place = np.clip(place, _MARGIN, room.sides - _MARGIN)
    direct = max(float(np.linalg.norm(place - room.microphone)), 0.1)
    volume, walls = room.sides.prod(), 2 * (room.sides * np.roll(room.sides, 1)).sum()
    size = max(1, int(_HEARD * room.decay * RATE))
    # Eyring: a reflection keeps this share of an amplitude.
    kept = math.exp(-0.5 * 0.161 * volume / (walls * room.decay))
    images = (1 - 2 * _SIDES) * place + 2 * _ORDERS[:, None] * room.sides
    bounces = (np.abs(_ORDERS[:, None] - _SIDES) + np.abs(_ORDERS[:, None])).sum(axis=2)
    paths = np.linalg.norm(images - room.microphone, axis=2)
    late = np.rint((paths - direct) * (RATE / _SOUND)).astype(np.int64)
    early = (late > 0) & (late < min(size, int(_EARLY * RATE)))
    heard = np.zeros(size, np.float32)
    np.add.at(
        heard, late[early], (math.sqrt(_FACING) * kept ** bounces[early] * direct / paths[early]).astype(np.float32)
    )
    heard[0] = 1.0
    after = np.arange(int(_EARLY * RATE), size)
    if len(after):
        power = _FACING * 4 * math.pi * _SOUND * direct**2 / (volume * RATE)
        fall = np.exp(-(after / RATE + direct / _SOUND) * (3 * math.log(10) / room.decay), dtype=np.float32)
        heard[after[0] :] = random.standard_normal(len(after), np.float32) * fall * np.float32(math.sqrt(power))
    reflected = float(np.dot(heard[1:], heard[1:]))
    heard[1:] *= np.float32(math.sqrt(_MOST / max(reflected, _MOST)))
    return heard


def reverberated(speech: Samples, heard: Samples) -> Samples:
    """Return `speech` [S] as a response [L] has it, [S + L - 1], its first S samples as loud as before."""
    size = len(speech) + len(heard) - 1
    whole = scipy.fft.next_fast_len(size, real=True)
    spectrum = scipy.fft.rfft(speech, whole)
    spectrum *= scipy.fft.rfft(heard, whole)
    sound: Samples = scipy.fft.irfft(spectrum, whole)[:size]
    had, has = (float(np.dot(wave, wave)) for wave in (speech, sound[: len(speech)]))
    if has > 0:
        sound *= np.float32(math.sqrt(had / has))
    return sound
