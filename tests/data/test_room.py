"""Rooms: reverberated speech is neither later nor louder, and decays as it is told to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate, lfilter

from affect.data import audio, room
from affect.data.activity import RATE

DISTANCES = (0.5, 1.0, 3.0)


def drawn(seed: int, decay: float) -> tuple[np.random.Generator, room.Room]:
    random = np.random.default_rng(seed)
    return random, room.drawn(random, (decay, decay))


def voice(seed: int, seconds: float) -> np.ndarray:
    """Return noise with a speech's slope of its spectrum, in syllables."""
    random = np.random.default_rng(seed)
    wave = lfilter([1.0], [1.0, -0.9], random.standard_normal(round(seconds * RATE)))
    syllables = 0.2 + np.abs(np.sin(np.arange(len(wave)) * (np.pi * 4 / RATE)))
    return (0.02 * wave * syllables).astype(np.float32)


def decibels(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.asarray(wave, np.float64) ** 2)))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("decay", [0.2, 0.7])
def test_neither_later_nor_louder(distance, decay):
    for seed in range(4):
        random, place = drawn(seed, decay)
        heard = room.response(random, place, distance)
        speech = voice(seed, 1.5)
        sound = room.reverberated(speech, heard)
        assert len(sound) == len(speech) + len(heard) - 1 and sound.dtype == np.float32
        assert abs(decibels(sound[: len(speech)]) - decibels(speech)) < 0.01
        energy = np.square(sound, dtype=np.float64).sum() / np.square(speech, dtype=np.float64).sum()
        assert 0 <= 10 * np.log10(energy) < 0.5, "what follows is a small part"
        late = int(np.argmax(correlate(sound, speech))) - (len(speech) - 1)
        assert abs(late) <= 8, "half a millisecond: two early reflections may be heard as one"


def test_the_direct_sound_comes_first():
    for seed in range(10):
        random, place = drawn(seed, 0.4)
        heard = room.response(random, place, 1.5)
        assert heard[0] == 1 == np.abs(heard).max() and (heard[1:] != 0).any()


@pytest.mark.parametrize("decay", [0.25, 0.5])
def test_it_decays_as_it_is_told_to(decay):
    slopes = []
    for seed in range(8):
        random, place = drawn(seed, decay)
        heard = room.response(random, place, 1.0)[int(0.05 * RATE) :].astype(np.float64)
        left = 10 * np.log10(np.cumsum(heard[::-1] ** 2)[::-1])
        # The response is cut at -40 dB, which bends the end of what is left.
        part = slice(0, int(0.25 * decay * RATE))
        slopes.append(np.polyfit(np.arange(len(left[part])) / RATE, left[part], 1)[0])
    assert -60 / np.mean(slopes) == pytest.approx(decay, rel=0.2)


def test_the_far_is_more_reverberant():
    shares = []
    for distance in DISTANCES:
        energies = [np.sum(room.response(*drawn(seed, 0.4), distance) ** 2) for seed in range(12)]
        shares.append(np.mean(energies))
    assert 1 < shares[0] < shares[1] < shares[2] <= 3.001


def test_a_room_is_drawn_within_its_range():
    random = np.random.default_rng(0)
    rooms = [room.drawn(random, (0.2, 0.6)) for _ in range(50)]
    assert all(0.2 <= each.decay <= 0.6 and (each.microphone < each.sides).all() for each in rooms)


def test_silence_stays_silent():
    random, place = drawn(0, 0.3)
    assert not room.reverberated(np.zeros(100, np.float32), room.response(random, place, 1.0)).any()


def test_real_voices_are_heard_where_they_are(real_data):
    paths = sorted((real_data / "librispeech" / "train-clean-100").glob("*.flac"))[:20]
    late = []
    for seed, path in enumerate(paths):
        random = np.random.default_rng(seed)
        place = room.drawn(random, (0.2, 0.7))
        speech = audio.load(path)[RATE : 3 * RATE]
        sound = room.reverberated(speech, room.response(random, place, random.uniform(0.5, 3.0)))
        assert abs(decibels(sound[: len(speech)]) - decibels(speech)) < 0.01
        late.append(int(np.argmax(correlate(sound, speech, method="fft"))) - (len(speech) - 1))
    # A voiced sound is like itself a period later, so that once in a while a reflection wins.
    assert np.median(late) == 0 and np.mean(np.abs(late) <= 8) >= 0.9
