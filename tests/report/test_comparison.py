from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from affect import report
from affect.cli import commands
from affect.errors import AffectError
from affect.report import comparison, suites
from affect.report.suites import Compared

pytestmark = pytest.mark.usefixtures("no_plots")


def cells(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def change(folder: Path, **fields: object) -> None:
    """Set fields of every recipe and of when the experiment started."""
    for path in folder.glob("seed*/fold*"):
        recipe = json.loads((path / "recipe.json").read_text())
        for name, value in fields.items():
            part, _, field = name.partition("__")
            if part != "started":
                recipe[part][field] = value
        (path / "recipe.json").write_text(json.dumps(recipe))
        facts = json.loads((path / "environment.json").read_text()) | {"started": fields["started"]}
        (path / "environment.json").write_text(json.dumps(facts))


@pytest.fixture
def three(tmp_path: Path, write_run) -> Path:
    """The experiments b (first), a and c (worst), of three folds each, and a link to one of them."""
    runs = tmp_path / "runs"
    for name, value, started, more in (
        ("b", 0.5, "2026-01-01T10:00:00", {}),
        ("a", 0.6, "2026-01-02T10:00:00", {"optim__lr": 3e-4, "train__budget": 30.0}),
        ("c", 0.45, "2026-01-03T10:00:00", {"optim__lr": 3e-4, "optim__encoder_lr": 5e-6, "train__batch": 8}),
    ):
        for fold in (1, 2, 3):
            test = {"valence": value + 0.02 * fold, "arousal": value + 0.1}
            write_run(runs / name, fold, test, size=60, epochs=1)
        change(runs / name, started=started, **more)
    (runs / "latest").symlink_to("c")
    return runs


def test_a_line_an_experiment_in_their_order(three: Path) -> None:
    text = comparison.page(three)
    rows = cells(text)
    assert list(rows)[2:] == ["b", "a", "c"]
    assert rows["b"][:3] == ["2026-01-01", "3 x 1", "0.540 ± 0.020"]
    assert rows["b"][-3:] == ["–", "–", ""]
    assert re.fullmatch(r"\+0\.(099|100) against b: better with one seed", rows["a"][-3])
    assert rows["a"][-2:] == ["optim.lr 0.0001 to 0.0003", "best on tests and validation"]
    assert re.fullmatch(r"-0\.1(49|50) against a: worse with one seed", rows["c"][-3])
    assert rows["c"][-2:] == ["optim.encoder_lr 1e-05 to 5e-06, train.batch 64 to 8", ""]


def test_the_same_runs_give_the_same_bytes(three: Path, tmp_path: Path) -> None:
    comparison.write(three)
    first = (three / "comparison.md").read_bytes()
    comparison.write(three)
    assert (three / "comparison.md").read_bytes() == first
    shutil.copytree(three, tmp_path / "moved", symlinks=True)
    comparison.write(tmp_path / "moved")
    assert (tmp_path / "moved" / "comparison.md").read_bytes() == first


def test_a_suite_says_which_changes_of_its_reference_help(three: Path, write_run) -> None:
    for fold in (1, 2, 3):
        write_run(three / "same", fold, {"valence": 0.5 + 0.02 * fold, "arousal": 0.6}, size=60, epochs=1, seed=1)
    assert "| against b" not in comparison.page(three)
    members = ("b", "a", "c", "same", "gone")
    suites.keep(three, "changes", Compared(reference="b", members=members))
    suites.keep(three, "another", Compared(reference="gone", members=("a", "gone")))
    text = comparison.page(three)
    assert "changes: each experiment less b, and whether what a line changes of it helps or hurts." in text
    assert "another: " not in text
    rows = cells(text[text.index("changes: ") :])
    assert list(rows)[2:] == ["a", "c", "same"]
    assert rows["against b"] == ["test", "valid"]
    assert re.fullmatch(r"\+0\.(099|100) \[\+0\.0\d\d, \+0\.1\d\d\]: helps, one seed", rows["a"][0])
    assert re.fullmatch(r"-0\.0(49|50) \[-.*\]: hurts, one seed", rows["c"][0])
    assert rows["same"][0].endswith(": within noise")
    suites.keep(three, "changes", Compared(reference="b", members=members, takes_back=True))
    text = comparison.page(three)
    rows = cells(text[text.index("changes: ") :])
    assert "whether what a line takes back of it helps or hurts" in text
    assert [rows[name][0].split(": ")[1] for name in ("a", "c", "same")] == [
        "hurts, one seed", "helps, one seed", "within noise",
    ]  # fmt: skip
    for name, value in (("b", 0.5), ("a", 0.6)):
        for fold in (1, 2, 3):
            write_run(three / name, fold, {"valence": value, "arousal": value}, size=60, epochs=1, seed=1)
    assert cells(comparison.page(three))["a"][0].endswith(": hurts")
    (three / suites.FILE).write_text('{"changes": {"reference": 3}}')
    assert "Left out: suites.json (" in comparison.page(three)


def test_a_report_brings_it_up_to_date(three: Path) -> None:
    report.write(three / "b")
    assert "| c " in (three / "comparison.md").read_text(encoding="utf-8")
    shutil.rmtree(three / "c")
    report.write(three / "a")
    assert "| c " not in (three / "comparison.md").read_text(encoding="utf-8")
    # One run alone: its neighbours are no experiments.
    report.write(three / "a" / "seed0" / "fold1")
    assert not list(three.glob("*/**/comparison.md"))


def test_broken_and_unfinished_experiments_are_named(three: Path, write_run) -> None:
    write_run(three / "open", 1, {"valence": 0.5}, finished=False)
    (three / "paper <x>").mkdir()
    (three / "paper <x>" / "reported.json").write_text('{"name": 3, "mean": {}}')
    (three / "nothing").mkdir()
    text = comparison.page(three)
    left = text.split("Left out: ")[1]
    assert "open (no run is finished)" in left
    assert "paper \\<x> (" in left
    assert "name must be a text" in left
    assert "nothing" not in left
    assert list(cells(text))[2:] == ["b", "a", "c"]


def test_reported_numbers_stand_in_their_place(three: Path) -> None:
    (three / "paper").mkdir()
    given = {
        "name": "paper",
        "source": "table 2",
        "date": "2026-01-02",
        "mean": {"test": {"valence": 0.9, "arousal": 0.9}},
    }
    (three / "paper" / "reported.json").write_text(json.dumps(given))
    rows = cells(comparison.page(three))
    assert list(rows)[2:] == ["b", "paper", "a", "c"]
    assert rows["paper"][1:3] == ["mean alone", "0.900"]
    assert rows["paper"][-2:] == ["reported: table 2", "best on tests"]
    assert rows["a"][-3].startswith("-0.230 against paper: worse than the folds vary")
    assert rows["a"][-2] == "optim.lr 0.0001 to 0.0003", "settings are compared with the last measured one"


def test_other_corpora_and_unfinished_folds(three: Path, write_run) -> None:
    write_run(three / "other", 1, {"valence": 0.99, "arousal": 0.99}, size=100)
    change(three / "other", started="2026-01-05", data__corpus="emodb")
    write_run(three / "c", 4, {"valence": 0.5, "arousal": 0.5}, finished=False)
    text = comparison.page(three)
    assert "## CCC-V, CCC-A, mean of iemocap@abc" in text
    assert "## CCC-V, CCC-A, mean of emodb@abc" in text
    rows = cells(text)
    assert rows["a"][-1] == rows["other"][-1] == "best on tests and validation"
    assert rows["c"][1] == "3 of 4 runs"


def test_many_changes_are_counted(three: Path) -> None:
    fields = {f"optim__x{i}": i for i in range(6)}
    change(three / "c", started="2026-01-03T10:00:00", **fields)
    assert cells(comparison.page(three))["c"][-2].endswith("and 4 more")


def test_the_command_over_a_folder_of_experiments(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (three / "broken").mkdir()
    (three / "broken" / "reported.json").write_text("{")
    commands.report([three], target=("V=.5",))
    out, err = capsys.readouterr()
    assert out.count("report: ") == 3
    assert "# Experiments so far" in out
    assert "test CCC-V .5: reached" in out
    assert err.startswith(f"left out: {three / 'broken'}")
    assert all((three / name / "report.html").is_file() for name in "abc")


def test_the_command_compares_and_refuses(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.report([three / "a"], against=Path("b"))
    out = capsys.readouterr().out
    assert "Against b:\n\n- test: mean +0." in out
    assert "# Experiments so far" not in out
    before = (three / "a" / "report.md").read_bytes()
    with pytest.raises(AffectError, match="did you mean"):
        commands.report([three / "a"], target=("valance=.5",))
    with pytest.raises(AffectError, match="no run folder"):
        commands.report([three / "a", three / "zzz"])
    (three / "a" / "report.md").write_bytes(before)
    with pytest.raises(AffectError, match="needs the folder"):
        commands.report([])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_still_has_its_report(three: Path, caplog: pytest.LogCaptureFixture) -> None:
    three.chmod(0o500)
    try:
        assert report.write(three / "a").is_file()
    finally:
        three.chmod(0o700)
    assert "can't be written" in caplog.text


def test_a_comparison_in_the_way_is_one_line_and_hides_no_report(three: Path, caplog: pytest.LogCaptureFixture) -> None:
    (three / "comparison.md").mkdir()
    assert comparison.write(three) is None
    assert "comparison.md' can't be written: Is a directory" in caplog.text
    caplog.clear()
    assert report.write(three / "a").is_file()
    assert "can't be written" in caplog.text
