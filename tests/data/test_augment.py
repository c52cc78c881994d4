"""Augmentation: what is drawn and from what, and that each operation does to a recording what it says."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from affect.data import augment, noise
from affect.data.augment import Augmentation, generator
from affect.errors import AffectError

RATE = 16_000
FROZEN = 2_088_517_700_883_105_672
"""What these arguments gave when this was written: it never changes, or runs could not be repeated."""
IDS = [f"Ses01F_impro01_F{k:03d}" for k in range(400)]
EVERYTHING = Augmentation(stretch=0.2, shift=0.5, noise=(0.0, 20.0), gain=6.0, mixup=0.4)


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
    """Return a voice-like tone of eight harmonics."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.2 * sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 9))).astype(np.float32)


def hertz_of(sound: np.ndarray) -> float:
    """Return the pitch of a `tone`, whose first harmonic is its loudest."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), n=16 * RATE))
    return float(spectrum.argmax()) / 16


def speech(seed: int = 0, seconds: float = 1.0) -> np.ndarray:
    """Return noise in a slow envelope, with silence at both ends."""
    random = np.random.default_rng(seed)
    size = int(seconds * RATE)
    envelope = np.clip(np.sin(np.linspace(-1, np.pi + 1, size)), 0, None)
    return (0.1 * random.standard_normal(size) * envelope).astype(np.float32)


# What is drawn


def test_numbers_are_the_same_on_every_machine():
    assert augment.number(1, 2, "a", "b", what="share") == FROZEN
    code = "from affect.data import augment; print(augment.number(1, 2, 'a', 'b', what='share'))"
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == FROZEN


def test_everything_in_the_key_counts():
    keys = [
        ((1, 2, "a"), "noise"), ((2, 1, "a"), "noise"), ((1, 3, "a"), "noise"), ((1, 2, "b"), "noise"),
        ((1, 2, "a"), "gain"), ((1, 2, "a", "b"), "noise"), ((1, 2, "b", "a"), "noise"), ((1, 2, "ab"), "noise"),
        ((1, 2, "', '"), "noise"), ((1, 2, "", ""), "noise"), ((1, 2, ""), "noise"), ((12, 0, "a"), "noise"),
    ]  # fmt: skip
    drawn = [augment.number(*key, what=what) for key, what in keys]
    assert len(set(drawn)) == len(keys)
    assert len({generator(*key, what=what).random() for key, what in keys}) == len(keys)
    assert augment.number(np.int64(1), 2, np.str_("a"), what="noise") == drawn[0]


def test_numbers_are_uniform_and_fit_a_tensor():
    drawn = np.array([augment.number(0, epoch, id, what="spec_augment") for epoch in range(10) for id in IDS])
    assert drawn.dtype == np.int64 and drawn.min() >= 0
    assert scipy.stats.kstest(drawn / 2.0**63, "uniform").pvalue > 1e-3


def test_a_recording_is_a_function_of_seed_epoch_and_id():
    wave = speech()
    first = EVERYTHING.apply(wave, RATE, 3, 1, "a")
    np.random.seed(9)
    for other in IDS[:5]:
        EVERYTHING.apply(speech(1), RATE, 3, 1, other)
    np.testing.assert_array_equal(EVERYTHING.apply(wave, RATE, 3, 1, "a"), first)
    for key in ((4, 1, "a"), (3, 2, "a"), (3, 1, "b")):
        again = EVERYTHING.apply(wave, RATE, *key)
        assert len(again) != len(first) or not np.array_equal(again, first)


def test_switching_one_operation_off_leaves_the_others_alone(monkeypatch):
    seen = {}

    def watch(name):
        original = getattr(augment, name)

        def call(wave, value, random, **options):
            seen.setdefault(name, []).append(random.bit_generator.state["state"])
            return original(wave, value, random, **options)

        monkeypatch.setattr(augment, name, call)

    for name in ("stretch", "shift", "add_noise", "gain"):
        watch(name)
    EVERYTHING.apply(speech(), RATE, 3, 1, "a")
    Augmentation(noise=(0.0, 20.0), gain=6.0).apply(speech(), RATE, 3, 1, "a")
    assert [len(states) for states in seen.values()] == [1, 1, 2, 2]
    assert seen["add_noise"][0] == seen["add_noise"][1] and seen["gain"][0] == seen["gain"][1]
    assert len({str(states[0]) for states in seen.values()}) == 4


def test_everything_is_off_by_default():
    wave = speech()
    assert Augmentation().apply(wave, RATE, 0, 0, "a") is wave


@pytest.mark.parametrize("name", ["stretch", "shift", "gain"])
def test_a_strength_of_nothing_is_the_identity(name):
    wave = speech()
    result = getattr(augment, name)(wave, 0.0, generator(0, 0, "a", what=name))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, wave)


FLOATS = st.floats(-8, 8, width=32)


@settings(max_examples=80, deadline=None)
@given(
    wave=arrays.arrays(np.float32, st.integers(1, 3000), elements=FLOATS, fill=st.just(np.float32(0))),
    stretch=st.floats(0, 0.99),
    shift=st.floats(0, 2),
    noise=st.tuples(st.floats(-20, 10), st.floats(10, 40)),
    gain=st.floats(0, 40),
    seed=st.integers(0, 2**40),
    id=st.text(max_size=5),
)
def test_any_recording_stays_one(wave, stretch, shift, noise, gain, seed, id):
    changed = Augmentation(stretch=stretch, shift=shift, noise=noise, gain=gain).apply(wave, RATE, seed, 0, id)
    assert changed.dtype == np.float32 and changed.ndim == 1
    assert len(changed) and np.isfinite(changed).all()
    assert len(wave) / (1 + stretch) - 1 <= len(changed) <= len(wave) * (1 + stretch) + 1


# Stretch


def test_stretch_changes_the_length_and_not_the_pitch():
    wave = tone(180.0)
    lengths = []
    for id in IDS[:12]:
        tempo = 1.25 ** generator(0, 0, id, what="stretch").uniform(-1, 1)
        stretched = augment.stretch(wave, 0.25, generator(0, 0, id, what="stretch"))
        assert len(stretched) == round(len(wave) / tempo)
        assert abs(hertz_of(stretched[1600:-1600]) - 180.0) < 1.5
        level = np.sqrt(np.mean(stretched[1600:-1600] ** 2) / np.mean(wave**2))
        assert 0.85 < level < 1.15
        lengths.append(len(stretched))
    assert min(lengths) < 0.95 * len(wave) and max(lengths) > 1.05 * len(wave)


def test_stretch_keeps_the_order_of_events():
    """Two tones after each other stay so, each its share of the time."""
    wave = np.concatenate([tone(120.0, 1.0), tone(300.0, 1.0)])
    for id in IDS[:6]:
        stretched = augment.stretch(wave, 0.3, generator(0, 0, id, what="stretch"))
        half = len(stretched) // 2
        for part, hertz in ((stretched[: half - 2000], 120.0), (stretched[half + 2000 :], 300.0)):
            assert abs(hertz_of(part) - hertz) < 3


def test_stretch_is_as_often_faster_as_slower_and_bounded():
    sizes = np.array([len(augment.stretch(np.ones(2000, np.float32), 0.2, generator(0, 0, i, what="s"))) for i in IDS])
    assert 2000 / 1.2 - 1 <= sizes.min() < 1700 and 2350 < sizes.max() <= 2400
    assert 0.4 < np.mean(sizes < 2000) < 0.6


# Shift


def test_shift_moves_and_fills_with_zeros():
    wave = speech()
    moves = []
    for id in IDS[:60]:
        by = round(generator(0, 0, id, what="shift").uniform(-1600, 1600))
        moved = augment.shift(wave, 1600, generator(0, 0, id, what="shift"))
        assert len(moved) == len(wave)
        if by > 0:
            np.testing.assert_array_equal(moved[by:], wave[:-by])
            assert not moved[:by].any()
        elif by < 0:
            np.testing.assert_array_equal(moved[:by], wave[-by:])
            assert not moved[by:].any()
        moves.append(by)
    assert min(moves) < -1200 and max(moves) > 1200


@settings(max_examples=100, deadline=None)
@given(
    wave=arrays.arrays(np.float32, st.integers(2, 500), elements=st.floats(-1, 1, width=32)),
    longest=st.floats(0, 2000),
    seed=st.integers(0, 1000),
)
def test_shift_never_moves_all_speech_out(wave, longest, seed):
    moved = augment.shift(wave, longest, generator(seed, 0, "a", what="shift"))
    by = 0
    # The move is found again: the one that explains the result.
    for candidate in range(-len(wave) + 1, len(wave)):
        expected = np.zeros_like(wave)
        if candidate >= 0:
            expected[candidate:] = wave[: len(wave) - candidate]
        else:
            expected[:candidate] = wave[-candidate:]
        if np.array_equal(expected, moved):
            by = candidate
            break
    else:
        raise AssertionError("no shift at all")
    energy = (wave.astype(np.float64) - wave.mean(dtype=np.float64)) ** 2
    kept = energy[: len(wave) - by] if by >= 0 else energy[-by:]
    assert kept.sum() >= energy.sum() / 2 - 1e-9


def test_a_word_at_the_edge_stays_in():
    wave = np.zeros(RATE, np.float32)
    wave[-800:] = tone(150.0, 0.05)
    for id in IDS[:40]:
        moved = augment.shift(wave, RATE, generator(0, 0, id, what="shift"))
        assert np.sum(moved**2) > 0.49 * np.sum(wave**2)


# Noise


def ratio(wave: np.ndarray, noisy: np.ndarray) -> float:
    added = noisy.astype(np.float64) - wave
    return 10 * np.log10(np.var(wave, dtype=np.float64) / np.var(added))


@pytest.mark.parametrize("recorded", [False, True])
def test_noise_has_the_ratio_that_was_drawn(recorded, tmp_path):
    files = ()
    if recorded:
        soundfile.write(tmp_path / "hum.wav", tone(50.0, 0.7) + 0.3, 8000)
        soundfile.write(tmp_path / "street.flac", np.random.default_rng(0).normal(0, 0.1, (40_000, 2)), 44_100)
        files = noise.recordings(tmp_path)
    wave, found = speech(), []
    for id in IDS[:40]:
        expected = generator(0, 0, id, what="noise").uniform(5.0, 25.0)
        noisy = augment.add_noise(wave, (5.0, 25.0), generator(0, 0, id, what="noise"), files=files, rate=RATE)
        assert len(noisy) == len(wave)
        assert abs(ratio(wave, noisy) - expected) < 0.01
        assert abs(np.mean(noisy.astype(np.float64) - wave)) < 1e-6
        found.append(expected)
    assert min(found) < 7 and max(found) > 23


def test_generated_noise_lies_between_white_and_pink():
    slopes = []
    for id in IDS[:60]:
        added = noise.coloured(4 * RATE, generator(0, 0, id, what="noise"))
        frequency, density = scipy.signal.welch(added, RATE, nperseg=2048)
        used = (frequency > 50) & (frequency < 7000)
        slopes.append(np.polyfit(np.log10(frequency[used]), np.log10(density[used]), 1)[0])
    assert -1.1 < min(slopes) < -0.9 and -0.1 < max(slopes) < 0.1
    assert abs(np.mean(slopes) + 0.5) < 0.15


def test_an_excerpt_is_of_the_recording_and_a_short_one_is_repeated(tmp_path):
    ramp = (np.arange(1000) / 2000).astype(np.float32)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE, subtype="FLOAT")
    starts = set()
    for id in IDS[:30]:
        part = noise.excerpt(str(tmp_path / "ramp.wav"), 300, RATE, generator(0, 0, id, what="noise"))
        start = round(float(part[0]) * 2000)
        np.testing.assert_array_equal(part, ramp[start : start + 300])
        long = noise.excerpt(str(tmp_path / "ramp.wav"), 2500, RATE, generator(0, 0, id, what="noise"))
        start = round(float(long[0]) * 2000)
        np.testing.assert_array_equal(long, ramp[(start + np.arange(2500)) % 1000])
        starts.add(start)
    assert len(starts) > 20
    whole = noise.excerpt(str(tmp_path / "ramp.wav"), 1000, RATE, generator(0, 0, "a", what="noise"))
    np.testing.assert_array_equal(whole, ramp)


def test_silence_stays_silent():
    wave = np.zeros(4000, np.float32)
    changed = EVERYTHING.apply(wave, RATE, 0, 0, "a")
    assert not changed.any()


def test_a_folder_of_noise(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.wav", "a.FLAC", "deep/c.ogg"):
        soundfile.write(tmp_path / name, speech()[:8000], RATE)
    (tmp_path / "._b.wav").write_bytes(b"attributes")
    (tmp_path / "readme.txt").write_text("noise")
    assert noise.recordings(str(tmp_path)) == tuple(str(tmp_path / name) for name in ("a.FLAC", "b.wav", "deep/c.ogg"))


def test_a_folder_of_noise_that_is_of_no_use(tmp_path):
    def refused(folder) -> str:
        with pytest.raises(AffectError) as caught:
            noise.recordings(folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "no noise recording (.aac" in refused(tmp_path)
    soundfile.write(tmp_path / "a.wav", speech(), RATE)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:5000])
    assert "b.wav" in refused(tmp_path) and "truncated" in refused(tmp_path)
    (tmp_path / "b.wav").write_text("not audio")
    assert "b.wav" in refused(tmp_path)


def test_a_noise_recording_that_is_silent_or_gone(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), RATE)
    for path, words in ((tmp_path / "a.wav", "a.wav: is silent"), (tmp_path / "b.wav", "b.wav: no such audio file")):
        with pytest.raises(AffectError, match=words) as caught:
            augment.add_noise(speech(), (0.0, 0.0), generator(0, 0, "a", what="noise"), files=[str(path)])
        assert "\n" not in str(caught.value)


# Gain


def test_gain_is_uniform_in_decibels_and_never_clips():
    wave = 0.01 * tone(150.0, 0.1)
    for id in IDS[:20]:
        expected = generator(0, 0, id, what="gain").uniform(-12, 12)
        louder = augment.gain(wave, 12.0, generator(0, 0, id, what="gain"))
        assert abs(20 * np.log10(np.abs(louder).max() / np.abs(wave).max()) - expected) < 1e-3
    for peak in (0.9, 1.0, 1.7):
        loud = peak * wave / np.abs(wave).max()
        for id in IDS[:20]:
            drawn = generator(0, 0, id, what="gain").uniform(-12, 12)
            result = augment.gain(loud, 12.0, generator(0, 0, id, what="gain"))
            top = np.abs(result).max()
            assert top <= max(1.0, peak) + 1e-6
            expected = min(peak * 10 ** (drawn / 20), max(1.0, peak)) if drawn > 0 else peak * 10 ** (drawn / 20)
            assert abs(top - expected) < 1e-5


# Mixup


def test_partners_are_others_and_uniform():
    ids = IDS[:20]
    counts = np.zeros(20)
    for epoch in range(500):
        for place, id in enumerate(ids[:4]):
            other = augment.partner(ids, 0, epoch, id)
            assert other != place
            counts[other] += 1
    # 4 x 500 draws over 19 others each.
    assert scipy.stats.chisquare(counts[4:]).pvalue > 1e-3
    assert augment.partner(ids, 0, 7, "b") == augment.partner(ids, 0, 7, "b")
    assert augment.partner(["a", "b"], 0, 0, "a") == 1
    with pytest.raises(AffectError, match="mixup needs two"):
        augment.partner(["a"], 0, 0, "a")


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_betas_larger_part(alpha):
    drawn = [augment.share(alpha, 0, epoch, id, "other") for epoch in range(5) for id in IDS]

    def cumulative(x):
        return scipy.stats.beta.cdf(x, alpha, alpha) - scipy.stats.beta.cdf(1 - np.asarray(x), alpha, alpha)

    assert scipy.stats.kstest(drawn, cumulative).pvalue > 1e-3
    assert augment.share(alpha, 0, 0, "a", "b") != augment.share(alpha, 0, 0, "a", "c")


def test_a_mix_has_the_shares_and_keeps_the_level():
    wave, other = tone(150.0, 1.0), 0.05 * tone(220.0, 1.5)
    mixed = augment.mix(wave, other, 0.7)
    assert mixed.dtype == np.float32 and len(mixed) == len(wave)
    # Alike in level, the shares are those of the amplitudes, and the whole keeps the level of the first.
    spectrum = np.abs(np.fft.rfft(mixed))
    assert abs(spectrum[220] / spectrum[150] - 0.3 / 0.7) < 0.01
    assert abs(np.std(mixed) / np.std(wave) - 1) < 0.01
    np.testing.assert_array_equal(augment.mix(wave, other, 1.0), wave)


def test_a_shorter_partner_is_followed_by_silence():
    wave, other = tone(150.0, 1.0), tone(220.0, 0.25)
    mixed = augment.mix(wave, other, 0.6)
    np.testing.assert_allclose(mixed[4000:], 0.6 * wave[4000:] / np.hypot(0.6, 0.4), rtol=1e-5, atol=1e-7)
    silent = augment.mix(wave, np.zeros(99_999, np.float32), 0.6)
    np.testing.assert_allclose(silent, 0.6 * wave / np.hypot(0.6, 0.4), rtol=1e-5, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    wave=arrays.arrays(np.float32, st.integers(1, 300), elements=FLOATS),
    other=arrays.arrays(np.float32, st.integers(1, 300), elements=FLOATS),
    share=st.floats(0.5, 1),
)
def test_any_two_recordings_mix(wave, other, share):
    mixed = augment.mix(wave, other, share)
    assert mixed.dtype == np.float32 and mixed.shape == wave.shape
    assert np.isfinite(mixed).all()


def test_real_speech_survives_everything(real_data):
    path = next(iter(sorted((real_data / "emodb" / "wav").glob("*.wav"))))
    wave, rate = soundfile.read(path, dtype="float32")
    for epoch in range(4):
        changed = EVERYTHING.apply(wave, rate, 0, epoch, path.stem)
        assert np.isfinite(changed).all() and np.abs(changed).max() < 3
        assert 0.1 < np.std(changed) / np.std(wave) < 4
