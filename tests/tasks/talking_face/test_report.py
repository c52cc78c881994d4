"""What the report says of runs of talking-face quality, held on runs whose faults are known."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affect import report
from affect.config import to_dict
from affect.errors import AffectError
from affect.recipe import Optim
from affect.report import Study, load
from affect.tasks.talking_face import each_score, intervals, late_sound
from affect.tasks.talking_face.claims import section
from affect.tasks.talking_face.config import Augment, Data, Model, Signature, TalkingFace
from affect.tasks.talking_face.late_sound import swept
from affect.tasks.talking_face.report import pairs_of, seeds_of, still
from affect.tasks.talking_face.task import TalkingFaceTask

SCORES = ("lip_sync_score", "expression_score", "overall_score")


def written(
    folder: Path, *, alike: float = 0.0, only_generators: bool = False, falls: float | None = None,
    hears: tuple[str, ...] = SCORES, kind: str = "offset",
) -> Study:  # fmt: skip
    """Write a finished run of 160 tested clips of four generators and return its study."""
    random = np.random.default_rng(0)
    path = folder / "seed0" / "fold1"
    path.mkdir(parents=True)
    maker = np.arange(160) % 4
    labels = 3 + 0.5 * (maker[:, None] - 1.5) + 0.5 * random.standard_normal((160, 3))
    predictions = labels + 0.3 * random.standard_normal((160, 3))
    if only_generators:
        predictions = 3 + 0.5 * (maker[:, None] - 1.5) + 0.01 * random.standard_normal((160, 3))
    predictions = (1 - alike) * predictions + alike * predictions[:, :1]
    labels[random.uniform(size=labels.shape) < 0.1] = np.nan
    rows = [
        {"id": f"c{k}", "prediction": dict(zip(SCORES, predictions[k], strict=True)),
         "target": dict(zip(SCORES, labels[k], strict=True)), "generator": f"g{maker[k]}", "source": f"s{k % 20}"}
        for k in range(160)
    ]  # fmt: skip
    for part in ("valid", "test"):
        (path / f"predictions-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Of the latest sound a third of the clips has half left; the others say what they say of silence.
    for by in (2, 4, 8) if falls is not None else ():
        moved = []
        for k, row in enumerate(rows):
            whole = by < 8 or k % 3 == 0
            less = by * falls if whole else 9
            said = {name: value - less * (name in hears) for name, value in row["prediction"].items()}
            moved.append({**row, "prediction": said, "left": 0.5 if whole else 0.4})
        condition = f"{kind}={by if kind == 'offset' else by / 100}"
        with zipfile.ZipFile(path / "predictions-conditions.zip", "a") as archive:
            archive.writestr(f"test@{condition}.jsonl", "".join(json.dumps(row) + "\n" for row in moved))
    (path / "recipe.json").write_text(json.dumps(TalkingFace().to_dict() | {"experiment": "made up"}))
    scales = {score: [1.0, 5.0] for score in SCORES}
    (path / "environment.json").write_text(
        json.dumps({"corpus": "clips", "scales": scales, "scale": [1.0, 5.0], "scale_inferred": {SCORES[0]: True}})
    )
    steps = [
        {"event": "step", "step": k + 1, "epoch": k // 5, "loss": 1.0, "grad_norm": 1.0, "undefined": [],
         "terms": {"mse_lip_sync_score": 2.0 ** (-k / 8), "mse_expression_score": 1.0}}
        for k in range(20)
    ]  # fmt: skip
    evals = [{"event": "eval", "evaluation": "valid", "step": 20, "epoch": 3, "scores": {"srcc": 0.5}}]
    end = [{"event": "end", "step": 20, "best_step": 20, "best_epoch": 3, "scores": {"train": {"srcc": 0.5}}}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*steps, *evals, *end]))
    return Study(runs=report.read(folder), name="made up")


def test_claims_stand_beside_what_is_measured_against_another_experiment(tmp_path):
    measured = {}
    for name, mse, rate, errors in (("original", 0.5, 100.0, [0.6, 0.5, 0.4]), ("optimized", 0.4, 150.0, [0.5, 0.3])):
        study = written(tmp_path / name)
        (run,) = study.runs
        run.end["scores"]["test"] = {"mse": mse, "r2": 0.5, "srcc": 0.6, "srcc_cross_modal_score": 0.7}
        run.timing[:] = [{"units_per_second": rate, "memory_bytes": memory} for memory in (1e9, 2e9)]
        run.evals[:] = [
            {"event": "eval", "evaluation": "valid", "step": k, "epoch": k, "scores": {"mse": error}}
            for k, error in enumerate(errors)
        ]
        measured[name] = replace(study, name=name)
    assert section(measured["original"]) == [], "there is nothing to claim about"
    recipe = measured["optimized"].recipe
    recipe["train"] = {**recipe["train"], "precision": "bf16"}
    (shown,) = section(replace(measured["optimized"], other=measured["original"]))
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in shown.markdown.splitlines()[2:]]
    assert [line for line in lines if len(line) == 5 and not line[0].startswith(("-", "what"))] == [
        ["mean squared error", "20 to 30 % less", "0.500", "0.400", "-20 %"],
        ["R2", "15 to 25 % more", "0.500", "0.500", "+0 %"],
        ["mean SRCC", "30 to 50 % better overall", "0.600", "0.600", "+0 %"],
        ["SRCC of cross_modal_score", "none", "0.700", "0.700", "+0 %"],
        ["frames a second", "30 to 50 % faster (mixed precision)", "100", "150", "+50 %"],
        ["peak memory, GB", "none", "2.000", "2.000", "+0 %"],
    ]  # fmt: skip
    assert "the least validation error of original (0.400, after 3.0 epochs) after 2.0 epochs" in shown.markdown
    recipe["model"] = {**recipe["model"], "dropout": 0.9}
    (shown,) = section(replace(measured["optimized"], other=measured["original"]))
    assert "| frames a second | none: they differ in more than precision |" in " ".join(shown.markdown.split())
    measured["optimized"].runs[0].evals.pop()
    (shown,) = section(replace(measured["optimized"], other=measured["original"]))
    assert "0 of 1 runs reach the least validation error" in shown.markdown


def test_the_optimized_system_says_how_its_claims_are_held_against_what_is_measured(tmp_path):
    written(tmp_path / "optimized")
    file = tmp_path / "optimized" / "seed0" / "fold1" / "recipe.json"
    file.write_text(json.dumps(TalkingFace().to_dict() | {"experiment": "optimized"}))
    study = load(tmp_path / "optimized")
    (hint,) = section(study)
    command = f"`affect report {tmp_path / 'optimized'} --against original`."
    assert hint.title == "Claims of the optimized system" and hint.markdown.endswith(
        f"train `original` on the same data, then {command}"
    )
    written(tmp_path / "original")
    (hint,) = section(study)
    assert hint.markdown.endswith(f"measured: {command}")
    (shown,) = section(replace(study, other=load(tmp_path / "original")))
    assert "the claims are of `optimized` against `original`" in shown.markdown


def test_sections_tell_scales_likeness_generators_and_plot_them(tmp_path):
    from affect import figures

    study = written(tmp_path / "runs", falls=0.1)
    sections = study.task.sections(study)
    ((columns, _),) = seeds_of(study, "test", SCORES)
    each = [f"{name} ({np.isfinite(labels).sum()} labels)" for name, (_, labels) in columns.items()]
    assert [section.title for section in sections] == [
        "The scores", "Each score", *each, "Intervals", "How alike the scores are", "Within generators", "Late sound",
    ]  # fmt: skip
    table, told = sections[0].markdown.split("\n\n")
    assert told.startswith("PLCC and RMSE after the logistic") and told.endswith(
        "where no logistic fits better: here nowhere."
    )
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:]] == [
        "1 to 5, inferred", "1 to 5", "1 to 5"
    ]  # fmt: skip
    assert "lip_sync_score, overall_score" in sections[6].markdown
    assert all(f"| g{k} " in sections[7].markdown for k in range(4))
    plots = [plot for section in sections for plot in section.plots]
    assert set(figures.save(plots, tmp_path / "plots")) == {
        "calibration", "alike", "residuals", "late_sound",
    }  # fmt: skip
    late = swept(study, "test")
    assert late.clips == {2: 160, 4: 160, 8: 54} and late.unit == "frames"
    assert [late.changes["lip_sync_score"][by] for by in (2, 4, 8)] == pytest.approx([-0.2, -0.4, -0.8])


def test_each_score_stands_beside_trivial_models_and_one_below_them_is_flagged(tmp_path):
    written(tmp_path)
    folder = tmp_path / "seed0" / "fold1"
    rows = [json.loads(line) for line in (folder / "predictions-test.jsonl").read_text().splitlines()]
    for row in rows:
        # It knows the lips, says nothing of expressions, and of the rest something in a wrong order.
        lips, _, overall = (row["target"][name] for name in SCORES)
        row["prediction"] = dict(zip(SCORES, (np.nan_to_num(lips), 3.0, -np.nan_to_num(overall)), strict=True))
    (folder / "baseline-ridge-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = Study(runs=report.read(tmp_path), name="made up")
    first = next(s for s in study.task.sections(study) if s.title.startswith(SCORES[0]))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in first.markdown.splitlines()]
    assert table[0] == ["measure", "network", "ridge"]
    assert {line[0] for line in table[2:]} == {
        "SRCC", "PLCC", "SRCC within a generator", "PLCC within a generator", "KRCC", "Pearson", "R2", "MSE", "MAE",
        "RMSE", "RMSE after the logistic", "(SRCC + PLCC) / 2",
    }  # fmt: skip
    assert all("[" in line[1] for line in table[2:])
    by_name = {line[0]: line[2] for line in table[2:]}
    half = sum(float(line[1].split()[0]) for line in table[2:] if line[0] in ("SRCC", "PLCC")) / 2
    (both,) = (line[1] for line in table[2:] if line[0] == "(SRCC + PLCC) / 2")
    assert float(both.split()[0]) == pytest.approx(half, abs=1.1e-3)
    assert (by_name["SRCC"], by_name["KRCC"], by_name["MSE"], by_name["R2"]) == ("1.000", "1.000", "0.000", "1.000")
    (told,) = (line for line in study.task.sections(study)[0].markdown.splitlines() if line.startswith("PLCC and RMSE"))
    assert told.endswith("ridge: lip_sync_score, overall_score."), "labels themselves, and turned round, are a line"
    (flag,) = (flag for flag in study.task.flags(study) if flag.kind == "a score below a trivial model")
    assert flag.evidence.startswith("lip_sync_score: SRCC 0.") and flag.evidence.endswith("ridge 1.000")


def test_the_curve_of_each_plcc_is_told(tmp_path):
    """One seed's scores bend against their labels, the other's do not."""
    written(tmp_path)
    other = shutil.copytree(tmp_path / "seed0", tmp_path / "seed1") / "fold1"
    for folder, straight in ((tmp_path / "seed0" / "fold1", SCORES[:1]), (other, SCORES[:2])):
        rows = [json.loads(line) for line in (folder / "predictions-test.jsonl").read_text().splitlines()]
        for row in rows:
            for name, label in row["target"].items():
                value = np.nan_to_num(label, nan=3.0) - 3
                row["prediction"][name] = 3 + (value if name in straight else value**3)
        (folder / "predictions-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = each_score.curves(Study(runs=report.read(tmp_path), name="made up"), "test")
    assert told.endswith("fits better: here for network: lip_sync_score, expression_score (1 of 2 fits).")


def test_of_two_seeds_clips_are_counted_once_and_scores_are_means(tmp_path):
    first = written(tmp_path)
    other = shutil.copytree(tmp_path / "seed0", tmp_path / "seed1") / "fold1"
    rows = [json.loads(line) for line in (other / "predictions-test.jsonl").read_text().splitlines()]
    for row in rows:
        # The same order on another scale: of both seeds' rows together it would be another order.
        row["prediction"] = {name: 40 + 2 * value for name, value in row["prediction"].items()}
    (other / "predictions-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = Study(runs=report.read(tmp_path), name="made up")
    (one, two) = ({s.title: s.markdown for s in study.task.sections(study)} for study in (first, both))
    assert two["How alike the scores are"] == one["How alike the scores are"]
    assert two["Within generators"] == one["Within generators"] and "| 160 " in " ".join(
        one["Within generators"].split()
    )

    def counts(words: str) -> list[str]:
        return [line.split("|")[3] for line in words.split("\n\n")[0].splitlines()[2:]]

    assert counts(two["The scores"]) == counts(one["The scores"])
    assert {flag.kind for flag in both.task.flags(both)} == {flag.kind for flag in first.task.flags(first)}


@pytest.mark.parametrize(
    ("kind", "rate", "said", "axis"),
    [
        ("offset", None, "| 4 frames late |", "frames that sound is late"),
        ("offset", 50.0, "| 4 frames (0.08 s) late |", "frames (50 a second) that sound is late"),
        ("delay", None, "| 0.04 s late |", "seconds that sound is late"),
    ],
)
def test_late_sound_is_told_in_its_unit(tmp_path, kind, rate, said, axis):
    study = written(tmp_path, falls=0.1, kind=kind)
    file = tmp_path / "seed0" / "fold1" / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sound_rate": rate}))
    study = Study(runs=report.read(tmp_path), name="made up")
    (section,) = late_sound.section(study, "test")
    assert said in section.markdown
    figure = section.plots[0].draw()
    assert figure.axes[0].get_xlabel() == axis


def test_without_a_test_part_validation_is_told(tmp_path):
    written(tmp_path, only_generators=True)
    (tmp_path / "seed0" / "fold1" / "predictions-test.jsonl").unlink()
    study = Study(runs=report.read(tmp_path), name="made up")
    sections = study.task.sections(study)
    titles = [each.title for each in sections if each.level == 2]
    assert titles == ["The scores", "Each score", "How alike the scores are", "Within generators"]
    assert "labels (valid)" in sections[0].markdown
    assert ("tells generators alone", "valid") in {(flag.kind, flag.where) for flag in study.task.flags(study)}


def test_folds_that_trained_on_validation_are_calibrated_by_the_others_tests(tmp_path):
    study = written(tmp_path)
    first = tmp_path / "seed0" / "fold1"
    recipe = json.loads((first / "recipe.json").read_text())
    (first / "recipe.json").write_text(json.dumps({**recipe, "data": recipe["data"] | {"train_all": True}}))
    other = shutil.copytree(first, first.with_name("fold2"))
    rows = [json.loads(line) for line in (first / "predictions-test.jsonl").read_text().splitlines()]
    for row in rows:
        row["prediction"] = {name: value if np.isfinite(value) else 3.0 for name, value in row["target"].items()}
    (other / "predictions-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = Study(runs=report.read(tmp_path), name="made up")
    (section,) = (each for each in study.task.sections(study) if each.title == "Intervals")
    assert "cross-conformal prediction on the test rows of the same seed's other folds" in section.markdown
    # Fold 1 errs and has the width 0 that fold 2 calibrates; fold 2 does not err at all.
    assert {line.split("|")[-2].strip() for line in section.markdown.splitlines()[-3:]} == {"50 %"}
    shutil.rmtree(other)
    study = Study(runs=report.read(tmp_path), name="made up")
    assert "Intervals" not in [each.title for each in study.task.sections(study)], "there is no other fold"


def test_intervals_are_those_of_the_saved_model(tmp_path):
    study = written(tmp_path)
    folder = tmp_path / "seed0" / "fold1"
    data = Signature(features=(("audio", 3),), scores=tuple((score, 1.0, 5.0) for score in SCORES))
    config = {"data": to_dict(data)}

    def shown(study: Study) -> list[list[str]]:
        section = next(section for section in study.task.sections(study) if section.title == "Intervals")
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.markdown.splitlines()[-3:]]

    plain = intervals.of_folder(folder / "checkpoints" / "best", config)
    for score, _, rows, sources, _ in shown(study):
        assert (rows, sources) == (str(plain[score]["rows"]), "20")
    assert [line[1] for line in shown(study)] == [f"± {plain[score]['half_width']:.3f}" for score in SCORES]
    for part in ("valid", "test"):
        path = folder / f"predictions-{part}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [{**row, "spread": dict.fromkeys(SCORES, 0.1 + 0.01 * k)} for k, row in enumerate(rows)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = intervals.of_folder(folder / "checkpoints" / "best", config)
    mean = np.mean([0.1 + 0.01 * k for k in range(160)])
    found = shown(Study(runs=report.read(tmp_path), name="made up"))
    for line, score in zip(found, SCORES, strict=True):
        times = own[score]["half_width"]
        assert own[score]["normalised"] and line[1] == f"± {times * mean:.3f} ({times:.3f} spreads)"


def test_the_correlation_between_scores_is_over_rows_with_both_labels(tmp_path):
    seeds = seeds_of(written(tmp_path), "test", SCORES)
    ((columns, _),) = seeds
    (p, t), (q, u) = columns["lip_sync_score"], columns["overall_score"]
    both = ~np.isnan(t) & ~np.isnan(u)
    (_, own, truth) = next(pair for pair in pairs_of(seeds) if pair[0] == "lip_sync_score, overall_score")
    assert own == pytest.approx(np.corrcoef(p[both], q[both])[0, 1])
    assert truth == pytest.approx(np.corrcoef(t[both], u[both])[0, 1])


@pytest.mark.parametrize(
    ("faults", "kinds"),
    [
        ({}, {"a score stands still"}),
        ({"alike": 0.6}, {"a score stands still", "scores predicted as one"}),
        ({"falls": 0.1}, {"a score stands still"}),
        ({"falls": 0.0}, {"a score stands still", "deaf to late sound"}),
        ({"falls": 0.1, "hears": SCORES[:1]}, {"a score stands still"}),
        ({"falls": 0.1, "hears": SCORES[1:]}, {"a score stands still", "deaf to late sound"}),
        ({"only_generators": True}, {"a score stands still", "scores predicted as one", "tells generators alone"}),
    ],
)
def test_flags_tell_the_faults(tmp_path, faults, kinds):
    study = written(tmp_path, **faults)
    assert {flag.kind for flag in study.task.flags(study)} == kinds


def test_late_sound_has_to_lower_the_score_of_sync_that_the_recipe_names(tmp_path):
    study = written(tmp_path, falls=0.1, hears=SCORES[:1])
    for sync, deaf in ((SCORES[0], False), (SCORES[2], True), (None, False)):
        task = TalkingFaceTask(TalkingFace(data=Data(scores=SCORES, sync=sync)))
        assert ("deaf to late sound" in [flag.kind for flag in task.flags(study)]) == deaf
    other = Data(scores=("lips", "looks"))
    assert other.synced == () and Data().synced == ("lip_sync_score",)
    with pytest.raises(AffectError, match="data.sync must be one of data.scores"):
        replace(other, sync="lip")


def test_a_loss_stands_still_only_beside_others_that_fall():
    falls, rests = [1.0 - 0.04 * k for k in range(20)], [1.0] * 20

    def steps(**terms) -> list[str]:
        made = [{"terms": {f"mse_{name}": values[k] for name, values in terms.items()}} for k in range(20)]
        return [name for name, *_ in still(made, ("_a", "_b"))]

    assert steps(a=falls, b=rests) == ["mse_b"]
    assert steps(a=falls, b=rests, consistency=rests) == ["mse_b"]
    assert steps(a=rests, b=rests) == steps(a=falls, b=falls) == steps(b=rests) == []


def test_advice_is_what_the_recipe_has_not_tried(tmp_path):
    advice = written(tmp_path).task.advice()
    assert "upgrad" in advice["opposing gradients"]
    rates = {1e-4: ("higher", 5e-4), 5e-4: ("lower", 2.5e-4), 1e-3: ("lower", 5e-4)}
    for lr, (way, other) in rates.items():
        said = TalkingFaceTask(TalkingFace(optim=Optim(lr=lr))).advice()
        for kind in ("loss does not fall", "stands still"):
            assert f"a {way} rate (--optim.lr {other:g}), then" in said[kind]
        assert f"a lower rate (--optim.lr {min(5e-4, lr / 2):g})" in said["rising loss"]
    small = TalkingFace(model=Model(encoder_dim=128), augment=Augment(mask=0.1))
    fitted = TalkingFaceTask(small).advice()["overfitting"]
    assert "encoder_dim" in advice["overfitting"] and "augment" in advice["overfitting"]
    assert "encoder_dim" not in fitted and "augment" not in fitted
    assert "the batch is exact" in advice["memory nearly full"]
