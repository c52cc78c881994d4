import io
import math
import os
import wave
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data import audio
from affect.errors import AffectError
from tests.data.films import film, song

REAL = Path(os.environ.get("AFFECT_REAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def tone(rate, seconds=0.5, frequency=440.0, channels=1):
    samples = 0.4 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)
    return samples if channels == 1 else np.stack([samples * (i + 1) / channels for i in range(channels)], axis=1)


def encoded(format, subtype=None, rate=16_000, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(rate, **options), rate, format=format, subtype=subtype)
    return buffer.getvalue()


def refused(path, word):
    """Both `load` and `check` refuse the file, in one line that names it and says `word`."""
    for function in (audio.load, audio.check):
        with pytest.raises(AffectError) as caught:
            function(path)
        message = str(caught.value)
        assert word in message and message.startswith(f"{path}: ") and "\n" not in message, message


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_rate_and_channels(tmp_path, rate, channels):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate, channels=channels), rate, subtype="FLOAT")
    samples = audio.load(path)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) == pytest.approx(8_000, abs=1)
    # The mean of tones of 1/C, 2/C ... C/C of the height is a tone of (C + 1) / 2C of it.
    expected = tone(16_000) * (channels + 1) / (2 * channels)
    middle = slice(1_000, 7_000)
    assert np.abs(samples[middle] - expected[middle]).max() < 2e-3
    assert audio.check(path) == audio.AudioInfo(duration=0.5, rate=rate, channels=channels)


@pytest.mark.parametrize(
    ("dtype", "full"), [("uint8", 127.5), ("int16", 2**15), ("int32", 2**31), ("float32", 1), ("float64", 1)]
)
def test_bit_depths_written_by_another_library(tmp_path, dtype, full):
    samples = tone(16_000)
    stored = np.round(samples * full) if full > 1 else samples
    stored = stored + 128 if dtype == "uint8" else stored
    scipy.io.wavfile.write(tmp_path / "a.wav", 16_000, stored.astype(dtype))
    assert np.abs(audio.load(tmp_path / "a.wav") - samples).max() < (0.01 if dtype == "uint8" else 1e-4)


def test_24_bits(tmp_path):
    values = np.round(tone(16_000) * 2**23).astype(np.int64)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(16_000)
        file.writeframes(b"".join(int(value).to_bytes(3, "little", signed=True) for value in values))
    assert np.abs(audio.load(tmp_path / "a.wav") - tone(16_000)).max() < 1e-6


@pytest.mark.parametrize(
    ("format", "subtype", "rate"),
    [
        ("WAV", "PCM_24", 16_000),
        ("RF64", "PCM_16", 16_000),
        ("FLAC", "PCM_16", 22_050),
        ("OGG", "VORBIS", 16_000),
        ("OGG", "OPUS", 48_000),
        ("MP3", "MPEG_LAYER_III", 44_100),
        ("AIFF", "PCM_16", 16_000),
    ],
)
def test_formats(tmp_path, format, subtype, rate):
    data = encoded(format, subtype, rate)
    path = tmp_path / f"schön und gut.{format.lower()}"
    path.write_bytes(data)
    samples = audio.load(path)
    assert len(samples) == pytest.approx(8_000, rel=0.15)
    spectrum = np.abs(np.fft.rfft(samples[1_000:7_000] * np.hanning(6_000)))
    assert spectrum.argmax() * 16_000 / 6_000 == pytest.approx(440, abs=3)
    np.testing.assert_array_equal(audio.load(data), samples)
    np.testing.assert_array_equal(audio.of_row({"id": "a", "audio": {"bytes": data, "path": "gone"}}), samples)
    np.testing.assert_array_equal(audio.of_row({"id": "a", "path": str(path)}), samples)
    np.testing.assert_array_equal(audio.of_row({"id": "a", "audio": {"bytes": None, "path": str(path)}}), samples)


