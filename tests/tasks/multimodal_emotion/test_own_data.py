"""The user's own features from the table to the pushed model: any classes, a number or both, any parts by name."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from affect import report, tasks
from affect.data import conditions
from affect.errors import AffectError
from affect.hub import from_pretrained, push
from affect.metrics import regression
from affect.report import page
from affect.report.flags import flags
from affect.training import run_dir
from tests.hub.conftest import hub  # noqa: F401
from tests.inference.asking import ask
from tests.tasks.multimodal_emotion import own, small

CASES = {
    # Classes alone, an official validation part, two tests of any name.
    "classes": ({"train": 18, "dev": 9, "Noisy": 9, "clean-2": 6}, {}, ("emotion",)),
    # Regression: no classes, no validation part, features listed by the table, one test.
    "number": ({"train": 18, "test": 6}, {"columns": ("name", "valence", "part"), "listed": True}, ("valence",)),
    # Both, valence on a scale of its own, no test at all.
    "both": ({"train": 18, "valid": 9}, {"scale": (0, 100)}, ("emotion", "valence")),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The corpus and the experiment of each case, trained."""
    top = tmp_path_factory.mktemp("own")
    runs = {}
    for name, (parts, facts, targets) in CASES.items():
        root = own.write(top / "corpora" / name, parts, **facts)
        scale = {"scale": (0.0, 100.0)} if name == "both" else {}
        recipe = own.recipe(root, targets=targets, folds=2, name=f"my {name}", **scale)
        folder = small.train(recipe, top / "runs" / name, seeds=(0,), only=None)
        runs[name] = root, folder
    return runs


def end(folder: Path) -> dict:
    (line,) = small.lines(folder, "end")
    return line["scores"]


@pytest.mark.parametrize(
    ("name", "folds", "parts"),
    [("classes", 1, ["clean-2", "noisy", "valid"]), ("number", 2, ["test", "valid"]), ("both", 1, ["valid"])],
)
def test_each_part_is_predicted_by_its_name_and_scored_by_its_targets(made, name, folds, parts):
    root, top = made[name]
    folders, targets = small.folders(top), CASES[name][2]
    assert [folder.name for folder in folders] == [f"fold{k + 1}" for k in range(folds)]
    for folder in folders:
        assert sorted(run_dir.predicted(folder)) == sorted(
            [*parts, *(f"{part}@{condition}" for part in parts for condition in conditions.names_of("AT"))]
        )
        for part in parts:
            rows = small.read(folder / f"predictions-{part}.jsonl")
            assert all(set(row["prediction"]) == set(row["target"]) == set(targets) for row in rows)
            scores = end(folder)[part]
            if "emotion" in targets:
                pairs = [[row[side]["emotion"] for row in rows] for side in ("target", "prediction")]
                assert set(pairs[0]) == set(own.CLASSES)
                assert scores["f1"] == pytest.approx(f1_score(*pairs, average="weighted", zero_division=0))
            if "valence" in targets:
                pairs = [np.array([row[side]["valence"] for row in rows]) for side in ("prediction", "target")]
                assert scores["ccc_valence"] == pytest.approx(regression.ccc(*pairs))
                assert scores["mae_valence"] == pytest.approx(np.abs(pairs[0] - pairs[1]).mean())
            assert ("f1" in scores) == ("emotion" in targets) and "emoval" not in scores
    facts = json.loads((folders[0] / "environment.json").read_text())
    assert facts["corpus"].startswith(f"my {name}@") and facts["classes"] == list(own.CLASSES if folds == 1 else ())
    assert ("scale" in facts) == ("valence" in targets)


