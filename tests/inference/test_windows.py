"""Prediction of files: what a run predicted itself, long recordings in windows, bad files one line each."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affect.data import audio
from affect.errors import AffectError
from affect.workflows import prediction, predictor
from tests.train import runs

RATE = 16_000
LEVEL = {"valence": 3.0, "arousal": 3.0}


@pytest.fixture(scope="module")
def run(small_corpus, tmp_path_factory):
    """A finished run of the tiny encoder and the prosody branch, as the loop leaves it."""
    made = runs.make(runs.recipe(small_corpus, encoder="tiny", epochs=1), tmp_path_factory.mktemp("runs") / "run")
    made.train()
    return made


def predict(run, *files: Path, **named) -> tuple[int, list[dict]]:
    output = io.StringIO()
    bad = prediction.predict_files(run.folder, [Path(f) for f in files], output, **named)
    return bad, [json.loads(line) for line in output.getvalue().splitlines()]


def tone(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * 180 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))
    return np.stack([wave] * channels, axis=1) if channels > 1 else wave


def test_a_file_is_predicted_as_the_run_predicted_it(run):
    paths = dict(zip(run.parts["test"]["id"], run.parts["test"]["path"], strict=True))
    rows = [json.loads(line) for line in (run.folder / "predictions-test.jsonl").read_text().splitlines()]
    bad, lines = predict(run, *(paths[row["id"]] for row in rows))
    assert bad == 0
    assert len(lines) == len(rows) == 8
    for line, row in zip(lines, rows, strict=True):
        # 1e-4 of the scale's range of 4.
        assert line["prediction"] == pytest.approx(row["prediction"], abs=4e-4)
    assert len({line["prediction"]["valence"] for line in lines}) > 1


def test_a_line_states_scale_order_and_place(run, tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(1.5), RATE)
    _, (line,) = predict(run, path)
    assert line == {
        "path": str(path), "start": 0.0, "end": 1.5, "prediction": line["prediction"],
        "order": ["valence", "arousal"], "scale": [1.0, 5.0],
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
    bad, lines = predict(run, *(tmp_path / name for name in names))
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
    files["folder"] = folder
    return files


def test_a_bad_file_is_one_line_and_the_others_go_on(run, tmp_path):
    good = tmp_path / "good.wav"
    soundfile.write(good, tone(1.0), RATE)
    files = bad_files(tmp_path)
    bad, lines = predict(run, good, *files.values(), good)
    assert bad == len(files)
    assert [line["path"] for line in lines] == [str(path) for path in (good, *files.values(), good)]
    assert lines[0] == lines[-1]
    assert "prediction" in lines[0]
    for line, path in zip(lines[1:-1], files.values(), strict=True):
        assert set(line) == {"path", "error"}
        assert str(path) in line["error"]
        assert "\n" not in line["error"]


def test_a_recording_under_a_frame_is_one_line(run, tmp_path):
    for name, samples in (("short", 399), ("frame", 400)):
        soundfile.write(tmp_path / f"{name}.wav", tone(samples / RATE), RATE)
    bad, (short, frame) = predict(run, tmp_path / "short.wav", tmp_path / "frame.wav")
    assert bad == 1
    assert short == {
        "path": str(tmp_path / "short.wav"),
        "error": f"{tmp_path / 'short.wav'}: too short: 24.9 ms, it has to be at least 25 ms",
    }
    assert frame["end"] == 0.025
    bad, (piped,) = predict(run, Path("-"), rate=RATE, stdin=io.BytesIO(bytes(20)))
    assert (bad, piped["error"].split(":")[0]) == (1, "standard input")


def test_damage_after_some_windows_is_told_after_them(run, tmp_path):
    good, nan, cut = tmp_path / "good.wav", tmp_path / "nan.wav", tmp_path / "cut.flac"
    wave = tone(20.0)
    soundfile.write(good, wave, RATE, subtype="FLOAT")
    soundfile.write(cut, wave, RATE)
    cut.write_bytes(cut.read_bytes()[: int(0.8 * cut.stat().st_size)])
    wave[18 * RATE] = np.nan
    soundfile.write(nan, wave, RATE, subtype="FLOAT")
    bad, lines = predict(run, nan, cut, good, window=2.0)
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
    assert prediction.predict_files(run.folder, [path], output, window=10.0) == 0
    assert output.at[0] <= 18 * RATE
    assert output.at[-1] == 120 * RATE
    assert output.at == sorted(output.at)
    assert len(set(output.at)) >= 10


def test_memory_does_not_grow_with_the_recording(run, tmp_path, monkeypatch):
    """Windows of 30 s through the whole of `predict_files`; the model itself, whose memory is its own, is left out."""
    monkeypatch.setattr(
        predictor.TorchModel, "predict", lambda self, wave, text: predictor.Prediction(numbers=LEVEL, probability={})
    )
    peaks = {}
    for minutes in (5, 60):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(tone(60.0, rate=8_000))
        tracemalloc.start()
        bad, lines = predict(run, path)
        _, peaks[minutes] = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (bad, len(lines)) == (0, 2 * minutes)
    # An hour at 16 kHz is 230 MB.
    assert peaks[60] < 20e6
    assert peaks[60] < 1.3 * peaks[5]


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_standard_input(run, tmp_path, rate):
    path = tmp_path / "tone.wav"
    wave = tone(5.0, rate=rate)
    soundfile.write(path, wave, rate, subtype="PCM_16")
    _, expected = predict(run, path, window=2.0)
    s16 = np.frombuffer(path.read_bytes()[-2 * len(wave) :], "<i2")
    f32 = (s16 / 32768).astype("<f4")
    pipe = Path("-")
    for data, named in (
        (path.read_bytes(), {}),
        (s16.tobytes(), {"rate": rate}),
        (f32.tobytes(), {"rate": rate, "raw": "f32"}),
    ):
        bad, lines = predict(run, pipe, window=2.0, stdin=io.BytesIO(data), **named)
        assert bad == 0
        assert [{**line, "path": str(path)} for line in lines] == expected


def test_a_bad_standard_input_is_one_line(run, tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(20.0), RATE)
    cut = path.read_bytes()[:-100_000]
    for data, words in (
        (b"", "is empty"), (b"no wav at all", "is no wav; raw samples need their rate"), (cut, "100000 bytes fewer"),
    ):  # fmt: skip
        bad, lines = predict(run, Path("-"), path, window=5.0, stdin=io.BytesIO(data))
        assert bad == 1
        (error,) = [line for line in lines if "error" in line]
        assert words in error["error"]
        assert sum(line["path"] == str(path) for line in lines) == 4
    with pytest.raises(AffectError, match="name - among the files"):
        predict(run, path, rate=RATE)
    with pytest.raises(AffectError, match="the rate of raw samples is 0 Hz"):
        predict(run, Path("-"), rate=0, stdin=io.BytesIO(b""))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "output", "shown"), [(70, io.StringIO, True), (5, io.StringIO, False),
                                                        (70, Terminal, False)])  # fmt: skip
def test_progress_is_shown_on_a_terminal_that_shows_no_lines(run, tmp_path, monkeypatch, seconds, output, shown):
    path = tmp_path / "some.wav"
    soundfile.write(path, tone(seconds), RATE)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert prediction.predict_files(run.folder, [path], output()) == 0
    assert ("some.wav" in sys.stderr.getvalue()) == shown


def test_a_long_recording_comes_in_windows(run, tmp_path):
    path = tmp_path / "long.wav"
    wave = np.concatenate([tone(2.0), 0.1 * tone(2.0), tone(1.5)])
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    _, lines = predict(run, path, window=2.0)
    assert [(line["start"], line["end"]) for line in lines] == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.5)]
    soundfile.write(tmp_path / "part.wav", wave[2 * RATE : 4 * RATE], RATE, subtype="FLOAT")
    _, (alone,) = predict(run, tmp_path / "part.wav")
    assert alone["prediction"] == pytest.approx(lines[1]["prediction"], abs=4e-4)
    _, lines = predict(run, path, window=2.0, hop=1.0)
    assert [line["start"] for line in lines] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert lines[-1]["end"] == 5.5


@pytest.mark.parametrize(("window", "hop"), [(0.0, None), (-1.0, None), (0.1, None), (2.0, 3.0), (2.0, 0.0), (2.0, -1)])
def test_windows_that_make_no_sense_are_one_line(run, window, hop):
    with pytest.raises(AffectError, match="window must be at least 0.5 s and hop in"):
        predict(run, Path("x.wav"), window=window, hop=hop)


def test_no_file_is_one_line(run):
    with pytest.raises(AffectError, match="no audio file is given"):
        predict(run)


def test_the_folder_of_a_run_is_found_or_named(run, tmp_path):
    best = run.folder / "checkpoints" / "best"
    assert predictor.weights(run.folder) == predictor.weights(best) == best
    with pytest.raises(AffectError, match="holds several runs: name one, such as .*run"):
        predictor.weights(run.folder.parent)
    for nowhere in (tmp_path, tmp_path / "none"):
        with pytest.raises(AffectError, match="holds no weights: a run's folder is"):
            predictor.weights(nowhere)


def test_damaged_weights_are_one_line(run, tmp_path):
    import shutil

    best = tmp_path / "best"
    shutil.copytree(run.folder / "checkpoints" / "best", best)
    weights = best / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AffectError) as error:
        prediction.predict_files(best, [Path("x.wav")], io.StringIO())
    assert "\n" not in str(error.value)
    assert str(best) in str(error.value)
