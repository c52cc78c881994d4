"""The task of multimodal emotion in whole runs: what their folders hold, and what training never sees."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_squared_error

from affect import tasks
from affect.data import conditions
from affect.data.synthetic_features import FEATURES
from affect.errors import AffectError
from affect.experiments import folds
from affect.options import Options
from affect.task import Stackable, measured
from affect.tasks.multimodal_emotion import models as multimodal
from affect.tasks.multimodal_emotion.config import MODALITIES, MultimodalEmotion
from affect.tasks.multimodal_emotion.measures import MEASURES
from affect.training import run_dir
from tests.tasks.multimodal_emotion import small

PARTS = ("valid", "test1", "test2", "test3")


@pytest.fixture(scope="module")
def root(feature_corpus):
    return feature_corpus


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """The folder of a whole run, fold 1 of seed 0."""
    recipe = small.recipe(root, name="attention_robust", dropout=0.3, modality_dropout=0.3)
    recipe = small.with_(recipe, data__fold=1)
    return small.folders(small.train(recipe, tmp_path_factory.mktemp("run"), seeds=(0,), only=None))[0]


def rows_of(run, part, condition=None):
    return run_dir.read_rows(run, part if condition is None else f"{part}@{condition}")


def test_every_part_is_predicted_under_every_condition(run):
    assert run_dir.predicted(run) == sorted(
        [*PARTS, *(f"{part}@{condition}" for part in PARTS for condition in conditions.NAMES)]
    )
    assert len(conditions.NAMES) == 22
    for part in PARTS:
        plain = rows_of(run, part)
        assert len(plain) == (45 if part == "valid" else 20)
        for condition in conditions.NAMES:
            found = rows_of(run, part, condition)
            assert [row["id"] for row in found] == [row["id"] for row in plain]
            assert all(row.keys() == its.keys() for row, its in zip(found, plain, strict=True))


@pytest.mark.parametrize("condition", ["subset=ATV", "missing=0.0"])
@pytest.mark.parametrize("part", PARTS)
def test_with_everything_there_a_condition_is_the_plain_prediction(run, part, condition):
    for row, wanted in zip(rows_of(run, part, condition), rows_of(run, part), strict=True):
        assert (row["id"], row["present"], row["target"]) == (wanted["id"], wanted["present"], wanted["target"])
        np.testing.assert_allclose(row["logits"], wanted["logits"], rtol=1e-5, atol=1e-6)
        assert row["prediction"]["valence"] == pytest.approx(wanted["prediction"]["valence"], rel=1e-5, abs=1e-6)
        assert row["attention"] == pytest.approx(wanted["attention"], abs=1e-6)


def test_every_condition_is_what_the_saved_model_says(run):
    """By hand: the best weights, on micro-batches made under the condition."""
    recipe = MultimodalEmotion.from_dict(json.loads((run / "recipe.json").read_text()))
    task = tasks.make(recipe).for_fold(0, 1)
    model = tasks.load(run / "checkpoints" / "best")
    places = np.asarray(task.datasets()["test2"]["row"][:])
    seen = set()
    for name in conditions.NAMES:
        rows = rows_of(run, "test2", name)
        with torch.no_grad():
            batch = task.batch(places, name)
            out = model(**batch.inputs)
        np.testing.assert_allclose([row["logits"] for row in rows], out["emotion"].numpy(), rtol=1e-4, atol=1e-5)
        valence = [row["prediction"]["valence"] for row in rows]
        np.testing.assert_allclose(valence, out["valence"].numpy(), rtol=1e-4, atol=1e-5)
        there = [[letter in row["present"] for letter in "ATV"] for row in rows]
        assert there == (batch.targets["present"] > 0).tolist()
        seen.add(tuple(valence))
    assert len(seen) >= 20, "conditions differ"


def test_models_without_attention_have_none_in_their_files(root, tmp_path):
    recipe = small.with_(small.recipe(root, name="lf_dnn", epochs=1), data__fold=1)
    folder = small.folders(small.train(recipe, tmp_path, seeds=(0,), only=None))[0]
    assert "attention" not in run_dir.read_rows(folder, "test1@subset=A")[0]
    assert "attention" not in small.read(folder / "predictions-test1.jsonl")[0]


def test_test3_has_no_valence_in_any_file(run):
    (end,) = small.lines(run, "end")
    assert {name for name, value in end["scores"]["test3"].items() if value is None} == {
        "mse",
        "emoval",
        "ccc_valence",
    }
    for part in ("train", "valid", "test1", "test2"):
        assert all(value is not None for value in end["scores"][part].values())
    assert all(row["target"]["valence"] is None for row in small.read(run / "predictions-test3.jsonl"))
    assert all(row["target"]["valence"] is None for row in small.read(run / "baseline-majority-test3.jsonl"))
    assert "NaN" not in "".join(path.read_text() for path in run.glob("*.jsonl"))


@pytest.mark.parametrize("part", ["valid", "test1", "test2"])
def test_scores_can_be_computed_again_from_the_predictions(run, part):
    (end,) = small.lines(run, "end")
    rows = small.read(run / f"predictions-{part}.jsonl")
    emotion = [[row[side]["emotion"] for row in rows] for side in ("target", "prediction")]
    valence = [[row[side]["valence"] for row in rows] for side in ("target", "prediction")]
    f1, mse = f1_score(*emotion, average="weighted", zero_division=0), mean_squared_error(*valence)
    assert end["scores"][part]["f1"] == pytest.approx(f1)
    assert end["scores"][part]["mse"] == pytest.approx(mse)
    assert end["scores"][part]["emoval"] == pytest.approx(f1 - mse / 4)


def test_the_weights_kept_are_those_of_the_best_emoval(run):
    found = small.lines(run, "eval")
    (end,) = small.lines(run, "end")
    best = max(found, key=lambda line: line["scores"]["emoval"])
    assert (end["best_epoch"], end["best_step"]) == (best["epoch"], best["step"])
    assert end["scores"]["valid"] == pytest.approx(best["scores"])


def test_an_epoch_may_be_chosen_by_all_subsets(root, tmp_path):
    """The score is the mean of emoval over the seven, which the best weights give again."""
    recipe = small.with_(small.recipe(root, dropout=0.3, modality_dropout=0.5), choose="subsets", data__fold=1)
    folder = small.folders(small.train(recipe, tmp_path, seeds=(0,), only=None))[0]
    (end,) = small.lines(folder, "end")
    best = max(small.lines(folder, "selection"), key=lambda line: line["score"])
    assert (end["best_epoch"], end["best_step"]) == (best["epoch"], best["step"])
    found = []
    for letters in conditions.SUBSETS:
        rows = rows_of(folder, "valid", f"subset={letters}")
        emotion = [[row[side]["emotion"] for row in rows] for side in ("target", "prediction")]
        valence = [[row[side]["valence"] for row in rows] for side in ("target", "prediction")]
        f1 = f1_score(*emotion, average="weighted", zero_division=0)
        found.append(f1 - mean_squared_error(*valence) / 4)
    assert best["score"] == pytest.approx(np.mean(found), rel=1e-4)
    assert end["scores"]["valid"]["emoval"] == pytest.approx(found[-1], rel=1e-4)


def test_the_majority_is_that_of_the_fold_s_training_part(root, run):
    rows = {row[0]: row for part in ("train", "test1", "test2", "test3") for row in small.labels(root, part)}
    valid = [row["id"] for row in small.read(run / "predictions-valid.jsonl")]
    train = [row for row in small.labels(root, "train") if row[0] not in set(valid)]
    emotions = [row[1] for row in train]
    common, mean = max(set(emotions), key=emotions.count), np.mean([float(row[2]) for row in train])
    assert emotions.count(common) > sorted(map(emotions.count, set(emotions)))[-2], "no tie"
    for part in PARTS:
        found = small.read(run / f"baseline-majority-{part}.jsonl")
        assert [row["id"] for row in found] == [row["id"] for row in small.read(run / f"predictions-{part}.jsonl")]
        assert all(row["prediction"] == {"emotion": common, "valence": pytest.approx(mean)} for row in found)
        assert [row["target"]["emotion"] for row in found] == [rows[row["id"]][1] for row in found]
        shares = found[0]["probability"]["emotion"]
        assert shares == {name: pytest.approx(emotions.count(name) / len(emotions)) for name in shares}
        labels = [rows[row["id"]][1] for row in found]
        wanted = f1_score(labels, [common] * len(found), average="weighted", zero_division=0)
        assert measured(MEASURES[1:2], found)["f1"] == pytest.approx(wanted)
        share = labels.count(common) / len(found)
        assert wanted == pytest.approx(share * 2 * share / (1 + share)), "by hand"


def test_environment_says_what_is_there(root, run):
    said = json.loads((run / "environment.json").read_text())
    # A generated corpus is never taken for the real one.
    assert said["corpus"].startswith("generated (noise 1, seed ")
    assert said["classes"] == ["neutral", "angry", "happy", "sad", "worried", "surprise"]
    assert said["utterances"] == {"train": 45, "valid": 45, "test1": 20, "test2": 20, "test3": 20}
    assert said["features"] == dict(zip(FEATURES, (48, 96, 40), strict=True))
    vectors = [small.vectors(root, feature) for feature in FEATURES]
    for part in ("test1", "test2", "test3"):
        rows = small.labels(root, part)
        there = np.array([[bool(own[row[0]].any()) for own in vectors] for row in rows])
        assert said["presence"][part] == {
            **dict(zip(MODALITIES, there.sum(0).tolist(), strict=True)), "all": int(there.all(1).sum()),
        }  # fmt: skip
        emotions = [row[1] for row in rows]
        assert said["class_counts"][part] == {name: emotions.count(name) for name in said["classes"]}
    # Of the fold that the run trained on, not of the whole training part.
    rows = small.labels(root, "train")
    whole = {m: sum(bool(own[row[0]].any()) for row in rows) for m, own in zip(MODALITIES, vectors, strict=True)}
    for name, there in whole.items():
        assert said["presence"]["train"][name] + said["presence"]["valid"][name] == there
    assert sum(said["class_counts"]["train"].values()) == 45
    assert whole["text"] < 90, "the test must see something missing"


def other_tests(root, folder):
    """Copy a corpus with other labels and features of its test parts, and nothing else."""
    shutil.copytree(root, folder)
    drawn = np.random.default_rng(0)
    for part in ("test1", "test2", "test3"):
        rows = small.labels(root, part)
        order = drawn.permutation(len(rows))
        small.write_labels(folder, part, [[row[0], *rows[k][1:]] for row, k in zip(rows, order, strict=True)])
        for feature, width in zip(FEATURES, (48, 96, 40), strict=True):
            for row in rows:
                small.write_vector(folder, feature, row[0], 5 * drawn.standard_normal(width).astype(np.float32))
    return folder


def test_the_tests_never_influence_training(root, tmp_path):
    base = small.recipe(root, name="attention_robust", dropout=0.3, modality_dropout=0.3, normalise=True)
    base = small.with_(base, optim__schedule="plateau", optim__plateau_patience=1, train__patience=2)
    found = []
    for name, folder in (("as_is", root), ("other", other_tests(root, tmp_path / "corpus"))):
        data = small.data(folder, corpus="mer2023", labels="csv")
        found.append(small.train(replace(base, data=data), tmp_path / name, seeds=(0,), only=None))
    for mine, its in zip(*map(small.folders, found), strict=True):
        for event in ("step", "eval", "selection"):
            assert small.lines(mine, event) == small.lines(its, event)
        (a,), (b,) = small.lines(mine, "end"), small.lines(its, "end")
        assert (a["best_step"], a["best_epoch"]) == (b["best_step"], b["best_epoch"])
        assert small.weights(mine) == small.weights(its)
        for part in ("train", "valid"):
            assert a["scores"][part] == b["scores"][part]
        assert a["scores"]["test1"] != b["scores"]["test1"], "the tests are others"


def test_features_are_standardised_by_the_training_part_alone(root):
    task = tasks.make(small.recipe(root, normalise=True)).for_fold(0, 1)
    model = task.build_model()
    batch = task.batch(np.asarray(task.datasets()["train"]["row"][:]))
    for s, key in enumerate(MODALITIES):
        values = batch.inputs[key][batch.inputs["present"][:, s] > 0].double()
        torch.testing.assert_close(getattr(model, f"mean_{key}").double(), values.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            getattr(model, f"deviation_{key}").double(), values.std(0, correction=0), rtol=1e-4, atol=1e-5
        )
    other = tasks.make(small.recipe(root, normalise=True)).for_fold(0, 2).build_model()
    assert not torch.equal(model.mean_audio, other.mean_audio)


def test_the_model_is_as_the_recipe_says(root):
    recipe = small.recipe(
        root, dropout=0.2, modality_dropout=0.4, warmup=3, softmax="masked", missing="token", dropout_kind="balanced"
    )
    model = tasks.make(recipe).for_fold(0, 1).build_model()
    config = model.config
    assert (config.hidden, config.dropout, config.modality_dropout, config.warmup) == (8, 0.2, 0.4, 3)
    assert (config.softmax, config.missing, config.dropout_kind) == ("masked", "token", "balanced")
    assert [stream[::2] for stream in model.data.streams] == [("audio", 48), ("text", 96), ("video", 40)]


def test_robust_without_modality_dropout_has_none(root):
    """attention_robust has some by itself where nothing is said; a recipe's 0 is said."""
    model = tasks.make(small.recipe(root, name="attention_robust")).for_fold(0, 1).build_model()
    assert model.begin(99) == {}


