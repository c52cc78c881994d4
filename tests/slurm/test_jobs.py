"""slurm/train.sbatch and slurm/folds.sbatch on a real Slurm, with real runs: worlds, arrays, folds that fail."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.slurm.cluster import Cluster, until
from tests.slurm.conftest import ALL_FOLDS, FOLDS, RECIPE, SMALL, TRAIN

TWO = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", *SMALL)
LONG = ("base", "--train.epochs", "40", "--no-report")


def test_two_nodes_are_one_world_and_a_requeued_run_is_the_uninterrupted_one(begun, tmp_path):
    """One is told to stop in the middle, goes back to the queue by itself and goes on; the other never stops."""
    slurm = begun
    numbers = {name: slurm.submit(*TWO, TRAIN, RECIPE, *LONG, "--name", name, folder=tmp_path) for name in ("a", "b")}
    runs = {name: tmp_path / "runs" / f"base-{name}" / "seed0" / "fold1" for name in numbers}
    steps = runs["b"] / "metrics.jsonl"
    until(lambda: steps.is_file() and steps.read_text().count('"step"') > 8, 240, slurm.said)
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
    assert list(tmp_path.glob(".affect-*")) == []


def test_an_array_of_folds_a_failing_one_and_their_report(begun, array):
    """Fold 3's folder holds another run: it fails, the others come to their end; repaired, it is run alone."""
    slurm, first, folder = begun, array.number, array.folder
    held = folder / "runs" / "base" / "seed0" / "fold3"
    code, said = _reported(slurm, first, folder)
    codes = {job["ArrayTaskId"]: job["ExitCode"] for job in slurm.jobs(first)}
    assert codes == {"1": "0:0", "2": "0:0", "3": "2:0", "4": "0:0", "5": "0:0"}, said
    assert code == "1:0"
    assert said.splitlines()[-1] == "error: 1 runs of base did not come to their end, and are not in the report"
    (line,) = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: seed0/fold3 stopped after step 1: ")
    assert "holds a run that differs in" in line
    assert line.endswith(f"(slurm-{first}_3.out)")
    assert _folds(folder) == [1, 2, 4, 5]
    kept = {fold: (held.parent / f"fold{fold}" / "timing.jsonl").read_bytes() for fold in (1, 2, 4, 5)}

    shutil.rmtree(held)
    second = slurm.submit("--array=2,3", *SMALL, FOLDS, *ALL_FOLDS, folder=folder, REPORT="--time=5")
    code, said = _reported(slurm, second, folder)
    assert code == "0:0", said
    assert "is finished: skipped" in (folder / f"slurm-{second}_2.out").read_text()
    assert _folds(folder) == [1, 2, 3, 4, 5]
    assert kept == {fold: (held.parent / f"fold{fold}" / "timing.jsonl").read_bytes() for fold in kept}
    assert "report: runs/base/report.md" in said
    assert (folder / "runs" / "base" / "report.html").is_file()
    assert list(folder.glob(".affect-*")) == []


def test_tasks_that_srun_starts_without_a_launcher_are_no_runs_of_their_own(begun, unrelated):
    """Each would train the whole, and both would end well."""
    (ended,) = begun.ended(unrelated.number)
    for task in (0, 1):
        said = (unrelated.folder / f"said-{task}").read_text()
        lines = [line for line in said.splitlines() if line.startswith("error")]
        assert lines == said.splitlines()[-1:], said
        assert "srun started 2 tasks" in lines[0]
        assert "srun affect launch" in lines[0]
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "2:0")


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
