"""Scores of runs against independent code: pooled and by fold, baselines, classes, the mean of the folds' models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn import metrics as sk

from affect.metrics.regression import ccc
from affect.report import details, read, result, table
from affect.report.runs import Run
from affect.report.significance import judge
from affect.report.study import Study
from affect.report.systems import Estimate, Groups, System, unit_of
from affect.tables import counted, grid, number, plural, signed
from affect.task import Measure
from affect.tasks.emotion.config import Emotion
from affect.tasks.emotion.task import EmotionTask
from tests.report.fusion import CLASSES, load_rows
from tests.resampling import interval

EMOTIONS = ("ang", "hap", "neu", "sad")


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]


def study(folder: Path) -> Study:
    return Study(runs=read(folder), name=folder.name)


def measure(found: Study, name: str) -> Measure:
    return next(m for m in found.measures if m.name == name)


def test_the_table_of_report_000(report_runs: Path) -> None:
    rows = {row[0]: row[1:] for row in cells(table(read(report_runs)).split("\n\n")[0])}
    assert rows["fold"][:5] == ["held out", "n", "CCC-V", "CCC-A", "mean"]
    assert rows["3"] == ["Ses03", "200", "0.472", "0.664", "0.568", "0.472", "0.664", "0.568", "+0.000", "5"]
    assert rows["5"] == ["Ses05", "200", "0.546", "0.742", "0.644", "0.690", "0.742", "0.716", "+0.072", "5"]
    # Report 000's own means: .5819 and .6953.
    assert rows["mean"][2:4] == ["0.582", "0.695"]
    assert rows["std"][2] == number(float(np.std([0.6496, 0.6779, 0.4720, 0.5634, 0.5464], ddof=1)))


def test_seeds_are_averaged_before_folds(tmp_path: Path, write_run) -> None:
    for seed, fold, value in ((0, 1, 0.4), (1, 1, 0.6), (0, 2, 0.7), (1, 2, 0.7), (2, 1, 0.1)):
        write_run(tmp_path / "a", fold, {"valence": value}, seed=seed, size=60)
    text = table(read(tmp_path / "a"))
    rows = {row[0]: row for row in cells(text.split("\n\n")[0])}
    assert rows["mean"][4] == "0.600"
    assert rows["std"][4] == number(float(np.std([0.5, 0.7], ddof=1)))
    # A seed of fewer folds would weigh as much.
    assert "not finished: seed2/fold1" in text


def test_pooled_scores_are_those_of_all_rows_with_their_interval(tmp_path: Path, write_run) -> None:
    for fold in (1, 2, 3):
        write_run(tmp_path / "a", fold, {"valence": 0.4 + 0.1 * fold})
    found = study(tmp_path / "a")
    rows = [row for run in found.runs for _, row in sorted(run.predictions["test"].items())]
    p, t = (np.array([row[kind]["valence"] for row in rows]) for kind in ("prediction", "target"))
    names = [f"{row['session']}/{row['dialogue']}" for row in rows]
    valence = measure(found, "ccc_valence")
    one = found.estimate("test", valence)
    assert found.pooled("test", valence)
    assert one.value == pytest.approx(ccc(p, t), abs=1e-12)
    assert (one.low, one.high) == pytest.approx(interval(ccc, names, p, t), abs=1e-12)
    groups = found.groups("test", valence)
    assert (groups.unit, groups.count) == ("dialogue", 30)


def test_a_measure_without_replicates_is_resampled_row_by_row(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, size=40)
    found = study(tmp_path / "a")
    plain = Measure(name="own", score=measure(found, "ccc_valence").score)
    with_own, without = found.estimate("test", measure(found, "ccc_valence")), found.estimate("test", plain)
    assert (without.value, without.low, without.high) == pytest.approx((with_own.value, with_own.low, with_own.high))


def test_a_baseline_is_compared_on_the_folds_it_has(tmp_path: Path, write_run) -> None:
    same = {"valence": 0.5, "arousal": 0.6}
    write_run(tmp_path / "a", 1, same, baselines={"ridge": {"valence": 0.3, "arousal": 0.6}})
    write_run(tmp_path / "a", 2, same)
    found = study(tmp_path / "a")
    difference, pairs = found.above("test", measure(found, "ccc_valence"), "ridge")
    assert difference.value == pytest.approx(0.2, abs=1e-9)
    assert list(pairs) == pytest.approx([0.2])
    rows = {row[1]: row for row in cells(result.scores(found)) if row[0] == "test"}
    assert rows["network"][2] == "all 2"
    assert rows["ridge"][2] == "1"
    assert rows["ridge"][-1].startswith("+0.100 [")


def test_the_groups_of_a_corpus_without_dialogues_are_speakers(tmp_path: Path, write_run) -> None:
    for fold in (1, 2):
        write_run(tmp_path / "none", fold, {"valence": 0.5}, dialogues=False)
    found = study(tmp_path / "none")
    groups = found.groups("test", measure(found, "ccc_valence"))
    assert (groups.unit, groups.count) == ("speaker", 4)
    rows = [{"id": str(i), "speaker": "ab"[i % 2], "dialogue": "ab"[i % 2]} for i in range(6)]
    # Readers of such corpora name the speaker in all three.
    assert unit_of(rows, ("dialogue", "speaker")) == "speaker"
    assert unit_of([row | {"speaker": None} for row in rows], ("speaker",)) == "row"


def test_a_fold_without_a_score_is_a_dash(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    write_run(tmp_path / "a", 2, {"valence": 0.4})
    text = (path / "predictions-test.jsonl").read_text().splitlines()
    row = json.loads(text[0])
    row["prediction"]["valence"] = None
    (path / "predictions-test.jsonl").write_text("\n".join([json.dumps(row), *text[1:]]) + "\n")
    found = study(tmp_path / "a")
    rows = {row[0]: row for row in cells(result.folds(found))}
    assert rows["1"][3] == "–"
    assert rows["mean"][3] == "0.400"
    assert "no score" in result.words(found)


def test_the_result_in_words(tmp_path: Path, write_run) -> None:
    for seed in (0, 1):
        for fold in (1, 2, 3):
            near = {"constant": {"valence": 0.0, "arousal": 0.0}, "ridge": {"valence": 0.2, "arousal": 0.6}}
            test = {"valence": 0.6 + 0.01 * seed, "arousal": 0.6}
            write_run(tmp_path / "a", fold, test, seed=seed, baselines=near | {"svr": {"valence": 0.5, "arousal": 0.9}})
    words = result.words(study(tmp_path / "a"))
    assert "test (3 folds, pooled; 600 rows; mean of 2 seeds)" in words
    assert "Over the seeds: CCC-V 0.605 ± 0.007, CCC-A 0.600 ± 0.000" in words
    assert "CCC-V really better than svr (0.50" in words
    assert "CCC-A really worse than svr (0.90" in words
    assert "2 seeds are few" in words


def test_the_baseline_is_tested_over_folds_too(tmp_path: Path, write_run) -> None:
    """Better over all rows, but in five of seven folds alone: 70 dialogues don't make it real."""
    for seed in (0, 1):
        for fold, value in enumerate((0.8, 0.8, 0.8, 0.5, 0.5, 0.29, 0.29), start=1):
            beside = {"ridge": {"valence": 0.3 if fold > 5 else 0.48}}
            write_run(tmp_path / "a", fold, {"valence": value}, seed=seed, baselines=beside, size=100, epochs=1)
    differences = np.array([0.32, 0.32, 0.32, 0.02, 0.02, -0.01, -0.01])
    p = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert p > 0.05
    words = result.words(study(tmp_path / "a"))
    assert f"on these 70 dialogues, not confirmed (p {p:.2g}".replace("p 0.", "p .") in words
    assert "really" not in words


