"""Prediction with fusion models: what the run predicted itself, means over runs, bad files, the command line."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affect.models.multimodal.config import MultimodalConfig

from affect import checksums, cli
from affect.data.synthetic_features import FEATURES
from affect.errors import AffectError
from affect.models import multimodal
from affect.options import Options
from affect.workflows import folds, multimodal_prediction
from tests.launching import assert_one_line, exit_code, in_its_own_process, own_log
from tests.tasks.multimodal_emotion import small

MODALITIES = ("audio", "text", "video")
SUBSETS = ("A", "T", "V", "AT", "AV", "TV", "ATV")
CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A generated corpus; its features lie in features/<name>."""
    return small.corpus(tmp_path_factory.mktemp("multimodal") / "corpus")


@pytest.fixture(scope="session")
def experiment(corpus, tmp_path_factory):
    """The folder of an experiment of two seeds and two folds, its features standardised."""
    recipe = small.recipe(corpus, softmax="masked", missing="token", normalise=True)
    options = Options(runs=tmp_path_factory.mktemp("runs"), seeds=(0, 1), report=False)
    return folds.run("fused", recipe, options, "a command")


@pytest.fixture
def features(corpus):
    """The folder of features of each modality."""
    return {name: corpus / "features" / feature for name, feature in zip(MODALITIES, FEATURES, strict=True)}


def predict(run: Path, **given) -> tuple[int, list[dict]]:
    output = io.StringIO()
    named = {name: [str(value) for value in values] for name, values in given.items() if name != "features"}
    rest = {"features": given["features"]} if "features" in given else {}
    bad = multimodal_prediction.predict_utterances(run, output, **named, **rest)
    return bad, [json.loads(line) for line in output.getvalue().splitlines()]


def place(folder: Path, name: str) -> Path:
    """Return the file of an utterance's feature, or its folder of frames."""
    file = folder / f"{name}.npy"
    return file if file.exists() else folder / name


def rows(experiment: Path, seed: int = 0, fold: int = 1) -> list[dict]:
    return small.read(experiment / f"seed{seed}" / f"fold{fold}" / "predictions-test1.jsonl")


def assert_same(line: dict, row: dict) -> None:
    assert line["id"] == row["id"]
    assert line["present"] == row["present"]
    assert line["prediction"]["emotion"] == row["prediction"]["emotion"]
    assert line["prediction"]["valence"] == pytest.approx(row["prediction"]["valence"], abs=1e-5)
    assert line["probability"]["emotion"] == pytest.approx(row["probability"]["emotion"], abs=1e-5)
    assert line["attention"] == pytest.approx(row["attention"], abs=1e-5)


def test_folders_of_features_give_what_the_run_predicted(experiment, features):
    bad, lines = predict(experiment / "seed0" / "fold1", **{name: [path] for name, path in features.items()})
    assert bad == 0
    assert len(lines) == small.TRAIN + 3 * small.TEST
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    known = {line["id"]: line for line in lines}
    own = rows(experiment)
    assert len(own) == small.TEST
    assert {row["present"] for row in own} >= {"AT", "AV", "ATV"}, "some text and video is missing"
    for row in own:
        assert_same(known[row["id"]], row)
        assert set(known[row["id"]]) == {"id", "prediction", "probability", "attention", "present"}


def test_files_one_by_one_give_the_same(experiment, features):
    own = rows(experiment)
    names = [row["id"] for row in own]
    given = {modality: [place(folder, name) for name in names] for modality, folder in features.items()}
    assert any(path.is_dir() for path in given["video"]), "frames too"
    bad, lines = predict(experiment / "seed0" / "fold1", **given)
    assert bad == 0
    for line, row in zip(lines, own, strict=True):
        assert_same(line, row)
    # One alone, frames where it has them: what is said of it does not depend on the others.
    row = next(row for row in own if place(features["video"], row["id"]).is_dir())
    _, (line,) = predict(
        experiment / "seed0" / "fold1", **{name: [place(folder, row["id"])] for name, folder in features.items()}
    )
    assert_same(line, row)


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_subset_is_the_run_s_own_under_that_condition(experiment, features, subset):
    folder = experiment / "seed1" / "fold2"
    told = np.load(folder / "conditions.npz", allow_pickle=False)
    which = told["conditions"].tolist().index(f"subset={subset}")
    given = {name: [path] for name, path in features.items() if name[0].upper() in subset}
    _, lines = predict(folder, **given)
    known = {line["id"]: line for line in lines}
    compared = 0
    for k, name in enumerate(told["test1/ids"].tolist()):
        line = known.get(name)
        if line is None or "error" in line:
            continue
        compared += 1
        assert set(line["present"]) <= set(subset)
        logits = told["test1/logits"][which, k].astype(np.float64)
        shares = np.exp(logits - logits.max())
        np.testing.assert_allclose(
            list(line["probability"]["emotion"].values()), shares / shares.sum(), atol=1e-5, err_msg=name
        )
        assert line["prediction"]["valence"] == pytest.approx(told["test1/valence"][which, k], abs=1e-5)
    assert compared > small.TEST / 2


