from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affect.report import read
from affect.report.flag import Flag
from affect.report.multimodal.alarms import SEVERITY, alarms
from affect.report.multimodal.compare import Comparison, Difference
from affect.report.multimodal.result import basis
from affect.report.multimodal.study import Study
from affect.report.scores import Estimate
from tests.report.multimodal.conftest import edit, edit_document, experiment


def flags(folder: Path) -> dict[str, Flag]:
    return {flag.kind: flag for flag in alarms(Study(runs=read(folder), name=folder.name))}


@pytest.fixture
def run(runs: Path) -> Path:
    """The folder of one run of two seeds of five folds."""
    return runs / "seed0" / "fold1"


def test_a_sound_experiment_has_one_flag_for_its_two_seeds(runs: Path) -> None:
    assert list(flags(runs)) == ["few seeds"]
    assert "2 of 6 seeds" in flags(runs)["few seeds"].evidence


def test_few_seeds_are_flagged_under_the_strict_protocol_alone(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1, 2, 3, 4, 5), conditions=False, protocol="toolkit")
    assert flags(tmp_path / "a") == {}


def collapse(records: list[dict[str, Any]]) -> None:
    for record in records:
        record["logits"] = [0.0, 0, 5, 0, 0, 0]
        record["prediction"]["emotion"] = "happy"


def test_collapse_to_one_class(runs: Path, run: Path) -> None:
    edit(run / "predictions-test1.jsonl", collapse)
    found = flags(runs)["collapse to one class"]
    assert found.where == "seed0/fold1"
    assert found.evidence.startswith("test1: 100 % of predictions are happy, of the labels ")
    assert "warm-up" in found.advice


def test_predictions_of_one_class_are_right_where_the_labels_are(runs: Path, run: Path) -> None:
    def alike(records: list[dict[str, Any]]) -> None:
        collapse(records)
        for record in records:
            record["target"]["emotion"] = "happy"

    for path in runs.glob("seed*/fold*/predictions-test1.jsonl"):
        edit(path, alike)
    assert "collapse to one class" not in flags(runs)


def test_stopped_before_twice_the_warm_up(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1, 2), conditions=False, warmup=30, rate=0.2)
    found = flags(tmp_path / "a")["stopped before 2W"]
    assert "ended after epoch 12; modality dropout reaches its full rate in epoch 61" in found.evidence
    assert "kept before 2W" not in flags(tmp_path / "a")


def test_kept_before_twice_the_warm_up(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1,), conditions=False, warmup=3, best=5)
    found = flags(tmp_path / "a")["kept before 2W"]
    assert found.evidence == "kept epoch 6, which saw a rate of 0.133 at most; the full rate comes in epoch 7"


@pytest.mark.parametrize(("warmup", "rate", "best"), [(3, 0.2, 6), (3, 0.0, 2), (0, 0.2, 0)])
def test_the_full_rate_was_seen_or_there_is_none(tmp_path: Path, warmup: int, rate: float, best: int) -> None:
    experiment(tmp_path / "a", folds=(1,), conditions=False, warmup=warmup, rate=rate, best=best)
    assert not {"kept before 2W", "stopped before 2W"} & flags(tmp_path / "a").keys()


def keep(path: Path, step: int, tests: bool = False, **train: Any) -> None:
    """Let a run have kept another step; `tests`: which is the best on test2."""

    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        records[-1]["best_step"] = step
        extra = []
        for record in records[:-1]:
            if tests and record["event"] == "eval":
                scores = {"f1": 0.9 if record["step"] == step else 0.5}
                extra.append({**record, "split": "test2", "scores": scores})
        return [*records[:-1], *extra, records[-1]]

    edit(path / "metrics.jsonl", change)
    edit_document(path / "recipe.json", lambda recipe: recipe["train"].update(train))


def test_an_epoch_chosen_on_a_test(runs: Path, run: Path) -> None:
    keep(run, 40, tests=True)
    found = flags(runs)["selected on a test"]
    assert found.where == "seed0/fold1"
    assert "kept step 40" in found.evidence
    assert "whose best is step 90" in found.evidence
    assert found.evidence.endswith("step 40 is the best on test2")
    assert "its scores are no test scores" in basis(Study(runs=read(runs)))


def test_an_epoch_that_is_not_the_best(runs: Path, run: Path) -> None:
    keep(run, 40)
    assert "selected on a test" not in flags(runs)
    assert "the tests chose nothing" in basis(Study(runs=read(runs)))
    assert "kept step 40" in flags(runs)["not the best epoch"].evidence


def test_the_last_epoch_or_one_within_min_delta_is_no_fault(runs: Path) -> None:
    keep(runs / "seed0" / "fold1", 120, choose="last")
    keep(runs / "seed0" / "fold2", 80, min_delta=0.011)
    assert "not the best epoch" not in flags(runs)
    assert "mixed settings" in flags(runs)


def test_a_wide_gap_between_training_and_validation(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1, 2), conditions=False, train_emoval=1.2)
    found = flags(tmp_path / "a")["train above valid"]
    assert found.evidence.startswith("emoval: train 1.200, valid 0.")
    assert "2 of 2 runs" in found.where


def test_scores_that_disagree(runs: Path, run: Path) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        records[-1]["scores"]["test2"]["acc"] -= 0.1

    edit(run / "metrics.jsonl", change)
    assert flags(runs)["scores disagree"].evidence.startswith("test2 acc: ")


def test_conditions_of_another_run(runs: Path, run: Path) -> None:
    shutil.copy(runs / "seed1" / "fold2" / "conditions.npz", run / "conditions.npz")
    found = flags(runs)["conditions disagree"]
    assert found.where == "seed0/fold1"
    assert "conditions.npz" in found.evidence


