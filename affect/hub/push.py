"""Pushing a finished or a running run, or a metric module of `evaluate`, to the Hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import get_token

import affect
from affect.errors import AffectError, nearest
from affect.hub import clean, client, contents, source
from affect.hub.client import Pushed

MODULES = Path(affect.__file__).parent / "metrics" / "evaluate_modules"
"""The metric modules, a folder each."""


@contextmanager
def staged(run: Path, repo: str) -> Iterator[Path]:
    """Give a temporary folder with all that is pushed of a run, looked through for what must not leave the machine.

    It lies beside the run's checkpoints, where linking costs nothing. Raises AffectError naming what can't be pushed.
    """
    folder = stage(run, repo)
    try:
        yield folder
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def stage(run: Path, repo: str) -> Path:
    """Return a new folder in a folder of its own with all that is pushed of a run as it is now; see `staged`."""
    pushed = source.read(run)
    # A leftover of a killed run has the name of what the next session clears away.
    try:
        top = Path(tempfile.mkdtemp(prefix=".push-", suffix=".tmp", dir=run / "checkpoints"))
    except OSError:
        # A run may lie where nothing can be written.
        top = Path(tempfile.mkdtemp(prefix="affect-push-"))
    try:
        contents.write(pushed, top / "repo", repo)
        clean.refuse(top / "repo", run=run, repo=repo, token=get_token())
    except BaseException:
        shutil.rmtree(top, ignore_errors=True)
        raise
    return top / "repo"


def run(folder: Path, repo: str, *, private: bool = False) -> Pushed:
    """Push a run's best and last weights and all that belongs to them; raises AffectError in one line."""
    client.check(repo)
    with staged(folder, repo) as ready:
        return send(ready, repo, folder, private=private)


def send(ready: Path, repo: str, run: Path, *, private: bool) -> Pushed:
    """Push a folder that `stage` made of a run; raises AffectError in one line."""
    message = f"Weights and card of {run.resolve().parents[1].name}"
    return client.upload(ready, repo, private=private, message=message, owned=f"{contents.LAST}/")


def module_of(name: Path) -> Path | None:
    """Return the folder of the metric module that `name` is, by its short name or its folder; None of another folder.

    Raises AffectError where it is neither.
    """
    for folder in (name, MODULES / name):
        if (folder / f"{folder.resolve().name}.py").is_file() and name.parts:
            return folder
    if name.is_dir():
        return None
    modules = [path.parent.name for path in MODULES.glob("*/*.py")]
    raise AffectError(f"{name} is no run's folder and no metric module; {nearest(str(name), modules)}")


@contextmanager
def staged_module(folder: Path, repo: str) -> Iterator[Path]:
    """Give a temporary folder with a metric module's own files, looked through as `staged` does.

    Raises AffectError where evaluate.load(repo) would not find the module: it asks for user/NAME's NAME.py.
    """
    name = folder.resolve().name
    if repo.split("/")[-1] != name:
        raise AffectError(f"--repo {repo}: evaluate loads user/{name} by its file {name}.py: push it to USER/{name}")
    with tempfile.TemporaryDirectory(prefix="affect-push-") as top:
        ready = Path(top) / "repo"
        shutil.copytree(folder, ready, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        clean.refuse(ready, run=folder, repo=repo, token=get_token())
        yield ready


def module(folder: Path, repo: str, *, private: bool = False) -> Pushed:
    """Push a metric module as it is to a Space, where evaluate.load(repo) finds it; raises AffectError in one line."""
    client.check(repo)
    with staged_module(folder, repo) as ready:
        return client.upload(ready, repo, private=private, message=f"The metric {folder.resolve().name}", kind="space")
