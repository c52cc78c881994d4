"""A SIGKILL at each place of a save: what is read afterwards is whole, the old or the new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from affect import checksums
from affect.training import checkpoint
from tests.training.killing import CASES, NEW, OLD
from tests.training.part import Part, same

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folders that the kills left, by case, in the order of the places."""
    top = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.training.killing", str(top)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return {case: sorted((top / case).glob("[0-9]*"), key=lambda path: int(path.name)) for case in CASES}


def turns_once(found: list[int]) -> bool:
    """Tell whether the old is read up to a place, and from there on the new."""
    return found == sorted(found) and set(found) == {OLD, NEW}


def test_a_checkpoint(killed):
    folders = killed["checkpoint"]
    assert len(folders) > 30, "places of the save"
    part = Part(steps=OLD)
    wanted = {OLD: part.everything()}
    part.step()
    wanted[NEW] = part.everything()
    found, dirty = [], 0
    other = Part(steps=0, seed=1)
    for folder in folders:
        where, told = folder / "checkpoints", []
        path = checkpoint.find("auto", where, told.append)
        assert told == [], f"no half checkpoint has a whole one's name: {folder.name}"
        found.append(other.load(path).step)
        assert same(other.everything(), wanted[found[-1]])
        dirty += any(item.name.startswith(".") for item in where.iterdir())
        checkpoint.clear(where, after=found[-1])
        assert {item.name for item in where.iterdir()} <= {f"step-{OLD:07d}", f"step-{NEW:07d}"}
        assert checkpoint.find("auto", where) == path
        assert (path / "recipe.json").read_text() == "{}\n"
    assert turns_once(found)
    assert dirty > 20
    assert [item.name for item in (folders[-1] / "checkpoints").iterdir()] == [f"step-{NEW:07d}"]


@pytest.mark.parametrize("case", ["best", "best by renames"])
def test_best_weights(killed, case):
    folders = killed[case]
    assert len(folders) > 20, "places of the save"
    part = Part(steps=OLD)
    wanted = {OLD: load_file(str(folders[0].parent / "base" / "checkpoints" / "best" / "model.safetensors"))}
    part.step()
    wanted[NEW] = part.net.state_dict()
    found, gone = [], 0
    for folder in folders:
        where, told = folder / "checkpoints", []
        best = where / "best"
        gone += not best.exists()
        assert checkpoint.find("auto", where, told.append) == where / f"step-{OLD:07d}"
        assert told == []
        checksums.check(best)
        found.append(json.loads((best / "place.json").read_text())["step"])
        assert same(load_file(str(best / "model.safetensors")), wanted[found[-1]])
        # Those of a later step than the checkpoint are chosen anew, the others kept.
        assert checkpoint.clear(where, after=OLD) == (found[-1] == NEW)
        kept = {"best"} if found[-1] == OLD else {f"aside-best-{NEW:07d}"}
        assert {item.name for item in where.iterdir()} == {f"step-{OLD:07d}"} | kept
        assert checkpoint.find("auto", where, told.append) == where / f"step-{OLD:07d}"
        assert told == [], "and a second kill, before anything was saved, changes nothing"
    assert turns_once(found)
    assert (gone > 0) == (case == "best by renames"), "the gap between two renames was really met"
