from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import report
from affect.errors import AffectError
from affect.metrics.bootstrap import percentiles, replicates
from affect.metrics.regression import ccc
from affect.report import comparison, goals
from affect.report.against import section, summary
from affect.report.compare import Comparison, Difference, compare, sign_flips, t_interval
from affect.report.experiment import load
from affect.report.plots import differences
from affect.report.significance import judge
from affect.report.systems import Estimate

BOTH = {"valence": 0.5, "arousal": 0.6}


def five(
    folder: Path, write_run: Callable[..., Path], shift: float, *, seeds: tuple[int, ...] = (0,), **more: Any
) -> Path:
    for seed in seeds:
        for fold, jump in enumerate((0.03, -0.02, 0.01, 0.04, -0.01), start=1):
            test = {"valence": 0.55 + jump + shift, "arousal": 0.6 + shift * jump * 10}
            write_run(folder, fold, test, seed=seed, size=100, epochs=1, **more)
    return folder


def one(found: Comparison, name: str = "ccc_valence", evaluation: str = "test") -> Difference:
    return next(d for d in found.differences if (d.evaluation, d.measure.name) == (evaluation, name))


def verdict(difference: Difference) -> str:
    return difference.judged.said()


def change_rows(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    for path in folder.glob("seed*/fold*/predictions-*.jsonl"):
        rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def test_the_interval_is_the_paired_bootstrap_of_the_same_rows(tmp_path: Path, write_run) -> None:
    a, b = five(tmp_path / "a", write_run, 0.05), five(tmp_path / "b", write_run, 0.0)
    found = compare(load(a), load(b))
    sides = []
    for experiment in (load(a), load(b)):
        rows = [row for run in experiment.runs for _, row in sorted(run.predictions["test"].items())]
        p, t = (np.array([row[kind]["valence"] for row in rows]) for kind in ("prediction", "target"))
        sides.append((ccc(p, t), replicates([f"{r['session']}/{r['dialogue']}" for r in rows], p, t)))
    low, high = percentiles(sides[0][1] - sides[1][1])
    difference = one(found)
    assert difference.estimate.value == pytest.approx(sides[0][0] - sides[1][0], abs=1e-9)
    assert (difference.estimate.low, difference.estimate.high) == pytest.approx((low, high), abs=1e-9)
    assert (difference.basis, difference.rows, difference.groups, difference.unit) == ("rows", 500, 50, "dialogue")
    assert verdict(difference) == "better with one seed"
    assert verdict(one(compare(load(b), load(a)))) == "worse with one seed"
    assert verdict(replace(difference, single=False)) == "really better"
    assert "better with one seed" in section(found)
    assert "1,000 resamples of the same 50 dialogues" in section(found)
    itself = one(compare(load(a), load(a)), "ccc")
    assert itself.estimate.value == 0
    assert verdict(itself) == "within noise"


def test_folds_are_the_pairs_however_many_seeds_there_are(tmp_path: Path, write_run) -> None:
    a, b = (five(tmp_path / n, write_run, s, seeds=(0, 1)) for n, s in (("a", 0.05), ("b", 0.0)))
    found = compare(load(a), load(b))
    assert len(one(found).pairs) == 5
    assert one(found).p == pytest.approx(2 / 32)
    assert "p .062 (n 5 folds)" in section(found)
    assert "Of 5 folds p can't be under 0.0625, so it decides nothing there" in section(found)
    # 50 dialogues and two seeds: the groups decide.
    assert verdict(one(found)) == "really better"
    assert "at least 10 groups, more than one seed" in section(found)


def test_the_paired_test_averages_seeds_first(tmp_path: Path, write_run) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    values = {0: (0.6, 0.5, 0.4, 0.55, 0.45, 0.5, 0.6), 1: (0.5, 0.5, 0.5, 0.5, 0.6, 0.6, 0.4)}
    for seed, scores in values.items():
        for fold, value in enumerate(scores, start=1):
            write_run(a, fold, {"valence": value}, seed=seed, size=60, epochs=1)
            write_run(b, fold, {"valence": 0.48}, seed=seed, size=60, epochs=1)
    found = one(compare(load(a), load(b)))
    means = np.mean(list(values.values()), axis=0) - 0.48
    theirs = scipy.stats.permutation_test((means,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert (len(found.pairs), found.p) == (7, pytest.approx(theirs.pvalue))


JUDGED = [
    # groups, single, p, pairs: what is said, and how sure it is.
    (50, False, math.nan, 0, "really better", "really"),
    (10, False, 0.05, 6, "really better", "really"),
    (50, False, 0.0625, 5, "really better", "really"),
    (50, False, 0.09, 6, "better on these 50 speakers, not confirmed (p .09)", "not confirmed"),
    (9, False, math.nan, 0, "better on these 9 speakers, not confirmed", "not confirmed"),
    (6, False, 0.25, 3, "better on these 6 speakers, not confirmed", "not confirmed"),
    (6, False, 0.09, 6, "better on these 6 speakers, not confirmed (p .09)", "not confirmed"),
    (6, False, 0.03125, 6, "better on these 6 speakers, not confirmed (p .031, too few of them)", "not confirmed"),
    (6, True, 0.0625, 6, "better on these 6 speakers with one seed, not confirmed (p .062)", "not confirmed"),
    (50, True, 0.0005, 12, "better with one seed", "one seed"),
]


@pytest.mark.parametrize(("groups", "single", "p", "pairs", "words", "strength"), JUDGED)
def test_what_a_difference_may_be_called(groups, single, p, pairs, words, strength) -> None:
    for sign, side in ((1, "better"), (-1, "worse")):
        estimate = Estimate(0.1 * sign, *sorted((0.02 * sign, 0.2 * sign)))
        found = judge(estimate, groups=groups, unit="speaker", single=single, p=p, pairs=pairs)
        assert (found.said(), found.strength) == (words.replace("better", side), strength)
    noise = judge(Estimate(0.1, -0.02, 0.2), groups=groups, unit="speaker", single=single, p=p, pairs=pairs)
    assert noise.said("x") == "within noise of x"


def test_six_speakers_are_not_enough_in_any_of_the_places(tmp_path: Path, write_run) -> None:
    """Three folds of two speakers, far apart in all of them and with two seeds: page, table and plot say the same."""
    runs = tmp_path / "runs"
    for name, value in (("a", 0.5), ("b", 0.8)):
        for seed in (0, 1):
            for fold in (1, 2, 3):
                facts = {"started": f"2026-01-0{1 + (name > 'a')}"}
                test = {"valence": value}
                write_run(runs / name, fold, test, seed=seed, dialogues=False, epochs=1, environment=facts)
    found = compare(load(runs / "b"), load(runs / "a"))
    text = section(found)
    assert text.count("better on these 6 speakers, not confirmed") == 8, "of test and valid, in words and table"
    assert "6 speakers are few: the intervals are rough, and rather too narrow" in text
    assert "really better" not in text
    assert "better on these 6 speakers, not confirmed" in comparison.page(runs)
    sure = replace(found, differences=[replace(d, groups=50) for d in found.differences])
    pale, strong = differences(found), differences(sure)
    assert pale is not None
    assert strong is not None
    assert [label.get_text() for label in pale.legends[0].get_texts()] == ["better, not confirmed", "a fold or seed"]
    assert [label.get_text() for label in strong.legends[0].get_texts()] == ["really better", "a fold or seed"]
    assert strong.axes[0].lines[0].get_color() != pale.axes[0].lines[0].get_color()


def test_one_fold_has_no_paired_test_to_speak_of(tmp_path: Path, write_run) -> None:
    for name, value in (("a", 0.6), ("b", 0.5)):
        write_run(tmp_path / name, 1, {"valence": value}, epochs=1)
    text = section(compare(load(tmp_path / "a"), load(tmp_path / "b")))
    assert "paired test" not in text
    assert "paired bootstrap" in text


def test_percent_of_nearly_nothing_is_a_dash(tmp_path: Path, write_run) -> None:
    for name, value in (("a", 0.5), ("b", 0.01), ("c", 0.06)):
        write_run(tmp_path / name, 1, {"valence": value}, epochs=1)
    a, b, c = (load(tmp_path / name) for name in "abc")
    assert math.isnan(one(compare(a, b)).percent)
    assert "(–)" in summary(compare(a, b))
    assert one(compare(a, c)).percent == pytest.approx(100 * 0.44 / 0.06)


def test_folds_of_a_paper_are_never_really_worse(tmp_path: Path, write_run) -> None:
    a = tmp_path / "a"
    for seed in (0, 1):
        for fold in range(1, 13):
            write_run(a, fold, {"valence": 0.7 + 0.001 * fold}, seed=seed, size=30, epochs=1)
    folds = {str(fold): {"test": {"valence": 0.5}} for fold in range(1, 13)}
    found = compare(load(a), load(reported(tmp_path / "b.json", "paper", scores=folds)))
    words = verdict(one(found))
    assert words == "better on these 12 folds, not confirmed (p < .001, seeds unknown)"


def test_the_sign_flip_test_is_scipys() -> None:
    values = np.array([0.03, -0.01, 0.02, 0.05, 0.01, -0.02])
    theirs = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flips(values) == pytest.approx(theirs.pvalue)
    many = np.random.default_rng(3).normal(0.3, 1, 40)
    assert sign_flips(many) == pytest.approx(scipy.stats.ttest_1samp(many, 0).pvalue, abs=0.02)
    assert math.isnan(sign_flips(np.array([0.1])))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_a_sign_flip_p_is_symmetric_and_never_0(values: list[float]) -> None:
    p = sign_flips(np.array(values))
    assert 2 / 2 ** len(values) - 1e-12 <= p <= 1
    assert sign_flips(-np.array(values)) == pytest.approx(p)


def test_the_t_interval_is_scipys() -> None:
    values = np.array([0.6496, 0.6779, 0.4720, 0.5634, 0.5464])
    low, high = scipy.stats.t.interval(0.95, 4, values.mean(), scipy.stats.sem(values))
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_only_common_rows_are_compared_and_that_is_said(tmp_path: Path, write_run) -> None:
    a, b = five(tmp_path / "a", write_run, 0.05), five(tmp_path / "b", write_run, 0.0)
    change_rows(b, lambda row: None if row["id"].endswith("7") else row)
    found = compare(load(a), load(b))
    assert one(found).rows == 450
    assert any("test: 450 rows are in both; 50 are only here and 0 only there" in n for n in found.notes)
    change_rows(b, lambda row: row | {"id": "x" + row["id"]})
    with pytest.raises(AffectError, match="a and b have no labelled row or fold in common.*no row in common"):
        compare(load(a), load(b))


def test_other_labels_scales_and_folds_are_found(tmp_path: Path, write_run) -> None:
    a = five(tmp_path / "a", write_run, 0.05)

    def relabelled(row: dict[str, Any]) -> dict[str, Any]:
        wrong = row["id"].endswith("3")
        return row | {"target": {k: v + (0.5 if wrong and k == "valence" else 0) for k, v in row["target"].items()}}

    c = five(tmp_path / "c", write_run, 0.0)
    change_rows(c, relabelled)
    notes = " ".join(compare(load(a), load(c)).notes)
    assert "test: valence of 50 of 500 common rows is labelled differently (the first " in notes
    assert "arousal" not in notes
    d = five(tmp_path / "d", write_run, 0.0)
    (d / "seed0" / "fold1").rename(d / "seed0" / "fold9")
    (d / "seed0" / "fold2").rename(d / "seed0" / "fold1")
    found = compare(load(a), load(d))
    assert any("200 common rows are tested in different folds" in note for note in found.notes)
    assert one(found).rows == 500


def test_labels_that_all_differ_have_nothing_in_common(tmp_path: Path, write_run) -> None:
    a, b = (five(tmp_path / name, write_run, 0.0) for name in "ab")
    change_rows(b, lambda row: row | {"target": {k: v + int(row["id"][-2:]) % 7 + 1 for k, v in row["target"].items()}})
    with pytest.raises(AffectError, match="labelled differently"):
        compare(load(a), load(b))


def test_targets_corpora_and_unfinished_runs(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, BOTH, size=40)
    write_run(tmp_path / "b", 1, {"dominance": 0.5}, size=40)
    write_run(tmp_path / "c", 1, BOTH, finished=False)
    path = write_run(tmp_path / "d", 1, BOTH, size=40)
    recipe = json.loads((path / "recipe.json").read_text())
    recipe["data"]["corpus"] = "emodb"
    (path / "recipe.json").write_text(json.dumps(recipe))
    for name, words in (("b", "no measure in common"), ("c", "no finished run"), ("d", "one is of iemocap")):
        with pytest.raises(AffectError, match=words):
            compare(load(tmp_path / "a"), load(tmp_path / name))
    write_run(tmp_path / "e", 1, {"valence": 0.4}, size=40)
    found = compare(load(tmp_path / "a"), load(tmp_path / "e"))
    assert {d.measure.name for d in found.differences} == {"ccc_valence"}
    assert "Only in one of them, left out: CCC-A, mean, mean." in found.notes


def test_a_seed_that_is_not_complete_is_left_out(tmp_path: Path, write_run) -> None:
    a, b = (five(tmp_path / name, write_run, 0.0) for name in "ab")
    write_run(a, 1, BOTH, seed=1, size=100)
    found = compare(load(a), load(b))
    assert one(found).rows == 500
    assert "Seed 1 of a is not complete and left out." in found.notes


def reported(path: Path, name: str, **fields: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": name, "source": "s"} | fields), encoding="utf-8")
    return path


def test_without_predictions_folds_are_compared(tmp_path: Path, write_run) -> None:
    a = five(tmp_path / "a", write_run, 0.05)
    folds = {str(fold): {"test": {"valence": 0.55, "arousal": 0.61}} for fold in (1, 2, 3, 4, 6)}
    found = compare(load(a), load(reported(tmp_path / "b.json", "paper", scores=folds)))
    values = np.array([0.03, -0.02, 0.01, 0.04]) + 0.05
    estimate = one(found).estimate
    assert (one(found).basis, list(one(found).pairs)) == ("folds", [1, 2, 3, 4])
    assert (estimate.value, estimate.low) == pytest.approx((values.mean(), t_interval(values).low), abs=1e-9)
    assert "Only one of them has fold 5, 6: left out." in found.notes
    assert "Compared fold by fold (4 folds)" in section(found)
    other = {"9": {"test": {"valence": 0.5}}}
    with pytest.raises(AffectError, match="no fold in common"):
        compare(load(a), load(reported(tmp_path / "c.json", "paper", scores=other)))


def test_a_mean_alone_never_gives_really_better(tmp_path: Path, write_run) -> None:
    a = five(tmp_path / "a", write_run, 0.3)
    b = reported(tmp_path / "b.json", "paper", mean={"test": {"valence": 0.5, "arousal": 0.6}})
    for ours, theirs, word in ((a, b, "better"), (b, a, "worse")):
        found = compare(load(ours), load(theirs))
        assert verdict(one(found)).startswith(f"{word} than the folds vary")
        assert "really" not in section(found)
        assert "There is a mean alone" in section(found)
    both = compare(load(b), load(b))
    assert verdict(one(both, "ccc")) == "no interval, so not shown to be real"


def test_names_are_found_beside_the_experiment(tmp_path: Path, write_run) -> None:
    a = five(tmp_path / "runs" / "v2", write_run, 0.0)
    five(tmp_path / "runs" / "v1", write_run, 0.0)
    text = report.write(a, against=Path("v1")).read_text(encoding="utf-8")
    assert "## Against v1" in text
    assert "**within noise**" in text
    assert {"differences.png", "beside-test.png"} <= {path.name for path in (a / "plots").glob("*.png")}
    with pytest.raises(AffectError, match="no experiment 'zzz' in .*; there are: v1, v2"):
        report.write(a, against=Path("zzz"))
    assert "## Against" not in report.write(a, against=a).read_text(encoding="utf-8")
    assert not list((a / "plots").glob("differences*")), "plots of an earlier comparison are gone"


def test_goals(tmp_path: Path, write_run) -> None:
    study = load(five(tmp_path / "a", write_run, 0.0))
    wanted = goals.resolve(study, goals.parse(["V=.9", "arousal=.3", "MEAN=.57", "valid.V=.1", "cv.A=.2"]))
    assert [(name, measure.name, score) for name, measure, score in wanted] == [
        ("test", "ccc_valence", 0.9), ("test", "ccc_arousal", 0.3), ("test", "ccc", 0.57),
        ("valid", "ccc_valence", 0.1), ("valid", "ccc_arousal", 0.2),
    ]  # fmt: skip
    valence, arousal, mean, *_ = goals.distances(study, wanted).splitlines()
    pool = study.estimate("test", wanted[0][1])
    start = f"- test CCC-V .9: **not reached**: {pool.value:.3f}, pooled, is {0.9 - pool.value:.3f} under"
    assert valence.startswith(start)
    assert f"the interval's upper end is {pool.high:.3f}, under it too" in valence
    assert "The mean over folds, 0.560, is 0.340 under .9" in valence
    assert "**reached**" in arousal
    assert "over it too" in arousal
    assert "the interval holds the goal, so it may be chance" in mean
    with pytest.raises(AffectError, match="no score 'valance'; did you mean 'valence'"):
        goals.resolve(study, {"valance": 0.5})
    with pytest.raises(AffectError, match="names test CCC-V twice"):
        goals.resolve(study, {"V": 0.5, "valence": 0.6})


@pytest.mark.parametrize("text", ["V", "V=", "=.5", "V=high", "V=inf", "V=nan"])
def test_a_goal_that_is_none(text: str) -> None:
    with pytest.raises(AffectError, match="must be NAME=SCORE"):
        goals.parse([text])


def test_a_goal_that_is_named_twice() -> None:
    with pytest.raises(AffectError, match="names V twice"):
        goals.parse(["V=.5", "V=.6"])
    assert goals.parse(["test@snr=10.f1=.5"]) == {"test@snr=10.f1": 0.5}


def test_other_scales_and_data_are_never_one(tmp_path: Path, write_run) -> None:
    for name, facts in (
        ("a", {"scale": [1, 5]}),
        ("b", {"scale": [0, 1]}),
        ("c", {"fingerprint": "other", "scale": [1, 5]}),
        ("d", {"scales": {"mos": [1, 5], "sync": [0, 1]}}),
        ("e", {"scales": {"mos": [1, 5], "sync": [0, 9]}}),
    ):
        write_run(tmp_path / name, 1, BOTH, size=40, environment=facts)
    with pytest.raises(AffectError, match="one is of scale 1 5, the other of scale 0 1"):
        compare(load(tmp_path / "a"), load(tmp_path / "b"))
    with pytest.raises(AffectError, match="one is of scale mos 1 5, sync 0 1, the other of scale mos 1 5, sync 0 9"):
        compare(load(tmp_path / "d"), load(tmp_path / "e"))
    with pytest.raises(AffectError, match="one is of iemocap@abc, the other of iemocap@other"):
        compare(load(tmp_path / "a"), load(tmp_path / "c"))


def test_other_features_of_the_same_labels_are_compared_and_told(tmp_path: Path, write_run) -> None:
    for name in ("abc", "other"):
        write_run(tmp_path / name, 1, BOTH, size=40, environment={"corpus": "calls@1234", "fingerprint": name})
    notes = compare(load(tmp_path / "abc"), load(tmp_path / "other")).notes
    assert any("Their data differ (fingerprints abc and other" in note for note in notes)


def test_runs_that_differ_in_hardware_alone_are_told_to_be_the_same(tmp_path: Path, write_run) -> None:
    same = {"corpus": "calls@1234", "packages": {"torch": "2.13.0+cpu"}}
    for name, facts in (
        ("a", {}),
        ("four", {"world": 4, "device": "NVIDIA H200", "packages": {"torch": "2.13.0+cu130"}}),
        ("bf16", {"world": 4, "precision": "bf16"}),
        ("torch", {"world": 4, "packages": {"torch": "2.11.0+cpu"}}),
        ("data", {"fingerprint": "other"}),
        ("drawn", {"world": 4, "not_keyed": ["net.drop (Dropout)"]}),
    ):
        write_run(tmp_path / name, 1, BOTH, size=40, environment=same | facts)
    change = tmp_path / "rate"
    path = write_run(change, 1, BOTH, size=40, environment=same | {"world": 4}) / "recipe.json"
    path.write_text(path.read_text().replace("0.0001", "0.0002"))

    def said(name: str) -> list[str]:
        return [note for note in compare(load(tmp_path / "a"), load(tmp_path / name)).notes if "the same run" in note]

    assert said("four") == [
        "They are the same run on other hardware (device None and NVIDIA H200, world 1 and 4): no setting that decides "
        "a result differs, and hardware decides none."
    ]
    assert said("bf16") == said("torch") == said("data") == said("rate") == said("drawn") == []
    notes = compare(load(tmp_path / "a"), load(tmp_path / "drawn")).notes
    assert any("what net.drop (Dropout) draws is not keyed by example" in note for note in notes)


def test_the_summary_says_percent(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.55}, size=200)
    write_run(tmp_path / "b", 1, {"valence": 0.5}, size=200)
    assert "+0.050 (+10.0 %)" in summary(compare(load(tmp_path / "a"), load(tmp_path / "b")))