def test_decay_is_on_every_parameter(root):
    task = tasks.make(small.recipe(root)).for_fold(0, 1)
    model = task.build_model()
    (group,) = task.param_groups(model)
    assert (group["name"], group["lr"], group["weight_decay"]) == ("all", 5e-3, 1e-4)
    assert len(group["params"]) == len(list(model.parameters()))


def test_a_task_of_features_can_be_stacked(root):
    assert isinstance(tasks.make(small.recipe(root)), Stackable)


def test_collate_is_the_batch_of_its_rows(root):
    task = tasks.make(small.recipe(root)).for_fold(0, 1)
    part = task.datasets()["test1"]
    rows = [{**part[k], "condition": "subset=A"} for k in (3, 1)]
    batch = task.collate(rows, None)
    assert batch.ids == (part[3]["id"], part[1]["id"])
    assert not batch.inputs["text"].any() and batch.inputs["audio"].any()
    assert task.collate([part[3]], None).inputs["text"].shape == (1, 96)


def test_a_fold_without_a_class_is_one_line(root, tmp_path):
    recipe = small.with_(small.recipe(root), data__folds=20)
    with pytest.raises(AffectError) as error:
        small.train(recipe, tmp_path / "top", seeds=(0,))
    assert "\n" not in str(error.value)
    assert "has no utterance of the class" in str(error.value)
    assert "give fewer data.folds" in str(error.value)


