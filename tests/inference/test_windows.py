"""Prediction of files: what a run predicted itself, long recordings in windows, bad files one line each."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from affect.data import audio
from affect.errors import AffectError
from affect.inference.opening import find, predict
from affect.models import saving
from affect.tasks.emotion.predict import Predictor
from affect.usage import UserInputs
from tests.data.films import song
from tests.inference.asking import ask

RATE = 16_000
LEVEL = {"valence": 3.0, "arousal": 3.0}


@pytest.fixture(scope="module")
def run(spoken):
    """A finished run of the tiny encoder and the prosody branch."""
    return spoken / "seed0" / "fold1"


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tone(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * 180 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))
    return np.stack([wave] * channels, axis=1) if channels > 1 else wave


def test_a_file_is_predicted_as_the_run_predicted_it(run, small_corpus):
    rows = rows_of(run / "predictions-test.jsonl")
    paths = {path.stem: path for path in small_corpus.rglob("*.wav")}
    bad, lines = ask(run, *(paths[row["id"]] for row in rows))
    assert bad == 0
    assert len(lines) == len(rows) == 8
    for line, row in zip(lines, rows, strict=True):
        # 1e-4 of the scale's range of 4.
        assert line["prediction"] == pytest.approx(row["prediction"], abs=4e-4)
    assert len({line["prediction"]["valence"] for line in lines}) > 1


def test_a_line_states_scale_order_and_place(run, tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(1.5), RATE)
    _, (line,) = ask(run, path, window=2.0)
    assert line == {
        "path": str(path), "start": 0.0, "end": 1.5, "prediction": line["prediction"],
        "order": ["valence", "arousal"], "scale": {"valence": [1.0, 5.0], "arousal": [1.0, 5.0]},
    }  # fmt: skip
    assert list(line["prediction"]) == line["order"]
    assert all(1.0 <= value <= 5.0 for value in line["prediction"].values())


def test_rates_channels_and_formats_change_little(run, tmp_path):
    soundfile.write(tmp_path / "plain.wav", tone(2.0), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", tone(2.0, channels=2), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "six.wav", tone(2.0, channels=6), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "cd.wav", tone(2.0, rate=44_100), 44_100)
    soundfile.write(tmp_path / "phone.flac", tone(2.0, rate=8_000), 8_000)
    names = ["plain.wav", "stereo.wav", "six.wav", "cd.wav", "phone.flac"]
    bad, lines = ask(run, *(tmp_path / name for name in names), window=2.0)
    assert bad == 0
    assert [(line["start"], line["end"]) for line in lines] == [(0.0, 2.0)] * 5
    assert lines[1]["prediction"] == lines[0]["prediction"]
    assert lines[2]["prediction"] == pytest.approx(lines[0]["prediction"], abs=1e-3)
    for line in lines[3:]:
        assert line["prediction"] == pytest.approx(lines[0]["prediction"], abs=0.3)


def bad_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{name}.wav" for name in ("text", "empty", "nan", "no-samples", "truncated", "missing")}
    files["text"].write_text("this is no sound")
    files["empty"].write_bytes(b"")
    wave = tone(1.0)
    wave[100] = np.nan
    soundfile.write(files["nan"], wave, RATE, subtype="FLOAT")
    soundfile.write(files["no-samples"], tone(0.0), RATE)
    soundfile.write(files["truncated"], tone(1.0), RATE)
    whole = files["truncated"].read_bytes()
    files["truncated"].write_bytes(whole[: len(whole) // 2])
    files["folder"] = folder / "without recordings"
    files["folder"].mkdir()
    return files


def test_a_bad_file_is_one_line_and_the_others_go_on(run, tmp_path):
    good = tmp_path / "good.wav"
    soundfile.write(good, tone(1.0), RATE)
    files = bad_files(tmp_path)
    bad, lines = ask(run, good, *files.values(), good)
    assert bad == len(files)
    assert [line["path"] for line in lines] == [str(path) for path in (good, *files.values(), good)]
    assert lines[0] == lines[-1]
    assert "prediction" in lines[0]
    for line, path in zip(lines[1:-1], files.values(), strict=True):
        assert set(line) == {"path", "error"}
        assert str(path) in line["error"]
        assert "\n" not in line["error"]


@pytest.fixture
def piping(monkeypatch):
    """Let standard input be these bytes."""

    def give(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    return give


def test_a_recording_under_a_frame_is_one_line(run, tmp_path, piping):
    for name, samples in (("short", 399), ("frame", 400)):
        soundfile.write(tmp_path / f"{name}.wav", tone(samples / RATE), RATE)
    bad, (short, frame) = ask(run, tmp_path / "short.wav", tmp_path / "frame.wav")
    assert bad == 1
    assert short == {
        "path": str(tmp_path / "short.wav"),
        "error": f"{tmp_path / 'short.wav'}: too short: 24.9 ms, it has to be at least 25 ms",
    }
    assert frame["end"] == 0.025
    piping(bytes(20))
    bad, (piped,) = ask(run, "-", rate=RATE)
    assert (bad, piped["error"].split(":")[0]) == (1, "standard input")


def test_damage_after_some_windows_is_told_after_them(run, tmp_path):
    good, nan, cut = tmp_path / "good.wav", tmp_path / "nan.wav", tmp_path / "cut.flac"
    wave = tone(20.0)
    soundfile.write(good, wave, RATE, subtype="FLOAT")
    soundfile.write(cut, wave, RATE)
    cut.write_bytes(cut.read_bytes()[: int(0.8 * cut.stat().st_size)])
    wave[18 * RATE] = np.nan
    soundfile.write(nan, wave, RATE, subtype="FLOAT")
    bad, lines = ask(run, nan, cut, good, window=2.0)
    assert bad == 2
    whole = [line for line in lines if line["path"] == str(good)]
    assert [line["start"] for line in whole] == [2.0 * k for k in range(10)]
    for path, words in ((nan, "NaN or infinite"), (cut, "truncated")):
        *before, last = [line for line in lines if line["path"] == str(path)]
        assert set(last) == {"path", "start", "error"}
        assert words in last["error"]
        assert len(before) >= 4
        assert [line["start"] for line in [*before, last]] == [2.0 * k for k in range(len(before) + 1)]
        for line, other in zip(before, whole, strict=False):
            # A flac holds 16 bits a sample.
            assert line["prediction"] == pytest.approx(other["prediction"], abs=1e-2)


class Watched(io.StringIO):
    """Output that notes how far a file had been read when each line came."""

    def __init__(self, read: list[int]) -> None:
        super().__init__()
        self.read, self.at = read, []

    def write(self, text: str) -> int:
        self.at.append(self.read[0])
        return super().write(text)


def test_the_first_line_is_out_before_the_file_is_read(run, tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(120.0), RATE)
    read, original = [0], audio._mono_blocks

    def counted(*args):
        for block in original(*args):
            read[0] += len(block)
            yield block

    monkeypatch.setattr(audio, "_mono_blocks", counted)
    output = Watched(read)
    assert predict(find(run), UserInputs(files=(path,), window=10.0), output) == 0
    assert output.at[0] <= 18 * RATE
    assert output.at[-1] == 120 * RATE
    assert output.at == sorted(output.at)
    assert len(set(output.at)) >= 10


def test_memory_does_not_grow_with_the_recording(run, tmp_path, monkeypatch):
    """Windows of 30 s through the whole of `predict`; the model itself, whose memory is its own, is left out."""
    monkeypatch.setattr(Predictor, "predict", lambda self, wave, text: {"prediction": LEVEL})
    peaks = {}
    for minutes in (5, 60):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(tone(60.0, rate=8_000))
        tracemalloc.start()
        bad, lines = ask(run, path, window=30.0)
        _, peaks[minutes] = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (bad, len(lines)) == (0, 2 * minutes)
    # An hour at 16 kHz is 230 MB.
    assert peaks[60] < 20e6
    assert peaks[60] < 1.3 * peaks[5]


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_standard_input(run, tmp_path, rate, piping):
    path = tmp_path / "tone.wav"
    wave = tone(5.0, rate=rate)
    soundfile.write(path, wave, rate, subtype="PCM_16")
    _, expected = ask(run, path, window=2.0)
    s16 = np.frombuffer(path.read_bytes()[-2 * len(wave) :], "<i2")
    f32 = (s16 / 32768).astype("<f4")
    for data, named in (
        (path.read_bytes(), {}),
        (s16.tobytes(), {"rate": rate}),
        (f32.tobytes(), {"rate": rate, "raw": "f32"}),
    ):
        piping(data)
        bad, lines = ask(run, "-", window=2.0, **named)
        assert bad == 0
        assert [{**line, "path": str(path)} for line in lines] == expected


def test_a_bad_standard_input_is_one_line(run, tmp_path, piping):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(20.0), RATE)
    cut = path.read_bytes()[:-100_000]
    for data, words in (
        (b"", "is empty"), (b"no wav at all", "is no wav; raw samples need their rate"), (cut, "100000 bytes fewer"),
    ):  # fmt: skip
        piping(data)
        bad, lines = ask(run, "-", path, window=5.0)
        assert bad == 1
        (error,) = [line for line in lines if "error" in line]
        assert words in error["error"]
        assert sum(line["path"] == str(path) for line in lines) == 4
    with pytest.raises(AffectError, match="name - among the files"):
        ask(run, path, rate=RATE)
    with pytest.raises(AffectError, match="the rate of raw samples is 0 Hz"):
        ask(run, "-", rate=0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "output", "shown"), [(70, io.StringIO, True), (5, io.StringIO, False),
                                                        (70, Terminal, False)])  # fmt: skip
def test_progress_is_shown_on_a_terminal_that_shows_no_lines(run, tmp_path, monkeypatch, seconds, output, shown):
    path = tmp_path / "some.wav"
    soundfile.write(path, tone(seconds), RATE)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert predict(find(run), UserInputs(files=(path,), window=30.0), output()) == 0
    assert ("some.wav" in sys.stderr.getvalue()) == shown


def test_a_long_recording_comes_in_windows(run, tmp_path):
    path = tmp_path / "long.wav"
    wave = np.concatenate([tone(2.0), 0.1 * tone(2.0), tone(1.5)])
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    _, lines = ask(run, path, window=2.0)
    assert [(line["start"], line["end"]) for line in lines] == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.5)]
    soundfile.write(tmp_path / "part.wav", wave[2 * RATE : 4 * RATE], RATE, subtype="FLOAT")
    _, (alone,) = ask(run, tmp_path / "part.wav", window=2.0)
    assert alone["prediction"] == pytest.approx(lines[1]["prediction"], abs=4e-4)
    _, lines = ask(run, path, window=2.0, hop=1.0)
    assert [line["start"] for line in lines] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert lines[-1]["end"] == 5.5


@pytest.mark.parametrize(
    ("window", "hop"),
    [(0.0, None), (-1.0, None), (0.1, None), (2.0, 3.0), (2.0, 0.0), (2.0, -1), (np.inf, None), (np.nan, None),
     (1e300, None), (2.0, np.nan), (np.inf, np.inf), (2.0, 1e-9)],
)  # fmt: skip
def test_windows_that_make_no_sense_are_one_line(run, window, hop):
    with pytest.raises(AffectError, match="window must be at least 0.5 s, a day at most, and hop in"):
        ask(run, Path("x.wav"), window=window, hop=hop)


def test_no_file_is_one_line(run):
    with pytest.raises(AffectError, match="no audio file is given"):
        ask(run)


def test_an_experiment_is_the_mean_over_its_runs(spoken, tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(1.0), RATE)
    (one,), (two,), (mean,) = (ask(run, path)[1] for run in (*sorted(spoken.glob("seed0/fold*")), spoken))
    for name, value in mean["prediction"].items():
        assert value == pytest.approx((one["prediction"][name] + two["prediction"][name]) / 2, abs=1e-4)
    assert one["prediction"] != two["prediction"]
    assert {**mean, "prediction": 0} == {**one, "prediction": 0}


def test_windows_follow_the_lengths_of_training_or_are_warned_of(run, small_corpus, tmp_path, caplog):
    """The longest recording of training where no window is given; what is longer or shorter than all is told once."""
    shortest, longest = saving.read_config(run / "checkpoints" / "best")["lengths"]
    kept = {row["id"] for name in ("valid", "test") for row in rows_of(run / f"predictions-{name}.jsonl")}
    trained = [soundfile.info(path).duration for path in small_corpus.rglob("*.wav") if path.stem not in kept]
    assert (shortest, longest) == pytest.approx((min(trained), max(trained)), abs=1e-3)
    path, blip = tmp_path / "long.wav", tmp_path / "blip.wav"
    soundfile.write(path, tone(4.0), RATE)
    soundfile.write(blip, tone(0.1), RATE)
    bad, lines = ask(run, path)
    assert (bad, caplog.text) == (0, "")
    assert lines[0]["end"] == lines[1]["start"] == pytest.approx(longest, abs=1e-3)
    for files, named in (((path, path), {"window": 3.0}), ((blip, blip), {})):
        caplog.clear()
        ask(run, *files, **named)
        (told,) = caplog.messages
        assert f"trained on {shortest:.3g} to {longest:.3g} s" in told
        assert str(files[0]) in told


def test_what_pyav_reads_is_predicted_too(run, tmp_path):
    samples = (2**15 * tone(1.5, rate=48_000)).astype(np.int16)[None]
    forms = {"m4a": ("ipod", "aac"), "mp4": ("mp4", "aac"), "webm": ("webm", "libopus"), "aac": ("adts", "aac"),
             "wma": ("asf", "wmav2")}  # fmt: skip
    for ending, (form, codec) in forms.items():
        (tmp_path / f"a.{ending}").write_bytes(song(samples, 48_000, form, codec, bit_rate=64_000))
    # Codecs change a sound, which a tiny encoder hears: held against what was decoded.
    for ending in forms:
        soundfile.write(tmp_path / f"{ending}.wav", audio.load(tmp_path / f"a.{ending}"), RATE, subtype="FLOAT")
    files = [*(tmp_path / f"a.{ending}" for ending in forms), *(tmp_path / f"{e}.wav" for e in forms)]
    bad, lines = ask(run, *files, window=2.0)
    assert bad == 0 and [line["end"] for line in lines] == pytest.approx([1.5] * 10, abs=0.05)
    for line, plain in zip(lines[:5], lines[5:], strict=True):
        assert line["prediction"] == pytest.approx(plain["prediction"], abs=1e-2)
