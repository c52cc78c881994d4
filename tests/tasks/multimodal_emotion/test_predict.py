"""Prediction with fusion models: what the run predicted itself, means over runs, bad files, the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from affect.data.synthetic_features import FEATURES
from affect.errors import AffectError
from affect.tasks.multimodal_emotion import predict
from affect.training.run_dir import read_rows
from tests.inference.asking import ask
from tests.launching import assert_one_line, in_its_own_process
from tests.tasks.multimodal_emotion import fusing, small
from tests.tasks.multimodal_emotion.fusing import CLASSES

MODALITIES = ("audio", "text", "video")
SUBSETS = ("A", "TV", "ATV")


@pytest.fixture
def features(fused_corpus):
    """The folder of features of each modality."""
    return {name: fused_corpus / "features" / feature for name, feature in zip(MODALITIES, FEATURES, strict=True)}


def place(folder: Path, name: str) -> Path:
    """Return the file of an utterance's feature, or its folder of frames."""
    file = folder / f"{name}.npy"
    return file if file.exists() else folder / name


def rows(fused: Path, seed: int = 0, fold: int = 1) -> list[dict]:
    return small.read(fused / f"seed{seed}" / f"fold{fold}" / "predictions-test1.jsonl")


def assert_same(line: dict, row: dict) -> None:
    assert line["id"] == row["id"]
    assert line["present"] == row["present"]
    assert line["prediction"]["emotion"] == row["prediction"]["emotion"]
    assert line["prediction"]["valence"] == pytest.approx(row["prediction"]["valence"], abs=1e-5)
    assert line["probability"]["emotion"] == pytest.approx(row["probability"]["emotion"], abs=1e-5)
    assert line["attention"] == pytest.approx(row["attention"], abs=1e-5)


def test_folders_of_features_give_what_the_run_predicted(fused, features):
    bad, lines = ask(fused / "seed0" / "fold1", **{name: [path] for name, path in features.items()})
    assert bad == 0
    assert len(lines) == small.TRAIN + 3 * small.TEST
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    known = {line["id"]: line for line in lines}
    own = rows(fused)
    assert len(own) == small.TEST
    assert {row["present"] for row in own} >= {"AT", "AV", "ATV"}, "some text and video is missing"
    for row in own:
        assert_same(known[row["id"]], row)
        assert set(known[row["id"]]) == {"id", "prediction", "probability", "attention", "present", "scale"}


def test_files_one_by_one_give_the_same(fused, features):
    own = rows(fused)
    names = [row["id"] for row in own]
    given = {modality: [place(folder, name) for name in names] for modality, folder in features.items()}
    assert any(path.is_dir() for path in given["video"]), "frames too"
    bad, lines = ask(fused / "seed0" / "fold1", **given)
    assert bad == 0
    for line, row in zip(lines, own, strict=True):
        assert_same(line, row)
    # One alone, frames where it has them: what is said of it does not depend on the others.
    row = next(row for row in own if place(features["video"], row["id"]).is_dir())
    _, (line,) = ask(
        fused / "seed0" / "fold1", **{name: [place(folder, row["id"])] for name, folder in features.items()}
    )
    assert_same(line, row)


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_subset_is_the_run_s_own_under_that_condition(fused, features, subset):
    folder = fused / "seed1" / "fold2"
    given = {name: [path] for name, path in features.items() if name[0].upper() in subset}
    _, lines = ask(folder, **given)
    known = {line["id"]: line for line in lines}
    compared = 0
    for row in read_rows(folder, f"test1@subset={subset}"):
        line = known.get(row["id"])
        if line is None or "error" in line:
            continue
        compared += 1
        assert_same(line, row)
    assert compared > small.TEST / 2


def test_an_experiment_is_the_mean_over_its_runs(fused, features):
    units = [(seed, fold) for seed in (0, 1) for fold in (1, 2)]
    told = [{row["id"]: row for row in rows(fused, *unit)} for unit in units]
    given = {name: [path] for name, path in features.items()}
    for run, mine in (
        (fused, told),
        (fused / "seed1", told[2:]),
        (fused / "seed1" / "fold1", told[2:3]),
    ):
        _, lines = ask(run, **given)
        known = {line["id"]: line for line in lines}
        for name in mine[0]:
            logits = np.mean([row[name]["logits"] for row in mine], axis=0)
            shares = np.exp(logits) / np.exp(logits).sum()
            line = known[name]
            np.testing.assert_allclose(list(line["probability"]["emotion"].values()), shares, atol=1e-5)
            assert line["prediction"]["emotion"] == CLASSES[int(logits.argmax())]
            assert line["prediction"]["valence"] == pytest.approx(
                np.mean([row[name]["prediction"]["valence"] for row in mine]), abs=1e-5
            )
            assert line["attention"]["audio"] == pytest.approx(
                np.mean([row[name]["attention"]["audio"] for row in mine]), abs=1e-5
            )


