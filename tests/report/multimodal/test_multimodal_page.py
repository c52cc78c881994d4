from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from affect import commands, report
from affect.errors import AffectError
from affect.report import comparison, read, table
from affect.report.multimodal import page
from affect.report.multimodal.study import Study
from affect.report.reported import read as read_reported
from tests.report.multimodal.conftest import edit_document, experiment
from tests.report.multimodal.test_multimodal_compare import REPORTED


def contents(folder: Path) -> dict[str, bytes]:
    files = [folder / "report.md", folder / "report.html", *sorted((folder / "plots").glob("*"))]
    return {path.name: path.read_bytes() for path in files}


def test_the_page_holds_everything_in_order(runs: Path) -> None:
    text = report.write(runs).read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Result", "Flags", "Training", "Scores", "Missing and noisy modalities", "Attention", "Modality dropout",
        "Settings", "Reproduce", "Environment",
    ]  # fmt: skip
    named = re.findall(r"\]\((.*?\.png)\)", text)
    assert [Path(name).stem for name in named] == [
        "scores", "curves", "confusion", "subsets", "missing", "noise", "attention", "dropout",
    ]  # fmt: skip
    assert all((runs / name).is_file() for name in named)
    assert "emoval: train .30 / eval " in text
    assert "| shuffle" not in text
    assert "### Shuffled modalities" in text
    assert "nan" not in text.lower().replace("finance", "")
    html = (runs / "report.html").read_text(encoding="utf-8")
    assert html.count("<img ") == len(named)


def test_the_same_runs_give_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    first = contents(report.write(runs).parent)
    moved = tmp_path / "elsewhere" / runs.name
    shutil.copytree(runs, moved, ignore=shutil.ignore_patterns("report.*", "plots"))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert contents(report.write(moved).parent) == first


def test_a_comparison_and_targets_have_their_parts(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment(runs.parent / "baseline", (0, 1), skill=1.2)
    commands.report((runs,), against=Path("baseline"), target=("f1=.75", "test2.val=.7"))
    said = capsys.readouterr().out
    text = (runs / "report.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads[:3] == ["Result", "Targets", "Against baseline"]
    assert "not confirmed (2 of 6 seeds)" in text
    assert "better by" not in text
    assert "Weighted F1 against baseline:" in said
    assert "test2 val .7: " in said
    assert (runs / "plots" / "differences.png").is_file()
    commands.report((runs,))
    assert "The earlier page also had a comparison with baseline and targets" in capsys.readouterr().out
    assert not (runs / "plots" / "differences.png").exists()


def test_the_table_after_a_run(runs: Path) -> None:
    text = table(read(runs))
    assert text.splitlines()[0].split("|")[1].strip() == "part"
    assert "    seed0 test2: f1=0." in text
    assert "not finished" not in text
    shutil.rmtree(runs / "seed0")
    shutil.rmtree(runs / "seed1")
    experiment(runs, folds=(1,), finished=False)
    assert table(read(runs)) == "No run is finished yet.\n\nnot finished: seed0/fold1"


def test_an_unfinished_experiment_has_a_page(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1, 2), finished=False)
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert "No run is finished, so there is no score yet." in text
    assert "| unfinished" in text
    assert "a (no run is finished)" in (tmp_path / "comparison.md").read_text(encoding="utf-8")


FILES = (
    "metrics.jsonl", "recipe.json", "environment.json", "predictions-*.jsonl", "predictions-test1.jsonl",
    "baseline-majority-*.jsonl", "conditions.npz",
)  # fmt: skip


def damage(folder: Path, name: str) -> None:
    found = list(folder.glob(name))
    assert found
    for path in found:
        path.write_bytes(b"\xff\xfe{broken\n")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_damaged_file_is_named_and_crashes_nothing(runs: Path, made: Path, name: str, everywhere: bool) -> None:
    for path in runs.glob("seed*/fold*") if everywhere else [runs / "seed1" / "fold3"]:
        damage(path, name)
    if everywhere and name == "recipe.json":
        # Something must say what kind of experiment it is.
        shutil.copy(made / "seed0" / "fold1" / "recipe.json", runs / "seed0" / "fold1" / "recipe.json")
    text = page.page(Study(runs=read(runs), name="damaged"))
    assert "| unreadable" in text
    assert table(read(runs))


def test_damage_all_over_still_gives_plots(runs: Path) -> None:
    for fold, name in enumerate(FILES[:5], start=1):
        damage(runs / "seed0" / f"fold{fold}", name)
    for fold, name in enumerate(FILES[2:], start=1):
        damage(runs / "seed1" / f"fold{fold}", name)
    text = report.write(runs).read_text(encoding="utf-8")
    assert "| unreadable" in text
    assert "**Not finished, or of a seed that is not, and left out: " in text


def test_without_conditions_that_part_says_so(tmp_path: Path) -> None:
    experiment(tmp_path / "a", conditions=False)
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert "No conditions.npz was written" in text
    assert "## Attention" not in text


def test_reported_numbers_have_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    (tmp_path / "v3" / "reported.json").write_text(json.dumps(REPORTED))
    text = report.write(tmp_path / "v3").read_text(encoding="utf-8")
    assert "Not measured here; reported in: report 001." in text
    assert "| 0.761 | 0.762 | 0.632 |" in text
    assert "Flags" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "other"}, "task must be multimodal_emotion or left out"),
        ({"scores": {"1": {}}}, "scores is none of multimodal_emotion"),
        ({"mean": {}}, "mean is empty"),
        ({"mean": {"test": {"f1": 0.5}}}, "mean.test is no part"),
        ({"mean": {"test1": {"ccc": 0.5}}}, "mean.test1.ccc is no score"),
        ({"mean": {"test1": {}}}, "mean.test1 is empty"),
        ({"mean": {"test1": {"f1": 76}}}, r"mean.test1.f1 must be a number from 0 to 1, not 76"),
        ({"mean": {"test1": {"val": -1}}}, r"mean.test1.val must be a number of 0 or more, not -1"),
    ],
)
def test_wrong_reported_numbers_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / "reported.json").write_text(json.dumps(REPORTED | change))
    with pytest.raises(AffectError, match=re.escape(words)):
        read_reported(tmp_path / "reported.json")


