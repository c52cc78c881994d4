import logging
import os
import sys
import threading
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.fft
import soundfile
import soxr
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affect.data import egemaps, pitch, prosody, voice
from affect.data.descriptors import BANDS
from affect.errors import AffectError

RATE = 16000
EMODB = Path(os.environ.get("AFFECT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "emodb" / "wav"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prosody"


def frame(track, name):
    return track[:, prosody.FRAME_FEATURES.index(name)]


def of(values, name):
    return float(values[prosody.FUNCTIONAL_NAMES.index(name)])


def harmonics(hertz, amplitudes):
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    return sum(a * np.sin((k + 1) * phase) for k, a in enumerate(amplitudes)).astype(np.float32)


def level_voice(gender, rng):
    """A voice that holds its speaker's pitch exactly."""
    who = voice.speaker(gender, rng)
    how = voice.Manner(
        pitch=0, range=0, contour=0, glide=0, rate=1, corner=2000, spread=1, level=0, rough=0.003, pause=0.1
    )
    samples, _ = voice.speak(["ma", "lo ", "sa", "ne "], who, how, 2.0, 0.03, rng)
    return samples, who.pitch


# pitch


def test_pitch_follows_a_glide_at_least_as_well_as_yin():
    rng = np.random.default_rng(0)
    true = np.exp(np.linspace(np.log(90), np.log(380), 3 * RATE))
    x = harmonics(true, 0.2 / np.arange(1, 11)) + 0.02 * rng.standard_normal(len(true)).astype(np.float32)
    at = np.arange(10, 290)
    ours = pitch.track(x.astype(np.float32)).hertz[at]
    yin = librosa.yin(x, fmin=65, fmax=500, sr=RATE, frame_length=1024, hop_length=160)[at]
    expected = true[at * 160]
    error = np.abs(12 * np.log2(np.maximum(ours, 1) / expected))
    assert error.max() < 0.5
    assert error.mean() <= np.abs(12 * np.log2(yin / expected)).mean() + 0.01


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
    track = prosody.frames(np.zeros(4 * RATE, np.float32))
    assert track.shape == (401, len(prosody.FRAME_FEATURES)) and track.dtype == np.float32
    assert len(set(prosody.FRAME_FEATURES)) == len(prosody.FRAME_FEATURES)


def test_pitch_is_interpolated_where_unvoiced():
    x = np.concatenate([harmonics(np.full(RATE, f), [0.3, 0.2, 0.1]) for f in (110, 220)])
    x[RATE - 3200 : RATE + 3200] = 0
    track = prosody.frames(x)
    f0, voicing = frame(track, "f0"), frame(track, "voicing")
    assert voicing[50] == 1 and voicing[100] == 0 and voicing[150] == 1
    assert f0[50] == pytest.approx(24, abs=0.1) and f0[150] == pytest.approx(36, abs=0.1)
    assert 24.5 < f0[100] < 35.5
    assert np.diff(f0[75:125]).min() > -0.2


def test_only_energy_and_loudness_know_the_level():
    samples, _ = level_voice("F", np.random.default_rng(1))
    loud, soft = prosody.frames(samples), prosody.frames(0.1 * samples)
    for i, name in enumerate(prosody.FRAME_FEATURES):
        if name == "energy":
            np.testing.assert_allclose(loud[:, i] - soft[:, i], 20, atol=0.1)
        elif name == "loudness":
            np.testing.assert_allclose(soft[:, i], loud[:, i] * 10**-0.6, rtol=1e-3)
        else:
            np.testing.assert_allclose(soft[:, i], loud[:, i], atol=0.05, err_msg=name)


def test_energy_is_in_decibel_of_full_scale():
    x = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert np.median(frame(prosody.frames(x), "energy")) == pytest.approx(10 * np.log10(0.125), abs=0.1)
    assert frame(prosody.frames(np.zeros(RATE)), "energy").max() == pytest.approx(-100)


def test_cepstrum_and_bands_are_librosas():
    samples, _ = level_voice("M", np.random.default_rng(2))
    track = prosody.frames(samples)
    mel = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=512, win_length=400, hop_length=160, window=np.hanning(400), power=2.0,
        n_mels=BANDS, fmin=50, fmax=7600, norm=1, pad_mode="constant",
    )  # fmt: skip
    floored = mel + 1e-6 * mel.mean(axis=0).max()
    mfcc = scipy.fft.dct(np.log(floored), axis=0, norm="ortho")[1:13]
    first = prosody.FRAME_FEATURES.index("mfcc_1")
    np.testing.assert_allclose(track[:, first : first + 12], mfcc.T, atol=0.02)
    decibel = 10 * np.log10(floored / mel.mean(axis=0).max())
    np.testing.assert_allclose(track[:, first + 12 :], decibel.T, atol=0.05)


@pytest.mark.parametrize("scale", [1.0, 1.12])
def test_formants_are_those_of_the_filter(scale):
    pulses = np.zeros(RATE)
    pulses[:: RATE // 110] = 1.0
    for hertz, width in ((500 * scale, 80), (1500 * scale, 100), (2500 * scale, 140), (3500 * scale, 200)):
        r = np.exp(-np.pi * width / RATE)
        pulses = lfilter([1.0], [1.0, -2 * r * np.cos(2 * np.pi * hertz / RATE), r * r], pulses)
    track = prosody.frames(0.1 * pulses / np.abs(pulses).max())
    for name in ("f1", "f2", "f3"):
        assert np.median(frame(track, name)) == pytest.approx(np.log2(scale), abs=0.1)


def test_harmonic_difference_and_balance():
    x = harmonics(np.full(RATE, 200.0), [0.4, 0.1])
    track = prosody.frames(x)
    assert np.median(frame(track, "h1_h2")) == pytest.approx(20 * np.log10(4), abs=0.5)
    high = 0.1 * np.sin(2 * np.pi * 4000 * np.arange(RATE) / RATE)
    assert np.median(frame(prosody.frames(high), "centroid")) == pytest.approx(2, abs=0.05)
    assert np.median(frame(track, "alpha_ratio")) > 20 > -20 > np.median(frame(prosody.frames(high), "alpha_ratio"))


@pytest.mark.parametrize("bad", [np.zeros((2, 100)), np.array([0.0, np.nan]), np.array([np.inf])])
def test_bad_waveforms_are_one_line_errors(bad):
    for compute in (prosody.frames, prosody.functionals):
        with pytest.raises(AffectError, match="^[^\n]*(channel|NaN)[^\n]*$"):
            compute(bad)


# functionals


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
    assert np.isfinite(values).all() and np.isfinite(prosody.frames(x)).all()


def test_names_are_unique():
    assert len(set(prosody.FUNCTIONAL_NAMES)) == len(prosody.FUNCTIONAL_NAMES) > 100
    assert prosody.names() == prosody.FUNCTIONAL_NAMES


def test_other_rates_give_nearly_the_same():
    samples, _ = level_voice("F", np.random.default_rng(3))
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
    assert of(values, "f0_rising_share") == pytest.approx(slope > 0, abs=0.1)
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


# a corpus


def folder_of(path, count=5):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        x = harmonics(np.full(4000 + 800 * i, rng.uniform(90, 300)), [0.3, 0.2, 0.1])
        soundfile.write(path / f"{i}.wav", x, RATE)
        rows.append({"id": str(i), "path": str(path / f"{i}.wav")})
    return Dataset.from_list(rows)


def refuse(_):
    raise AssertionError("computed again")


def test_add_gives_each_row_its_functionals(tmp_path):
    dataset = folder_of(tmp_path)
    added = prosody.add(dataset, jobs=2)
    assert added.column_names == ["id", "path", "prosody"] and added.features["prosody"].feature.dtype == "float32"
    for row in added:
        samples, _ = soundfile.read(row["path"], dtype="float32")
        np.testing.assert_array_equal(np.float32(row["prosody"]), prosody.functionals(samples))


def test_add_computes_only_what_is_new(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path)
    first = prosody.add(dataset)
    monkeypatch.setattr(prosody, "functionals", refuse)
    again = prosody.add(prosody.add(dataset.select([3, 1, 3])))
    assert again["prosody"][:] == [first["prosody"][i] for i in (3, 1, 3)]
    monkeypatch.undo()
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "1.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 5000), RATE)
    changed = prosody.add(dataset)
    same = [a == b for a, b in zip(changed["prosody"], first["prosody"], strict=True)]
    assert same == [True, False, True, True, True]


def test_a_row_is_known_by_its_content(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path, 2)
    data = [Path(path).read_bytes() for path in dataset["path"]]
    held = Dataset.from_list([{"id": "a", "audio": {"bytes": d, "path": None}} for d in data])
    first = prosody.add(held)
    monkeypatch.setattr(prosody, "functionals", refuse)
    renamed = Dataset.from_list([{"id": "b", "audio": {"bytes": d, "path": None}} for d in reversed(data)])
    assert list(prosody.add(renamed)["prosody"]) == list(reversed(list(first["prosody"])))


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_cache_is_made_again_and_said(tmp_path, cache, caplog, damage):
    dataset = folder_of(tmp_path, 3)
    first = prosody.add(dataset)
    (file,) = cache.glob("*/*.npy")
    if damage is None:
        np.save(file, np.zeros(3))
    else:
        file.write_bytes(damage)
    with caplog.at_level(logging.WARNING, logger="affect"):
        again = prosody.add(dataset)
    assert list(again["prosody"]) == list(first["prosody"])
    assert any(str(file) in record.getMessage() for record in caplog.records)


def test_of_several_at_once_one_computes(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path)
    count, compute = [], prosody.functionals

    def counted(samples):
        count.append(1)
        return compute(samples)

    monkeypatch.setattr(prosody, "functionals", counted)
    results = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: prosody.add(dataset)})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == len(dataset)
    assert all(list(results[i]["prosody"]) == list(results[0]["prosody"]) for i in (1, 2))


