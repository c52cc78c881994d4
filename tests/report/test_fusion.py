"""Experiments whose folds all predict the same tests, under conditions too: page, flags and comparisons."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from affect import report
from affect.errors import AffectError
from affect.findings import Flag
from affect.report import against, comparison, conditions, goals, load, read
from affect.report import flags as all_flags
from affect.report.compare import Comparison, Difference, compare
from affect.report.study import Study
from affect.report.systems import Estimate
from affect.task import Measure
from affect.tasks.multimodal_emotion import report as own
from affect.tasks.multimodal_emotion.measures import ACCURACY, F1, SQUARED_ERROR
from affect.training import run_dir
from tests.report.fusion import CLASSES, TESTS, edit, edit_document, experiment, load_rows

REST = "test1@incomplete"
NONE: tuple[str, ...] = ()
REPORTED = {
    "name": "robust_v3", "source": "report 001", "corpus": "mer2023", "task": "multimodal_emotion",
    "mean": {"cv": {"acc": 0.7516}, "test2": {"f1": 0.7609, "acc": 0.7621, "val": 0.6316}},
}  # fmt: skip


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline and a better experiment of six seeds and two folds, with the incomplete subsets."""
    runs = tmp_path_factory.mktemp("six")
    subsets = tuple(f"subset={letters}" for letters in own.partial_of("ATV"))
    sizes = {"train": 120, "test1": 40, "test2": 50, "test3": 40}
    experiment(runs / "baseline", range(6), (1, 2), skill=1.4, conditions=subsets, sizes=sizes)
    experiment(runs / "better", range(6), (1, 2), skill=2.6, conditions=subsets, sizes=sizes)
    return runs


def flags(folder: Path) -> dict[str, Flag]:
    return {flag.kind: flag for flag in all_flags.flags(Study(runs=read(folder), name=folder.name))}


def of(found: Comparison, evaluation: str, measure: Measure = F1) -> Difference:
    difference = found.of(evaluation, measure)
    assert difference is not None
    return difference


# The page.


def test_the_page_holds_everything_in_order(fused: Path) -> None:
    text = report.write(fused).read_text(encoding="utf-8")
    heads = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    assert heads == [
        "Result", "Folds", "Flags", "Training", "Further scores", "Classes", "Predictions",
        "Where the errors are", "test1", "test2", "test3", "Conditions", "missing",
        "shuffle", "snr", "subset", "The public toolkit's metric lines", "Missing and noisy modalities", "Attention",
        "Modality dropout", "Settings", "Reproduce", "Environment",
    ]  # fmt: skip
    assert set(re.findall(r"plots/(.*?)\.png", text)) == {path.stem for path in (fused / "plots").glob("*.png")}
    names = {"scores", "curves", "confusion-emotion", "condition-subset", "condition-snr", "attention", "dropout"}
    assert names <= {path.stem for path in (fused / "plots").glob("*.png")}
    assert "| test1@incomplete " in text
    assert "Epochs are chosen by `emoval`. `emoval` is f1 - 0.25 val" in text
    assert re.search(r"of all modalities 0 % are not there at rate \.0 and (6|7)\d % at \.7", text)
    assert "On incomplete subsets 0 % of it goes to what is missing" in text
    assert "    seed1 test3: f1=" in text
    assert "val=n/a" in text


@pytest.mark.usefixtures("no_plots")
def test_no_file_of_conditions_is_no_condition(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1, 2), conditions=NONE, attention=False)
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert "No subset of the modalities was evaluated" in text
    assert "## Conditions" not in text
    assert "## Attention" not in text
    assert "A single run can't tell a better model from a luckier one" in text


def test_conditions_are_scored_from_their_rows(made: Path) -> None:
    found = Study(runs=read(made))
    values = []
    for seed in (0, 1):
        folds = []
        for fold in range(1, 6):
            rows = run_dir.read_rows(made / f"seed{seed}/fold{fold}", "test1@subset=AT")
            folds.append(sorted(rows, key=lambda row: row["id"]))
        said = np.mean([[row["logits"] for row in rows] for rows in folds], axis=0).argmax(1)
        labels = [row["target"]["emotion"] for row in folds[0]]
        values.append(sk.f1_score(labels, [CLASSES[i] for i in said], average="weighted"))
    assert found.scored("test1@subset=AT", F1).mean == pytest.approx(np.mean(values))
    each = [found.scored(f"test1@subset={letters}", F1).mean for letters in own.partial_of("ATV")]
    assert found.scored(REST, F1).mean == pytest.approx(np.mean(each))
    assert conditions.kinds_of(found)["snr"] == ["snr=0", "snr=10"]
    assert own.missing_share(found, "missing=0.7") == pytest.approx(0.7, abs=0.05)
    weights = own.weights(found, "test1", "AT")
    assert weights is not None
    assert list(weights) == pytest.approx([0.625, 0.375, 0.0])