def test_verdicts() -> None:
    for sign in (1, -1):
        said = {
            value: judge(
                Estimate(value, *sorted((value / 5, 2 * value))), groups=30, unit="dialogue", single=False, sign=sign
            )
            for value in (0.1, -0.1)
        }
        assert said[0.1 * sign].said("ridge") == "really better than ridge"
        assert said[-0.1 * sign].said() == "really worse", "of an error the smaller one is better"
    assert judge(Estimate(0.1), groups=30, unit="row", single=False).said() == "no interval, so not shown to be real"
    assert judge(Estimate(math.nan), groups=30, unit="row", single=False).said("x") == "can't be compared with x"
    few = judge(Estimate(0.1, 0.02, 0.2), groups=6, unit="speaker", single=False, p=0.03125, pairs=6)
    assert few.said() == "better on these 6 speakers, not confirmed (p .031, too few of them)"


def test_cells() -> None:
    assert number(-0.0001) == "0.000"
    assert signed(-0.0001) == "+0.000"
    assert number(float("nan")) == "–"
    lines = grid(["a", "bb"], [["ccc", "1"]]).splitlines()
    assert lines == ["| a   | bb |", "| --- | -: |", "| ccc |  1 |"]


def test_nothing_finished_yet(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, finished=False)
    assert table(read(tmp_path / "a")) == "No run is finished yet.\n\nnot finished: seed0/fold1"