def test_errors_of_add_name_the_thing(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path, 1)
    with pytest.raises(AffectError, match="'egemap'.*did you mean 'egemaps'"):
        prosody.add(dataset, kind="egemap")
    with pytest.raises(AffectError, match="gone.wav"):
        prosody.add(Dataset.from_list([{"id": "a", "path": str(tmp_path / "gone.wav")}]))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "file"))
    with pytest.raises(AffectError, match="AFFECT_CACHE"):
        prosody.add(dataset)


def test_without_opensmile_the_error_says_how_and_what_licence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    egemaps._extractor.cache_clear()
    with pytest.raises(AffectError, match=r"research only: pip install 'affect\[egemaps\]'$"):
        prosody.add(folder_of(tmp_path, 1), kind="egemaps")


def test_egemaps_are_opensmiles(tmp_path):
    opensmile = pytest.importorskip("opensmile")
    egemaps._extractor.cache_clear()
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    samples, _ = level_voice("F", np.random.default_rng(0))
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    dataset = prosody.add(Dataset.from_list([{"id": "a", "path": str(path)}] * 2), kind="egemaps")
    np.testing.assert_array_equal(np.float32(dataset[0]["prosody"]), smile.process_signal(samples, RATE).to_numpy()[0])
    assert prosody.names("egemaps") == tuple(smile.feature_names) and len(prosody.names("egemaps")) == 88
    for short in (np.zeros(0), np.zeros(400), np.zeros(RATE)):
        assert np.isfinite(egemaps.functionals(short)).all()