@pytest.mark.usefixtures("no_plots")
def test_a_damaged_file_is_named_and_crashes_nothing(fused: Path) -> None:
    run = fused / "seed0" / "fold1"
    (run / run_dir.CONDITIONS).write_bytes(b"PK no archive")
    (fused / "seed0" / "fold2" / "predictions-test3.jsonl").unlink()
    edit(run / "predictions-test2.jsonl", lambda records: records[0]["target"].update(emotion="joy"))
    (fused / "seed1" / "fold1" / "predictions-valid.jsonl").write_bytes(b"\xff\xfe\x00{")
    text = report.write(fused).read_text(encoding="utf-8")
    assert "predictions-conditions.zip can't be read" in text
    assert "no readable predictions-test3.jsonl" in text
    assert "no class is called joy" in text
    assert re.search(r"\| unreadable +\| 2 of 10 runs", text)


def test_training_counts_epochs_from_one(made: Path) -> None:
    from affect.report.result import training

    text = training(Study(runs=read(made)))
    assert "Kept epochs: 9 to 9, the median 9, of 12 at most." in text
    assert "all 12 epochs" in text


# Flags.


def test_a_sound_experiment_has_one_flag_for_its_two_seeds(plain: Path) -> None:
    assert list(flags(plain)) == ["few seeds"]
    assert "2 of 6 seeds" in flags(plain)["few seeds"].evidence


def test_a_class_for_all_and_predictions_that_are_none(plain: Path) -> None:
    run = plain / "seed0" / "fold1"

    def collapse(records: list[dict[str, Any]]) -> None:
        for k, record in enumerate(records):
            record["logits"] = [0.0, 0, 5, 0, 0, 0]
            record["prediction"]["emotion"] = "happy" if k else "sad"

    def none(records: list[dict[str, Any]]) -> None:
        records[3]["logits"][2] = math.nan
        records[4]["prediction"]["valence"] = None

    edit(run / "predictions-test1.jsonl", collapse)
    edit(run / "predictions-test2.jsonl", none)
    edit(run / "metrics.jsonl", lambda records: records[3].update(loss=math.nan, grad_norm=math.inf))
    edit(run / "metrics.jsonl", lambda records: records[6].update(undefined=["contrastive"]))
    found = flags(plain)
    assert found["collapse to one class"].where == "seed0/fold1"
    assert found["collapse to one class"].evidence.startswith(
        "test1 emotion: 98 % of predictions are happy, of the labels "
    )
    assert "warm-up" in found["collapse to one class"].advice
    words = {
        flag.where: flag.evidence for flag in all_flags.flags(Study(runs=read(plain))) if flag.kind == "NaN predictions"
    }
    assert words["seed0/fold1"].startswith("test2 valence: 1 of 80")
    assert words["test2"] == "emotion: 1 of 160 rows have no mean prediction; there is no score"
    assert found["undefined term"].evidence.endswith("contrastive took no part in 1 of 24 logged steps")
    assert {"NaN loss", "NaN gradient"} <= found.keys()


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        (
            {"warmup": 30},
            "stopped before 2W",
            "ended after epoch 12; modality dropout reaches its full rate in epoch 61",
        ),
        (
            {"warmup": 3, "best": 5},
            "kept before 2W",
            "kept epoch 6, which saw a rate of 0.133 at most; the full rate comes",
        ),
        ({"warmup": 3, "best": 6}, None, ""),
        ({"warmup": 0, "best": 0}, None, ""),
    ],
)
def test_epochs_before_the_full_dropout(tmp_path: Path, told: dict[str, Any], kind: str | None, words: str) -> None:
    experiment(tmp_path / "a", folds=(1,), conditions=NONE, **told)
    found = {k: flag for k, flag in flags(tmp_path / "a").items() if k.endswith("before 2W")}
    assert list(found) == ([kind] if kind else [])
    assert all(words in flag.evidence for flag in found.values())


def keep(path: Path, step: int, tests: bool = False, **train: Any) -> None:
    """Let a run have kept another step; `tests`: which is the best on test2."""

    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        records[-1]["best_step"] = step
        extra = []
        for record in records[:-1]:
            if tests and record["event"] == "eval":
                scores = {"f1": 0.9 if record["step"] == step else 0.5}
                extra.append({**record, "evaluation": "test2", "scores": scores})
        return [*records[:-1], *extra, records[-1]]

    edit(path / "metrics.jsonl", change)
    edit_document(path / "recipe.json", lambda recipe: recipe["train"].update(train))


def test_an_epoch_chosen_on_a_test(plain: Path) -> None:
    keep(plain / "seed0" / "fold1", 40, tests=True)
    found = flags(plain)["selected on a test"]
    assert found.where == "seed0/fold1"
    assert "kept step 40" in found.evidence
    assert "whose best is step 90" in found.evidence
    assert found.evidence.endswith("step 40 is the best on test2")


