from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import matplotlib
import matplotlib.image
import pytest

from affect import report
from affect.errors import AffectError
from affect.findings import Flag
from affect.report import page, plots, read
from affect.report.study import Study
from tests.report.conftest import REPORT


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in [folder / "report.md", folder / "report.html", *sorted((folder / "plots").glob("*"))]
    }


def test_the_page_holds_everything_in_order(report_runs: Path) -> None:
    path = report.write(report_runs)
    text = path.read_text(encoding="utf-8")
    assert path == report_runs / "report.md"
    heads = [
        "Result",
        "Folds",
        "Flags",
        "Training",
        "Further scores",
        "Predictions",
        "Where the errors are",
        "Settings",
        "Reproduce",
        "Environment",
    ]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == heads
    assert "the tests chose nothing" in text
    assert "CCC-V 0.472, the other folds have 0.609" in text
    assert "encoder_lr 1e-05" in text
    assert "clip" not in text  # not set
    assert "mapped, not rated" not in text.lower()
    named = re.findall(r"\]\((.*?\.png)\)", text)
    assert len(named) == 4
    assert all((report_runs / name).is_file() for name in named)


@pytest.mark.usefixtures("no_plots")
def test_the_last_weights_are_not_called_a_choice(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "last", 1, {"valence": 0.5, "arousal": 0.6})
    recipe = json.loads((path / "recipe.json").read_text())
    recipe["train"]["choose"] = "last"
    (path / "recipe.json").write_text(json.dumps(recipe))
    text = report.write(tmp_path / "last").read_text(encoding="utf-8")
    assert "The weights of the last step were taken" in text
    assert "lean upwards" not in text


def test_the_same_runs_give_the_same_bytes(report_runs: Path, tmp_path: Path) -> None:
    first = contents(report.write(report_runs).parent)
    shutil.rmtree(report_runs / "plots")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert contents(report.write(report_runs).parent) == first
    moved = tmp_path / "elsewhere" / "v2"
    shutil.copytree(report_runs, moved, ignore=shutil.ignore_patterns("report.md", "plots"))
    assert contents(report.write(moved).parent) == first


@pytest.mark.usefixtures("no_plots")
def test_mapped_labels_are_said_first(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, environment={"data": {"mapped": True}})
    lines = report.write(tmp_path / "a").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("> **Labels mapped, not rated.**")


@pytest.mark.usefixtures("no_plots")
def test_the_command_is_the_one_that_was_given(tmp_path: Path, write_run) -> None:
    command = "accelerate launch recipes/finetune_wavlm.py finetune --optim.lr 3e-5"
    write_run(tmp_path / "a", 1, {"valence": 0.5}, environment={"command": command})
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert f"    {command}\n" in text
    assert text.count(command) == 1


def test_an_unfinished_experiment_has_a_page_too(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5})
    report.write(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "seed0")
    write_run(tmp_path / "a", 1, {"valence": 0.5}, finished=False)
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert "No run is finished" in text
    assert "no end in metrics.jsonl (last step 120)" in text
    assert [path.name for path in (tmp_path / "a" / "plots").iterdir()] == ["curves.png"]


def test_a_bare_run_folder_is_no_stack_trace(tmp_path: Path) -> None:
    run = tmp_path / "a" / "seed0" / "fold1"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text(json.dumps({"event": "end", "step": 3, "scores": None}) + "\n")
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert "finished, but no readable predictions-test.jsonl" in text
    with pytest.raises(AffectError, match="holds no runs"):
        report.write(run.parent.parent.parent)


def test_a_folder_that_cannot_be_written_is_one_line(report_runs: Path) -> None:
    (report_runs / "plots").write_text("in the way")
    with pytest.raises(AffectError, match=r"report\.md can't be written"):
        report.write(report_runs)


