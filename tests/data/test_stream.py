"""Reading bit by bit gives what reading at once gives: samples, windows, errors."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data import audio, stream
from affect.errors import AffectError


def noise(samples: int, channels: int = 1) -> np.ndarray:
    values = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)
    return values[:, 0] if channels == 1 else values


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(50, 900), st.integers(1, 900), st.integers(0, 50))
def test_spans_cover_everything_once_a_hop(samples, size, hop, least):
    hop = min(hop, size)
    spans = stream.spans(samples, size, hop, least)
    assert spans[0][0] == 0
    assert spans[-1][1] == samples
    for (start, stop), (following, after) in zip(spans[:-1], spans[1:], strict=True):
        assert start < following <= stop < after or (following <= stop and start < following and after == samples)
    assert all(stop - start <= size + least for start, stop in spans)
    if len(spans) > 1:
        assert all(stop - start >= least for start, stop in spans)
        assert all(start == k * hop for k, (start, _) in enumerate(spans))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.integers(1, 1500), max_size=12), st.integers(50, 900), st.integers(1, 900), st.integers(0, 49),
    st.integers(-2, 2),
)  # fmt: skip
def test_windows_of_blocks_are_the_spans_of_the_whole(sizes, size, hop, least, off):
    hop = min(hop, size)
    # Half of the time as near to an edge of the rule as can be.
    sizes = [*sizes, max(size + least + off, 1)] if off else [*sizes, 1]
    total = sum(sizes)
    whole = np.arange(total, dtype=np.float32)
    blocks = np.split(whole, np.cumsum(sizes)[:-1])
    found = list(stream.windows(blocks, size, hop, least))
    assert [(start, start + len(part)) for start, part in found] == stream.spans(total, size, hop, least)
    for start, part in found:
        np.testing.assert_array_equal(part, whole[start : start + len(part)])


def test_a_window_comes_as_soon_as_it_is_decided():
    taken = []

    def blocks():
        for number in range(100):
            taken.append(number)
            yield np.zeros(100, np.float32)

    found = stream.windows(blocks(), 1000, 500, 50)
    for k in range(10):
        assert next(found)[0] == 500 * k
        # 50 samples beyond its end, in blocks of 100.
        assert len(taken) == 10 + 5 * k + 1


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_in_blocks_is_the_whole_file(tmp_path, rate, channels):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(5 * rate + 137, channels), rate)
    with audio.stream(path) as (seconds, blocks):
        parts = list(blocks)
    assert seconds == pytest.approx(5 + 137 / rate)
    assert len(parts) > 1
    np.testing.assert_allclose(np.concatenate(parts), audio.load(path), atol=1e-6)


def test_a_bad_file_is_told_as_load_tells_it(tmp_path):
    bad = {name: tmp_path / f"{name}.wav" for name in ("missing", "empty", "text", "none", "nan", "cut")}
    bad["empty"].write_bytes(b"")
    bad["text"].write_text("speech, honestly")
    soundfile.write(bad["none"], np.zeros(0), 16_000)
    soundfile.write(bad["nan"], np.array([0.1, np.nan]), 16_000, subtype="FLOAT")
    soundfile.write(bad["cut"], noise(1000), 16_000)
    bad["cut"].write_bytes(bad["cut"].read_bytes()[:500])
    for path in bad.values():
        with pytest.raises(AffectError) as expected:
            audio.load(path)
        with pytest.raises(AffectError) as found, audio.stream(path) as (_, blocks):
            list(blocks)
        assert str(found.value) == str(expected.value)


def test_nothing_left_after_resampling_is_told(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(1, 0.5), 96_000)
    with (
        pytest.raises(AffectError, match="too short to hold a sample"),
        audio.stream(tmp_path / "a.wav") as (_, blocks),
    ):
        list(blocks)


class OneWay(io.RawIOBase):
    """A pipe: it can't be sought in and gives at most `most` bytes at once."""

    def __init__(self, data: bytes, most: int = 1000) -> None:
        self.left, self.most = data, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self.left[: min(self.most, len(buffer))]
        self.left = self.left[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def piped(data: bytes, pipe: stream.Pipe | None = None, buffered: bool = True) -> np.ndarray:
    file = io.BufferedReader(OneWay(data)) if buffered else OneWay(data, 1001)
    return np.concatenate(list(stream.pipe_blocks(file, pipe, 16_000, "standard input")))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_a_wav_through_a_pipe_is_the_file(tmp_path, subtype, container, rate, channels):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(2 * rate + 11, channels), rate, subtype=subtype, format=container)
    np.testing.assert_allclose(piped(path.read_bytes()), audio.load(path), atol=1e-6)
    np.testing.assert_allclose(piped(path.read_bytes(), buffered=False), audio.load(path), atol=1e-6)