def test_an_experiment_is_the_mean_over_its_runs(experiment, features):
    units = [(seed, fold) for seed in (0, 1) for fold in (1, 2)]
    told = [{row["id"]: row for row in rows(experiment, *unit)} for unit in units]
    given = {name: [path] for name, path in features.items()}
    for run, mine in (
        (experiment, told),
        (experiment / "seed1", told[2:]),
        (experiment / "seed1" / "fold1", told[2:3]),
    ):
        _, lines = predict(run, **given)
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


def test_weights_alone_are_enough(experiment, features, tmp_path):
    shutil.copytree(experiment / "seed0" / "fold1" / "checkpoints" / "best", tmp_path / "model")
    given = {name: [path] for name, path in features.items()}
    assert predict(tmp_path / "model", **given) == predict(experiment / "seed0" / "fold1", **given)


def test_large_weights_are_read_again_for_each_batch(experiment, features, monkeypatch):
    given = {name: [path] for name, path in features.items()}
    wanted = predict(experiment, **given)
    monkeypatch.setattr(multimodal_prediction, "_KEPT", 0)
    monkeypatch.setattr(multimodal_prediction, "_LARGE_BATCH", 50)
    _, lines = predict(experiment, **given)
    for line, other in zip(lines, wanted[1], strict=True):
        assert_same(line, other)


def test_a_run_that_has_not_ended_is_told(experiment, features, tmp_path, caplog):
    top = tmp_path / "fused"
    shutil.copytree(experiment, top, ignore=shutil.ignore_patterns("step-*"))
    journal = top / "seed1" / "fold2" / "metrics.jsonl"
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if '"end"' not in line))
    with caplog.at_level(logging.WARNING, logger="affect"):
        bad, _ = predict(top, audio=[features["audio"]])
    assert bad == 0
    assert f"1 of 4 runs have not come to their end ({top / 'seed1' / 'fold2'} ...)" in caplog.text


def test_a_bad_file_is_a_line_and_the_others_go_on(experiment, features, tmp_path):
    names = [row["id"] for row in rows(experiment)[:2]]
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
    bad, lines = predict(
        experiment / "seed0" / "fold1", audio=[good[0], *(tmp_path / name for name in bad_ones), good[1]]
    )
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
def test_what_is_empty_or_zero_is_missing(experiment, features, tmp_path, values):
    np.save(tmp_path / "zeros.npy", np.zeros((3, 96), np.float32))
    audio = [place(features["audio"], row["id"]) for row in rows(experiment)[:2]]
    run = experiment / "seed0" / "fold1"
    wanted = predict(run, audio=audio)
    assert predict(run, audio=audio, text=[tmp_path / value if value else "" for value in values]) == wanted
    assert [line["present"] for line in wanted[1]] == ["A", "A"]


def topn(folder: Path) -> Path:
    """Save a new model of two audio features and one video feature and return its folder."""
    streams = (("audio", "wavlm", 4), ("audio", "hubert", 6), ("video", "clip", 5))
    torch.manual_seed(0)
    multimodal.save(multimodal.build(MultimodalConfig(name="topn", streams=streams, classes=CLASSES, hidden=8)), folder)
    return folder


def test_several_features_of_a_modality(tmp_path):
    rng = np.random.default_rng(0)
    model = topn(tmp_path / "model")
    data = {"w": rng.normal(size=4), "h": rng.normal(size=6), "c": rng.normal(size=5)}
    data = {name: values.astype(np.float32) for name, values in data.items()}
    for name, values in data.items():
        np.save(tmp_path / f"{name}.npy", values)
    _, (line,) = predict(
        model, audio=[f"hubert={tmp_path / 'h.npy'}", f"wavlm={tmp_path / 'w.npy'}"], video=[tmp_path / "c.npy"]
    )
    given = {"audio": data["w"], "audio_2": data["h"], "video": data["c"]}
    with torch.inference_mode():
        outputs = multimodal.load(model)(torch.ones(1, 3), **{k: torch.from_numpy(v)[None] for k, v in given.items()})
    assert line["prediction"]["valence"] == pytest.approx(float(outputs["valence"]), abs=1e-5)
    assert line["attention"] == pytest.approx(
        {"audio": float(outputs["attention"][0, :2].sum()), "video": float(outputs["attention"][0, 2])}, abs=1e-5
    )
    _, (less,) = predict(model, audio=[f"hubert={tmp_path / 'h.npy'}"])
    assert less["present"] == "A"
    assert less["prediction"] != line["prediction"]
    with pytest.raises(AffectError, match="2 features of audio: give --audio NAME=.*h.npy with NAME one of wavlm, hub"):
        predict(model, audio=[tmp_path / "h.npy"])


