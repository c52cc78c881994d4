import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data import descriptors, prosody
from tests.data.tones import RATE, harmonics


def of(values, name):
    return float(values[prosody.FUNCTIONAL_NAMES.index(name)])


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 3000),
    kind=st.sampled_from(["silence", "constant", "noise", "tone", "click", "tiny", "clipped"]),
    seed=st.integers(0, 99),
)
def test_every_clip_has_finite_functionals(size, kind, seed):
    rng = np.random.default_rng(seed)
    x = {
        "silence": np.zeros(size),
        "constant": np.full(size, 0.5),
        "noise": 0.3 * rng.standard_normal(size),
        "tone": np.sin(2 * np.pi * rng.uniform(50, 600) * np.arange(size) / RATE),
        "click": (np.arange(size) == size // 2).astype(float),
        "tiny": 1e-7 * rng.standard_normal(size),
        "clipped": np.sign(rng.standard_normal(size)),
    }[kind]
    values = prosody.functionals(x.astype(np.float32))
    assert values.shape == (len(prosody.FUNCTIONAL_NAMES),) and values.dtype == np.float32
    assert np.isfinite(values).all() and np.isfinite(descriptors.frames(x)).all()


def test_names_are_unique():
    assert len(set(prosody.FUNCTIONAL_NAMES)) == len(prosody.FUNCTIONAL_NAMES) > 100
    assert prosody.names() == prosody.FUNCTIONAL_NAMES


def test_other_rates_give_nearly_the_same():
    rng = np.random.default_rng(3)
    samples = harmonics(220 * 2 ** (np.sin(np.arange(2 * RATE) / 5000) / 4), 0.2 / np.arange(1, 15))
    samples[RATE : RATE + 4000] = 0.05 * rng.standard_normal(4000)
    wide = soxr.resample(samples, RATE, 48000)
    here, there = prosody.functionals(samples), prosody.functionals(wide, 48000)
    for name in ("f0_mean", "f0_sd", "energy_mean", "voiced_share", "f1_voiced_mean", "mfcc_1_mean"):
        assert of(there, name) == pytest.approx(of(here, name), rel=0.03, abs=0.03), name


def test_tempo_and_pauses_are_counted():
    time = np.arange(4 * RATE) / RATE
    x = harmonics(np.full(4 * RATE, 150.0), [0.3, 0.2, 0.1]) * np.sin(np.pi * 4 * time) ** 2  # four syllables a second
    values = prosody.functionals(x)
    assert of(values, "syllable_rate") == pytest.approx(4, abs=0.3)
    tone = harmonics(np.full(2 * RATE, 150.0), [0.3, 0.2, 0.1])
    tone[RATE // 2 : RATE] = 0
    assert of(prosody.functionals(tone), "pause_seconds_mean") == pytest.approx(0.5, abs=0.05)
    assert of(prosody.functionals(tone), "active_share") == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("slope", [-6.0, 6.0])
def test_melody_slopes_are_in_semitones_a_second(slope):
    hertz = 200 * 2 ** (slope * np.linspace(-1, 1, 2 * RATE) / 12)
    values = prosody.functionals(harmonics(hertz, [0.3, 0.2, 0.1]))
    assert of(values, "f0_slope") == pytest.approx(slope, rel=0.03)
    assert of(values, "f0_segment_slope_mean") == pytest.approx(slope, rel=0.03)
    assert of(values, "f0_rising_share") == pytest.approx(float(slope > 0), abs=0.1)
    assert of(values, "f0_p50") == pytest.approx(12 * np.log2(200 / 27.5), abs=0.1)


def test_a_rough_voice_is_rougher():
    calm, rough = (
        np.mean([of(prosody.functionals(_with_jitter(jitter, seed)), "f0_roughness") for seed in range(3)])
        for jitter in (0.002, 0.03)
    )
    assert rough > 2 * calm


def _with_jitter(jitter, seed):
    rng = np.random.default_rng(seed)
    cycles = 110 * (1 + jitter * rng.standard_normal(220))
    return harmonics(np.repeat(cycles, RATE // 110), [0.3, 0.2, 0.1, 0.1])