def test_plots_show_the_numbers(tmp_path: Path, write_run) -> None:
    for seed in (0, 1):
        for fold in (1, 2):
            test = {"valence": 0.4 + 0.1 * fold + 0.02 * seed, "arousal": 0.7}
            write_run(tmp_path / "a", fold, test, seed=seed, baselines={"ridge": {"valence": 0.3, "arousal": 0.4}})
    study = Study(runs=read(tmp_path / "a"))
    figure = plots.folds(study, "test")
    assert figure is not None
    valence = figure.axes[0]
    assert [bar.get_height() for bar in valence.patches] == pytest.approx([0.51, 0.61])
    assert sorted(valence.lines[0].get_ydata()) == pytest.approx([0.5, 0.52, 0.6, 0.62])
    lines = [segment[0][1] for found in valence.collections for segment in found.get_segments()]
    assert lines == pytest.approx([0.3, 0.3])
    course = plots.curves(study)
    assert course is not None
    assert [axes.get_title() for axes in course.axes] == ["training", "validation, CCC-V", "validation, CCC-A"]
    assert course.axes[1].lines[0].get_xdata() == pytest.approx([1, 2, 3, 4, 5, 6])
    assert course.axes[1].lines[1].get_xdata() == pytest.approx([5])
    report.write(tmp_path / "a")
    for path in (tmp_path / "a" / "plots").glob("*.png"):
        pixels = matplotlib.image.imread(path)
        assert pixels[..., :3].std() > 0.05  # not blank
        assert pixels.shape[1] > 700


@pytest.mark.usefixtures("no_plots")
def test_what_the_earlier_page_had_is_said(tmp_path: Path, write_run) -> None:
    for name in ("v1", "v2"):
        write_run(tmp_path / name, 1, {"valence": 0.5}, size=30, epochs=1)
    other, mine = report.load(tmp_path / "v1"), report.load(tmp_path / "v2")
    _, said = report.publish(mine, other, {"V": 0.68})
    assert "The earlier page" not in said
    _, said = report.publish(mine, other)
    assert said.endswith("The earlier page also had targets; this one does not: give --target again to have it back.")
    _, said = report.publish(mine, other, {"V": 0.68})
    _, said = report.publish(mine)
    line = "The earlier page also had a comparison with v1 and targets; this one does not"
    assert f"{line}: give --against and --target again" in said.splitlines()[-1]
    assert "The earlier page" not in report.publish(mine)[1]


@pytest.mark.usefixtures("no_plots")
def test_curves_of_several_seeds_say_that_they_share_a_colour(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, size=40)
    assert "share its colour" not in report.write(tmp_path / "a").read_text(encoding="utf-8")
    write_run(tmp_path / "a", 1, {"valence": 0.5}, seed=1, size=40)
    assert "the seeds of a fold share its colour" in report.write(tmp_path / "a").read_text(encoding="utf-8")


REPORTED = {
    "name": "v2",
    "source": "report 000",
    "scores": {
        str(fold): {"test": {"valence": v, "arousal": a}}
        for fold, (v, a) in enumerate(zip(REPORT["valence"], REPORT["arousal"], strict=True), start=1)
    },
}


