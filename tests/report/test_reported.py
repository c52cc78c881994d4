from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from affect import report
from affect.errors import AffectError
from affect.report.experiment import load
from affect.report.reported import read

pytestmark = pytest.mark.usefixtures("no_plots")
TEST = {"test": {"valence": 0.6, "arousal": 0.7}}


def document(**fields: Any) -> dict[str, Any]:
    return {"name": "v2", "source": "a paper", "scores": {"1": TEST, "2": TEST}} | fields


def written(folder: Path, content: object, name: str = "reported.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_folds_become_runs_with_their_scores(tmp_path: Path) -> None:
    folds = {"10": TEST, "2": {"test": {"valence": 0.5}, "valid": {"valence": 0.55}}}
    runs, task = read(written(tmp_path, document(scores=folds, corpus="iemocap")))
    assert task is not None
    assert [(run.fold, run.seed, run.reported, run.finished) for run in runs] == [
        (2, 0, True, True),
        (10, 0, True, True),
    ]
    assert runs[0].end["scores"] == {"test": {"ccc_valence": 0.5}, "valid": {"ccc_valence": 0.55}}
    experiment = load(tmp_path)
    assert (experiment.name, experiment.corpus, experiment.folder) == ("v2", "iemocap", tmp_path)


def test_a_mean_alone_is_fold_0(tmp_path: Path) -> None:
    study = load(written(tmp_path, {"name": "v1", "source": "s", "mean": TEST}))
    (run,) = study.runs
    assert run.fold == 0
    assert [measure.shown for measure in study.headline] == ["CCC-V", "CCC-A", "mean"]
    assert study.main is not None
    assert study.scored("test", study.main).mean == pytest.approx(0.65)


def test_classes_are_scored_by_their_measure(tmp_path: Path) -> None:
    given = {"name": "a", "source": "s", "measures": {"emotion": "UA"}, "mean": {"test": {"emotion": 0.7}}}
    study = load(written(tmp_path, given))
    assert [measure.name for measure in study.measures] == ["ua_emotion"]
    assert study.scored("test", study.measures[0]).mean == 0.7


def test_names_titles_and_aliases_are_one_measure(tmp_path: Path) -> None:
    given = {"name": "a", "source": "s", "mean": {"cv": {"F1": 0.7}, "test1": {"val": 1.4, "acc": 0.6, "f1": 0.5}}}
    study = load(written(tmp_path, given))
    scores = study.runs[0].end["scores"]
    assert scores == {"valid": {"f1": 0.7}, "test1": {"mse": 1.4, "acc": 0.6, "f1": 0.5, "emoval": pytest.approx(0.15)}}
    assert study.evaluations == ["test1", "valid"]


def test_numbers_of_no_known_task_are_shown_as_they_are(tmp_path: Path) -> None:
    given = {"name": "a", "source": "s", "scores": {"1": {"test": {"wer": 0.11}}, "2": {"test": {"wer": 0.13}}}}
    text = report.write(written(tmp_path, given)).read_text(encoding="utf-8")
    assert "mean ± deviation over 2 folds: **wer 0.120 ± 0.014**" in text
    with pytest.raises(AffectError, match="task is no task"):
        load(written(tmp_path, given | {"task": "dance"}))
    with pytest.raises(AffectError, match="scores of wer are of no measure"):
        load(written(tmp_path, given | {"task": "multimodal_emotion"}))


WRONG = [
    ("[1]", "holds no JSON object"),
    ("{", "is no JSON"),
    ({"source": "s", "mean": TEST}, "name is missing"),
    ({"name": "a", "mean": TEST}, "source is missing"),
    ({"name": "a", "source": "s"}, "holds neither scores nor mean"),
    (document(sores={}), "sores is no field; did you mean 'scores'?"),
    (document(name=3), "name must be a text, not 3"),
    (document(date="14.1.2026"), "date must be like 2026-01-14"),
    (document(scores=[1]), r"scores must be an object, not \[1\]"),
    (document(scores={"0": TEST}), "scores.0 is no fold"),
    (document(scores={"one": TEST}), "scores.one is no fold"),
    (document(scores={"1": {"test": {}}}), "scores.1.test is empty"),
    (document(scores={"1": TEST | {"a b": {}}}), "scores.1.a b is no evaluation"),
    (document(scores={"1": {"test": {"valence": True}}}), "must be a number, not true"),
    (document(scores={"1": {"test": {"valence": None}}}), "must be a number, not null"),
    (document(scores={"1": {"test": {"valence": float("nan")}}}), "must be a number, not NaN"),
    (document(scores={"1": {"test": {"mean": 0.5}}}), "scores.1.test.mean is taken from the others"),
    (document(scores={"1": {"test": {" ": 0.5}}}), "is no measure"),
    (document(measures={"valence": 3}), "measures.valence must be a measure"),
    (document(mean={"test": {"valence": 0.5}}), "mean.test.valence is 0.5, but the 2 folds' is 0.6000"),
]


@pytest.mark.parametrize(("content", "words"), WRONG)
def test_what_is_malformed_is_one_line_naming_file_and_field(tmp_path: Path, content: object, words: str) -> None:
    path = written(tmp_path, content, "wrong.json")
    with pytest.raises(AffectError, match=words) as caught:
        read(path)
    assert "wrong.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_something_else_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(AffectError, match=r"a.wav' is a file: name a folder of runs, or a .json file of reported"):
        load(tmp_path / "a.wav")
    recipe = written(tmp_path, {"experiment": "demo", "data": {}, "source": "x"}, "recipe.json")
    for path in (recipe, written(tmp_path, "{", "half.json"), written(tmp_path, "[1]", "list.json")):
        with pytest.raises(AffectError, match="is no file of reported numbers: it"):
            load(path)


def test_a_rounded_mean_agrees_with_its_folds(tmp_path: Path) -> None:
    folds = {"1": {"test": {"valence": 0.6004}}, "2": {"test": {"valence": 0.6005}}}
    assert len(read(written(tmp_path, document(scores=folds, mean={"test": {"valence": 0.60}})))[0]) == 2


def test_a_report_of_reported_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, document(name="v2 <b> & | *x*"), "numbers.json")
    text = report.write(path).read_text(encoding="utf-8")
    assert (tmp_path / "numbers" / "report.html").is_file()
    assert "- test, mean ± deviation over 2 folds: **CCC-V 0.600 ± 0.000" in text
    assert "reported in: a paper" in text
    assert "pooled" not in text
    assert "no predictions" not in text
    assert "held out" not in text  # nothing known, no column
    assert "<b>" not in (tmp_path / "numbers" / "report.html").read_text(encoding="utf-8")


def test_own_runs_count_more_than_reported_ones(tmp_path: Path, write_run, caplog: pytest.LogCaptureFixture) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, size=20)
    written(tmp_path / "a", document())
    assert not load(tmp_path / "a").runs[0].reported
    assert "holds runs: they count" in caplog.text