def test_models_of_other_features_are_not_averaged(experiment, features, tmp_path):
    shutil.copytree(experiment / "seed0", tmp_path / "seed0", ignore=shutil.ignore_patterns("step-*"))
    best = topn(tmp_path / "seed0" / "fold2" / "checkpoints" / "best")
    checksums.write(best)
    with pytest.raises(AffectError, match="are models of other features or classes"):
        predict(tmp_path, audio=[features["audio"]])


def test_a_damaged_model_is_one_line(experiment, features, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(experiment / "seed0" / "fold1" / "checkpoints" / "best", model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (model / "SHA256SUMS").unlink()
    with pytest.raises(AffectError, match=r"the fusion model in .*model cannot be read") as caught:
        predict(model, audio=[features["audio"]])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "this model takes features: name some with --audio, --text or --video"),
        ({"video": ["v.npy"]}, "this model takes no video: leave --video out; it takes audio, text"),
        ({"audio": ["a.npy", "b.npy"], "text": ["c.npy"]}, "2 are given, text .*: 1; give as many in the same order"),
    ],
)
def test_what_does_not_fit_is_one_line(corpus, tmp_path, given, words):
    streams = (("audio", FEATURES[0], 48), ("text", FEATURES[1], 96))
    multimodal.save(multimodal.build(MultimodalConfig(streams=streams, classes=CLASSES)), tmp_path)
    with pytest.raises(AffectError, match=words):
        predict(tmp_path, **given)


def test_a_folder_of_another_feature_is_one_error(experiment, features):
    with pytest.raises(AffectError, match=f"has 96 numbers, the model's audio feature {FEATURES[0]} has 48"):
        predict(experiment, audio=[features["text"]])


def test_a_model_without_attention_tells_of_none(corpus, features, tmp_path):
    streams = tuple(zip(MODALITIES, FEATURES, (48, 96, 40), strict=True))
    config = MultimodalConfig(name="lf_dnn", streams=streams, classes=CLASSES, hidden=8)
    multimodal.save(multimodal.build(config), tmp_path)
    _, lines = predict(tmp_path, audio=[features["audio"]])
    assert set(lines[0]) == {"id", "prediction", "probability", "present"}


@pytest.fixture
def affect(capsys, monkeypatch):
    """Run the command in this process: exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["affect", *map(str, arguments)])
        capsys.readouterr()
        with own_log():
            code = exit_code(cli.main)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_real_command_line(experiment, features, tmp_path):
    own = rows(experiment)[:3]
    audio, text, video = ([str(place(folder, row["id"])) for row in own] for folder in features.values())
    # An option several times, and one with several values.
    words = ["--audio", audio[0], "--audio", *audio[1:], "--text", *text, "--video", *video]
    command = ["-c", "from affect.cli import main; main()", "predict", str(experiment / "seed0" / "fold1"), *words]
    done = in_its_own_process(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line, row in zip(done.stdout.splitlines(), own, strict=True):
        assert_same(json.loads(line), row)


def test_a_command_with_a_bad_file_ends_with_1(affect, experiment, features):
    good = place(features["audio"], rows(experiment)[0]["id"])
    code, out, _ = affect("predict", experiment, "--audio", "nowhere.npy", good)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert ["error" in line for line in lines] == [True, False]


def test_mistakes_of_a_command_are_one_line(affect, experiment, small_corpus, tmp_path):
    from tests.train import runs

    run = experiment / "seed0" / "fold1"
    hearing = tmp_path / "seed0" / "fold1"
    runs.make(replace(runs.recipe(small_corpus, epochs=1)), hearing).train()
    for words, said in (
        (["predict", run, "a.wav"], "FILES is for models of sound: this one takes --audio"),
        (["predict", run, "--audio", "a.npy", "--window", "3"], "--window is for models of sound"),
        (["predict", run, "--audio", "a.npy", "--rate", "8000"], "--rate is for models of sound"),
        (["predict", run], "this model takes features: name some"),
        (["predict", hearing, "--audio", "a.npy"], "--audio is for models of features: this one takes FILES"),
        (["predict", tmp_path / "none", "--video", "a.npy"], "none holds no weights"),
        (["predict", experiment.parent, "--video", "a.npy"], "holds several runs: name one"),
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