def test_a_modality_that_the_recipe_leaves_out_is_no_condition_and_no_flag(made):
    """Video is none of theirs: no subset has it, the mean of incomplete ones is of audio and of text alone."""
    names = conditions.names_of("AT")
    assert names[:3] == ["subset=A", "subset=T", "subset=AT"] and names[-2:] == ["shuffle=A", "shuffle=T"]
    assert conditions.names_of("ATV") == list(conditions.NAMES)
    assert conditions.names_of("A") == ["subset=A", "snr=20", "snr=10", "snr=5", "snr=0", "shuffle=A"]
    study = report.load(made["classes"][1])
    assert study.summaries["noisy@incomplete"] == ["noisy@subset=A", "noisy@subset=T"]
    assert "modality missing" not in {flag.kind for flag in flags(study)}
    assert study.environment["presence"]["noisy"] == {"audio": 9, "text": 9, "all": 9}
    chosen = [one.name for one in tasks.make(
        replace(own.recipe(made["classes"][0]), choose="subsets")
    ).evaluations() if one.selects]  # fmt: skip
    assert chosen == ["valid", "valid@subset=A", "valid@subset=T"]


def test_the_epoch_is_chosen_by_the_first_measure(made):
    for name, measure in (("classes", "f1"), ("number", "ccc_valence"), ("both", "mean")):
        folder = small.folders(made[name][1])[0]
        kept = [line["score"] for line in small.lines(folder, "selection") if line["kept"]]
        assert kept[-1] == pytest.approx(end(folder)["valid"][measure])
    both = end(small.folders(made["both"][1])[0])["valid"]
    assert both["mean"] == pytest.approx((both["f1"] + both["ccc_valence"]) / 2)


def test_an_official_part_validates_and_trains_nothing(made):
    root, top = made["classes"]
    task = tasks.make(own.recipe(root, folds=2)).for_fold(3, 1)
    assert all(name.startswith("dev_") for name in task.datasets()["valid"]["id"])
    assert len(task.datasets()["train"]) == 18
    with pytest.raises(AffectError, match="data.fold is 2, and .* has a validation part: its only fold is 1"):
        tasks.make(own.recipe(root, folds=2, fold=2)).folds()


