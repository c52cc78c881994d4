import numpy as np
import pytest
import scipy.fft
from scipy.signal import lfilter

from affect.data import descriptors, egemaps, pitch, prosody, voice
from affect.data.descriptors import BANDS
from affect.errors import AffectError
from tests.data.tones import RATE, harmonics


def frame(track, name):
    return track[:, descriptors.FRAME_FEATURES.index(name)]


def level_voice(gender, rng):
    """A voice that holds its speaker's pitch exactly."""
    who = voice.speaker(gender, rng)
    how = voice.Manner(
        pitch=0,
        range=0,
        contour=0,
        glide=0,
        rate=1,
        corner=2000,
        spread=1,
        level=0,
        rough=0.003,
        breath=0.004,
        pause=0.1,
    )
    samples, _ = voice.speak(["ma", "lo ", "sa", "ne "], who, how, 2.0, 0.03, rng)
    return samples, who.pitch


# pitch


def test_pitch_follows_a_glide():
    rng = np.random.default_rng(0)
    true = np.exp(np.linspace(np.log(90), np.log(380), 3 * RATE))
    x = harmonics(true, 0.2 / np.arange(1, 11)) + 0.02 * rng.standard_normal(len(true)).astype(np.float32)
    at = np.arange(10, 290)
    error = np.abs(12 * np.log2(np.maximum(pitch.track(x.astype(np.float32)).hertz[at], 1) / true[at * 160]))
    assert error.max() < 0.5 and error.mean() < 0.05


TIMBRES = {
    "sine": [0.5],
    "voice": 0.2 / np.arange(1, 11),
    "hollow": [0.3, 0, 0.1, 0, 0.06],
    "telephone": [0, 0.2, 0.2, 0.15, 0.1],
}
"""Amplitudes of harmonics; the last has no fundamental."""