@pytest.mark.parametrize(
    ("format", "subtype", "rate"),
    [
        ("WAV", "PCM_16", 16_000),
        ("RF64", "PCM_16", 16_000),
        ("FLAC", "PCM_16", 16_000),
        ("OGG", "VORBIS", 16_000),
        ("OGG", "OPUS", 48_000),
        ("MP3", "MPEG_LAYER_III", 44_100),
        ("AIFF", "PCM_16", 16_000),
    ],
)
@pytest.mark.parametrize("share", [0.99, 0.7, 0.4])
def test_truncated(tmp_path, format, subtype, rate, share):
    data = encoded(format, subtype, rate, seconds=2.0)
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, "truncated")
    with pytest.raises(AffectError, match="truncated"):
        audio.load(path.read_bytes())


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_promises_nothing(tmp_path, size):
    data = bytearray(encoded("WAV", "PCM_16"))
    at = data.find(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert len(audio.load(tmp_path / "a.wav")) == 8_000


def test_chunks_before_and_after_the_samples(tmp_path):
    data = encoded("WAV", "PCM_16")
    at = data.find(b"data")
    extra = b"LIST" + (5).to_bytes(4, "little") + b"abcde\x00"
    whole = data[:at] + extra + data[at:] + extra
    (tmp_path / "a.wav").write_bytes(whole)
    assert len(audio.load(tmp_path / "a.wav")) == 8_000
    (tmp_path / "a.wav").write_bytes(whole[: -len(extra) - 2])
    refused(tmp_path / "a.wav", "2 bytes fewer")


def test_bad_files(tmp_path):
    path = tmp_path / "a.wav"
    refused(path, "no such audio file")
    refused(tmp_path, "cannot be opened")
    path.write_bytes(b"")
    refused(path, "empty")
    path.write_bytes(b"RIFF")
    refused(path, "not readable")
    path.write_text("speech, honestly")
    refused(path, "not readable")
    soundfile.write(path, np.zeros(0), 16_000)
    refused(path, "holds no samples")
    data = bytearray(encoded("WAV", "PCM_16"))
    data[24:28] = (1).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, "sampling rate of 1 Hz")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_samples_that_are_not_finite(tmp_path, value):
    samples = tone(16_000, channels=2).astype(np.float32)
    samples[7_900, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    refused(tmp_path / "a.wav", "NaN or infinite")


def test_a_row_without_audio():
    with pytest.raises(AffectError, match="row 'u1' has no audio"):
        audio.of_row({"id": "u1", "path": "", "audio": {"bytes": None, "path": None}})


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
)
def test_damage_never_escapes_as_another_error(kind, edits, keep):
    data = bytearray(encoded(*kind, rate=44_100 if kind[0] == "MP3" else 16_000, seconds=0.2))
    for place, value in edits:
        data[int(place * min(len(data), 200))] = value
    try:
        samples = audio.load(bytes(data[: int(keep * len(data))]))
    except AffectError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(samples).all() and len(samples)


def test_real_recordings():
    files = sorted((REAL / "ami_excerpts").glob("*.wav")) + sorted((REAL / "librispeech").rglob("*.flac"))[:3]
    if not files:
        pytest.skip("real recordings are absent (AFFECT_REAL_DATA)")
    assert any("ñ" in file.name for file in files)
    for file in files:
        info = audio.check(file)
        assert info.rate == 16_000
        assert len(audio.load(file)) == round(info.duration * 16_000)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (8_000, 1), (44_100, 2), (48_000, 1), (22_050, 1)])
def test_a_piece_is_as_in_the_whole(tmp_path, rate, channels):
    noise = 0.1 * np.random.default_rng(0).standard_normal((3 * rate, channels))
    soundfile.write(tmp_path / "a.flac", noise, rate)
    whole = audio.load(tmp_path / "a.flac")
    for start, size in ((0, 100), (7, 16_000), (16_000, 16_000), (40_001, 7_999)):
        piece = audio.span(tmp_path / "a.flac", start, size)
        assert piece.shape == (size,) and np.abs(piece - whole[start : start + size]).max() < 1e-4
    with pytest.raises(AffectError, match="a.flac: ends 10 samples before sample 48010 at 16000 Hz"):
        audio.span(tmp_path / "a.flac", 47_000, 1_010)
    with pytest.raises(AffectError, match="ends 5 samples"):
        audio.span(tmp_path / "a.flac", 60_000, 5)


PYAV = {"m4a": ("ipod", "aac"), "mp4": ("mp4", "aac"), "webm": ("webm", "libopus"), "aac": ("adts", "aac"),
        "wma": ("asf", "wmav2")}  # fmt: skip


@pytest.fixture(scope="module")
def songs():
    """A tone of two seconds in each format that PyAV reads."""
    samples = (2**15 * tone(48_000, 2.0)).astype(np.int16)[None]
    facts = {"rate": 48_000, "bit_rate": 64_000}
    return {ending: song(samples, form=form, codec=codec, **facts) for ending, (form, codec) in PYAV.items()}


@pytest.mark.parametrize("ending", PYAV)
def test_formats_of_pyav(tmp_path, songs, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(songs[ending])
    samples = audio.load(path)
    assert len(samples) == pytest.approx(32_000, abs=2_000)
    spectrum = np.abs(np.fft.rfft(samples[8_000:24_000] * np.hanning(16_000)))
    assert spectrum.argmax() == pytest.approx(440, abs=1) and 0.35 < np.abs(samples[8_000:24_000]).max() < 0.45
    np.testing.assert_array_equal(audio.load(songs[ending]), samples)
    info = audio.check(path)
    assert (info.rate, info.channels) == (48_000, 1) and info.duration == pytest.approx(len(samples) / 16_000, abs=1e-3)
    piece = audio.span(path, 8_000, 4_000)
    np.testing.assert_allclose(piece, samples[8_000:12_000], atol=1e-4)
    with audio.stream(path) as (_, blocks):
        np.testing.assert_allclose(np.concatenate(list(blocks)), samples, atol=1e-4)


@pytest.mark.parametrize("share", [0.99, 0.6])
@pytest.mark.parametrize("ending", PYAV)
def test_truncated_formats_of_pyav(tmp_path, songs, ending, share):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(songs[ending][: int(len(songs[ending]) * share)])
    refused(path, "truncated")


def test_a_film_without_sound_and_other_files(tmp_path):
    (tmp_path / "a.mp4").write_bytes(film([0, 50, 100]))
    refused(tmp_path / "a.mp4", "has no sound")
    (tmp_path / "b.m4a").write_text("speech, honestly")
    refused(tmp_path / "b.m4a", "not readable")