def test_the_report_and_the_comparison_are_of_these_targets_and_parts(made):
    pages = {}
    for name, (_, top) in made.items():
        parts = page.sections(report.load(top))
        pages[name] = page.page(name, parts, {})
        # Most of a report's time is its plots: those of the task are drawn.
        drawn = {plot.name: plot.draw for part in parts for plot in part.plots}
        assert [text.get_text() for text in drawn["attention"]().legends[0].get_texts()] == ["audio", "text"]
    assert "| noisy " in pages["classes"] and "| clean-2 " in pages["classes"] and "| majority" in pages["classes"]
    assert "Epochs are chosen by `f1`" in pages["classes"] and "`emoval`" not in pages["classes"]
    assert "CCC of valence" in pages["number"] and "accuracy" not in pages["number"] and "F1" not in pages["number"]
    assert "label scale" not in pages["classes"] and "mean of f1 and CCC" in pages["both"]
    for text in pages.values():
        assert "my " in text and "test3" not in text and "nan" not in text.lower()
    comparison = report.compare_all(made["both"][1].parent).read_text()
    assert all(f"my {name}@" in comparison for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_pushed_model_predicts_as_the_run_did(hub, made, name, tmp_path):  # noqa: F811
    root, top = made[name]
    run = shutil.copytree(top, tmp_path / "runs" / name) / "seed0" / "fold1"
    push.run(run, "someone/own")
    model, targets = from_pretrained("someone/own"), CASES[name][2]
    card = hub.repos["someone/own"].files["README.md"].decode()
    assert f"{' and '.join(targets).capitalize()} of an utterance from features of its audio, text" in card
    assert ("label scale" in card) == ('print("valence"' in card) == ("valence" in targets)
    assert ("noisy" in card) == (name == "classes")
    known = small.read(run / "predictions-valid.jsonl")
    given = {}
    for feature in own.WIDTHS:
        where = root / "files" if name == "number" else root / "features" / feature
        ending = f"-{feature}.npy" if name == "number" else ".npy"
        given[feature] = [where / f"{row['id']}{ending}" for row in known]
    with torch.inference_mode():
        inputs = {key: torch.from_numpy(np.stack([np.load(file) for file in files])) for key, files in given.items()}
        outputs = model(torch.ones(len(known), 2), **inputs)
    assert set(targets) == {"emotion", "valence"} & set(outputs)
    for place in (str(run), "someone/own"):
        bad, lines = ask(place, **given)
        assert bad == 0
        for k, (line, row) in enumerate(zip(lines, known, strict=True)):
            assert set(line["prediction"]) == set(targets)
            assert line.get("scale") == ({"valence": [*model.data.scale]} if "valence" in targets else None)
            if "emotion" in targets:
                assert line["prediction"]["emotion"] == row["prediction"]["emotion"]
                np.testing.assert_allclose(outputs["emotion"][k], row["logits"], rtol=1e-4, atol=1e-5)
            if "valence" in targets:
                assert line["prediction"]["valence"] == pytest.approx(row["prediction"]["valence"], rel=1e-4, abs=1e-5)
                assert float(outputs["valence"][k]) == pytest.approx(row["prediction"]["valence"], rel=1e-4, abs=1e-5)


def test_valence_is_learned_alike_on_any_scale(tmp_path):
    """What a model says on 0 to 100 is what it says on -5 to 5, put on that scale, and so is its loss."""
    folders = []
    for name, scale in (("unit", (-5.0, 5.0)), ("hundred", (0.0, 100.0))):
        root = own.write(tmp_path / name, {"train": 12, "dev": 6}, scale=scale)
        recipe = own.recipe(root, targets=("valence",), scale=scale)
        folders += small.folders(small.train(recipe, tmp_path / "runs" / name, seeds=(0,)))
    unit, hundred = (small.read(folder / "predictions-valid.jsonl") for folder in folders)
    np.testing.assert_allclose(small.losses(folders[0]), small.losses(folders[1]), rtol=1e-4)
    for a, b in zip(unit, hundred, strict=True):
        assert b["prediction"]["valence"] == pytest.approx(50 + 10 * a["prediction"]["valence"], rel=1e-4)


def test_folds_hold_out_speakers_where_a_column_names_them(tmp_path, caplog):
    columns = ("name", "emotion", "part", "speaker")
    root = own.write(tmp_path / "c", {"train": 18, "test": 6}, columns=columns)
    edited = (root / "labels.csv").read_text().replace("test 1", "train 1")
    (root / "labels.csv").write_text(edited)
    whole = tasks.make(own.recipe(root, folds=3))
    parts = whole.for_fold(0, 1).datasets()
    speakers = {row: name for row, name in enumerate(whole.corpus.utterances["speaker"])}
    heard = {part: {speakers[row] for row in rows["row"]} for part, rows in parts.items()}
    assert not heard["train"] & heard["valid"] and len(heard["valid"]) == 2
    top = small.train(own.recipe(root, folds=3), tmp_path / "runs" / "x", seeds=(0,), only=("valid", "test"))
    study = report.load(top)
    assert {row["speaker"] for row in study.system("test").rows()} == {"test 0", "train 1"}
    assert study.groups("valid", study.main).unit == "speaker" and study.pooled("valid", study.main)
    (leak,) = [flag for flag in flags(study) if flag.kind == "leaking split"]
    assert "1 group (train 1)" in leak.evidence and "--data.split" not in leak.advice
    (root / "labels.csv").write_text(edited.replace("train,train 0", "train,"))
    tasks.make(own.recipe(root, folds=3)).for_fold(0, 1).datasets()
    assert "folds are of utterances: not all have a speaker" in caplog.text


def test_a_scale_that_nobody_gave_and_labels_that_are_no_targets_are_said(made, caplog):
    root, _ = made["both"]
    with caplog.at_level("INFO", logger="affect"):
        tasks.make(own.recipe(root, targets=("valence",))).folds()
    assert "has labels of emotion, which targets do not name: it is not learned" in caplog.text
    assert "no scale was given: 0 to 100 is taken, valence goes from 16.6667 to 83.3333" in caplog.text
    caplog.clear()
    tasks.make(own.recipe(root)).folds()
    assert "no scale was given" not in caplog.text


def test_what_targets_need_and_the_data_lack_is_one_line(tmp_path):
    root = own.write(tmp_path / "c", {"train": 12, "dev": 6}, columns=("name", "emotion", "part"))
    for targets, words in (
        (("valence",), r"no utterance of train has a valence, which targets name \(--targets emotion\)"),
        (("emotion", "valence"), "no utterance of train has a valence"),
    ):
        with pytest.raises(AffectError, match=words):
            tasks.make(own.recipe(root, targets=targets)).folds()
    root = own.write(tmp_path / "n", {"train": 12, "dev": 6}, columns=("name", "valence", "part"))
    with pytest.raises(AffectError, match="the part train has no two emotions, which targets name"):
        tasks.make(own.recipe(root)).folds()
    for file in (root / "features" / "text").glob("train*"):
        np.save(file, np.zeros(4, np.float32))
    with pytest.raises(AffectError, match="no training utterance has the text feature 'text'"):
        tasks.make(own.recipe(root, targets=("valence",))).folds()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"targets": ("valence",), "classes": ("calm", "sad")}, "data.classes must be left out unless targets name"),
        ({"scale": (0.0, 1.0)}, "data.scale must be left out unless targets name valence"),
        ({"targets": ()}, "targets must name at least one"),
        ({"classes": ("calm+sad", "sad")}, "data.classes must be at least two that name each emotion once"),
        ({"columns": ("emotion",)}, "data.columns must be OURS=THEIRS"),
        ({"columns": ("emotoin=x",)}, "columns names 'emotoin'.* did you mean 'emotion'"),
        ({"corpus": "mer2023", "classes": ("calm", "sad")}, "data.classes must be left out unless corpus is feature_t"),
    ],
)
def test_fields_that_do_not_fit_are_one_line(fields, words):
    with pytest.raises(AffectError, match=words) as error:
        own.recipe(Path("x"), **fields)
    assert "\n" not in str(error.value)