def test_weights_alone_are_enough(fused, features, tmp_path):
    shutil.copytree(fused / "seed0" / "fold1" / "checkpoints" / "best", tmp_path / "model")
    given = {name: [path] for name, path in features.items()}
    assert ask(tmp_path / "model", **given) == ask(fused / "seed0" / "fold1", **given)


def test_large_weights_are_read_again_for_each_batch(fused, features, monkeypatch):
    given = {name: [path] for name, path in features.items()}
    wanted = ask(fused, **given)
    monkeypatch.setattr(predict, "_KEPT", 0)
    monkeypatch.setattr(predict, "_LARGE_BATCH", 50)
    _, lines = ask(fused, **given)
    for line, other in zip(lines, wanted[1], strict=True):
        assert_same(line, other)


def test_a_bad_file_is_a_line_and_the_others_go_on(fused, features, tmp_path):
    names = [row["id"] for row in rows(fused)[:2]]
    good = [place(features["audio"], name) for name in names]
    width = len(np.load(good[1]).reshape(-1, 48)[0])
    wrong = {
        "short": np.zeros(width - 1, np.float32),
        "nan": np.full(width, np.nan, np.float32),
        "zero": np.zeros(width, np.float32),
        "whole": np.ones(width, np.int64),
    }
    for name, values in wrong.items():
        np.save(tmp_path / f"{name}.npy", values)
    (tmp_path / "cut.npy").write_bytes(good[1].read_bytes()[:90])
    (tmp_path / "notes.docx").write_text("words")
    bad_ones = ["short.npy", "nan.npy", "zero.npy", "whole.npy", "cut.npy", "notes.docx", "absent.npy"]
    bad, lines = ask(fused / "seed0" / "fold1", audio=[good[0], *(tmp_path / name for name in bad_ones), good[1]])
    assert bad == 7
    assert [line["id"] for line in lines] == [names[0], *(name.partition(".")[0] for name in bad_ones), names[1]]
    assert all("prediction" in lines[k] and lines[k]["present"] == "A" for k in (0, -1))
    for line, words in zip(
        lines[1:-1],
        [
            f"has 47 numbers, the model's audio feature {FEATURES[0]} has 48", "holds NaN or infinite values",
            "all that is given is empty or all zero", "holds int64", "is no readable npy file",
            "is no kind of file that is known; --audio takes a .npy file", "cannot be read",
        ],
        strict=True,
    ):  # fmt: skip
        assert set(line) == {"id", "error"}
        assert words in line["error"], line
        assert "\n" not in line["error"]


@pytest.mark.parametrize("values", [["", ""], ["zeros.npy", "zeros.npy"]])
def test_what_is_empty_or_zero_is_missing(fused, features, tmp_path, values):
    np.save(tmp_path / "zeros.npy", np.zeros((3, 96), np.float32))
    audio = [place(features["audio"], row["id"]) for row in rows(fused)[:2]]
    run = fused / "seed0" / "fold1"
    wanted = ask(run, audio=audio)
    assert ask(run, audio=audio, text=[tmp_path / value if value else "" for value in values]) == wanted
    assert [line["present"] for line in wanted[1]] == ["A", "A"]


