"""A real Slurm for the tests here, and the jobs that take their time while others are looked at; skipped with a word
where it can't be started."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.launching import ROOT
from tests.slurm import cluster
from tests.slurm.cluster import Cluster

TRAIN, FOLDS = ROOT / "slurm" / "train.sbatch", ROOT / "slurm" / "folds.sbatch"
RECIPE = ROOT / "tests" / "experiments" / "two_runs.py"
STAND_IN = Path(__file__).with_name("stand_in.py")
SMALL = ("--cpus-per-task=1", "--time=8")
ALL_FOLDS = (RECIPE, "base", "--data.fold", "None", "--train.epochs", "1")


@dataclass(frozen=True)
class Job:
    """A job that was submitted: its number, and the folder that it works in."""

    number: str
    folder: Path

    @property
    def log(self) -> str:
        """All that it said; of an array of one, that one."""
        (path,) = [path for path in self.folder.glob(f"slurm-{self.number}*.out") if "report" not in path.name]
        return path.read_text()

    def outputs(self) -> dict[str, str]:
        """Return what the stand-in wrote."""
        return {path.name: path.read_text() for path in (self.folder / "out").iterdir()}


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory, own_cache: Path, small_corpus: Path) -> Iterator[Cluster]:
    """Two nodes on this machine, up for the session; nothing of it is left at its end."""
    why = cluster.absent()
    if why is not None:
        pytest.skip(why)
    made = cluster.make(tmp_path_factory.mktemp("slurm") / "slurm", [Path(sys.executable).parent])
    made.environment.update(
        AFFECT_TEST_CORPUS=str(small_corpus), OMP_NUM_THREADS="1", AFFECT_THREADS="1", VENV="", ENGINE="cpu_2"
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def light(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which `affect launch` only starts the script, and `affect folds` only writes its words to out/reports:
    what the batch scripts do is then seen without the seconds that real ones take to start."""
    folder = tmp_path_factory.mktemp("light")
    stand_in = folder / "affect"
    stand_in.write_text(
        f'#!/bin/sh\nif [ "$1" = folds ]; then echo "$@" >>out/reports; exit; fi\nshift 3\nexec {sys.executable} "$@"\n'
    )
    stand_in.chmod(0o755)
    return f"{folder}:{slurm.environment['PATH']}"


@pytest.fixture(scope="session")
def limited(slurm: Cluster, light: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job whose time limit is near: Slurm takes up to half a minute to say so."""
    folder = tmp_path_factory.mktemp("limited")
    options = ("--time=2", "--signal=USR1@115", "--cpus-per-task=1")
    return Job(slurm.submit(*options, TRAIN, STAND_IN, "out", "3", folder=folder, PATH=light), folder)


@pytest.fixture(scope="session")
def slow(slurm: Cluster, light: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The same of two ranks, one of which does not come to its end; its second start is stopped, too."""
    folder = tmp_path_factory.mktemp("slow")
    options = ("--time=2", "--signal=USR1@115", "--cpus-per-task=1", "--gpus-per-node=2", "--ntasks-per-node=2")
    number = slurm.submit(*options, TRAIN, STAND_IN, "out", "75", folder=folder, PATH=light, RESTARTS="1", SLOW="0")
    return Job(number, folder)


@pytest.fixture(scope="session")
def early(slurm: Cluster, light: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """An array's first task that is requeued, as by preemption, before its script comes to asking for a report."""
    folder = tmp_path_factory.mktemp("early")
    (folder / "bin").mkdir()
    (folder / "bin" / "activate").write_text(
        'if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then\n    touch ".affect-again-$task"\n'
        '    scontrol requeue "$task"\n    sleep 100\nfi\n'
    )
    words = ("--array=1", *SMALL, FOLDS, STAND_IN, "out", "3")
    return Job(slurm.submit(*words, folder=folder, PATH=light, REPORT="--time=5", VENV=str(folder)), folder)


@pytest.fixture(scope="session")
def refused(slurm: Cluster, light: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A fold on a node from which nothing can be submitted."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "bin").mkdir()
    sbatch = folder / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: access denied' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    (folder / "bin" / "activate").write_text(f'PATH="{sbatch.parent}:$PATH"\n')
    words = ("--array=4", *SMALL, FOLDS, STAND_IN, "out", "0")
    return Job(slurm.submit(*words, folder=folder, PATH=light, AT_ONCE="4", VENV=str(folder)), folder)


@pytest.fixture(scope="session")
def unrelated(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A recipe file that srun starts twice without `affect launch`."""
    folder = tmp_path_factory.mktemp("unrelated")
    command = f"srun --kill-on-bad-exit=0 --output=said-%t {sys.executable} {RECIPE} base --train.epochs 1"
    return Job(slurm.submit("--ntasks=2", "--time=5", "--wrap", command, folder=folder), folder)


@pytest.fixture(scope="session")
def array(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Five real folds; the folder of the third holds another run."""
    folder = tmp_path_factory.mktemp("array")
    held = folder / "runs" / "base" / "seed0" / "fold3"
    held.mkdir(parents=True)
    (held / "recipe.json").write_text(json.dumps({"experiment": "base", "optim": {"lr": 1.0}}))
    (held / "metrics.jsonl").write_text('{"event": "step", "step": 1}\n')
    return Job(slurm.submit("--array=1-5", *SMALL, FOLDS, *ALL_FOLDS, folder=folder, REPORT="--time=5"), folder)


@pytest.fixture(scope="session")
def begun(slurm, limited, slow, early, refused, unrelated, array) -> Iterator[Cluster]:
    """Slurm with every job of these submitted: they go on while one of them is looked at. At the end none is left."""
    yield slurm
    cluster.until(lambda: not slurm.left(), 60, slurm.said)