def test_what_is_odd_is_flagged(tmp_path):
    """A constant stream, a huge one, a class of the test alone and one spelt in two ways: said, with what to try."""
    root = own.write(tmp_path / "c", {"train": 18, "dev": 9, "far": 9}, classes=("calm", "Calm", "sad"))
    table = (root / "labels.csv").read_text().replace("far_02,sad", "far_02,bored")
    (root / "labels.csv").write_text(table)
    for file in (root / "features" / "text").iterdir():
        np.save(file, np.ones(4, np.float32))
    for file in (root / "features" / "audio").iterdir():
        np.save(file, 1e5 * np.load(file))
    top = small.train(own.recipe(root), tmp_path / "runs" / "odd", seeds=(0,), only=("valid", "far"))
    found = {flag.kind: flag for flag in flags(report.load(top))}
    still = "text (text): 4 of its 4 numbers are the same in all 18 training vectors"
    assert found["constant features"].evidence == still
    assert re.fullmatch(r"'Calm' \(\d+\) and 'calm' \(\d+\) are different.*", found["classes alike"].evidence)
    assert found["class not trained"].evidence == "far has 'bored' (1), of which train has none"
    assert found["wildly scaled features"].evidence.startswith("audio (audio): ")
    assert found["wildly scaled features"].advice.startswith("--model.normalise True")
    rows = small.read(small.folders(top)[0] / "predictions-far.jsonl")
    assert sum(row["target"]["emotion"] == "bored" for row in rows) == 1, "it counts, and as wrong"
    normal = small.train(own.recipe(root, normalise=True), tmp_path / "runs" / "normal", seeds=(0,))
    kinds = [flag.kind for flag in flags(report.load(normal))]
    assert "wildly scaled features" not in kinds and "constant features" in kinds