def test_a_wav_by_other_writers(tmp_path):
    scipy.io.wavfile.write(tmp_path / "scipy.wav", 16_000, noise(3000))
    with wave.open(str(tmp_path / "stdlib.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((noise(3000) * 32767).astype("<i2").tobytes())
    for name in ("scipy", "stdlib"):
        path = tmp_path / f"{name}.wav"
        np.testing.assert_allclose(piped(path.read_bytes()), audio.load(path), atol=1e-6)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_of_unknown_length_ends_where_the_pipe_does(tmp_path, size):
    soundfile.write(tmp_path / "a.wav", noise(3000), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.find(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    assert len(piped(bytes(data))) == 3000


def test_raw_samples():
    values = noise(5000)
    np.testing.assert_array_equal(piped(values.astype("<f4").tobytes(), stream.raw(16_000, "f32")), values)
    found = piped((values * 32768).astype("<i2").tobytes(), stream.raw(16_000))
    np.testing.assert_allclose(found, values, atol=1 / 32768)
    assert len(piped(values.astype("<f4").tobytes(), stream.raw(8_000, "f32"))) == 10_000


def wav(tmp_path, **changes: bytes) -> bytes:
    soundfile.write(tmp_path / "a.wav", noise(3000), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    for place, value in changes.items():
        at = int(place[1:])
        data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("changes", "end", "words"),
    [
        ({}, 0, "is empty"),
        ({"b8": b"AVI "}, None, "is no wav"),
        ({}, 20, "header leads to no samples"),
        ({}, 44, "holds no samples"),
        ({}, -10, "10 bytes fewer"),
        ({"b20": b"\x07\x00"}, None, "of a kind that is not read"),
        ({"b22": b"\x00\x00"}, None, "of a kind that is not read"),
        ({"b24": b"\x01\x00\x00\x00"}, None, "of a kind that is not read"),
        ({"b36": b"junk\xff\xff\xff\x7f"}, None, "header leads to no samples"),
    ],
)
def test_a_bad_wav_through_a_pipe_is_one_line(tmp_path, changes, end, words):
    with pytest.raises(AffectError, match=words) as error:
        piped(wav(tmp_path, **changes)[:end])
    assert str(error.value).startswith("standard input: ")
    assert "\n" not in str(error.value)


def test_bad_raw_samples_are_one_line():
    for rate, form in ((0, "s16"), (16_000, "mp3")):
        with pytest.raises(AffectError, match="raw samples"):
            stream.raw(rate, form)
    with pytest.raises(AffectError, match="ends inside a sample"):
        piped(b"\0" * 1001, stream.raw(16_000))
    with pytest.raises(AffectError, match="NaN or infinite"):
        piped(np.array([0, np.inf], "<f4").tobytes(), stream.raw(16_000, "f32"))


@settings(max_examples=100, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=6), keep=st.integers(0, 1200))
def test_damage_never_escapes_as_another_error(edits, keep):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(500), 16_000, format="WAV")
    data = bytearray(buffer.getvalue())
    for place, value in edits:
        data[place] = value
    try:
        found = piped(bytes(data[:keep]))
    except AffectError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(found).all() and len(found)