# real emotion


def ccc(x, y):
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def held_out(features, target, speakers, alpha):
    """Predictions for each speaker of a ridge fitted to the others."""
    found = np.zeros(len(target))
    for speaker in np.unique(speakers):
        own = speakers == speaker
        model = make_pipeline(StandardScaler(), Ridge(alpha)).fit(features[~own], target[~own])
        found[own] = model.predict(features[own])
    return found


@pytest.mark.skipif(not EMODB.is_dir(), reason=f"real data: no EmoDB in {EMODB}")
def test_ridge_on_emodb_reaches_the_published_score():
    labels = {
        "W": (-0.51, 0.59), "L": (-0.65, -0.62), "E": (-0.60, 0.35), "A": (-0.64, 0.60),
        "F": (0.81, 0.51), "T": (-0.63, -0.27), "N": (0.0, 0.0),
    }  # fmt: skip
    files = sorted(EMODB.glob("*.wav"))
    assert len(files) == 304
    features = np.array([prosody.functionals(*soundfile.read(file, dtype="float32")) for file in files])
    targets = np.array([labels[file.name[5]] for file in files])
    speakers = np.array([file.name[:2] for file in files])
    alphas = (10.0, 30.0, 100.0, 300.0)
    score = []
    for target in targets.T:
        found = np.zeros(len(target))
        for speaker in np.unique(speakers):
            own = speakers == speaker
            inner = {a: ccc(held_out(features[~own], target[~own], speakers[~own], a), target[~own]) for a in alphas}
            model = make_pipeline(StandardScaler(), Ridge(max(inner, key=inner.get)))
            found[own] = model.fit(features[~own], target[~own]).predict(features[own])
        score.append(ccc(found, target))
    assert score[0] > 0.48 and score[1] > 0.78
