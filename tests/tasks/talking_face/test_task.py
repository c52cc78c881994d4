"""The task from its corpus to predicted rows, over every way in which a batch may be cut."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affect import keyed, tasks
from affect.baselines import scores
from affect.data import pickle_file
from affect.data.spread import SCALED
from affect.errors import AffectError
from affect.experiments import folds
from affect.models import saving
from affect.options import Options
from affect.report import load, result
from affect.task import Key
from affect.tasks.talking_face import intervals
from affect.tasks.talking_face.config import FRAMES, SCORES, Augment, Data, Loss, TalkingFace
from affect.training import trainer
from affect.training.terms import whole
from tests.tasks.talking_face import small
from tests.tasks.talking_face.small import VARIANTS
from tests.training import runs


@pytest.mark.parametrize("name", VARIANTS)
def test_it_trains_in_one_piece_as_cut_and_replayed_and_what_it_saves_predicts_the_same(clips_root, tmp_path, name):
    small.train(small.recipe(clips_root, name, mode="replay", budget=40.0, steps=3), tmp_path / "cut")
    run = small.run(small.recipe(clips_root, name, mode="hold", budget=1e4, steps=3), tmp_path / "whole")
    found = small.trainer.train(run)
    assert runs.losses(tmp_path / "cut") == pytest.approx(runs.losses(tmp_path / "whole"), rel=1e-5)
    assert "not keyed" not in (tmp_path / "whole" / "train.log").read_text()
    assert set(found) == {"train", "valid", "test"}
    assert np.isfinite(found["test"][run.task.measures[0].name])
    again = tasks.load(tmp_path / "whole" / "checkpoints" / "best")
    part = run.task.datasets()["test"]
    batch = run.task.collate([part[k] for k in range(3)], None)
    with torch.no_grad():
        for target, values in run.engine.unwrap(run.model).eval()(**batch.inputs).items():
            torch.testing.assert_close(again(**batch.inputs)[target], values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns(clips_root, name):
    task = small.task(clips_root, name)
    torch.manual_seed(0)
    model = task.new_model().train()
    part = task.datasets()["train"]
    batch = task.collate(list(part), Key(seed=0, epoch=0))
    with keyed.examples(0, 0, batch.ids):
        whole(task.terms(), model(**batch.inputs), batch.targets).total.backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # Of a feature that each clip has the token stands still.
    complete = [f"encoders.{k}.token" for k, (f, _) in enumerate(task.features) if (batch.inputs[f + FRAMES] > 0).all()]
    assert still == ([] if task.recipe.model.modality_dropout else complete)


def test_a_part_without_a_label_of_a_score_is_no_nan(clips_root):
    task = small.task(clips_root)
    part = task.datasets()["train"]
    batch = task.collate([part[k] for k in range(4)], None)
    gone = {**batch.targets, "lip_sync_score": torch.full((4,), torch.nan)}
    model = task.new_model().train()
    loss = whole(task.terms(), model(**batch.inputs), gone)
    loss.total.backward()
    assert loss.total.isfinite()
    assert not loss.defined["mse_lip_sync_score"]
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["famo", "rlw"])
def test_the_scores_that_a_batch_has_share_the_weight(clips_root, tmp_path, name):
    """Two clips a step, of which some scores are missing: their terms take no weight from the others."""
    small.train(small.recipe(clips_root, name, batch=2, epochs=1), tmp_path / "run")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if line["event"] == "step"]
    counts = set()
    for line in steps:
        weights = {term: weight for term, weight in line["weights"].items() if term.endswith("_score")}
        counts.add(len(weights))
        assert sum(weights.values()) == pytest.approx(len(weights))
    assert len(counts) > 1, "clips that lack scores"


def test_augmentation_is_a_function_of_seed_epoch_and_id(clips_root):
    task = small.task(clips_root, augment=Augment(mask=0.5, mixup=1.0))
    rows = list(task.datasets()["train"])[:6]
    together = task.collate(rows, Key(seed=3, epoch=2))
    for k in (5, 0):
        alone = task.collate([rows[k]], Key(seed=3, epoch=2))
        for name, _ in task.features:
            count = int(alone.inputs[name + FRAMES][0])
            assert torch.equal(alone.inputs[name][0, :count], together.inputs[name][k, :count])
    for other in (Key(seed=4, epoch=2), Key(seed=3, epoch=1), None):
        batch = task.collate(rows, other)
        assert not torch.equal(batch.inputs["au"], together.inputs["au"])
    plain = task.collate(rows, None)
    assert torch.equal(plain.inputs["visual" + FRAMES], together.inputs["visual" + FRAMES])


def test_mixup_mixes_the_scores_that_both_have(clips_root):
    task = small.task(clips_root, augment=Augment(mixup=1.0))
    rows = list(task.datasets()["train"])
    plain, mixed = (task.collate(rows, key).targets for key in (None, Key(seed=0, epoch=0)))
    for score in SCORES:
        low, high = np.nanmin(plain[score]), np.nanmax(plain[score])
        known = mixed[score][mixed[score].isfinite()]
        assert ((known >= low) & (known <= high)).all()
        assert mixed[score][plain[score].isnan()].isnan().all()
    moved = (mixed["overall_score"] != plain["overall_score"]) & mixed["overall_score"].isfinite()
    assert moved.float().mean() > 0.5


def test_a_mask_takes_a_stretch_and_leaves_the_rest(clips_root):
    task = small.task(clips_root, augment=Augment(mask=0.9))
    rows = list(task.datasets()["train"])
    plain, masked = (task.collate(rows, key).inputs for key in (None, Key(seed=0, epoch=0)))
    changed = (plain["audio"] != masked["audio"]).any(-1)
    assert 0.1 < changed.float().mean() < 0.7
    row = int(changed.sum(1).argmax())
    count = int(plain["audio" + FRAMES][row])
    places = changed[row].nonzero().flatten()
    assert (places.diff() == 1).all()
    torch.testing.assert_close(masked["audio"][row, places[0]], plain["audio"][row, :count].mean(0))


def test_a_width_that_the_data_does_not_have_is_said_before_a_model_is_built(clips_root):
    wrong = replace(small.recipe(clips_root), data=small.data(clips_root, features=("visual=163", "audio")))
    with pytest.raises(AffectError, match=r"visual.*12.*163"):
        tasks.make(wrong).folds()
    chosen = replace(small.recipe(clips_root), data=small.data(clips_root, features=("visual=12", "au")))
    assert tasks.make(chosen).features == [("visual", 12), ("au", 8)]


def test_validation_clips_may_be_trained_on_where_nothing_is_chosen_by_them(clips_root, tmp_path):
    recipe = small.recipe(clips_root, choose="last", steps=2)
    every = replace(recipe, data=small.data(clips_root, train_all=True))
    parts = tasks.make(every).for_fold(0, 1).datasets()
    assert {*parts["valid"]["id"]} < {*parts["train"]["id"]}
    assert not {*parts["test"]["id"]} & {*parts["train"]["id"]}
    small.train(every, tmp_path / "seed0" / "fold1")
    study = load(tmp_path)
    assert "test" in study.evaluations and "valid" not in study.evaluations, "it would pass for a held-out part"
    told = result.folds(study) + result.training(study)
    assert "train mean SRCC" in told and "valid" not in told and "gap" not in told
    with pytest.raises(AffectError, match="train.choose must be last with data.train_all"):
        replace(every, train=replace(every.train, choose="best"))


def test_generators_are_left_out_one_by_one(clips_root):
    made = tasks.make(replace(small.recipe(clips_root), data=small.data(clips_root, split="generator")))
    assert made.folds() == list(range(1, 9))
    parts = made.for_fold(0, 2).datasets()
    held = {name: set(part["generator"]) for name, part in parts.items()}
    assert len(held["test"]) == 1
    assert not held["test"] & (held["train"] | held["valid"])


def unrated(root: Path, folder: Path, scores: Sequence[str], part: str) -> TalkingFace:
    """Return the recipe of a corpus in `folder` of which a part has no label of some scores."""
    shutil.copytree(next(path.parent for path in root.rglob("rows.csv")), folder)
    with (folder / "rows.csv").open(newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, **(dict.fromkeys(scores, "") if row["part"] == part else {})} for row in rows)
    return replace(small.recipe(root), data=replace(small.data(folder), corpus="score_folder"))


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_score_that_nobody_rated_is_one_line(clips_root, tmp_path, part):
    recipe = unrated(clips_root, tmp_path / "ac", ["expression_score"], part)
    others = " ".join(score for score in SCORES if score != "expression_score")
    words = rf"no clip of the {part} part has a label expression_score: leave it out \(--data.scores {others}\)$"
    with pytest.raises(AffectError, match=words):
        tasks.make(recipe).for_fold(0, 1).datasets()


@pytest.mark.parametrize("part", ["train", "valid"])
def test_where_nothing_is_rated_it_is_said_what_missing_is_and_what_needs_none(clips_root, tmp_path, part):
    words = rf"no clip of the {part} part has a label of any score \({', '.join(SCORES)}\): -1, NaN, .* --unlabelled"
    recipe = unrated(clips_root, tmp_path / "ac", SCORES, part)
    with pytest.raises(AffectError, match=words):
        tasks.make(recipe).for_fold(0, 1).datasets()
    tasks.make(replace(recipe, loss=Loss(kind="corruption"))).for_fold(0, 1).datasets()


def test_rows_have_scores_groups_and_deviations(clips_root, tmp_path):
    small.train(small.recipe(clips_root, "heteroscedastic", steps=1), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "predictions-test.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        assert set(row["prediction"]) == set(SCORES) == set(row["spread"])
        assert {"source", "identity", "generator"} <= row.keys()
        assert all(1 <= value <= 5 for value in row["prediction"].values())


def test_what_a_run_says_of_its_data(clips_root, caplog):
    with caplog.at_level("INFO"):
        said = small.task(clips_root).describe()
    assert said["scale_inferred"] == dict.fromkeys(SCORES, True)
    assert "scales inferred from the labels to train on" in caplog.text and "lip_sync_score 1 to 5, " in caplog.text
    caplog.clear()
    half = small.data(clips_root, scores=SCORES[:2], scale=(f"{SCORES[0]}=1,5",))
    with caplog.at_level("INFO"):
        given = small.task(clips_root, data=half).describe()
    assert given["scale_inferred"] == {SCORES[0]: False, SCORES[1]: True}
    assert "others): expression_score 1 to 5" in caplog.text
    assert said["features"] == {"visual": 12, "audio": 9, "keypoint": 10, "au": 8}
    assert set(said["scales"]) == set(SCORES)
    assert sum(said["utterances"].values()) == 60
    for part, counts in said["labelled"].items():
        assert all(0 < count <= said["utterances"][part] for count in counts.values())


def test_without_a_test_part_trivial_models_speak_of_validation(clips_root, monkeypatch):
    monkeypatch.setattr(scores, "NAMES", ("constant", "ridge"))
    task = small.task(clips_root)
    assert set(task.baselines()) == {"test"} and any("@offset" in each.name for each in task.evaluations())
    task.parts = type(task.parts)({name: part for name, part in task.parts.items() if name != "test"})
    ((part, by_model),) = task.baselines().items()
    assert part == "valid" and set(by_model) == {"constant", "ridge"}
    assert [row["id"] for row in by_model["ridge"]] == task.parts["valid"]["id"][:]
    assert [each.name for each in task.evaluations()] == ["train", "valid"]


def test_what_was_pretrained_on_clips_without_a_label_is_finetuned(clips_root, tmp_path):
    data = pickle.loads(next(clips_root.rglob("ac.pkl")).read_bytes())
    bare = {name: [{**row, "labels": {}} for row in rows] for name, rows in data.items()}
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(bare))
    pickle_file.convert(tmp_path / "bare.pkl", tmp_path / "bare", unlabelled=True)
    recipe = small.recipe(clips_root, "corruption", choose="last", steps=2)
    recipe = replace(recipe, data=replace(small.data(tmp_path / "bare"), corpus="score_folder"))
    top = folds.run("pretrain", recipe, Options(runs=tmp_path), "")
    assert "test (12 rows): **no score**" in (top / "report.md").read_text()
    before = saving.read_weights(top / "seed0" / "fold1" / "checkpoints" / "best")
    tuned = small.recipe(clips_root, steps=1, init_from=str(top))
    run = small.run(tuned, tmp_path / "tuned", weights=folds.initial_weights(tuned, 0, 1))
    assert all(torch.equal(value, before[name]) for name, value in run.engine.unwrap(run.model).state_dict().items())
    with pytest.raises(AffectError, match="has no score 'lip_sync_score': -1, NaN, .* --unlabelled, then"):
        tasks.make(replace(recipe, loss=Loss())).folds()


def test_several_tests_are_parts_of_one_run(tmp_path):
    sizes = {"train": 12, "valid": 6, "test1": 5, "test2": 4}
    rng = np.random.default_rng(0)
    names = [f"{part}{k}" for part, size in sizes.items() for k in range(size)]
    rows = [f"{name},{name[:5]},{k % 5},{','.join(f'{x:.3f}' for x in rng.normal(size=9))}"
            for k, name in enumerate(names)]  # fmt: skip
    (tmp_path / "mos.csv").write_text("\n".join(["clip,part,MOS_score,a,b,c,d,e,f,g,h,i", *rows]) + "\n")
    recipe = small.recipe(tmp_path, epochs=1)
    recipe = replace(recipe, data=Data(corpus="score_table", root=str(tmp_path), scores=("MOS_score",)))
    task = tasks.make(recipe).for_fold(0, 1)
    assert {name: len(part) for name, part in task.parts.items()} == sizes and task.folds() == [1]
    assert [*task.baselines()] == ["test1", "test2"]
    task.corpus = replace(task.corpus, unmoved=("train0",))
    assert [sign["kind"] for sign in task.describe()["signs"]] == ["still pictures"]
    for own in task.corpus.schema["features"].values():
        own["spread"] |= {"median": 1e6, "largest": 1e6}
    for normalised, kinds in ((True, ["still pictures"]), (False, ["still pictures", SCALED])):
        task.recipe = replace(recipe, model=replace(recipe.model, normalise=normalised))
        assert [sign["kind"] for sign in task.describe()["signs"]] == kinds, "a scale that the model takes out is none"
    task.recipe = recipe
    asked = ("train", "valid", "test1", "test2")
    assert {*trainer.train(small.run(recipe, tmp_path / "run", only=asked))} == {*asked}
    assert {path.name for path in (tmp_path / "run").glob("predictions-*")} >= {
        "predictions-test1.jsonl", "predictions-test2.jsonl", "predictions-valid.jsonl",
    }  # fmt: skip
    assert intervals.unseen(tmp_path / "run") == ["valid"]