def test_an_error_may_be_over_one(tmp_path: Path) -> None:
    content = REPORTED | {"mean": {"test2": {"val": 1.12}}}
    (tmp_path / "reported.json").write_text(json.dumps(content))
    (run,) = read_reported(tmp_path / "reported.json")
    assert run.end["scores"] == {"test2": {"val": 1.12}}
    assert run.recipe == {"experiment": "robust_v3", "task": "multimodal_emotion", "data": {"corpus": "mer2023"}}


def started(folder: Path, date: str, **model: Any) -> None:
    for path in folder.glob("seed*/fold*"):
        edit_document(path / "environment.json", lambda facts: facts.update(started=date))
        edit_document(path / "recipe.json", lambda recipe: recipe["model"].update(model))


@pytest.fixture
def several(made: Path, tmp_path: Path) -> Path:
    """A baseline, a better experiment, another one, a paper's numbers, in the order they ran."""
    runs = tmp_path / "runs"
    experiment(runs / "baseline", (0, 1), skill=1.2)
    experiment(runs / "mine", (0, 1), skill=2.2)
    shutil.copytree(made, runs / "robust_v3")
    started(runs / "mine", "2026-01-02T10:00:00", dropout=0.5)
    started(runs / "robust_v3", "2026-01-03T10:00:00")
    (runs / "paper").mkdir()
    (runs / "paper" / "reported.json").write_text(json.dumps(REPORTED | {"name": "paper", "date": "2026-01-04"}))
    return runs


def test_comparison_has_a_line_an_experiment(several: Path) -> None:
    text = comparison.page(several)
    first, second = (block for block in text.split("\n\n") if block.startswith("|"))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in first.splitlines()]
    assert [line[0] for line in lines[2:]] == ["baseline", "mine", "robust_v3", "paper"]
    rows = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3} / 0\.\d{3} ± 0\.\d{3}", rows["mine"]["test2 f1 / acc"])
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3}", rows["mine"]["incomplete tests"])
    assert rows["mine"]["what changed"] == "model.dropout 0.35 to 0.5"
    assert rows["mine"]["folds x seeds"] == "5 x 2"
    assert "best cv" in rows["mine"]["best"]
    assert rows["paper"]["test2 f1 / acc"] == "0.761 / 0.762"
    assert rows["paper"]["cv f1 / acc"] == "– / 0.752"
    assert "CCC" not in text
    gains = second.splitlines()[2:]
    assert [line.split("|")[1].strip() for line in gains] == ["mine", "robust_v3", "paper"]
    assert "not confirmed" in gains[0]
    assert "better" not in second


def test_choosing_by_a_test_is_named(several: Path) -> None:
    assert "selection on a test" not in comparison.page(several)
    for path in (several / "mine").glob("seed*/fold*/predictions-test2.jsonl"):
        source = several / "baseline" / path.parent.parent.name / path.parent.name / path.name
        shutil.copy(source, path)
    text = comparison.page(several)
    assert "robust_v3 is best on test2, mine on cv: choosing robust_v3 would be selection on a test." in text


def test_both_kinds_of_experiments_have_their_tables(several: Path) -> None:
    content = {"name": "v1", "source": "a paper", "corpus": "iemocap", "mean": {"test": {"valence": 0.6}}}
    (several / "v1").mkdir()
    (several / "v1" / "reported.json").write_text(json.dumps(content))
    text = comparison.page(several)
    assert {"## valence of iemocap", "## multimodal emotion of mer2023"} <= set(text.splitlines())
    assert "CCC-V" in text
    with pytest.raises(AffectError, match="of different tasks"):
        report.write(several / "mine", several / "v1")


def test_the_page_of_another_task_is_refused_beside_ours(several: Path) -> None:
    content = {"name": "v1", "source": "a paper", "mean": {"test": {"valence": 0.6}}}
    (several / "v1").mkdir()
    (several / "v1" / "reported.json").write_text(json.dumps(content))
    with pytest.raises(AffectError):
        report.write(several / "v1", several / "mine")