def test_an_epoch_that_is_not_the_best(plain: Path) -> None:
    keep(plain / "seed0" / "fold1", 40)
    assert "selected on a test" not in flags(plain)
    assert "kept step 40" in flags(plain)["not the best epoch"].evidence
    keep(plain / "seed0" / "fold1", 120, choose="last")
    keep(plain / "seed0" / "fold2", 80, min_delta=0.011)
    assert "not the best epoch" not in flags(plain)
    assert "mixed settings" in flags(plain)


def test_a_wide_gap_between_training_and_validation(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1, 2), conditions=NONE, train_emoval=1.2)
    found = flags(tmp_path / "a")["train above valid"]
    assert "robust_v1" in found.advice
    assert "2 of 2 runs" in found.where


def test_missing_unfinished_and_odd_runs(plain: Path) -> None:
    edit(
        plain / "seed0" / "fold1" / "predictions-test2.jsonl", lambda records: records[0]["target"].update(valence=9.0)
    )
    assert flags(plain)["labels differ"].where == "test2"
    edit_document(plain / "seed0/fold1/environment.json", lambda facts: facts["presence"]["test2"].update(video=62))
    lacking = flags(plain)["modality missing"]
    assert (lacking.where, lacking.evidence) == ("test2", "video in 62 of 80 utterances (22 % lack it)")
    shutil.rmtree(plain / "seed1" / "fold5")
    edit(plain / "seed1" / "fold4" / "metrics.jsonl", lambda records: records[:-1])
    found = flags(plain)
    assert found["missing folds"].where == "seed 1"
    assert found["missing folds"].evidence == "fold 4 5 of 5: the seed is left out of every score"
    assert "last step 120" in found["unfinished"].evidence
    assert Study(runs=read(plain)).seeds == [0]
    shutil.rmtree(plain / "seed0" / "fold5")
    shutil.rmtree(plain / "seed1")
    assert flags(plain)["missing folds"].evidence == "fold 5 of 5: fewer models in the means"


def test_conditions_of_fewer_rows(fused: Path) -> None:
    for folder in fused.glob("seed*/fold*"):
        rows = {name: run_dir.read_rows(folder, name) for name in run_dir.predicted(folder)}
        run_dir.write_rows(folder, rows | {"test1@snr=0": rows["test1@snr=0"][1:]})
    assert flags(fused)["conditions disagree"].evidence == "test1@snr=0 has 59 of the 60 rows of test1"


def test_every_kind_of_flag_of_the_core_has_its_weight() -> None:
    folder = Path(all_flags.__file__).parent
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    said = set(re.findall(r'Flag\(\s*"([^"]+)"', text))
    assert said | {"mixed settings", "mixed corpus", "valid above test", "test above valid"} == set(all_flags.ADVICE)


# Comparisons.


def test_a_better_experiment_of_six_seeds_is_better(six: Path) -> None:
    found = compare(load(six / "better"), load(six / "baseline"))
    one = of(found, "valid")
    assert one.estimate.low > 0
    assert one.p == pytest.approx(2 / 2**6)
    assert one.judged.said() == "really better"
    assert of(found, REST).pairs.keys() == set(range(6))
    error = of(found, "test1", SQUARED_ERROR)
    assert error.judged.better == (error.estimate.high < 0)
    text = against.section(found)
    assert "**really better**" in text
    assert "can't be under 0.0312" in text
    assert "Differences seed by seed" in text


def test_scores_intervals_and_p_are_those_of_independent_code(six: Path) -> None:
    found = of(compare(load(six / "better"), load(six / "baseline")), "test3", ACCURACY)
    means: dict[str, list[np.ndarray]] = {"better": [], "baseline": []}
    for name, seed in itertools.product(means, range(6)):
        folds = [load_rows(six / name / f"seed{seed}/fold{fold}/predictions-test3.jsonl") for fold in (1, 2)]
        said = np.mean([[row["logits"] for row in rows] for rows in folds], axis=0).argmax(1)
        means[name].append(np.array(CLASSES)[said] == [row["target"]["emotion"] for row in folds[0]])
    right = {name: np.array(values, float) for name, values in means.items()}
    gaps = right["better"].mean(1) - right["baseline"].mean(1)
    assert list(found.pairs.values()) == pytest.approx(gaps)
    assert found.estimate.value == pytest.approx(gaps.mean())
    test = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found.p == pytest.approx(test.pvalue)
    # The interval of a mean over utterances is nearly its normal one.
    by_row = (right["better"] - right["baseline"]).mean(0)
    reach = 1.96 * by_row.std() / np.sqrt(len(by_row))
    assert found.estimate.low == pytest.approx(by_row.mean() - reach, abs=0.25 * reach)
    assert found.estimate.high == pytest.approx(by_row.mean() + reach, abs=0.25 * reach)