def test_report_000s_own_numbers_say_what_its_author_found(tmp_path: Path) -> None:
    """Fold 3 is odd, fold 5 overfits, +0.1 % on v1 is noise, V lacks .098, A is there; and nothing else."""
    given = copy.deepcopy(REPORTED)
    given["scores"]["5"]["valid"] = {"valence": 0.69, "arousal": 0.73}  # type: ignore[index]
    v1 = {"name": "v1", "source": "report 000", "mean": {"test": {"valence": 0.5896, "arousal": 0.6867}}}
    for name, content in (("v2", given), ("v1", v1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "reported.json").write_text(json.dumps(content))
    path = report.write(tmp_path / "v2", against=Path("v1"), targets={"V": 0.68, "A": 0.68})
    text = path.read_text(encoding="utf-8")
    assert "mean **+0.000 (+0.1 %)**, **within noise**" in text
    assert "CCC-V -0.008 (-1.3 %), within noise; CCC-A +0.009 (+1.2 %), within noise" in text
    assert "test CCC-V .68: **not reached**: 0.582, the mean over folds, is 0.098 under .68" in text
    assert "test CCC-A .68: **reached**: 0.695" in text
    flagged = [line.split("|")[1:4] for line in text.split("## Flags")[1].strip().splitlines()[2:]]
    assert [[cell.strip() for cell in cells] for cells in flagged] == [
        [
            "outlying fold",
            "fold 3",
            "CCC-V 0.472, the other folds have 0.609 ± 0.064 (2.1 deviations, p .15); "
            "chance alone makes some fold odd in about 8 of 10 five-fold runs",
        ],
        ["valid above test", "fold5", "CCC-V: valid 0.690, test 0.546 (-0.144)"],
    ]
    assert (tmp_path / "v2" / "report.html").read_text(encoding="utf-8").count("<img ") == 3


@pytest.mark.usefixtures("no_plots")
def test_a_comparison_that_fails_leaves_the_earlier_report(report_runs: Path, write_run) -> None:
    before = contents(report.write(report_runs).parent)
    write_run(report_runs.parent / "other", 1, {"dominance": 0.5}, size=40)
    with pytest.raises(AffectError, match="no measure in common"):
        report.write(report_runs, against=Path("other"))
    with pytest.raises(AffectError, match="no score 'X'"):
        report.write(report_runs, targets={"X": 0.5})
    assert contents(report_runs) == before


@pytest.mark.usefixtures("no_plots")
def test_how_to_run_it_again_is_what_was_given_and_of_which_code(tmp_path: Path, write_run) -> None:
    for fold in (1, 2):
        command = f"affect launch recipes/mine.py mine --folds {fold}"
        write_run(
            tmp_path / "a", fold, {"valence": 0.5}, environment={"command": command, "commit": "ab12", "dirty": True}
        )
    text = report.write(tmp_path / "a").read_text(encoding="utf-8").split("## Reproduce")[1]
    assert (
        "    affect launch recipes/mine.py mine --folds 1\n    affect launch recipes/mine.py mine --folds 2\n" in text
    )
    assert "Run at the commit `ab12` with changes that were not committed." in text
    write_run(tmp_path / "b", 1, {"valence": 0.5})
    text = report.write(tmp_path / "b").read_text(encoding="utf-8").split("## Reproduce")[1]
    assert "The command was not recorded." in text and "RECIPE.py" not in text


@pytest.mark.usefixtures("no_plots")
def test_the_six_heaviest_flags_are_shown(tmp_path: Path, write_run, monkeypatch) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5})
    many = [Flag(f"kind {k}", f"place {k}", "it is so", "do this") for k in range(9)]
    monkeypatch.setattr(page, "flags", lambda *_: many)
    text = report.write(tmp_path / "a").read_text(encoding="utf-8").split("## Flags")[1].split("\n## ")[0]
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| kind")] == [
        f"kind {k}" for k in range(6)
    ]
    assert "3 further flags: kind 6 (place 6), kind 7 (place 7), kind 8 (place 8)." in text


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"speaker": "03", "session": "03", "dialogue": "03"},
            "All rows are of one speaker: the intervals say nothing of other speakers.",
        ),
        (
            {"speaker": None, "session": None, "dialogue": None},
            "The rows name neither dialogue nor speaker nor session: where some",
        ),
        ({"speaker": "03", "session": None, "dialogue": ""}, "All rows are of one speaker"),
        ({"speaker": None, "session": "1", "dialogue": None}, "All rows are of one session"),
    ],
)  # fmt: skip
def test_why_rows_are_drawn_one_by_one(tmp_path: Path, write_run, change, words) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, size=40)
    file = path / "predictions-test.jsonl"
    rows = [json.loads(line) | change for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert words in text
    assert ("name neither" in text) == ("name neither" in words)


def test_a_trivial_model_is_not_called_as_a_column_is(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, baselines={"mean": {"valence": 0.1}})
    assert (path / "baseline-mean-test.jsonl").is_file(), "as earlier versions wrote it"
    (run,) = report.read(tmp_path / "a")
    assert list(run.baselines) == ["constant"]