def test_several_features_of_a_modality(tmp_path):
    rng = np.random.default_rng(0)
    streams = (("audio", "wavlm", 4), ("audio", "hubert", 6), ("video", "clip", 5))
    model, made = tmp_path / "model", fusing.save(tmp_path / "model", name="topn", streams=streams)
    data = {"w": rng.normal(size=4), "h": rng.normal(size=6), "c": rng.normal(size=5)}
    data = {name: values.astype(np.float32) for name, values in data.items()}
    for name, values in data.items():
        np.save(tmp_path / f"{name}.npy", values)
    _, (line,) = ask(
        model, audio=[f"hubert={tmp_path / 'h.npy'}", f"wavlm={tmp_path / 'w.npy'}"], video=[tmp_path / "c.npy"]
    )
    given = {"audio": data["w"], "audio_2": data["h"], "video": data["c"]}
    with torch.inference_mode():
        outputs = made(torch.ones(1, 3), **{k: torch.from_numpy(v)[None] for k, v in given.items()})
    assert line["prediction"]["valence"] == pytest.approx(float(outputs["valence"]), abs=1e-5)
    assert line["attention"] == pytest.approx(
        {"audio": float(outputs["attention"][0, :2].sum()), "video": float(outputs["attention"][0, 2])}, abs=1e-5
    )
    _, (less,) = ask(model, audio=[f"hubert={tmp_path / 'h.npy'}"])
    assert less["present"] == "A"
    assert less["prediction"] != line["prediction"]
    with pytest.raises(AffectError, match="2 features of audio: give --audio NAME=.*h.npy with NAME one of wavlm, hub"):
        ask(model, audio=[tmp_path / "h.npy"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "this model takes features: name some with --audio, --text or --video"),
        ({"video": ["v.npy"]}, "this model takes no video: leave --video out; it takes audio, text"),
        ({"audio": ["a.npy", "b.npy"], "text": ["c.npy"]}, "2 are given, text .*: 1; give as many in the same order"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, given, words):
    streams = (("audio", FEATURES[0], 48), ("text", FEATURES[1], 96))
    fusing.save(tmp_path, streams=streams)
    with pytest.raises(AffectError, match=words):
        ask(tmp_path, **given)


def test_a_folder_of_another_feature_is_one_error(fused, features):
    with pytest.raises(AffectError, match=f"has 96 numbers, the model's audio feature {FEATURES[0]} has 48"):
        ask(fused, audio=[features["text"]])


def test_a_model_without_attention_tells_of_none(features, tmp_path):
    streams = tuple(zip(MODALITIES, FEATURES, (48, 96, 40), strict=True))
    fusing.save(tmp_path, name="lf_dnn", streams=streams)
    _, lines = ask(tmp_path, audio=[features["audio"]])
    assert set(lines[0]) == {"id", "prediction", "probability", "present", "scale"}


def test_the_real_command_line(fused, features, tmp_path):
    own = rows(fused)[:3]
    audio, text, video = ([str(place(folder, row["id"])) for row in own] for folder in features.values())
    # An option several times, and one with several values.
    words = ["--audio", audio[0], "--audio", *audio[1:], "--text", *text, "--video", *video]
    command = ["-c", "from affect.cli import main; main()", "predict", str(fused / "seed0" / "fold1"), *words]
    done = in_its_own_process(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line, row in zip(done.stdout.splitlines(), own, strict=True):
        assert_same(json.loads(line), row)


def test_a_command_with_a_bad_file_ends_with_1(affect, fused, features):
    good = place(features["audio"], rows(fused)[0]["id"])
    code, out, _ = affect("predict", fused, "--audio", "nowhere.npy", good)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert ["error" in line for line in lines] == [True, False]


def test_mistakes_of_a_command_are_one_line(affect, fused, spoken, tmp_path):
    run, hearing = fused / "seed0" / "fold1", spoken / "seed0" / "fold1"
    for words, said in (
        (["predict", run, "a.wav"], "FILES is for other models: this one takes --audio, --text"),
        (["predict", run, "--audio", "a.npy", "--window", "3"], "--window is for other models: this one takes --audio"),
        (["predict", run, "--audio", "a.npy", "--rate", "8000"], "--rate is for other models"),
        (["predict", run], "this model takes features: name some"),
        (["predict", hearing, "--audio", "a.npy"], "--audio is for other models: this one takes FILES, --text"),
        (["predict", tmp_path / "none", "--video", "a.npy"], "none holds no weights"),
        (["predict", fused.parent, "--video", "a.npy"], "holds several runs: name one"),
    ):
        code, out, err = affect(*words)
        assert_one_line(code, err, said)
        assert out == ""


def test_help_explains_both_kinds(affect):
    code, out, _ = affect("predict", "--help")
    said = " ".join(out.replace("│", " ").split())
    assert code == 0
    for words in ("A model of sound takes FILES", "A model of features", "--audio", "--video", "--features"):
        assert words in said