def part_of(folder: Path, top: Path, seeds: tuple[int, ...]) -> Path:
    """Return a copy of some seeds of an experiment."""
    for seed in seeds:
        shutil.copytree(folder / f"seed{seed}", top / f"seed{seed}")
    return top


def test_five_seeds_are_never_better(six: Path, tmp_path: Path) -> None:
    few = part_of(six / "better", tmp_path / "five", (0, 1, 2, 3, 4))
    found = compare(load(few), load(six / "baseline"), main_only=True)
    words = [difference.judged.said() for difference in found.differences]
    assert any(word.endswith("not confirmed (5 of 6 seeds)") for word in words)
    assert found.notes[-1] == "Only one of them has seed 5: left out."
    assert "really better" not in " ".join(words)


def test_without_a_common_seed_there_are_no_pairs(six: Path, tmp_path: Path) -> None:
    first = part_of(six / "better", tmp_path / "low", (0, 1))
    second = part_of(six / "baseline", tmp_path / "high", (4, 5))
    found = compare(load(first), load(second), main_only=True)
    assert all(math.isnan(difference.p) and not difference.pairs for difference in found.differences)
    assert any("no seed in common" in difference.judged.said() for difference in found.differences)
    assert "Differences seed" not in against.section(found)


def test_an_experiment_beside_its_own_copy_is_within_noise(six: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(six / "better", tmp_path / "copy"))
    for path in copy.glob("seed*/fold*/predictions-test1.jsonl"):
        edit(path, lambda records: [record for record in records if record["id"] != "test1_0000"])
    found = compare(load(six / "better"), load(copy))
    known = [d for d in found.differences if not math.isnan(d.estimate.value)]
    assert {d.judged.strength for d in known} == {"within noise"}
    assert of(found, "test1").rows == 39
    assert "test1: 39 rows are in both; 1 are only here and 0 only there, and left out." in found.notes


def test_a_reported_number_is_never_beaten_for_sure(six: Path, tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    content = REPORTED | {"mean": {"test2": {"f1": 0.2, "acc": 0.3}}}
    (tmp_path / "v3" / "reported.json").write_text(json.dumps(content))
    paper, ours = load(tmp_path / "v3"), load(six / "better")
    one = of(compare(ours, paper), "test2")
    assert one.estimate.value == pytest.approx(ours.scored("test2", F1).mean - 0.2)
    assert one.estimate.low > 0
    assert "not confirmed (how much the reported number varies is unknown)" in one.judged.said()
    back = of(compare(paper, ours), "test2")
    assert back.estimate == Estimate(-one.estimate.value, -one.estimate.high, -one.estimate.low)
    (tmp_path / "v3" / "reported.json").write_text(json.dumps(REPORTED | {"corpus": "other"}))
    with pytest.raises(AffectError, match="one is of mer2023@abc, the other of other"):
        compare(ours, load(tmp_path / "v3"))


def test_goals_by_score_and_part(six: Path) -> None:
    found = load(six / "better")
    wanted = goals.resolve(found, {"f1": 0.1, "test2.VAL": 0.001, "cv.acc": 0.999, f"{REST}.f1": 0.99})
    assert [name for name, _, _ in wanted] == [*TESTS, "test2", "valid", REST]
    said = goals.distances(found, wanted).splitlines()
    assert "test2 f1 .1: **reached**" in said[1]
    assert "the interval's lower end is" in said[1]
    assert "test2 val .001: **not reached**" in said[3]
    assert "the interval's lower end is" in said[3], "of an error the better end"
    assert "valid acc .999: **not reached**" in said[4]
    with pytest.raises(AffectError, match="no score 'f2'"):
        goals.resolve(found, {"f2": 0.5})


def test_all_experiments_beside_the_baseline(six: Path, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(six, tmp_path / "runs", ignore=shutil.ignore_patterns("test2@*", "test3@*", "valid@*")))
    (runs / "paper").mkdir()
    (runs / "paper" / "reported.json").write_text(json.dumps(REPORTED))
    text = comparison.page(runs)
    gains = next(line for line in text.splitlines() if line.startswith("| against baseline"))
    assert REST in gains
    assert re.search(r"\| better +\| \+0\.\d{3} \[", text)
    assert "really better" in text
    assert "0.761" in text
    for path in (runs / "better").glob("seed*/fold*/predictions-valid.jsonl"):
        edit(path, lambda records: [r["prediction"].update(emotion="sad") for r in records] and None)
    warned = comparison.page(runs)
    assert (
        "**better is best on the tests, baseline on validation: choosing better would be selection on a test.**"
        in warned
    )
