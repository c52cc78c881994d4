"""Folds side by side: the runs of one after another, none lost, none left behind."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from affect.errors import AffectError
from affect.experiments import parallel, progress_table
from tests.launching import assert_one_line

RECIPE = Path(__file__).with_name("two_runs.py")
ALL = ("--data.fold", "None")


@pytest.fixture
def affect(affect):
    return lambda *arguments: affect("folds", *arguments)


def test_side_by_side_is_one_after_another_byte_for_byte(affect, where, launch):
    code, _, err = launch("base", *ALL, "--runs", "alone", "--train.epochs", "1")
    assert code == 0, err
    for fold in ("fold1", "fold2", "fold3"):
        shutil.copytree(where / "alone" / "base" / "seed0" / fold, where / "runs" / "base" / "seed0" / fold)
    code, out, err = affect(RECIPE, "base", *ALL, "--jobs", "2", "--train.epochs", "1")
    assert code == 0, err
    assert "seed0/fold1 is finished: skipped" in out
    names = [f"seed0/fold{fold}" for fold in range(1, 6)]
    for name in names:
        for file in ("metrics.jsonl", "recipe.json", "predictions-test.jsonl", "predictions-valid.jsonl"):
            there, here = where / "alone" / "base" / name / file, where / "runs" / "base" / name / file
            assert here.read_bytes() == there.read_bytes(), f"{name}/{file}"
    for name in names[3:]:
        assert f"{name} on cpu: running" in out
        assert re.search(rf"{name} on cpu: finished, epoch 1/1, step 3/3, loss [\d.]+, ccc", out)
    assert "report: runs/base/report.md" in out
    assert (where / "runs" / "latest").resolve() == where / "runs" / "base"
    said = json.loads((where / "runs" / "base" / names[3] / "environment.json").read_text())
    assert said["command"].startswith("affect folds "), "the command to repeat is the one that was given"
    assert (where / "runs" / "base" / "report.md").is_file()
    for name in names[3:]:
        said = (where / "runs" / "base" / name / "output.log").read_text()
        assert "test ccc" in said
        assert "report:" not in said, "only the parent writes the report"


def test_one_that_fails_leaves_the_others_and_is_all_that_is_left_to_do(affect, where):
    top = where / "runs" / "base"
    bad = top / "seed1" / "fold1" / "timing.jsonl"
    bad.mkdir(parents=True)
    arguments = (RECIPE, "base", "--jobs", "1", "--seeds", "1", "2", "--train.epochs", "1")
    code, out, err = affect(*arguments)
    assert code == 1
    assert "failed: seed1/fold1:" in err
    assert err.splitlines()[-1] == "error: 1 of 2 failed; give the command again to go on with them alone"
    assert "seed1/fold1 failed:" in out
    assert "output.log" in out
    assert "Traceback" not in out + err
    assert "seed2/fold1 on cpu: finished" in out
    assert (top / "report.md").is_file()
    bad.rmdir()
    code, out, err = affect(*arguments)
    assert code == 0, err
    assert out.count("is finished: skipped") == 1
    assert out.count("on cpu: finished") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Missing from affect folds"]),
        (["nowhere.py", "base"], ["no recipe file 'nowhere.py'"]),
        ([RECIPE, "bsae"], ["unknown experiment 'bsae'", "did you mean 'base'?"]),
        ([RECIPE, "search"], ["search is a search"]),
        ([RECIPE, "ensemble"], ["ensemble is an ensemble"]),
        (
            [RECIPE, "suite", "--jobs", "2"],
            ["suite is a suite", f"for each in base wide; do affect folds {RECIPE} $each ...; done; then python"],
        ),
        ([RECIPE, "base", "--train.epcohs", "3"], ["unknown field --train.epcohs", "'--train.epochs'"]),
        ([RECIPE, "base", "--jbos", "3"], ["unknown field --jbos", "'--jobs'"]),
        ([RECIPE, "base", "--train.epochs", "0"], ["train.epochs must be positive, not 0"]),
        ([RECIPE, "base", "--jobs", "0"], ["--jobs must be positive, not 0"]),
        ([RECIPE, "base", "--jobs", "many"], ["--jobs", "many"]),
        ([RECIPE, "base", "--devices", "0"], ["--devices names 0, but no GPU is here", "--jobs"]),
        ([RECIPE, "base", "--devices", "0,x"], ["--devices"]),
        ([RECIPE, "base", "--devices", "0", "--jobs", "1"], ["--devices and --jobs"]),
        ([RECIPE, "base", "--jobs", "1", "--precision", "fp16"], ["--precision fp16 needs a GPU"]),
        ([RECIPE, "base", "--jobs", "1", "--train.world", "2"], ["train.world asks for 2 processes"]),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(affect, where, arguments, words):
    code, out, err = affect(*arguments)
    assert_one_line(code, err, *words)
    assert out == ""
    assert not (where / "runs").exists()


def test_a_recipe_file_that_can_not_be_read_is_one_line(affect, where):
    Path("broken.py").write_text("def demo(:\n")
    assert_one_line(*affect("broken.py", "demo")[::2], "broken.py can't be read: SyntaxError")
    Path("empty.py").write_text("x = 1\n")
    assert_one_line(*affect("empty.py", "demo")[::2], "empty.py holds no experiments")


def test_another_recipe_in_the_folder_stops_it_before_anything_starts(affect, where, launch):
    code, _, err = launch("base", "--train.steps", "1")
    assert code == 0, err
    code, out, err = affect(RECIPE, "base", "--jobs", "1", "--seeds", "0", "1", "--optim.lr", "0.5")
    assert_one_line(code, err, "differs in optim.lr", "train.steps", "--overwrite")
    assert not (where / "runs" / "base" / "seed1").exists()
    code, out, err = affect(RECIPE, "base", "--jobs", "1", "--optim.lr", "0.5", "--train.steps", "2", "--overwrite")
    assert code == 0, err
    assert "step 2/2" in out


def test_dry_run_starts_nothing(affect, where):
    code, out, _ = affect(RECIPE, "base", *ALL, "--jobs", "2", "--dry-run")
    assert code == 0
    assert "folds [1, 2, 3, 4, 5]" in out
    assert "at a time: cpu, cpu" in out
    assert not (where / "runs").exists()


# Where runs go


@pytest.fixture
def gpus(monkeypatch):
    def have(count: int, visible: str | None = None) -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.delenv("AFFECT_THREADS", raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))

    return have


def test_devices_are_numbers_among_the_visible_ones(gpus):
    gpus(3)
    found = parallel.slots("2,0", None)
    assert [slot.name for slot in found] == ["gpu 2", "gpu 0"]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found] == ["2", "0"]
    assert {slot.environment["AFFECT_THREADS"] for slot in found} == {"6"}
    assert len(parallel.slots(None, None)) == 3
    gpus(2, "5,GPU-abc")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in parallel.slots("0,1", None)] == ["5", "GPU-abc"]


@pytest.mark.parametrize("devices", ["3", "0,0", "-1", "a", "0,", ""])
def test_devices_that_are_not_there_are_refused(gpus, devices):
    gpus(3)
    with pytest.raises(AffectError, match="--devices"):
        parallel.slots(devices, None)


def test_jobs_share_the_cores_unless_told(gpus, monkeypatch):
    gpus(2)
    found = parallel.slots(None, 4)
    assert len(found) == 4
    assert found[0].environment == {"CUDA_VISIBLE_DEVICES": "", "AFFECT_THREADS": "3", "OMP_NUM_THREADS": "3"}
    assert parallel.slots(None, 99)[0].environment["AFFECT_THREADS"] == "1"
    monkeypatch.setenv("AFFECT_THREADS", "7")
    assert parallel.slots(None, 4)[0].environment["OMP_NUM_THREADS"] == "7"
    gpus(0)
    assert [slot.name for slot in parallel.slots(None, None)] == ["cpu"] * 6


# What is shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def progress(tmp_path):
    return progress_table.Progress(
        seed=0, fold=2, folder=tmp_path, steps=12, epochs=4, unit="s of audio", shown=("ccc", "ccc_valence"),
        state="running", place="gpu 1",
    )  # fmt: skip


def test_progress_is_read_as_it_is_written(progress, tmp_path):
    metrics, timing = tmp_path / "metrics.jsonl", tmp_path / "timing.jsonl"
    progress.look()
    assert progress.row()[4:] == ["", "", "", "", "", ""]
    first = '{"event": "step", "step": 3, "epoch": 0, "loss": 0.75}\n'
    metrics.write_text(first + '{"event": "eval", "evaluation": "valid", "scores": {"ccc": 0.5, "rmse": 1')
    timing.write_text('{"step": 3, "seconds": 2.0, "units_per_second": 10.0}\n')
    progress.look()
    told = ["0", "2", "gpu 1", "running", "1/4", "3/12", "0.750", "", "10.0 s of audio a second", "0:00:18"]
    assert progress.row() == told
    with metrics.open("a") as file:
        file.write(', "ccc_valence": 0.25}}\n')
    progress.look()
    assert progress.row()[7] == "ccc 0.500 ccc_valence 0.250"
    # A resumed run writes the file anew.
    (tmp_path / "new").write_text('{"event": "step", "step": 1, "epoch": 0, "loss": null}\n')
    (tmp_path / "new").replace(metrics)
    progress.look()
    assert progress.step == 1


def test_a_terminal_sees_one_table_in_place(progress, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "10")
    out = Terminal()
    with progress_table.Display(out) as display:
        display.show([progress], now=True)
        first = out.getvalue()
        assert "gpu 1" in first and "\x1b[1A" not in first
        display.show([progress])
        assert out.getvalue() == first, "once a second"
        display.say("a line that stays")
        display.show([progress] * 20, now=True)
        last = out.getvalue()[len(first) :]
        assert "\x1b[1A" in last, "drawn over the one before"
        assert "a line that stays" in last
        assert "... and 16 more" in last and last.split("a line that stays")[-1].count("gpu 1") <= 2 * 4
    assert "\x1b[?25h" in out.getvalue(), "the cursor is shown again"


def test_elsewhere_a_line_is_written_when_something_changes(progress):
    out = io.StringIO()
    display = progress_table.Display(out)
    for _ in range(3):
        display.show([progress])
    progress.scores = {"ccc": 0.5}
    display.show([progress])
    progress.state = "finished"
    display.show([progress], now=True)
    assert "\x1b" not in out.getvalue()
    lines = out.getvalue().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert [line.split(" ", 2)[2] for line in lines] == [
        "seed0/fold2 on gpu 1: running",
        "seed0/fold2 on gpu 1: running, ccc 0.500",
        "seed0/fold2 on gpu 1: finished, ccc 0.500",
    ]


def test_a_run_without_news_has_a_line_now_and_then(progress, monkeypatch):
    out = io.StringIO()
    display, now = progress_table.Display(out), [0.0]
    monkeypatch.setattr(progress_table.time, "monotonic", lambda: now[0])
    progress.step, progress.epoch, progress.loss = 3, 1, 0.25
    for now[0] in (0.0, 30.0, 61.0, 62.0):
        display.show([progress])
    assert out.getvalue().count("running, epoch 1/4, step 3/12, loss 0.250") == 2


def test_the_reason_of_a_failure_is_its_own_line(tmp_path):
    path = tmp_path / "output.log"
    path.write_text("error: of an earlier session\nhello\nerror: no corpus\nbye\n")
    assert parallel._why(path, 0, 2) == "no corpus"
    path.write_text("error: of an earlier session\nTraceback\nValueError: x\n")
    assert parallel._why(path, 29, 1) == "ValueError: x"
    assert parallel._why(path, 0, -9) == "killed by SIGKILL: out of memory, perhaps"
