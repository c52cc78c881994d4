"""Prediction of files: what a run predicted itself, long recordings in windows, bad files one line each."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.errors import AffectError
from affect.workflows import prediction
from tests.train import runs

RATE = 16_000


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


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(50, 900), st.integers(1, 900), st.integers(0, 50))
def test_windows_cover_everything_once_a_hop(samples, size, hop, least):
    hop = min(hop, size)
    spans = prediction.windows(samples, size, hop, least)
    assert spans[0][0] == 0
    assert spans[-1][1] == samples
    for (start, stop), (following, after) in zip(spans[:-1], spans[1:], strict=True):
        assert start < following <= stop < after or (following <= stop and start < following and after == samples)
    assert all(stop - start <= size + least for start, stop in spans)
    if len(spans) > 1:
        assert all(stop - start >= least for start, stop in spans)
        assert all(start == k * hop for k, (start, _) in enumerate(spans))


@pytest.mark.parametrize(("window", "hop"), [(0.0, None), (-1.0, None), (0.1, None), (2.0, 3.0), (2.0, 0.0), (2.0, -1)])
def test_windows_that_make_no_sense_are_one_line(run, window, hop):
    with pytest.raises(AffectError, match="window must be at least 0.5 s and hop in"):
        predict(run, Path("x.wav"), window=window, hop=hop)


def test_no_file_is_one_line(run):
    with pytest.raises(AffectError, match="no audio file is given"):
        predict(run)


def test_the_folder_of_a_run_is_found_or_named(run, tmp_path):
    best = run.folder / "checkpoints" / "best"
    assert prediction.weights(run.folder) == prediction.weights(best) == best
    with pytest.raises(AffectError, match="holds several runs: name one, such as .*run"):
        prediction.weights(run.folder.parent)
    for nowhere in (tmp_path, tmp_path / "none"):
        with pytest.raises(AffectError, match="holds no weights: a run's folder is"):
            prediction.weights(nowhere)


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
