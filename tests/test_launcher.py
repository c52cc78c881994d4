"""`affect launch`: places and meeting points from Slurm's words, environments from Accelerate's own launch files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect import cli, launcher, process
from affect.cli import commands, terminal
from affect.errors import AffectError, LostError, StoppedError
from tests.launching import ROOT, assert_one_line, exit_code, own_log

CONFIGURATIONS = ROOT / "accelerate_configs"
STEP = {
    "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_PROCID": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_TASKS_PER_NODE": "3,2", "SLURM_STEP_NODELIST": "n[1-2]",
}  # fmt: skip
ONE = {
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_STEP_NODELIST": "n1",
}  # fmt: skip
RANK = {
    "RANK": "4", "WORLD_SIZE": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "10272",
}  # fmt: skip


@pytest.fixture
def affect(capsys, monkeypatch):
    """Run `affect launch` in this process: exit code and standard error."""

    def run(*arguments: object, **environment: str) -> tuple[int, str]:
        for name in [name for name in os.environ if name.startswith("SLURM")]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["affect", "launch", *map(str, arguments)])
        capsys.readouterr()
        with own_log():
            code = exit_code(cli.main)
        return code, capsys.readouterr().err

    return run


@pytest.fixture
def started(tmp_path):
    """Run `affect launch` in a process of its own and return the script's words and environment, and this process's."""
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\nprint(json.dumps([os.getpid(), sys.argv[1:], dict(os.environ)]))\nsys.exit(75)\n"
    )

    def run(*options: str, **environment: str) -> tuple[list[str], dict[str, str]]:
        drop = ("SLURM", "ACCELERATE", "FSDP", "MASTER", "RANK", "WORLD", "LOCAL", "GROUP")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
        program = "from affect.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, "launch", *options, script, "v3", "--engine", "its own"], cwd=ROOT,
            env={**kept, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        out, err = process.communicate(timeout=120)
        assert process.returncode == 75, err
        number, words, found = json.loads(out)
        assert number == process.pid, "signals reach the script itself"
        return words, found

    return run


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 9)), min_size=1, max_size=5))
def test_tasks_per_node(runs):
    text = ",".join(f"{count}(x{times})" if times > 1 else str(count) for count, times in runs)
    assert launcher.tasks_per_node(text) == [count for count, times in runs for _ in range(times)]


def test_tasks_per_node_of_nonsense():
    for text in ("", "2(x", "a", "1,,2"):
        with pytest.raises(ValueError, match="no number of tasks"):
            launcher.tasks_per_node(text)


@given(st.integers(1, 10**7), st.integers(0, 15), st.integers(0, 1249), st.integers(0, 15))
def test_jobs_of_one_time_meet_at_ports_of_their_own(job, step, later, other):
    first, second = launcher.port(job, step), launcher.port(job + later, other)
    assert 10000 <= first < 30000
    assert (first == second) == ((later, other) == (0, step))


def test_a_place():
    assert launcher.place(STEP) == {
        "RANK": 4, "WORLD_SIZE": 5, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 1, "GROUP_WORLD_SIZE": 2,
    }  # fmt: skip


def test_in_a_job_a_line_says_what_is_missing(affect):
    code, err = affect("recipes/finetune_wavlm.py", "demo", SLURM_JOB_ID="1", SLURM_PROCID="0", SLURM_NTASKS="2")
    assert_one_line(code, err, "put srun before it")
    code, err = affect("recipes/finetune_wavlm.py", "demo", **{**STEP, "SLURM_NODEID": "7"})
    assert_one_line(code, err, "Slurm does not say where this task is")
    code, err = affect("--num-processes", "2", "recipes/finetune_wavlm.py", "demo", **STEP)
    assert_one_line(code, err, "--num-processes is for a machine without Slurm")


def test_mistakes_are_one_line(affect, tmp_path):
    recipe = ROOT / "recipes" / "finetune_wavlm.py"
    assert_one_line(*affect(tmp_path / "none.py", "demo", **STEP), "no recipe file")
    assert_one_line(*affect("--engine", "zero22", recipe, **STEP), "unknown engine 'zero22'", "did you mean 'zero2'")
    both = ("--engine", "cpu", "--config-file", CONFIGURATIONS / "ddp.yaml")
    assert_one_line(*affect(*both, recipe, **STEP), "one or the other")
    missing = tmp_path / "dpp.yaml"
    assert_one_line(*affect("--config-file", missing, recipe, **STEP), "no launch file", "dpp.yaml")
    unknown = "compute_environment: LOCAL_MACHINE\nno_such_field: 1\n"
    for text in ("a: [", "distributed_type: NONE_SUCH\n", unknown, "a: " + "[" * 3000):
        missing.write_text(text)
        assert_one_line(*affect("--config-file", missing, recipe, **STEP), "can't be used as a launch file")


@pytest.mark.parametrize("words", [("--overwrite",), ("--resume", "never"), ("--resume=runs/x",)])
def test_what_would_begin_anew_after_each_requeue_is_refused(affect, words):
    code, err = affect("recipes/finetune_wavlm.py", "demo", *words, **STEP)
    assert_one_line(code, err, words[0].partition("=")[0], "not for a job")


def test_words_before_the_recipe_are_its_own():
    line = ["launch", "--engine", "cpu", "--config-file=x.yaml", "r.py", "v3", "--engine", "e", "--help"]
    assert commands.launch_words(line) == (line[:5], line[5:])
    assert commands.launch_words(["launch", "--help"]) == (["launch", "--help"], [])
    assert commands.launch_words(["launch"]) == (["launch"], [])


def test_ddp_is_the_engine_that_is_not_named(started):
    words, found = started(**STEP, MASTER_ADDR="n1")
    assert words == ["v3", "--engine", "its own"]
    assert RANK.items() <= found.items()
    assert found["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert found["AFFECT_COMMAND"].startswith("srun affect launch ")


def test_deepspeed_has_its_world_even_of_one(started):
    _, found = started("--config-file", str(CONFIGURATIONS / "zero2.yaml"), **{**STEP, **ONE})
    assert found["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert found["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"
    assert "zero_stage" in found["ACCELERATE_CONFIG_DS_FIELDS"]
    assert (found["RANK"], found["WORLD_SIZE"], found["MASTER_ADDR"]) == ("0", "1", "127.0.0.1")


def test_fsdp(started):
    _, found = started("--engine=fsdp2", **STEP, MASTER_ADDR="n1", MASTER_PORT="12345")
    assert {**RANK, "MASTER_PORT": "12345"}.items() <= found.items()
    assert (found["ACCELERATE_USE_FSDP"], found["FSDP_VERSION"]) == ("true", "2")


def test_one_task_is_one_process(started):
    _, found = started("--engine", "cpu", **{**STEP, **ONE})
    assert found["ACCELERATE_USE_CPU"] == "True"
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} & set(found)


@pytest.mark.parametrize(
    "said, meeting", [("localhost", "localhost"), ("no-such-node.invalid", "10.0.0.7")], ids=["resolved", "asked"]
)
def test_rank_0_is_found_by_its_name_or_by_slurms_address(tmp_path, monkeypatch, said, meeting):
    script = tmp_path / "scontrol"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in\n"show hostnames n[1-2]") echo {said}; echo n2;;\n'
        f'"--oneliner show node {said}") echo "NodeName=x NodeAddr=10.0.0.7 NodeHostName=x";;\n*) exit 3;;\nesac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launcher.address(STEP, 2) == meeting
    assert launcher.address({}, 1) == "127.0.0.1"
    with pytest.raises(AffectError, match="scontrol show hostnames n9 failed: 3"):
        launcher.address({"SLURM_STEP_NODELIST": "n9"}, 2)
    monkeypatch.setenv("PATH", str(Path("/nowhere")))
    with pytest.raises(AffectError, match="export MASTER_ADDR"):
        launcher.address(STEP, 2)


@pytest.mark.parametrize("world", [None, "1"])
def test_a_task_of_several_is_no_run_of_its_own(monkeypatch, world):
    """Plain `srun python recipe.py`, or a launcher of one process under it."""
    from affect.training.distributed import launch_settings

    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_", "WORLD_SIZE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(AffectError, match=r"^srun started 3 tasks.*srun affect launch RECIPE\.py"):
        launch_settings.join()
    for tasks, world in (("3", "3"), ("1", "1")):
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
        monkeypatch.setenv("WORLD_SIZE", world)
        launch_settings._check(cuda=False, deepspeed=False, fsdp=False)


@pytest.mark.parametrize(
    "error, place, marked",
    [
        (StoppedError(signal.SIGUSR1, "saved at step 3"), "mark", True),
        (StoppedError(signal.SIGTERM, "saved at step 3"), "mark", False),
        (StoppedError(signal.SIGUSR1, "saved at step 3"), "no/such/mark", False),
        (AffectError("a mistake"), "mark", True),
        (LostError("out of memory here"), "mark", LostError.code == 75),
    ],
)
def test_what_is_to_be_started_again_makes_the_batch_scripts_mark(tmp_path, monkeypatch, error, place, marked):
    """Its exit code is the same where the mark can't be made, and where none is asked for."""

    def work() -> None:
        raise error

    monkeypatch.setenv("AFFECT_AGAIN", str(tmp_path / place))
    assert exit_code(lambda: terminal.guarded(work)) == error.code
    assert [path.name for path in tmp_path.iterdir()] == (["mark"] if marked else [])
    if marked:
        refused = "failed of itself" in (tmp_path / place).read_text()
        assert refused == (error.code != 75), "an error would come again"
    monkeypatch.delenv("AFFECT_AGAIN")
    assert exit_code(lambda: terminal.guarded(work)) == error.code