def test_other_labels_in_another_run(runs: Path, run: Path) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        records[0]["target"]["valence"] = 9.0

    edit(run / "predictions-test2.jsonl", change)
    assert flags(runs)["labels differ"].where == "test2"


def test_nan(runs: Path, run: Path) -> None:
    def predictions(records: list[dict[str, Any]]) -> None:
        records[3]["logits"][2] = math.nan
        records[4]["prediction"]["valence"] = None

    edit(run / "predictions-test1.jsonl", predictions)
    edit(run / "metrics.jsonl", lambda records: records[3].update(loss=math.nan, grad_norm=math.inf))
    found = flags(runs)
    assert found["NaN predictions"].evidence == "test1: 2 of 60 utterances have no prediction"
    step = json.loads((run / "metrics.jsonl").read_text().splitlines()[3])
    if step["event"] == "step":
        assert found["NaN loss"].evidence == f"1 steps, the first is {step['step']}"
        assert "NaN gradient" in found


def test_missing_and_unfinished_folds(runs: Path) -> None:
    shutil.rmtree(runs / "seed1" / "fold5")
    edit(runs / "seed1" / "fold4" / "metrics.jsonl", lambda records: records[:-1])
    found = flags(runs)
    assert found["missing folds"].where == "seed 1"
    assert found["missing folds"].evidence == "fold 4 5 of 5: the seed is left out of every score"
    assert "last step 120" in found["unfinished"].evidence
    assert Study(runs=read(runs)).seeds == [0]


def test_a_fold_that_every_seed_lacks(runs: Path) -> None:
    for seed in (0, 1):
        shutil.rmtree(runs / f"seed{seed}" / "fold5")
    found = [flag for flag in alarms(Study(runs=read(runs))) if flag.kind == "missing folds"]
    assert [flag.evidence for flag in found] == ["fold 5 of 5: fewer models vote on the tests"] * 2


def test_a_part_that_lacks_a_modality(runs: Path) -> None:
    def change(facts: dict[str, Any]) -> None:
        facts["presence"]["test2"]["video"] = 62

    edit_document(runs / "seed0" / "fold1" / "environment.json", change)
    found = flags(runs)["modality missing"]
    assert (found.where, found.evidence) == ("test2", "video in 62 of 80 utterances (22 % lack it)")


def test_mixed_settings_and_corpora(runs: Path, run: Path) -> None:
    edit_document(run / "recipe.json", lambda recipe: recipe["model"].update(dropout=0.5))
    edit_document(run / "environment.json", lambda facts: facts.update(fingerprint="def"))
    found = flags(runs)
    assert found["mixed settings"].evidence == "model.dropout is 0.35 or 0.5"
    assert found["mixed corpus"].evidence == "fingerprint is abc or def"


def test_unknown_classes_and_damaged_files(runs: Path, run: Path) -> None:
    edit(run / "predictions-test1.jsonl", lambda records: records[0]["target"].update(emotion="joy"))
    (run / "conditions.npz").write_bytes(b"PK no archive")
    (runs / "seed0" / "fold2" / "predictions-test3.jsonl").unlink()
    kinds = [flag for flag in alarms(Study(runs=read(runs))) if flag.kind in ("unreadable", "no predictions")]
    words = " ".join(flag.evidence for flag in kinds)
    assert "no class is called joy" in words
    assert "conditions.npz can't be read" in words
    assert "no readable predictions-test3.jsonl: test3 of seed 0 is left out" in words


def test_pickles_in_conditions_are_not_read(runs: Path, run: Path) -> None:
    np.savez(run / "conditions.npz", conditions=np.array([{"a": 1}], dtype=object))
    assert "conditions.npz can't be read" in flags(runs)["unreadable"].evidence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"valid/logits": np.zeros((2, 3, 6), np.float32)}, "valid/logits must be floats"),
        ({"valid/ids": np.array(["a", "a"])}, "hold one more than once"),
        ({"conditions": np.zeros(3)}, "names no conditions"),
        ({"valid/masks/missing=0.1": np.zeros((1, 3), bool)}, "masks/missing=0.1 must be"),
    ],
)
def test_conditions_of_the_wrong_shape(runs: Path, run: Path, change: dict[str, Any], words: str) -> None:
    with np.load(run / "conditions.npz") as held:
        content = {name: held[name] for name in held.files} | change
    np.savez(run / "conditions.npz", **content)
    assert words in flags(runs)["unreadable"].evidence


def gain(low: float, value: float, score: str = "f1") -> Comparison:
    found = Difference(part="test2", score=score, ours=0.7, theirs=0.7 - value, estimate=Estimate(value, low, 0.04),
                       p=0.03, seeds=dict.fromkeys(range(6), value), utterances=400)  # fmt: skip
    return Comparison(name="baseline", basis="seeds", differences=[found])


def test_a_gain_within_its_interval(made: Path) -> None:
    known = Study(runs=read(made))
    found = {flag.kind: flag for flag in alarms(known, gain(-0.01, 0.016))}["gain within its interval"]
    assert found.evidence == "test2 f1: +1.6 [-1.0, +4.0] points against baseline; the interval holds 0"
    for other in (gain(0.001, 0.016), gain(-0.05, -0.01), gain(-0.01, 0.016, "val")):
        assert "gain within its interval" not in {flag.kind for flag in alarms(known, other)}


def test_every_kind_of_flag_has_its_weight() -> None:
    folder = Path(alarms.__code__.co_filename).parent
    text = "".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in ("alarms", "schedule"))
    said = set(re.findall(r'(?:Flag|worst)\(\s*"([^"]+)"', text)) | {"NaN loss", "NaN gradient"}
    assert said | {"mixed settings", "mixed corpus"} == set(SEVERITY)
