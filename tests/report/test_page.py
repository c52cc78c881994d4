from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import matplotlib
import matplotlib.image
import pytest

from affect import report
from affect.errors import AffectError
from affect.report import plots, read


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [folder / "report.md", *sorted((folder / "plots").glob("*"))]}


def test_the_page_holds_everything_in_order(report_runs: Path) -> None:
    path = report.write(report_runs)
    text = path.read_text(encoding="utf-8")
    assert path == report_runs / "report.md"
    heads = ["Result", "Folds", "Pooled scores and baselines", "Flags", "Plots", "Settings", "Reproduce", "Environment"]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == heads
    assert "the test part was evaluated once" in text
    assert "CCC-V 0.472, the other folds have 0.609" in text
    assert "encoder_lr 1e-05" in text
    assert "clip" not in text  # not set
    assert "mapped, not rated" not in text.lower()
    named = re.findall(r"\]\((.*?\.png)\)", text)
    assert len(named) == 3
    assert all((report_runs / name).is_file() for name in named)


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


def test_mapped_labels_are_said_first(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, environment={"data": {"mapped": True}})
    lines = report.write(tmp_path / "a").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("> **Labels mapped, not rated.**")


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
    with pytest.raises(AffectError, match=r"report\.md' can't be written"):
        report.write(report_runs)


def test_plots_show_the_numbers(tmp_path: Path, write_run) -> None:
    for seed in (0, 1):
        for fold in (1, 2):
            test = {"valence": 0.4 + 0.1 * fold + 0.02 * seed, "arousal": 0.7}
            write_run(tmp_path / "a", fold, test, seed=seed, baselines={"ridge": {"valence": 0.3, "arousal": 0.4}})
    runs = read(tmp_path / "a")
    figure = plots.folds(plots.Scores(runs=runs))
    assert figure is not None
    valence = figure.axes[0]
    assert [bar.get_height() for bar in valence.patches] == pytest.approx([0.51, 0.61])
    assert sorted(valence.lines[0].get_ydata()) == pytest.approx([0.5, 0.52, 0.6, 0.62])
    assert [segment[0][1] for segment in valence.collections[0].get_segments()] == pytest.approx([0.3, 0.3])
    course = plots.curves(runs)
    assert course is not None
    assert [axes.get_title() for axes in course.axes] == ["training", "validation, valence", "validation, arousal"]
    assert course.axes[1].lines[0].get_xdata() == pytest.approx([1, 2, 3, 4, 5, 6])
    assert course.axes[1].lines[1].get_xdata() == pytest.approx([5])
    drawn = plots.draw(runs, tmp_path / "plots")
    for _, name in drawn:
        pixels = matplotlib.image.imread(tmp_path / name)
        assert pixels[..., :3].std() > 0.05  # not blank
        assert pixels.shape[1] > 700