# Without Slurm: the processes of one machine.


@pytest.fixture
def plain(monkeypatch):
    """No launch file of the user's own, and nothing that a launcher has left."""
    monkeypatch.setattr(launcher, "usual_file", lambda: None)
    for name in ("MASTER_ADDR", "MASTER_PORT", "AFFECT_COMMAND", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def rank(folder: Path, work: str) -> Path:
    """Return a script that writes its environment and its words into a file by its rank, and then does `work`."""
    script = folder / "script.py"
    script.write_text(
        "import json, os, signal, sys, time\nrank = os.environ['RANK']\n"
        f"with open(f'{folder}/' + rank, 'w') as file:\n    json.dump([sys.argv[1:], dict(os.environ)], file)\n{work}\n"
    )
    return script


@pytest.mark.usefixtures("plain")
def test_one_process_takes_the_launchers_place(affect, tmp_path, monkeypatch):
    called: list[tuple] = []
    monkeypatch.setattr(os, "execvpe", lambda *words: called.append(words) or sys.exit(0))
    script = tmp_path / "script.py"
    script.write_text("")
    assert affect("--config-file", CONFIGURATIONS / "cpu.yaml", script, "demo", "--seeds", "0")[0] == 0
    monkeypatch.setattr(launcher, "_processes", lambda path: 1)
    code, err = affect(script, "demo")
    assert (code, err) == (0, ""), "no warning of Accelerate's"
    (_, first, found), (_, second, plainly) = called
    assert first == [sys.executable, str(script), "demo", "--seeds", "0"] and second == [
        sys.executable,
        str(script),
        "demo",
    ]
    assert found["ACCELERATE_USE_CPU"] == "True" and plainly["ACCELERATE_USE_CPU"] == "False"
    assert found["AFFECT_PARENT"] == "0", "a shell that is left may end before the run"
    assert plainly["AFFECT_COMMAND"] == f"affect launch {script} demo"
    assert not {"RANK", "WORLD_SIZE"} & set(found)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("", 0),
        ("sys.exit(2 if rank == '0' else 75)", 2),
        ("sys.exit(75)", 75),
        ("os.kill(os.getpid(), signal.SIGKILL) if rank == '1' else sys.exit(75)", 75),
    ],
)
def test_several_are_started_and_the_code_that_says_most_is_told(affect, tmp_path, work, code):
    script = rank(tmp_path, work)
    assert affect("--num-processes", "2", script, "demo", "--help") == (code, "")
    (words, first), (_, second) = (json.loads((tmp_path / name).read_text()) for name in "01")
    assert words == ["demo", "--help"]
    for number, found in ((0, first), (1, second)):
        assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"]) == (str(number), str(number), "2")
        assert found["AFFECT_PARENT"] == str(os.getpid())
    assert (first["MASTER_ADDR"], first["MASTER_PORT"]) == ("127.0.0.1", second["MASTER_PORT"])


