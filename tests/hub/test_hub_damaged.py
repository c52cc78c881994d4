"""Weights that are not what the run wrote: neither pushed nor used, and the newest whole checkpoint is the last one."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from affect.cli import commands
from affect.errors import AffectError
from affect.hub import from_pretrained, push, source
from tests.inference.asking import ask

REPO = "someone/model"
SUMS = "SHA256SUMS"


@pytest.fixture(params=["spoken", "fused"])
def run(request, tmp_path):
    """A copy of a run of each task."""
    kept = request.getfixturevalue(request.param) / "seed0" / "fold1"
    return shutil.copytree(kept, tmp_path / "runs" / request.param / "seed0" / "fold1")


def flip(path: Path) -> None:
    """Change one bit of a file's last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def said(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_damaged_best_weights_go_nowhere(hub, run):
    best = run / "checkpoints" / "best"
    flip(best / "model.safetensors")
    fault = "model.safetensors is not what was written: its SHA-256 differs"
    for give in (lambda: push.run(run, REPO), lambda: commands.push(run, REPO, dry_run=True)):
        with pytest.raises(AffectError) as caught:
            give()
        assert said(caught) == f"{best} is damaged: {fault}; copy it there again, or train it anew with --overwrite"
    assert hub.repos == {}
    assert not list((run / "checkpoints").glob(".push*"))
    given = {"audio": ["a.npy"]} if "fused" in str(run) else {}
    for use in (lambda: ask(run, *([] if given else ["a.wav"]), **given), lambda: from_pretrained(run)):
        with pytest.raises(AffectError) as caught:
            use()
        assert f"model in {best} is damaged: {fault}; copy it there again, or train it anew" in said(caught)


@pytest.mark.parametrize("name", ["config.json", "place.json", SUMS])
def test_what_lies_with_the_weights_is_held_against_its_checksum_too(hub, spoken, tmp_path, name):
    run = shutil.copytree(spoken / "seed0" / "fold1", tmp_path / "runs" / "spoken" / "seed0" / "fold1")
    path = run / "checkpoints" / "best" / name
    path.write_text(path.read_text() + " ")
    with pytest.raises(AffectError, match=f"best is damaged: {name} is"):
        push.run(run, REPO)
    path.unlink()
    with pytest.raises(AffectError, match=f"best is damaged: {name} is missing|config.json is not readable"):
        push.run(run, REPO)


def test_the_last_weights_are_those_of_the_newest_checkpoint_that_is_whole(hub, run, caplog):
    older, newer = sorted((run / "checkpoints").glob("step-*"))[-2:]
    name = "average.safetensors" if "spoken" in str(run) else "model.safetensors"
    assert source.read(run).last == newer / name
    (newer / "optimizer.safetensors").unlink()
    assert source.read(run).last == newer / name, "what is not pushed need not be whole"
    flip(newer / name)
    with caplog.at_level(logging.WARNING, "affect"):
        push.run(run, REPO)
    assert f"{newer} is damaged and passed over: {name} is not what was written" in caplog.text
    assert hub.repos[REPO].files["last/model.safetensors"] == (older / name).read_bytes()
    (newer / name).unlink()
    assert source.read(run).last == older / name, "weights that are not averaged are not taken for those that are"
    (older / SUMS).unlink()
    found = source.read(run).last
    assert found is None or found.parent not in (older, newer)