def test_a_fold_that_cannot_be_cut_leaves_no_run_behind(root, tmp_path):
    """All folds are cut before the first is begun: a folder of one that never ran would haunt the report."""
    recipe = small.with_(small.recipe(root), data__folds=20)
    with pytest.raises(AffectError, match="has no utterance of the class"):
        folds.run("x", recipe, Options(runs=tmp_path / "runs", report=False), "a command")
    assert not list((tmp_path / "runs").rglob("recipe.json"))


def test_a_class_that_training_lacks_is_one_line(root, tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(root, folder)
    rows = [row for row in small.labels(root, "train") if row[1] != "happy"]
    small.write_labels(folder, "train", rows)
    recipe = replace(small.recipe(root), data=small.data(folder, corpus="mer2023", labels="csv"))
    with pytest.raises(AffectError, match="no training utterance is labelled happy"):
        tasks.make(recipe).folds()


def test_a_corpus_without_valence_is_one_line(root, tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(root, folder)
    small.write_labels(folder, "train", [[name, emotion, "-10"] for name, emotion, _ in small.labels(root, "train")])
    recipe = replace(small.recipe(root), data=small.data(folder, corpus="mer2023", labels="csv"))
    with pytest.raises(AffectError, match="no utterance of train has a valence, which targets name"):
        tasks.make(recipe).folds()


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"audio": ("chinese-hubert",)}, "chinese-hubert"),
        ({"widths": (48, 97, 40)}, "has 96 numbers, not the 97 asked for"),
        ({"train": 91}, "was made with train=90, not 91"),
    ],
)
def test_mistakes_are_known_before_a_model_is_made(root, tmp_path, monkeypatch, named, words):
    monkeypatch.setattr(multimodal, "build", lambda *config: pytest.fail("a model was made"))
    with pytest.raises(AffectError) as error:
        small.train(replace(small.recipe(root), data=small.data(root, **named)), tmp_path / "top", seeds=(0,))
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "top").exists()


def test_two_modalities_alone(root, tmp_path):
    recipe = replace(small.recipe(root, epochs=1, modality_dropout=0.5), data=small.data(root, text=(), fold=1))
    folder = small.folders(small.train(recipe, tmp_path, seeds=(0,), only=None))[0]
    row = small.read(folder / "predictions-test1.jsonl")[0]
    assert set(row["attention"]) == {"audio", "video"}
    assert set(row["present"]) <= set("AV")
    assert not run_dir.read_rows(folder, "test1@subset=T"), "nothing would be left"
    whole = run_dir.read_rows(folder, "test1@subset=AV")[0]
    assert whole["attention"] == pytest.approx(row["attention"], abs=1e-6)
