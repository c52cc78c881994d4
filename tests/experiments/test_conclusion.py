"""Some folds alone, and the report over folds that ran elsewhere: what is there, and what is not and why."""

from __future__ import annotations

import pytest

from affect.experiments.parallel import last_words
from tests.experiments.conftest import RECIPE
from tests.launching import assert_one_line

ALL = ("base", "--data.fold", "None", "--train.epochs", "1")


@pytest.fixture
def concluded(affect, where):
    """Run `affect folds ... --only-report`: exit code, standard output and standard error."""
    return lambda *arguments: affect("folds", RECIPE, *ALL, "--only-report", *arguments)


def test_folds_alone_and_their_report(launch, concluded, where):
    code, _, err = launch(*ALL, "--folds", "2", "5", "--no-report")
    assert code == 0, err
    assert sorted(path.name for path in (where / "runs" / "base" / "seed0").iterdir()) == ["fold2", "fold5"]
    (where / "slurm-7_1.out").write_text("working\nerror: the disk is full\nsrun: error: n1: task 0: Exited with 2\n")
    code, out, err = concluded("--logs", "slurm-7_{fold}.out")
    assert code == 1
    assert "report: runs/base/report.md" in out
    assert err.splitlines() == [
        "failed: seed0/fold1 did not begin: the disk is full (slurm-7_1.out)",
        "failed: seed0/fold3 did not begin: there is no slurm-7_3.out",
        "failed: seed0/fold4 did not begin: there is no slurm-7_4.out",
        "error: 3 runs of base did not come to their end, and are not in the report",
    ]
    code, out, err = concluded("--folds", "2", "5")
    assert (code, err) == (0, "")
    assert "report: runs/base/report.md" in out


def test_of_nothing_there_is_no_report(concluded, where):
    log = where / "runs" / "base" / "seed1" / "fold4" / "output.log"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback (most recent call last):\nKeyError: 'x'\n")
    (log.parent / "metrics.jsonl").write_text('{"event": "step", "step": 3}\n')
    code, out, err = concluded("--seeds", "1", "--folds", "4")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "failed: seed1/fold4 stopped after step 3: KeyError: 'x' (runs/base/seed1/fold4/output.log)",
        "error: 1 runs of base did not come to their end, and there is nothing to report",
    ]
    assert not (where / "runs" / "base" / "report.md").exists()


def test_a_fold_that_is_not_there_is_named_before_anything_runs(launch, concluded, where):
    for code, _, err in (launch(*ALL, "--folds", "1", "6"), concluded("--folds", "6")):
        assert_one_line(code, err, "--folds names 6, but the folds here are 1 2 3 4 5")
    assert not (where / "runs").exists()
    code, _, err = launch(*ALL, "--folds", "6", "--dry-run")
    assert_one_line(code, err, "--folds names 6")
    code, _, err = launch(*ALL, "--folds", "2", "2")
    assert_one_line(code, err, "folds")


def test_last_words():
    limit = "slurmstepd-n1: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***"
    assert last_words(f"epoch 1\n{limit}\nsrun: error: n1: task 0: Terminated\n").endswith("DUE TO TIME LIMIT")
    assert last_words(f"error: one\nerror: two\n{limit}\n") == "two"
    killed = "slurmstepd: error: *** STEP 5.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***"
    assert last_words(f"Traceback ...\nValueError: no\n{killed}\nsrun: error: n1: task 0: Killed\n") == "ValueError: no"
    assert last_words("srun: error: n1: task 0: Killed\n") == "srun: error: n1: task 0: Killed"
    assert last_words("\n") == ""
