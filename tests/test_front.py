"""The front door in Python: what a command line gives for files is what a call gives, for samples and arrays too."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import affect
from affect.errors import AffectError
from tests.inference.asking import ask
from tests.tasks.diarization import saved
from tests.tasks.multimodal_emotion import fusing
from tests.tasks.talking_face import small as clips
from tests.training import runs

RATE = 16_000


def test_importing_it_loads_no_library():
    heavy = "'torch', 'numpy', 'transformers', 'datasets', 'accelerate', 'tyro'"
    code = f"import affect, sys; print(affect.load.__name__, {{{heavy}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "load set()\n"


def voice(seconds: float, level: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 180 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("front") / "a.wav"
    soundfile.write(path, voice(0.6), RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def speech(spoken):
    return affect.load(spoken / "seed0" / "fold1")


def test_a_file_samples_and_a_list_say_the_same(spoken, speech, wav, tmp_path):
    _, (line,) = ask(spoken / "seed0" / "fold1", wav)
    assert speech(str(wav)) == line
    assert line["scale"] == {"valence": [1.0, 5.0], "arousal": [1.0, 5.0]}
    samples = voice(0.6)
    assert speech(samples, RATE) == {**line, "path": "array 1.wav"}
    assert speech(torch.from_numpy(samples), RATE)["prediction"] == line["prediction"]
    # Integers are of full scale.
    whole = speech((samples * 32768).astype(np.int16), RATE)
    assert whole["prediction"] == pytest.approx(line["prediction"], abs=1e-2)
    first, bad, second = speech([wav, tmp_path / "none.wav", samples], RATE)
    assert (first, second["path"]) == (line, "array 1.wav")
    assert bad.keys() == {"path", "error"}
    assert [each["path"] for each in speech(wav.parent)] == [str(wav)]
    with pytest.raises(AffectError, match=r"none\.wav"):
        speech(tmp_path / "none.wav")


def test_weights_are_read_once(speech, wav, monkeypatch):
    said = speech(wav)
    monkeypatch.setattr("affect.tasks.load", None)
    assert speech(wav) == said


def test_several_windows_are_one_mean_by_their_lengths(speech, tmp_path):
    wave = np.concatenate([voice(2.0), voice(2.0, 0.02), voice(0.8)])
    soundfile.write(tmp_path / "long.wav", wave, RATE)
    said = speech(tmp_path / "long.wav", window=2.0)
    assert [(part["start"], part["end"]) for part in said["windows"]] == [(0.0, 2.0), (2.0, 4.0), (4.0, 4.8)]
    assert (said["start"], said["end"]) == (0.0, 4.8)
    for name, value in said["prediction"].items():
        each = [part["prediction"][name] for part in said["windows"]]
        assert value == pytest.approx((2 * each[0] + 2 * each[1] + 0.8 * each[2]) / 4.8)
        assert len({*each}) > 1
    wave[-100] = np.nan
    soundfile.write(tmp_path / "cut.wav", wave, RATE, subtype="FLOAT")
    (cut,) = speech([tmp_path / "cut.wav"], window=2.0)
    assert "NaN" in cut["error"]
    assert "prediction" not in cut


@pytest.mark.parametrize(
    ("source", "named", "words"),
    [
        (voice(0.5), {}, "needs its rate"),
        (np.stack([voice(0.5)] * 2), {"rate": RATE}, "one channel"),
        (voice(0.5) * 30_000, {"rate": RATE}, "divide them by full scale"),
        (np.zeros(800, np.uint8), {"rate": RATE}, "signed integers"),
        (np.array(["a"]), {"rate": RATE}, "is no input"),
        (3.5, {"rate": RATE}, "float is no input"),
        (voice(0.5), {"rate": 0}, "sampling rate of 0 Hz"),
        (voice(0.01), {"rate": RATE}, r"array 1\.wav: too short"),
        ("a.wav", {"rate": RATE}, "a file says its own"),
        (None, {}, "no audio file is given"),
        ("a.wav", {"level": 0.9}, "a model of emotion has no option 'level'"),
        (None, {"video": "v.npy"}, "--video is for other models"),
    ],
)
def test_what_is_no_input_is_one_line(speech, source, named, words):
    with pytest.raises(AffectError, match=words) as error:
        speech(source, **named)
    assert "\n" not in str(error.value)


def test_a_state_is_that_of_the_model(spoken, speech, wav):
    from affect.data import audio, prosody
    from affect.hub import from_pretrained

    (line,) = speech.embed(wav)
    network, wave = from_pretrained(spoken / "seed0" / "fold1"), audio.load(wav)
    rhythm = torch.from_numpy(prosody.compute(wave, "default", RATE))[None]
    with torch.inference_mode():
        given = {"waveform": torch.from_numpy(wave)[None], "samples": torch.tensor([len(wave)]), "prosody": rhythm}
        states = network.perceive(given)
        judged = network(**given)
    expected = torch.cat([states["speech"], states["prosody"]], dim=1)[0]
    assert line["embedding"] == pytest.approx(expected.tolist(), abs=1e-5)
    # One scale and one name, whichever way it is asked.
    assert judged["valence"].item() == pytest.approx(speech(wav)["prediction"]["valence"], abs=1e-4)
    assert 1 + 4 * judged["valence_unit"].item() == pytest.approx(judged["valence"].item(), abs=1e-5)
    with pytest.raises(AffectError, match="have no mean: name one run, such as .*fold1"):
        affect.load(spoken).embed(wav)


@pytest.fixture(scope="module")
def trimodal(tmp_path_factory):
    """A fusion model, and a vector of each modality, as a file and as an array."""
    folder = tmp_path_factory.mktemp("trimodal")
    streams = [("audio", "ears", 5), ("text", "reader", 4), ("video", "eyes", 3)]
    fusing.save(folder, name="attention_robust", streams=streams, softmax="masked")
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=width).astype(np.float32) for name, _, width in streams}
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    return folder, arrays


@pytest.mark.parametrize("subset", ["A", "T", "V", "AT", "AV", "TV", "ATV"])
def test_any_subset_of_modalities(trimodal, subset):
    folder, arrays = trimodal
    model = affect.load(folder)
    there = [name for name in arrays if name[0].upper() in subset]
    said = model(**{name: folder / f"{name}.npy" for name in there})
    _, (line,) = ask(folder, **{name: [folder / f"{name}.npy"] for name in there})
    assert said == line
    assert (said["present"], said["scale"]) == (subset, {"valence": [-5.0, 5.0]})
    of_arrays = model(**{name: arrays[name] for name in there})
    assert {**of_arrays, "id": ""} == {**said, "id": ""}
    (one, two) = model(**{name: [arrays[name], arrays[name]] for name in there})
    assert one["prediction"] == two["prediction"] == said["prediction"]
    if subset == "ATV":
        (state,) = model.embed(**arrays)
        heads = model._opened.kept["models"]._kept[0].heads
        logits = heads(torch.tensor(state["embedding"])[None])["emotion"].softmax(-1)[0].tolist()
        assert logits == pytest.approx([*said["probability"]["emotion"].values()], abs=1e-5)


def test_clips_by_their_frames(clips_root, tmp_path):
    task = clips.task(clips_root)
    network = task.new_model()
    task.save(network, network.state_dict(), tmp_path / "m")
    frames = {name: np.ones((6, width), np.float32) for name, width in task.features}
    np.savez(tmp_path / "clip.npz", **frames)
    model = affect.load(tmp_path / "m")
    said = model(tmp_path / "clip.npz", level=0.8)
    assert said["scale"].keys() == said["prediction"].keys()
    assert model(frames)["prediction"] == said["prediction"]
    (state,) = model.embed(frames)
    assert len(state["embedding"]) == network.config.encoder_dim
    # A folder of clips, not one of the features of a clip.
    (tmp_path / "many").mkdir()
    for name in ("b.npz", "a.npz"):
        np.savez(tmp_path / "many" / name, **frames)
    assert [line["id"] for line in model(tmp_path / "many")] == ["a.npz", "b.npz"]


def test_turns_of_a_recording(tmp_path):
    folder, path = saved.model(tmp_path / "m"), saved.recording(tmp_path / "talk.wav", 6.0)
    model = affect.load(folder)
    said = model(path)
    samples, rate = soundfile.read(path, dtype="float32")
    assert said["turns"]
    assert {"start", "end", "speaker"} == said["turns"][0].keys()
    assert model(samples, rate)["turns"] == said["turns"]
    assert model(path, offline=True)["seconds"] == 6.0
    with pytest.raises(AffectError, match="affect diarize RUN FILES --embeddings"):
        model.embed(path)


def test_turns_of_a_part_are_those_of_a_file_of_it_in_times_of_the_recording(tmp_path):
    folder, path = saved.model(tmp_path / "m"), saved.recording(tmp_path / "talk.wav", 8.0)
    samples, rate = soundfile.read(path, dtype="float32")
    soundfile.write(tmp_path / "part.wav", samples[2 * rate :], rate, subtype="FLOAT")
    (tmp_path / "t.csv").write_text("File,Begin,End\ntalk,2,\ntalk,9,10\n")
    model = affect.load(folder)
    part, beyond = model(tmp_path / "t.csv", columns={"path": "File"})
    alone = model(tmp_path / "part.wav")
    assert (part["id"], part["start"], part["end"], part["seconds"]) == ("talk@2", 2.0, 8.0, 6.0)
    assert alone["turns"]
    moved = [{**turn, "start": turn["start"] + 2, "end": turn["end"] + 2} for turn in alone["turns"]]
    for turn, other in zip(part["turns"], moved, strict=True):
        assert turn == pytest.approx(other)
    assert "segment beyond the audio: 9 to 10 s of 8.000 s" in beyond["error"]


@pytest.fixture(scope="module")
def tiny(small_corpus):
    return runs.recipe(small_corpus, epochs=1)


def test_a_recipe_is_a_call(tiny, tmp_path, monkeypatch, wav):
    monkeypatch.chdir(tmp_path)
    top = affect.run(tiny, "called", seeds=(0, 1), report=False)
    assert top == Path("runs/called")
    each = [affect.load(top / f"seed{seed}" / "fold1")(wav)["prediction"] for seed in (0, 1)]
    mean = affect.load(top)(wav)["prediction"]
    for name, value in mean.items():
        assert value == pytest.approx((each[0][name] + each[1][name]) / 2, abs=1e-4)
    # The report's command runs as written: all is finished, and nothing else would be run.
    before = (top / "seed0" / "fold1" / "metrics.jsonl").read_bytes()
    command = json.loads((top / "seed0" / "fold1" / "environment.json").read_text())["command"]
    python, option, code = shlex.split(command)
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert (top / "seed0" / "fold1" / "metrics.jsonl").read_bytes() == before
    # By the recipe that a run wrote, under its experiment's name.
    assert affect.run(top / "seed0" / "fold1" / "recipe.json", report=False) == top
    with pytest.raises(AffectError, match="of another recipe|other recipe|differs"):
        affect.run(replace(tiny, optim=replace(tiny.optim, lr=1.0)), "called", report=False)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"name": "a/b"}, "name must be a plain name"),
        ({"seed": 3}, "affect.run has no option 'seed'; did you mean 'seeds'"),
        ({"seeds": ()}, "seeds must name at least one"),
    ],
)
def test_what_can_not_be_run_is_one_line(tiny, tmp_path, monkeypatch, named, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AffectError, match=words):
        affect.run(tiny, **named)
    with pytest.raises(AffectError, match="takes a recipe, not dict"):
        affect.run({})
    assert not Path("runs").exists()
