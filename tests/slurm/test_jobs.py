"""slurm/train.sbatch and slurm/folds.sbatch on a real Slurm: worlds, requeues, arrays, and folds that fail."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.launching import ROOT
from tests.slurm.cluster import Cluster, until

TRAIN, FOLDS = ROOT / "slurm" / "train.sbatch", ROOT / "slurm" / "folds.sbatch"
RECIPE = ROOT / "tests" / "workflows" / "two_runs.py"
STAND_IN = Path(__file__).with_name("stand_in.py")
SMALL = ("--cpus-per-task=1", "--time=5")
TWO = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", *SMALL)
LONG = ("base", "--train.epochs", "40", "--no-report")


@pytest.fixture(scope="module")
def limited(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A job whose time limit is near: it takes Slurm up to half a minute to say so, while the other tests run."""
    folder = tmp_path_factory.mktemp("limited")
    job = slurm.submit(
        "--time=1", "--signal=USR1@55", "--cpus-per-task=1", "--nodes=1", TRAIN, STAND_IN, "out", "3", folder=folder
    )
    return job, folder


def test_two_nodes_are_one_world_and_a_requeued_run_is_the_uninterrupted_one(slurm, limited, tmp_path):
    """One is told to stop in the middle, goes back to the queue by itself and goes on; the other never stops."""
    numbers = {name: slurm.submit(*TWO, TRAIN, RECIPE, *LONG, "--name", name, folder=tmp_path) for name in ("a", "b")}
    runs = {name: tmp_path / "runs" / f"base-{name}" / "seed0" / "fold1" for name in numbers}
    begun = runs["b"] / "metrics.jsonl"
    until(lambda: begun.is_file() and begun.read_text().count('"step"') > 8, 240, slurm.said)
    slurm.run("scancel", "--signal=USR1", numbers["b"])
    jobs = {name: slurm.ended(number)[0] for name, number in numbers.items()}
    said = {name: (tmp_path / f"slurm-{number}.out").read_text() for name, number in numbers.items()}
    assert {name: (job["JobState"], job["ExitCode"], job["Restarts"]) for name, job in jobs.items()} == {
        "a": ("COMPLETED", "0:0", "0"), "b": ("COMPLETED", "0:0", "1"),
    }, said  # fmt: skip
    for name, folder in runs.items():
        assert json.loads((folder / "environment.json").read_text())["world"] == 2
        log = (folder / "train.log").read_text()
        assert re.search(r"\b2 ranks\b.*\b2 nodes\b", log), log
        assert ("resuming" in log) == (name == "b"), "it did not begin anew"
    for file in ("metrics.jsonl", "predictions-test.jsonl", "predictions-valid.jsonl"):
        assert (runs["a"] / file).read_bytes() == (runs["b"] / file).read_bytes(), file
    assert json.loads((runs["b"] / "metrics.jsonl").read_text().splitlines()[-1])["event"] == "end"
    assert _left(slurm) <= {limited[0]}


