"""Runs the real command line of a recipe file in this process or in one of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from affect import cli
from affect.recipe import Recipe

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "finetune_wavlm.py"
HEAVY = ["torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "matplotlib", "pandas"]


def experiments(recipe: Path = RECIPE) -> dict[str, Callable[[], Recipe]]:
    """Return the experiments of a recipe file, as running it would find them."""
    return cast(dict[str, Callable[[], Recipe]], cli.experiments_in(recipe))


def small(root: Path, *, encoder: str = "none", steps: int = 2) -> list[str]:
    """Return the options of a run of a few steps on fold 1 of the `small_corpus` fixture."""
    corpus = ["--data.corpus", "synthetic", "--data.root", str(root), "--data.dialogues", "1", "--data.utterances", "8"]
    model = ["--model.encoder", encoder, "--model.prosody-dim", "8", "--model.hidden", "8"]
    train = ["--train.steps", str(steps), "--train.batch", "8", "--train.workers", "0", "--train.budget", "60"]
    return [*corpus, "--data.seconds", "0.3", "0.7", "--data.fold", "1", *model, *train]


def launch(capsys: pytest.CaptureFixture[str], *arguments: str, recipe: Path = RECIPE) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error of a recipe file's command line."""
    capsys.readouterr()
    with own_log():
        code = exit_code(lambda: cli.launch(experiments(recipe), list(arguments)))
    said = capsys.readouterr()
    return code, said.out, said.err


def exit_code(work: Callable[[], object]) -> int:
    """Return what the process would end with."""
    try:
        work()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@contextlib.contextmanager
def own_log() -> Iterator[None]:
    """Leave the log as it was: a command line sets it up for a process of its own."""
    log = logging.getLogger("affect")
    before = (list(log.handlers), log.level, log.propagate)
    try:
        yield
    finally:
        log.handlers, log.level, log.propagate = before


def in_its_own_process(folder: Path, *command: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` with this project importable and one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip


def assert_light(folder: Path, recipe: Path, arguments: list[str]) -> None:
    """Hold that a command line of a recipe file, which trains nothing, loads no library that is slow to import."""
    script = (
        "import runpy, sys\n"
        f"sys.argv = [{str(recipe)!r}, *{arguments!r}]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = in_its_own_process(folder, "-c", script)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def assert_one_line(code: int, err: str, *words: str) -> None:
    """Hold that a mistake ended with 2 and one line that has these words."""
    assert code == 2, err
    lines = [line for line in err.splitlines() if line.startswith("error")]
    assert len(lines) == 1, err
    assert err.splitlines()[-1] == lines[0], "the error is the last thing said"
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]
