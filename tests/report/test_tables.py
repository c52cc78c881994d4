from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test

from affect.metrics.bootstrap import interval
from affect.metrics.regression import ccc
from affect.report import Run, read, table
from affect.report.scores import MEAN, NETWORK, Estimate, Scores, Targets
from affect.report.tables import folds, grid, label, number, over_folds, signed
from affect.report.words import result, verdict


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]


def scored(folder: Path) -> Scores:
    return Scores(runs=[run for run in read(folder) if run.finished])


def test_the_table_of_report_000(report_runs: Path) -> None:
    rows = {row[0]: row[1:] for row in cells(table(read(report_runs)))}
    assert rows["fold"][:5] == ["held out", "n", "CCC-V", "CCC-A", "mean"]
    assert rows["3"] == ["Ses03", "200", "0.472", "0.664", "0.568", "0.472", "0.664", "0.568", "+0.000", "5"]
    assert rows["5"] == ["Ses05", "200", "0.546", "0.742", "0.644", "0.690", "0.742", "0.716", "+0.072", "5"]
    # Report 000's own means: .5819 and .6953.
    assert rows["mean"][2:4] == ["0.582", "0.695"]
    assert rows["std"][2] == number(float(np.std([0.6496, 0.6779, 0.4720, 0.5634, 0.5464], ddof=1)))


def test_seeds_are_averaged_before_folds(tmp_path: Path, write_run) -> None:
    for seed, fold, value in ((0, 1, 0.4), (1, 1, 0.6), (2, 1, 0.5), (0, 2, 0.7)):
        write_run(tmp_path / "a", fold, {"valence": value}, seed=seed)
    text = table(read(tmp_path / "a"))
    rows = {row[0]: row for row in cells(text)}
    assert rows["mean"][4] == "0.600"
    assert rows["std"][4] == number(float(np.std([0.5, 0.7], ddof=1)))
    assert sum(row[0] == "1" for row in cells(text)) == 3