def test_an_interruption_reaches_each_rank_once_and_says_no_more_than_they_do(tmp_path, monkeypatch, capfd):
    # What trains says that it goes on.
    work = "import affect.experiments.parallel\nfrom affect.cli.terminal import guarded\n"
    work += "open(f'{sys.argv[1]}/ready' + rank, 'w').close()\n"
    script = rank(tmp_path, f"{work}guarded(lambda: time.sleep(60))")
    here = {**os.environ, "PYTHONPATH": str(ROOT)}

    def interrupt() -> None:
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    # A suite in the background of a shell ignores it.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    program = [sys.executable, str(script), str(tmp_path)]
    assert launcher._together(program, [{**here, "RANK": "0"}, {**here, "RANK": "1"}]) == 130
    thread.join()
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("error: interrupted; the run goes on") for line in said)


@pytest.mark.usefixtures("plain")
def test_a_rank_that_hangs_after_another_failed_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "_PATIENCE", 0.2)
    script = rank(
        tmp_path, "sys.exit(2) if rank == '1' else signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    )
    assert launcher._together([sys.executable, str(script)], [{**os.environ, "RANK": k} for k in "01"]) == 2


@pytest.mark.usefixtures("plain")
def test_mistakes_without_slurm_are_one_line(affect, tmp_path):
    recipe = ROOT / "recipes" / "finetune_wavlm.py"
    assert_one_line(*affect(tmp_path / "none.py", "demo"), "no recipe file")
    assert_one_line(*affect("--num-processes", "0", recipe, "demo"), "--num-processes must be positive, not 0")
    several = tmp_path / "two.yaml"
    several.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 4\n"
        "use_cpu: false\n"
    )
    assert_one_line(*affect("--config-file", several, recipe, "demo"), "is of 2 machines")
    assert_one_line(*affect("--config-file", tmp_path / "no.yaml", recipe, "demo"), "no launch file")


def test_the_words_that_started_a_run_are_its_launchers(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/recipes/finetune_wavlm.py", "demo"])
    monkeypatch.delenv("AFFECT_COMMAND", raising=False)
    for name in process._LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert process.launched_as() == ["python"]
    monkeypatch.setenv("AFFECT_COMMAND", "affect launch --engine zero2 recipes/finetune_wavlm.py demo --seeds 1")
    assert process.launched_as() == ["affect", "launch", "--engine", "zero2"]
    monkeypatch.delenv("AFFECT_COMMAND")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    words = [
        "/v/bin/python3",
        "/v/bin/accelerate",
        "launch",
        "-q",
        "--num_processes",
        "2",
        "recipes/finetune_wavlm.py",
        "demo",
    ]
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: "\0".join(words))
    assert process.launched_as() == ["accelerate", "launch", "-q", "--num_processes", "2"]
