"""Clips made worse: what changes, by how much, and that it follows the clip."""

from __future__ import annotations

from collections import Counter

import numpy as np

from affect.task import Key
from affect.tasks.talking_face import corruptions
from affect.tasks.talking_face.corruptions import blurred, corrupted, frozen, late, noisy, offset

FRAMES = np.arange(20, dtype=np.float32)[:, None] ** 1.5 * np.ones((1, 3), np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_late_frames_are_those_before_and_no_frame_is_lost_or_twice():
    assert late(FRAMES, 3)[3:].tolist() == FRAMES[:-3].tolist()
    assert late(FRAMES, -3)[:-3].tolist() == FRAMES[3:].tolist()
    for by in (3, -7, 16):
        assert sorted(late(FRAMES, by)[:, 0]) == FRAMES[:, 0].tolist()


def test_an_offset_moves_sound_alone():
    """Features of sound by one time, however many frames of it they have."""
    clip = {"audio": FRAMES, "audio_slow": FRAMES[:10], "visual": FRAMES, "au": None}
    moved = offset(clip, 4 / 20)
    assert moved["visual"] is FRAMES and moved["au"] is None
    assert moved["audio"][4:].tolist() == FRAMES[:-4].tolist()
    assert moved["audio_slow"][2:].tolist() == FRAMES[:8].tolist()


def test_half_of_a_short_clips_sound_stays(monkeypatch):
    monkeypatch.setattr(corruptions, "_OF_FRAMES", ())
    clip = {"audio": FRAMES[:6], "visual": FRAMES[:6]}
    made = [corrupted("c", clip, Key(seed=0, epoch=k))["audio"] for k in range(20)]
    moved = [[by for by in range(-6, 7) if np.array_equal(frames, late(FRAMES[:6], by))] for frames in made]
    assert {by for each in moved for by in each} == {-3, 3}


def test_frozen_blurred_and_noisy_frames():
    still = frozen(FRAMES, 1.0, rng())
    repeated = (np.diff(still[:, 0]) == 0).sum()
    assert 10 <= repeated < 19
    assert set(still[:, 0]) <= set(FRAMES[:, 0]) and still[0, 0] == FRAMES[0, 0]
    spiked = np.zeros((20, 1), np.float32)
    spiked[10] = 9.0
    assert np.allclose(blurred(spiked, 1.0, rng())[6:15], 1.0)
    assert np.allclose(blurred(spiked, 1.0, rng())[[5, 15]], 0.0)
    added = noisy(np.repeat(FRAMES, 200, axis=0), 0.5, rng()) - np.repeat(FRAMES, 200, axis=0)
    assert np.allclose(added.std(0) / FRAMES.std(0), 1.0, atol=0.05)


def test_one_thing_is_worse_and_it_follows_seed_epoch_and_clip():
    clip = {"audio": FRAMES, "visual": FRAMES, "au": None}
    kinds: Counter[str] = Counter()
    for k in range(60):
        key = Key(seed=0, epoch=k)
        worse = corrupted("c", clip, key)
        again = corrupted("c", clip, key)
        changed = [name for name in ("audio", "visual") if not np.array_equal(worse[name], FRAMES)]
        assert len(changed) == 1 and worse["au"] is None
        assert np.array_equal(worse[changed[0]], again[changed[0]])
        assert worse[changed[0]].shape == FRAMES.shape and worse[changed[0]].dtype == np.float32
        kinds[changed[0]] += 1
    assert min(kinds.values()) > 10
    assert corrupted("c", {"au": None}, Key(seed=0, epoch=0)) == {"au": None}