def paper(fold: int, **test: float) -> Run:
    scores = {f"ccc_{name}": value for name, value in test.items()} | {"ccc": float(np.mean(list(test.values())))}
    end = {"scores": {"test": scores}}
    return Run(name=f"seed0/fold{fold}", seed=0, fold=fold, finished=True, reported=True, end=end)


def test_scores_of_a_paper_need_no_predictions() -> None:
    runs = [paper(fold, arousal=0.7, valence=0.5 + 0.1 * fold) for fold in (1, 2, 3)]
    found = Study(runs=runs, given=EmotionTask(Emotion()))
    rows = {row[0]: row for row in cells(result.folds(found))}
    assert rows["fold"][1:4] == ["CCC-V", "CCC-A", "mean"]
    assert rows["2"][1:4] == ["0.700", "0.700", "0.700"]
    assert rows["mean"][1:4] == ["0.700", "0.700", "0.700"]
    assert rows["std"][1:3] == ["0.100", "0.000"]
    alone = Study(runs=[paper(0, valence=0.5896, arousal=0.6867)], given=EmotionTask(Emotion()))
    assert alone.scored("test", alone.measures[1]).mean == 0.5896
    assert math.isnan(alone.scored("test", alone.measures[1]).over_folds)


def add_emotion(path: Path, right: float) -> None:
    """Give a run's rows an emotion beside their valence, `right` of them predicted; every seventh has none."""
    random = np.random.default_rng((int(path.name[-1]), int(path.parent.name[-1])))
    for file in path.glob("predictions-*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        truth = np.random.default_rng(int(path.name[-1])).choice(EMOTIONS, len(rows), p=(0.1, 0.2, 0.5, 0.2))
        for i, row in enumerate(rows):
            row["prediction"]["emotion"] = str(truth[i] if random.random() < right else random.choice(EMOTIONS))
            row["target"]["emotion"] = str(truth[i]) if i % 7 else None
        file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    recipe = json.loads((path / "recipe.json").read_text())
    recipe["targets"], recipe["loss"] = ["valence", "emotion"], "ccc"
    (path / "recipe.json").write_text(json.dumps(recipe))


def test_classes_are_scored_by_recall_and_have_their_tables(tmp_path: Path, write_run) -> None:
    for seed in (0, 1):
        for fold in (1, 2):
            add_emotion(write_run(tmp_path / "a", fold, {"valence": 0.5}, seed=seed), 0.3 + 0.1 * fold)
    found = study(tmp_path / "a")
    assert [m.shown for m in found.headline] == ["CCC-V", "UA", "mean"]
    values, pairs = [], []
    for run in found.runs:
        rows = [row for row in run.predictions["test"].values() if isinstance(row["target"]["emotion"], str)]
        pairs.append(([row["target"]["emotion"] for row in rows], [row["prediction"]["emotion"] for row in rows]))
        values.append(sk.balanced_accuracy_score(*pairs[-1]))
    assert found.scored("test", measure(found, "ua_emotion")).mean == pytest.approx(np.mean(values))
    pooled = [[a + b for a, b in zip(pairs[k], pairs[k + 1], strict=True)] for k in (0, 2)]
    recall = np.mean([sk.balanced_accuracy_score(*one) for one in pooled])
    assert found.estimate("test", measure(found, "ua_emotion")).value == pytest.approx(recall)
    text = details.classes(found)
    matrix = {
        row[0]: row for row in cells(text.split("Confusion on test")[1].split("Confusion")[0]) if row[0] in EMOTIONS
    }
    labels, said = ([name for pair in pairs for name in pair[k]] for k in (0, 1))
    assert [[int(n) for n in matrix[e][1:5]] for e in EMOTIONS] == sk.confusion_matrix(
        labels, said, labels=EMOTIONS
    ).tolist()
    each = [sk.f1_score(*one, labels=EMOTIONS, average=None) for one in pooled]
    rows = {row[0]: row for row in cells(text)}
    assert rows["emotion: F1 (recall)"][1] == "test"
    first = next(row for row in cells(text) if row[0] == "hap")
    assert first[1].startswith(number(float(np.mean(each, axis=0)[1])))
    further = {row[0]: row for row in cells(details.further(found))}
    assert {"wa_emotion", "macro F1"} & {*further["evaluation"]} == {"macro F1"}
    assert "WA" in further["evaluation"]
    assert "test, all rows" in further


def voted(folder: Path, seed: int, part: str) -> tuple[list[str], list[str], np.ndarray]:
    """Return labels, predicted classes and valences of a test, folds averaged by hand."""
    folds = [load_rows(folder / f"seed{seed}/fold{fold}/predictions-{part}.jsonl") for fold in range(1, 6)]
    logits = np.array([[row["logits"] for row in rows] for rows in folds]).mean(0)
    valence = np.array([[row["prediction"]["valence"] for row in rows] for rows in folds]).mean(0)
    labels = [row["target"]["emotion"] for row in folds[0]]
    return labels, [CLASSES[i] for i in logits.argmax(1)], valence


@pytest.mark.parametrize("part", ["test1", "test3"])
def test_a_part_that_all_folds_predict_is_scored_by_their_mean(made: Path, part: str) -> None:
    found = study(made)
    wanted: dict[str, list[float]] = {"f1": [], "acc": [], "macro_f1": []}
    for seed in (0, 1):
        labels, said, _ = voted(made, seed, part)
        wanted["f1"].append(sk.f1_score(labels, said, average="weighted"))
        wanted["acc"].append(sk.accuracy_score(labels, said))
        wanted["macro_f1"].append(sk.f1_score(labels, said, average="macro"))
    assert found.system(part).shared
    for name, values in wanted.items():
        scored = found.scored(part, measure(found, name))
        assert (scored.mean, scored.over_seeds) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert found.crossed == ["valid"]


def test_errors_and_what_is_made_of_them(made: Path) -> None:
    found = study(made)
    labels, said, valence = voted(made, 0, "test2")
    rated = [row["target"]["valence"] for row in load_rows(made / "seed0/fold1/predictions-test2.jsonl")]
    error = sk.mean_squared_error(rated, valence)
    scores = {m.name: found.scored("test2", m).by_seed[0] for m in found.measures}
    assert scores["mse"] == pytest.approx(error)
    assert scores["ccc_valence"] == pytest.approx(ccc(valence, rated))
    assert scores["emoval"] == pytest.approx(sk.f1_score(labels, said, average="weighted") - 0.25 * error)
    assert math.isnan(found.scored("test3", measure(found, "mse")).mean)


def test_cross_validation_over_rows_is_the_mean_over_folds(made: Path) -> None:
    found, f1 = study(made), next(m for m in study(made).measures if m.name == "f1")
    values = []
    for fold in range(1, 6):
        rows = load_rows(made / f"seed1/fold{fold}/predictions-valid.jsonl")
        pairs = [[row[side]["emotion"] for row in rows] for side in ("target", "prediction")]
        values.append(sk.f1_score(*pairs, average="weighted"))
    assert found.scored("valid", f1).by_seed[1] == pytest.approx(np.mean(values))
    assert not found.pooled("valid", f1)
    one = found.estimate("valid", f1)
    assert one.low < one.value < one.high
    assert found.groups("valid", f1).count == 150


def test_folds_share_the_resamples_of_the_whole() -> None:
    random = np.random.default_rng(0)
    rows = {f"{i:02d}": {"id": f"{i:02d}", "prediction": {"x": float(p)}, "target": {"x": float(t)}}
            for i, (p, t) in enumerate(random.normal(size=(40, 2)))}  # fmt: skip
    halves = {1: dict(list(rows.items())[:20]), 2: dict(list(rows.items())[20:])}
    mean = Measure(name="error", score=lambda rs: float(np.mean([r["prediction"]["x"] - r["target"]["x"] for r in rs])))
    groups = Groups.of({(0, name): row for name, row in rows.items()}, (), False)
    found = groups.samples(System(units={(0, fold): each for fold, each in halves.items()}), mean, pooled=False)[0]
    whole = groups.samples(System(units={(0, 0): rows}), mean, pooled=False)[0]
    # Of halves the mean of means: nearly the mean of all.
    assert np.corrcoef(found, whole)[0, 1] > 0.9


def test_things_are_counted_in_words():
    units = [(1, "identity"), (2, "identity"), (1200, "speaker"), (3, "day")]
    assert [counted(*unit) for unit in units] == ["1 identity", "2 identities", "1,200 speakers", "3 days"]
    words = {
        "class": "classes", "corpus": "corpuses", "box": "boxes", "batch": "batches", "epoch": "epochs",
        "sources": "sources", "series": "series", "generator": "generators",
    }  # fmt: skip
    assert {unit: plural(unit) for unit in words} == words
