"""slurm/*.sbatch: what is started again and what is not, and that a report is asked for once, with stand-ins."""

from __future__ import annotations

import shlex

from tests.slurm.cluster import Cluster, until
from tests.slurm.conftest import FOLDS, SMALL, STAND_IN, TRAIN, Job


def test_only_the_folds_that_were_told_to_stop_are_started_again(begun: Cluster, light, tmp_path):
    """The last task of an array has the array's number as its own, the first one asks for the report."""
    slurm, out = begun, tmp_path / "out"
    words = ("--array=1-3", *SMALL, FOLDS, STAND_IN, "out", "0")
    job = Job(slurm.submit(*words, folder=tmp_path, PATH=light, REPORT="--time=5", AT_ONCE="2"), tmp_path)
    going = [out / f"began-{fold}-0-0" for fold in (1, 3)]
    until(lambda: all(path.is_file() for path in going) and _state(slurm, job, "2") == "COMPLETED", 120, slurm.said)
    for fold in ("3", "1"):
        slurm.run("scancel", "--signal=USR1", f"{job.number}_{fold}")
        until((out / f"began-{fold}-1-0").is_file, 120, slurm.said)
    tasks = {task["ArrayTaskId"]: (task["JobState"], task["Restarts"]) for task in slurm.ended(job.number)}
    assert tasks == {"1": ("COMPLETED", "1"), "2": ("COMPLETED", "0"), "3": ("COMPLETED", "1")}
    words = {fold: f"0 --folds {fold} --no-report" for fold in "123"}
    until(lambda: "reports" in job.outputs() and not _hidden(job), 120, slurm.said)
    assert job.outputs() == {
        "began-1-0-0": words["1"], "signal-1-0-0": "10", "began-1-1-0": words["1"],
        "began-2-0-0": words["2"],
        "began-3-0-0": words["3"], "signal-3-0-0": "10", "began-3-1-0": words["3"],
        "reports": f"folds {STAND_IN} out 0 --only-report --logs slurm-{job.number}_{{fold}}.out\n",
    }  # fmt: skip


def test_a_fold_whose_report_can_not_be_submitted_is_trained(begun: Cluster, refused: Job):
    """The command that makes the report later is said."""
    (task,) = begun.ended(refused.number)
    said = refused.log
    assert (task["JobState"], task["ExitCode"]) == ("COMPLETED", "0:0"), said
    assert refused.outputs() == {"began-4-0-0": "0 --folds 4 --no-report"}
    (line,) = [line for line in said.splitlines() if line.startswith("warning: ")]
    command = ["affect", "folds", str(STAND_IN), "out", "0", "--only-report", "--logs"]
    assert shlex.split(line.partition("have ended: ")[2]) == [*command, f"slurm-{refused.number}_{{fold}}.out"]
    assert _hidden(refused) == []


def test_a_first_task_requeued_before_it_asked_for_the_report_asks_when_it_is_started_again(begun: Cluster, early: Job):
    """A mark that an earlier start left makes no new start: this one failed."""
    (task,) = begun.ended(early.number)
    assert (task["JobState"], task["ExitCode"], task["Restarts"]) == ("FAILED", "3:0", "1"), early.log
    until(lambda: "reports" in early.outputs() and not _hidden(early), 120, begun.said)
    found = early.outputs()
    assert found.pop("reports").count("\n") == 1
    assert found == {"began-1-1-0": "3 --folds 1 --no-report"}


def test_before_the_time_limit_a_job_is_told_to_stop_and_requeues_itself_once(begun: Cluster, limited: Job):
    """Its program alone is told, ends with 75 and is started again; it then fails, and stays failed with its code."""
    (ended,) = begun.ended(limited.number)
    assert limited.outputs() == {"began-0-0": "3", "signal-0-0": "10", "began-1-0": "3"}
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "3:0", "1")


def test_a_stopped_job_is_started_again_though_a_slow_rank_is_killed_and_no_more_often_than_allowed(
    begun: Cluster, slow: Job
):
    """Rank 1 ends with 75, rank 0 is killed for it: srun tells of 137. The second start is the last one allowed."""
    (ended,) = begun.ended(slow.number)
    said, found = slow.log, slow.outputs()
    assert {name for name in found if name.startswith("began")} == {f"began-{n}-{r}" for n in "01" for r in "01"}, said
    assert found["signal-0-1"] == "10", said
    assert "Killed" in said, "the slow rank was not waited for"
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "75:0", "1"), said
    assert "error: started again 1 times and not at its end: submit it anew to go on (RESTARTS)" in said
    assert _hidden(slow) == []


def test_a_mistake_of_one_rank_is_the_end_though_the_others_would_be_started_again(begun: Cluster, light, tmp_path):
    options = ("--time=2", "--cpus-per-task=1", "--gpus-per-node=2", "--ntasks-per-node=2")
    job = Job(begun.submit(*options, TRAIN, STAND_IN, "out", "0", folder=tmp_path, PATH=light, WRONG="1"), tmp_path)
    (ended,) = begun.ended(job.number)
    assert "error: another rank of this run was lost" in job.log
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0"), job.log
    assert _hidden(job) == []


def test_a_cancelled_job_saves_and_stays_cancelled(begun: Cluster, tmp_path):
    """Through the real `affect launch`, which must not stand between Slurm and the program."""
    job = Job(begun.submit(*SMALL, TRAIN, STAND_IN, "out", "0", folder=tmp_path), tmp_path)
    until((tmp_path / "out" / "began-0-0").is_file, 120, begun.said)
    begun.run("scancel", job.number)
    (ended,) = begun.ended(job.number)
    assert ended["JobState"] == "CANCELLED"
    until(lambda: job.outputs() == {"began-0-0": "0", "signal-0-0": "15"}, 30, begun.said)
    assert ended["Restarts"] == "0"


def test_what_can_not_work_is_refused_in_a_line(begun: Cluster, tmp_path):
    """Tasks that are not as many as GPUs, folds without an array, and no number."""
    given = {
        "error: a task a GPU: 2 GPUs but 1 tasks a node; give sbatch --gpus-per-node and --ntasks-per-node the same "
        "number\n": (("--gpus-per-node=2", *SMALL, TRAIN), {}),
        "error: a fold a task of an array: give sbatch --array=1-5, or slurm/train.sbatch for all folds in turn\n": (
            (*SMALL, FOLDS), {},
        ),
        "error: RESTARTS must be a number, not often\n": ((*SMALL, TRAIN), {"RESTARTS": "often"}),
    }  # fmt: skip
    for number, (line, (options, variables)) in enumerate(given.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        job = Job(begun.submit(*options, STAND_IN, "out", "0", folder=folder, **variables), folder)
        (ended,) = begun.ended(job.number)
        (path,) = folder.glob("slurm-*.out")
        assert (ended["JobState"], ended["ExitCode"], path.read_text()) == ("FAILED", "2:0", line)


def _state(slurm: Cluster, job: Job, fold: str) -> str:
    return next(task["JobState"] for task in slurm.jobs(job.number) if task["ArrayTaskId"] == fold)


def _hidden(job: Job) -> list[str]:
    """Return the marks that are left in a job's folder."""
    return sorted(path.name for path in job.folder.glob(".affect-*"))