@pytest.mark.parametrize("timbre", TIMBRES)
def test_a_steady_tone_has_the_pitch_it_was_made_with(timbre):
    # Octave errors are what this finds: of a steady tone every multiple of the period fits as well.
    for hertz in [*range(70, 500, 13), 390, 400, 440, 478, 480, 499, 500]:
        found = pitch.track(harmonics(np.full(RATE // 4, float(hertz)), TIMBRES[timbre]))
        inside = slice(4, -4)
        assert found.voiced[inside].all(), hertz
        np.testing.assert_allclose(found.hertz[inside], hertz, rtol=0.01, err_msg=f"{hertz} Hz")


@pytest.mark.parametrize("timbre", ["sine", "voice"])
def test_a_tone_above_the_range_is_unvoiced_and_no_lower_one(timbre):
    for hertz in (520, 560, 600, 640, 700, 777, 850, 930, 1000, *((1200, 1500, 1999) if timbre == "sine" else ())):
        found = pitch.track(harmonics(np.full(RATE // 4, float(hertz)), TIMBRES[timbre]))
        assert not found.voiced[4:-4].any(), (hertz, found.hertz[4:-4])


@pytest.mark.parametrize("gender", ["F", "M"])
@pytest.mark.parametrize("seed", range(3))
def test_pitch_of_a_voice_is_the_one_it_was_given(gender, seed):
    samples, hertz = level_voice(gender, np.random.default_rng(seed))
    found = pitch.track(samples)
    error = 12 * np.log2(found.hertz[found.voiced] / hertz)
    assert found.voiced.mean() > 0.5
    assert abs(np.median(error)) < 0.1
    assert (np.abs(error) > 1).mean() < 0.02


def test_noise_and_silence_are_unvoiced():
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert pitch.track(noise).voiced.mean() < 0.05
    silent = pitch.track(np.zeros(RATE, np.float32))
    assert not silent.voiced.any() and not silent.periodicity.any()


# frames


def test_frames_are_ten_milliseconds_apart_and_named():
    track = descriptors.frames(np.zeros(4 * RATE, np.float32))
    assert track.shape == (401, len(descriptors.FRAME_FEATURES)) and track.dtype == np.float32
    assert len(set(descriptors.FRAME_FEATURES)) == len(descriptors.FRAME_FEATURES)


def test_pitch_is_interpolated_where_unvoiced():
    x = np.concatenate([harmonics(np.full(RATE, f), [0.3, 0.2, 0.1]) for f in (110, 220)])
    x[RATE - 3200 : RATE + 3200] = 0
    track = descriptors.frames(x)
    f0, voicing = frame(track, "f0"), frame(track, "voicing")
    assert voicing[50] == 1 and voicing[100] == 0 and voicing[150] == 1
    assert f0[50] == pytest.approx(24, abs=0.1) and f0[150] == pytest.approx(36, abs=0.1)
    assert 24.5 < f0[100] < 35.5
    assert np.diff(f0[75:125]).min() > -0.2


def test_only_energy_and_loudness_know_the_level():
    samples, _ = level_voice("F", np.random.default_rng(1))
    loud, soft = descriptors.frames(samples), descriptors.frames(0.1 * samples)
    for i, name in enumerate(descriptors.FRAME_FEATURES):
        if name == "energy":
            np.testing.assert_allclose(loud[:, i] - soft[:, i], 20, atol=0.1)
        elif name == "loudness":
            np.testing.assert_allclose(soft[:, i], loud[:, i] * 10**-0.6, rtol=1e-3)
        else:
            np.testing.assert_allclose(soft[:, i], loud[:, i], atol=0.05, err_msg=name)


def test_energy_is_in_decibel_of_full_scale():
    x = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert np.median(frame(descriptors.frames(x), "energy")) == pytest.approx(10 * np.log10(0.125), abs=0.1)
    assert frame(descriptors.frames(np.zeros(RATE)), "energy").max() == pytest.approx(-120)


def mel_bands(samples):
    """Power [bands, frames] in triangles of unit sum, even on Slaney's scale: linear to 1 kHz, then logarithmic."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 256), 512)[::160]
    power = np.abs(np.fft.rfft(frames * np.pad(np.hanning(400), 56))) ** 2
    mels = np.arange(0, 60, 0.01)
    hertz = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    edges = np.interp(np.linspace(*np.interp([50.0, 7600.0], hertz, mels), BANDS + 2), mels, hertz)
    bins = np.arange(257) * RATE / 512
    filters = np.stack([np.interp(bins, edges[i : i + 3], [0, 1, 0], 0, 0) for i in range(BANDS)])
    return filters / filters.sum(axis=1, keepdims=True) @ power.T


def test_cepstrum_and_bands_are_those_of_the_mel_scale():
    samples, _ = level_voice("M", np.random.default_rng(2))
    samples -= samples.mean(dtype=np.float64)
    track = descriptors.frames(samples)
    mel = mel_bands(samples)
    floored = mel + 1e-6 * mel.mean(axis=0).max()
    mfcc = scipy.fft.dct(np.log(floored), axis=0, norm="ortho")[1:13]
    first = descriptors.FRAME_FEATURES.index("mfcc_1")
    np.testing.assert_allclose(track[:, first : first + 12], mfcc.T, atol=0.02)
    decibel = 10 * np.log10(floored / mel.mean(axis=0).max())
    np.testing.assert_allclose(track[:, first + 12 :], decibel.T, atol=0.05)


def formants(scale):
    """Median F1, F2, F3 (octaves) of noise through resonators: as whispered, so no harmonic pulls a peak aside."""
    sound = lfilter([1.0], [1.0, -0.95], np.random.default_rng(0).standard_normal(2 * RATE))  # a voice's tilt
    for hertz, width in ((500 * scale, 80), (1500 * scale, 100), (2500 * scale, 140), (3500 * scale, 200)):
        r = np.exp(-np.pi * width / RATE)
        sound = lfilter([1.0], [1.0, -2 * r * np.cos(2 * np.pi * hertz / RATE), r * r], sound)
    track = descriptors.frames(0.1 * sound / np.abs(sound).max())
    return np.array([np.median(frame(track, name)) for name in ("f1", "f2", "f3")])


def test_formants_are_those_of_the_filter():
    neutral, smiling = formants(1.0), formants(1.12)
    np.testing.assert_allclose(neutral, 0, atol=0.08)
    np.testing.assert_allclose(smiling - neutral, np.log2(1.12), atol=0.03)


def test_harmonic_difference_and_balance():
    x = harmonics(np.full(RATE, 200.0), [0.4, 0.1])
    track = descriptors.frames(x)
    assert np.median(frame(track, "h1_h2")) == pytest.approx(20 * np.log10(4), abs=0.5)
    high = 0.1 * np.sin(2 * np.pi * 4000 * np.arange(RATE) / RATE)
    assert np.median(frame(descriptors.frames(high), "centroid")) == pytest.approx(2, abs=0.05)
    assert np.median(frame(track, "alpha_ratio")) > 20 > -20 > np.median(frame(descriptors.frames(high), "alpha_ratio"))


@pytest.mark.parametrize("bad", [np.zeros((2, 100)), np.array([0.0, np.nan]), np.array([np.inf])])
def test_bad_waveforms_are_one_line_errors(bad):
    for compute in (descriptors.frames, prosody.functionals):
        with pytest.raises(AffectError, match="^[^\n]*(channel|NaN)[^\n]*$"):
            compute(bad)


@pytest.mark.parametrize("offset", [0.01, -0.2])
def test_a_constant_offset_changes_nothing(offset):
    samples, _ = level_voice("F", np.random.default_rng(1))
    plain, moved = descriptors.frames(samples), descriptors.frames(samples + np.float32(offset))
    np.testing.assert_allclose(moved, plain, atol=0.02)
    assert (descriptors.frames(np.full(RATE, offset)) == descriptors.frames(np.zeros(RATE))).all()


@pytest.mark.parametrize("kind", ["int16", "int32", "uint8", "int64", "bool"])
def test_whole_numbers_are_refused_as_they_have_no_full_scale(kind):
    samples = (np.arange(400) % 2).astype(kind)
    for compute in (descriptors.frames, prosody.functionals, egemaps.functionals, prosody.compute):
        with pytest.raises(AffectError, match=f"^[^\n]*floating point, not {kind}: divide by full scale[^\n]*$"):
            compute(samples)