def test_pooled_scores_are_those_of_all_rows_with_their_interval(tmp_path: Path, write_run) -> None:
    for fold in (1, 2, 3):
        write_run(tmp_path / "a", fold, {"valence": 0.4 + 0.1 * fold})
    scores = scored(tmp_path / "a")
    rows = [row for run in scores.runs for _, row in sorted(run.test.items())]
    p, t = (np.array([row[kind]["valence"] for row in rows]) for kind in ("prediction", "target"))
    groups = [f"{row['session']}/{row['dialogue']}" for row in rows]
    found = scores.pool(NETWORK).estimate("valence")
    assert found.value == pytest.approx(ccc(p, t), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(interval(ccc, groups, p, t), abs=1e-12)
    assert (scores.unit, scores.groups) == ("dialogue", 30)


def test_a_baseline_is_compared_on_the_folds_it_has(tmp_path: Path, write_run) -> None:
    same = {"valence": 0.5, "arousal": 0.6}
    write_run(tmp_path / "a", 1, same, baselines={"ridge": {"valence": 0.3, "arousal": 0.6}})
    write_run(tmp_path / "a", 2, same)
    scores = scored(tmp_path / "a")
    (run,) = scores.covered("ridge")
    difference = scores.pool(NETWORK, [run], "ridge").above(scores.pool("ridge", [run], NETWORK), "valence")
    assert difference.value == pytest.approx(0.2, abs=1e-9)
    rows = {row[0]: row for row in cells(table(read(tmp_path / "a")))}
    assert rows["network"][1] == "all 2"
    assert rows["ridge"][1] == "1"
    assert rows["ridge"][-1].startswith("+0.100 [")


def test_the_groups_of_a_corpus_without_dialogues_are_speakers(tmp_path: Path, write_run) -> None:
    for fold in (1, 2):
        write_run(tmp_path / "none", fold, {"valence": 0.5}, dialogues=False)
        path = write_run(tmp_path / "same", fold, {"valence": 0.5})
        # Readers of such corpora name the speaker in all three.
        rows = [json.loads(line) for line in (path / "predictions-test.jsonl").read_text().splitlines()]
        rows = [row | {"session": row["speaker"], "dialogue": row["speaker"]} for row in rows]
        (path / "predictions-test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for name in ("none", "same"):
        assert (scored(tmp_path / name).unit, scored(tmp_path / name).groups) == ("speaker", 4)


def test_a_fold_without_a_score_is_a_dash(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    write_run(tmp_path / "a", 2, {"valence": 0.4})
    text = (path / "predictions-test.jsonl").read_text().splitlines()
    row = json.loads(text[0])
    row["prediction"]["valence"] = None
    (path / "predictions-test.jsonl").write_text("\n".join([json.dumps(row), *text[1:]]) + "\n")
    rows = {row[0]: row for row in cells(table(read(tmp_path / "a")))}
    assert rows["1"][3] == "–"
    assert rows["mean"][3] == "0.400"
    assert rows["network"][2] == "–"
    assert "CCC-V –" in result(scored(tmp_path / "a"))


def test_the_result_in_words(tmp_path: Path, write_run) -> None:
    for seed in (0, 1):
        for fold in (1, 2, 3):
            near = {"mean": {"valence": 0.0, "arousal": 0.0}, "ridge": {"valence": 0.2, "arousal": 0.6}}
            test = {"valence": 0.6 + 0.01 * seed, "arousal": 0.6}
            write_run(tmp_path / "a", fold, test, seed=seed, baselines=near | {"svr": {"valence": 0.5, "arousal": 0.9}})
    words = result(scored(tmp_path / "a"))
    assert "3 folds, 600 utterances, the mean of 2 seeds" in words
    assert "Over the 2 seeds' means of folds: CCC-V 0.605 ± 0.007, CCC-A 0.600 ± 0.000" in words
    assert "valence really better than svr's 0.5" in words
    assert "arousal really worse than svr's 0.9" in words


def test_verdicts() -> None:
    said = partial(verdict, name="ridge", groups=30, unit="dialogue")
    assert said(Estimate(0.1, 0.02, 0.2)) == "really better than ridge: +0.100 [+0.020, +0.200]"
    assert said(Estimate(0.01, -0.02, 0.05)) == "within noise of ridge: +0.010 [-0.020, +0.050]"
    assert said(Estimate(-0.1, -0.2, -0.01)) == "really worse than ridge: -0.100 [-0.200, -0.010]"
    assert "not shown to be real" in said(Estimate(0.1))
    assert said(Estimate(math.nan)) == "can't be compared with ridge"
    one = said(Estimate(0.1, 0.02, 0.2), single=True)
    assert one == "better than ridge with one seed: +0.100 [+0.020, +0.200]", "another seed may undo it"
    assert said(Estimate(0.01, -0.02, 0.05), single=True).startswith("within noise")
    few = said(Estimate(0.1, 0.02, 0.2), groups=6, unit="speaker", p=0.03125, pairs=6)
    assert few.startswith("better than ridge on these 6 speakers, not confirmed (p .031, too few of them): +0.100 [")


def test_the_baseline_is_tested_over_folds_too(tmp_path: Path, write_run) -> None:
    """Better over all rows, but in five of seven folds alone: 70 dialogues don't make it real."""
    for seed in (0, 1):
        for fold, value in enumerate((0.8, 0.8, 0.8, 0.5, 0.5, 0.29, 0.29), start=1):
            beside = {"ridge": {"valence": 0.3 if fold > 5 else 0.48}}
            write_run(tmp_path / "a", fold, {"valence": value}, seed=seed, baselines=beside, size=100, epochs=1)
    differences = np.array([0.32, 0.32, 0.32, 0.02, 0.02, -0.01, -0.01])
    p = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert p > 0.05
    words = result(scored(tmp_path / "a"))
    assert f"on these 70 dialogues, not confirmed (p {p:.2g}".replace("p 0.", "p .") in words
    assert "really" not in words


def test_few_speakers_never_make_a_baseline_really_beaten(tmp_path: Path, write_run) -> None:
    for seed in (0, 1, 2):
        for fold in range(1, 4):
            beside = {"svr": {"valence": 0.2}}
            write_run(tmp_path / "a", fold, {"valence": 0.8}, seed=seed, baselines=beside, dialogues=False, epochs=1)
    words = result(scored(tmp_path / "a"))
    assert "on these 6 speakers, not confirmed: +0." in words
    assert "really" not in words


def test_cells() -> None:
    assert number(-0.0001) == "0.000"
    assert signed(-0.0001) == "+0.000"
    assert number(float("nan")) == "–"
    assert label("valence", ["valence", "arousal"]) == "CCC-V"
    assert label("valence", ["valence", "voicing"]) == "CCC-valence"
    assert label(MEAN, ["valence"]) == "mean"
    both = Targets(["emotion", "arousal", "valence"], ["emotion"])
    assert both == ["valence", "arousal", "emotion"]
    assert [label(target, both) for target in both] == ["CCC-V", "CCC-A", "UA"]
    two = Targets(["age", "emotion", "arousal"], ["emotion", "age"])
    assert [label(target, two) for target in two] == ["CCC-A", "UA age", "UA emotion"]
    lines = grid(["a", "bb"], [["ccc", "1"]]).splitlines()
    assert lines == ["| a   | bb |", "| --- | -: |", "| ccc |  1 |"]


def test_nothing_finished_yet(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, finished=False)
    assert table(read(tmp_path / "a")) == "No run is finished yet.\n\nnot finished: seed0/fold1"


def paper(fold: int, **test: float) -> Run:
    end = {"scores": {"test": {f"ccc_{name}": value for name, value in test.items()}}}
    return Run(name=f"seed0/fold{fold}", seed=0, fold=fold, finished=True, reported=True, end=end)


def test_scores_of_a_paper_need_no_predictions() -> None:
    scores = Scores(runs=[paper(fold, arousal=0.7, valence=0.5 + 0.1 * fold) for fold in (1, 2, 3)])
    assert scores.targets == ["valence", "arousal"]
    rows = {row[0]: row for row in cells(folds(scores))}
    assert rows["fold"][1:4] == ["CCC-V", "CCC-A", "mean"]
    assert rows["2"][1:4] == ["0.700", "0.700", "0.700"]
    assert rows["mean"][1:4] == ["0.700", "0.700", "0.700"]
    assert rows["std"][1:3] == ["0.100", "0.000"]
    assert scores.covered(NETWORK) == []
    assert np.isnan(scores.pool(NETWORK).values["valence"])


def test_a_mean_whose_folds_are_unknown_is_no_fold() -> None:
    alone = Scores(runs=[paper(0, valence=0.5896, arousal=0.6867)])
    mean, deviation = over_folds(alone, "test", "valence")
    assert mean == 0.5896
    assert np.isnan(deviation)
    beside = Scores(runs=[paper(0, valence=0.1), paper(1, valence=0.5), paper(2, valence=0.6)])
    assert over_folds(beside, "test", "valence") == pytest.approx((0.55, np.std([0.5, 0.6], ddof=1)))