def test_an_array_of_folds_a_failing_one_and_their_report(slurm, limited, tmp_path):
    """Fold 3's folder holds another run: it fails, the others come to their end; repaired, it is run alone."""
    held = tmp_path / "runs" / "base" / "seed0" / "fold3"
    words = (RECIPE, "base", "--data.fold", "None", "--train.epochs", "1")
    other = {"experiment": "base", "optim": {"lr": 1.0}}
    held.mkdir(parents=True)
    (held / "recipe.json").write_text(json.dumps(other))
    (held / "metrics.jsonl").write_text('{"event": "step", "step": 1}\n')
    first = slurm.submit("--array=1-5", *SMALL, FOLDS, *words, folder=tmp_path, REPORT="--time=5")
    code, said = _reported(slurm, first, tmp_path)
    codes = {job["ArrayTaskId"]: job["ExitCode"] for job in slurm.jobs(first)}
    assert codes == {"1": "0:0", "2": "0:0", "3": "2:0", "4": "0:0", "5": "0:0"}, said
    assert code == "1:0"
    assert said.splitlines()[-1] == "error: 1 runs of base did not come to their end, and are not in the report"
    (line,) = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: seed0/fold3 stopped after step 1: ")
    assert "holds a run that differs in" in line
    assert line.endswith(f"(slurm-{first}_3.out)")
    assert _folds(tmp_path) == [1, 2, 4, 5]
    kept = {fold: (held.parent / f"fold{fold}" / "timing.jsonl").read_bytes() for fold in (1, 2, 4, 5)}

    shutil.rmtree(held)
    second = slurm.submit("--array=2,3", *SMALL, FOLDS, *words, folder=tmp_path, REPORT="--time=5")
    code, said = _reported(slurm, second, tmp_path)
    assert code == "0:0", said
    assert "is finished: skipped" in (tmp_path / f"slurm-{second}_2.out").read_text()
    assert _folds(tmp_path) == [1, 2, 3, 4, 5]
    assert kept == {fold: (held.parent / f"fold{fold}" / "timing.jsonl").read_bytes() for fold in kept}
    assert "report: runs/base/report.md" in said
    assert (tmp_path / "runs" / "base" / "report.html").is_file()
    assert _left(slurm) <= {limited[0]}


def test_before_the_time_limit_a_job_is_told_to_stop_and_requeues_itself_once(slurm, limited):
    """Its program alone is told, ends with 75 and is started again; it then fails, and stays failed with its code."""
    job, folder = limited
    (ended,) = slurm.ended(job)
    found = {path.name: path.read_text() for path in (folder / "out").iterdir()}
    assert found == {"began-0-0": "3", "signal-0-0": "10", "began-1-0": "3"}
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "3:0", "1")
    assert _left(slurm) == set()


def test_a_cancelled_job_saves_and_stays_cancelled(slurm, tmp_path):
    job = slurm.submit(*SMALL, TRAIN, STAND_IN, "out", "0", folder=tmp_path)
    until((tmp_path / "out" / "began-0-0").is_file, 60, slurm.said)
    slurm.run("scancel", job)
    (ended,) = slurm.ended(job)
    assert ended["JobState"] == "CANCELLED"
    until((tmp_path / "out" / "signal-0-0").is_file, 10, slurm.said)
    assert (tmp_path / "out" / "signal-0-0").read_text() == "15"
    assert ended["Restarts"] == "0"
    assert job not in _left(slurm)


def test_tasks_that_are_not_as_many_as_gpus_are_refused(slurm, tmp_path):
    job = slurm.submit("--gpus-per-node=2", *SMALL, TRAIN, RECIPE, "base", folder=tmp_path)
    (ended,) = slurm.ended(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "2:0")
    said = (tmp_path / f"slurm-{job}.out").read_text()
    assert said == (
        "error: a task a GPU: 2 GPUs but 1 tasks a node; give sbatch --gpus-per-node and --ntasks-per-node the same "
        "number\n"
    )


def _reported(slurm: Cluster, array: str, folder: Path) -> tuple[str, str]:
    """Wait for an array and the report after it; return the report's exit code and what it said."""
    slurm.ended(array)
    text = (folder / f"slurm-{array}_{min(job['ArrayTaskId'] for job in slurm.jobs(array))}.out").read_text()
    (number,) = re.findall(r"Submitted batch job (\d+)", text)
    (ended,) = slurm.ended(number)
    return ended["ExitCode"], (folder / f"slurm-{array}_report.out").read_text()


def _folds(folder: Path) -> list[int]:
    """Return the folds in the report of `base`."""
    page = (folder / "runs" / "base" / "report.md").read_text()
    rows = page.partition("## Folds")[2].partition("## ")[0]
    return [int(fold) for fold in re.findall(r"^\| (\d+) ", rows, re.MULTILINE)]


def _left(slurm: Cluster) -> set[str]:
    """Return the jobs that still wait or run."""
    return set(slurm.run("squeue", "--noheader", "--array", "--format=%i").split())
