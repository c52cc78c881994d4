from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from affect.errors import AffectError
from affect.report import load, read
from affect.report.multimodal import against, goals
from affect.report.multimodal.compare import REST, Comparison, Difference, compare
from affect.report.multimodal.study import Study, study_of
from affect.report.scores import Estimate
from tests.report.multimodal.conftest import CLASSES, TESTS, edit, experiment

REPORTED = {
    "name": "robust_v3", "source": "report 001", "corpus": "mer2023", "task": "multimodal_emotion",
    "mean": {"cv": {"acc": 0.7516}, "test2": {"f1": 0.7609, "acc": 0.7621, "val": 0.6316}},
}  # fmt: skip


HIGHER = "1.4 points higher, not confirmed "


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline and a better experiment of six seeds and two folds."""
    runs = tmp_path_factory.mktemp("six")
    experiment(runs / "baseline", range(6), (1, 2), skill=1.4)
    experiment(runs / "better", range(6), (1, 2), skill=2.4)
    return runs


def study(folder: Path) -> Study:
    return study_of(load(folder, scores_only=True))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return sorted(map(json.loads, path.read_text(encoding="utf-8").splitlines()), key=lambda row: row["id"])


def part_of(folder: Path, name: str, seeds: tuple[int, ...]) -> Path:
    """Return a copy of some seeds of an experiment."""
    for seed in seeds:
        shutil.copytree(folder / f"seed{seed}", folder.parent / name / f"seed{seed}")
    return folder.parent / name


def difference(low: float, value: float, high: float, **told: Any) -> Difference:
    known: dict[str, Any] = {"p": 0.03, "seeds": dict.fromkeys(range(6), value), "utterances": 400}
    return Difference(part="test2", score="f1", ours=0.7, theirs=0.7 - value, estimate=Estimate(value, low, high),
                      **known | told)  # fmt: skip


@pytest.mark.parametrize(
    ("found", "words", "short"),
    [
        (difference(0.003, 0.014, 0.025), "better by 1.4 points", "better"),
        (difference(-0.025, -0.014, -0.003), "worse by 1.4 points", "worse"),
        (difference(-0.003, 0.014, 0.025), "within noise", "within noise"),
        (difference(0.0, 0.014, 0.025), "within noise", "within noise"),
        (difference(0.003, 0.014, 0.025, p=0.2), HIGHER + "(p 0.2 over seeds)", "not confirmed"),
        (difference(0.003, 0.014, 0.025, doubt="5 of 6 seeds"), HIGHER + "(5 of 6 seeds)", "not confirmed"),
        (difference(-0.02, -0.014, -0.003, doubt="no"), "1.4 points lower, not confirmed (no)", "not confirmed"),
        (difference(0.003, 0.014, 0.025, utterances=8), HIGHER + "(8 utterances are few)", "not confirmed"),
        (difference(math.nan, 0.014, math.nan), "no interval, so not shown to be real", "no interval"),
        (difference(math.nan, math.nan, math.nan), "can't be compared", "unknown"),
    ],
)  # fmt: skip
def test_the_words_of_each_verdict(found: Difference, words: str, short: str) -> None:
    assert found.said() == words
    assert found.verdict() == short


def test_a_smaller_error_is_better() -> None:
    found = Difference(part="cv", score="val", ours=0.6, theirs=0.7, estimate=Estimate(-0.1, -0.15, -0.05), p=0.03,
                       seeds=dict.fromkeys(range(6), -0.1), utterances=400)  # fmt: skip
    assert found.said() == "better by 0.100"
    assert found.change() == "-0.100 [-0.150, -0.050]"


def test_a_better_experiment_of_six_seeds_is_better(six: Path) -> None:
    found = compare(study(six / "better"), study(six / "baseline"))
    one = found.of("valid", "f1")
    assert one is not None
    assert one.estimate.low > 0
    assert one.p == pytest.approx(2 / 2**6)
    assert one.said() == f"better by {100 * one.estimate.value:.1f} points"
    rest = found.of("test1", REST)
    assert rest is not None
    assert rest.seeds.keys() == set(range(6))
    text = against.section(found)
    assert "**better by" in text
    assert "can't be under 0.0312" in text
    assert "There are 15 lines" in text


def test_scores_intervals_and_p_are_those_of_independent_code(six: Path) -> None:
    found = compare(study(six / "better"), study(six / "baseline")).of("test3", "acc")
    assert found is not None
    means: dict[str, list[np.ndarray]] = {"better": [], "baseline": []}
    for name, seed in itertools.product(means, range(6)):
        folds = [rows_of(six / name / f"seed{seed}/fold{fold}/predictions-test3.jsonl") for fold in (1, 2)]
        said = np.mean([[row["logits"] for row in rows] for rows in folds], axis=0).argmax(1)
        means[name].append(np.array(CLASSES)[said] == [row["target"]["emotion"] for row in folds[0]])
    right = {name: np.array(values, float) for name, values in means.items()}
    gaps = right["better"].mean(1) - right["baseline"].mean(1)
    assert list(found.seeds.values()) == pytest.approx(gaps)
    assert found.estimate.value == pytest.approx(gaps.mean())
    test = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found.p == pytest.approx(test.pvalue)
    # The interval of a mean over utterances is nearly its normal one.
    by_row = (right["better"] - right["baseline"]).mean(0)
    reach = 1.96 * by_row.std() / np.sqrt(len(by_row))
    assert found.estimate.low == pytest.approx(by_row.mean() - reach, abs=0.25 * reach)
    assert found.estimate.high == pytest.approx(by_row.mean() + reach, abs=0.25 * reach)


def test_five_seeds_are_never_better(six: Path) -> None:
    few = part_of(six / "better", "five", (0, 1, 2, 3, 4))
    found = compare(study(few), study(six / "baseline"))
    words = [difference.said() for difference in found.differences]
    assert not any("better" in word or "worse" in word for word in words)
    assert any(word.endswith("higher, not confirmed (5 of 6 seeds)") for word in words)
    assert found.notes == ["Only one of them has seed 5: left out."]
    assert "better by" not in against.section(found)


def test_an_experiment_beside_its_own_copy_is_within_noise(six: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(six / "better", tmp_path / "copy"))
    found = compare(study(six / "better"), study(copy))
    assert {d.verdict() for d in found.differences} == {"within noise", "unknown"}
    assert {d.score for d in found.differences if d.verdict() == "unknown"} == {"val"}


def test_without_a_common_seed_there_are_no_pairs(six: Path) -> None:
    first, second = part_of(six / "better", "low", (0, 1)), part_of(six / "baseline", "high", (4, 5))
    found = compare(study(first), study(second))
    assert found.basis == "unpaired"
    assert all(math.isnan(difference.p) and not difference.seeds for difference in found.differences)
    assert any("no seed in common" in difference.said() for difference in found.differences)
    assert against.seeds(found) == ""


def test_what_only_one_side_predicts_is_left_out(six: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(six / "better", tmp_path / "copy"))
    for path in copy.glob("seed*/fold*/predictions-test1.jsonl"):
        edit(path, lambda records: [record for record in records if record["id"] != "test1_0000"])
    found = compare(study(copy), study(six / "baseline"))
    one = found.of("test1", "f1")
    assert one is not None
    assert one.utterances == 59
    assert "test1: 59 utterances are in both, others are left out." in found.notes


def test_other_labels_are_not_compared(six: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(six / "better", tmp_path / "copy"))

    def swap(records: list[dict[str, Any]]) -> None:
        records[0]["target"]["emotion"] = "sad" if records[0]["target"]["emotion"] != "sad" else "happy"

    for path in copy.glob("seed*/fold*/predictions-test1.jsonl"):
        edit(path, swap)
    found = compare(study(copy), study(six / "baseline"))
    assert found.of("test1", "f1") is None
    assert "test1: the common utterances are labelled differently, so nothing is compared." in found.notes
    assert found.of("test2", "f1") is not None


def test_a_reported_number_is_never_beaten_for_sure(six: Path, tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    content = REPORTED | {"mean": {"test2": {"f1": 0.2, "acc": 0.3}}}
    (tmp_path / "v3" / "reported.json").write_text(json.dumps(content))
    paper = study(tmp_path / "v3")
    ours = study(six / "better")
    found = compare(ours, paper)
    one = found.of("test2", "f1")
    assert one is not None
    assert one.estimate.value == pytest.approx(ours.scored("test2", "f1")[0] - 0.2)
    assert one.estimate.low > 0
    assert "not confirmed (how much the reported number varies is unknown)" in one.said()
    back = compare(paper, ours).of("test2", "f1")
    assert back is not None
    assert back.estimate == Estimate(-one.estimate.value, -one.estimate.high, -one.estimate.low)


def test_nothing_in_common_is_one_line(six: Path, tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    (tmp_path / "v3" / "reported.json").write_text(json.dumps(REPORTED | {"corpus": "other"}))
    with pytest.raises(AffectError, match="one is of mer2023, the other of other"):
        compare(study(six / "better"), study(tmp_path / "v3"))
    experiment(tmp_path / "none", folds=(1,), finished=False)
    with pytest.raises(AffectError, match="none has no finished run to compare"):
        compare(study(tmp_path / "none"), study(six / "better"))


def test_goals_by_score_and_part(six: Path) -> None:
    found = study(six / "better")
    assert list(goals.resolve(found, {"f1": 0.75})) == [(part, "f1") for part in ("valid", *TESTS)]
    assert list(goals.resolve(found, {"VAL": 0.7})) == [(part, "val") for part in ("valid", "test1", "test2")]
    assert goals.resolve(found, {"cv.acc": 0.5, "test2.f1": 0.1}) == {("valid", "acc"): 0.5, ("test2", "f1"): 0.1}
    with pytest.raises(AffectError, match="no score 'f2'"):
        goals.resolve(found, {"f2": 0.5})
    with pytest.raises(AffectError, match=r"names test2\.f1 twice"):
        goals.resolve(found, {"f1": 0.5, "test2.f1": 0.6})
    said = goals.distances(found, {("test2", "f1"): 0.1, ("test2", "val"): 0.001, ("test2", "acc"): 0.999})
    assert "test2 f1 .1: **reached**" in said
    assert "does not hold the goal" in said
    assert "test2 val .001: **not reached**" in said
    assert "test2 acc .999: **not reached**" in said


def test_the_toolkits_way_equals_ours(six: Path) -> None:
    """Weighted F1 of the mean over seeds is the mean of scikit-learn's, on the whole chain of reading."""
    found = Study(runs=read(six / "better"), name="better")
    values = []
    for seed in found.seeds:
        (rows,) = found.system("test1")[seed]
        values.append(sk.f1_score(rows.label, rows.emotion, average="weighted"))
    assert found.scored("test1", "f1")[0] == pytest.approx(np.mean(values))


def test_a_comparison_without_differences_of_seeds_has_no_table() -> None:
    assert against.seeds(Comparison(name="a", basis="reported", differences=[])) == ""
