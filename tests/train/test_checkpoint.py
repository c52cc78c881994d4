"""Checkpoints: equal when loaded, whole or absent, and a damaged one is one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from affect.errors import AffectError
from affect.recipe import Optim
from affect.train import checkpoint, loop, optim
from affect.train.checkpoint import State
from affect.train.engine import Engine
from tests.train import disks, runs

STATE = {"best": 0.5, "best_step": 3, "worse": 2, "reduction": 0.25, "budget": 7.5, "mode": "replay"}


class Part:
    """A model in training: some steps done, its optimiser and average with state."""

    def __init__(self, steps: int = 3, width: int = 4, seed: int = 0):
        torch.manual_seed(seed)
        self.engine = Engine()
        self.net = nn.Sequential(nn.Linear(width, 8), nn.LayerNorm(8), nn.Linear(8, 1))
        self.average = optim.Average(self.net, 0.9)
        groups = [{"name": "all", "params": list(self.net.parameters()), "lr": 0.1, "weight_decay": 0.0}]
        self.model, self.optimizer = self.engine.prepare(self.net, optim.make(groups, Optim()))
        self.width = width
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(5, self.width)).square().sum().backward()
        self.optimizer.step()
        self.average.update(self.net)

    def save(self, where, step: int, keep: int = 1) -> State:
        state = State(step=step, **STATE)
        checkpoint.save(self.engine, where, self.model, self.optimizer, self.average, state, keep=keep)
        return state

    def load(self, path) -> State:
        return checkpoint.load(path, self.engine, self.model, self.optimizer, self.average)

    def everything(self) -> dict[str, torch.Tensor]:
        found = {f"model.{k}": v.clone() for k, v in self.net.state_dict().items()}
        found |= {f"average.{k}": v.clone() for k, v in self.average.model.state_dict().items()}
        for k, state in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{k}.{name}": torch.as_tensor(v).clone() for name, v in state.items()}
        return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_loaded_is_what_was_saved(tmp_path):
    one, other = Part(), Part(seed=1)
    state = one.save(tmp_path, 3)
    assert not same(one.everything(), other.everything())
    assert other.load(tmp_path / "step-0000003") == state
    assert same(one.everything(), other.everything())
    assert other.average.count == one.average.count == 3
    torch.manual_seed(5)
    one.step()
    torch.manual_seed(5)
    other.step()
    assert same(one.everything(), other.everything()), "and it goes on as the one that was saved"


def test_the_newest_are_kept(tmp_path):
    part = Part(steps=0)
    for step in (1, 2, 10, 100):
        part.save(tmp_path, step, keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-0000010", "step-0000100"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000010", "step-0000100"]


def test_find(tmp_path):
    part = Part(steps=0)
    assert checkpoint.find("auto", tmp_path / "none") is None
    assert checkpoint.find("never", tmp_path) is None
    part.save(tmp_path, 1, keep=2)
    part.save(tmp_path, 2, keep=2)
    (tmp_path / "best").mkdir()
    (tmp_path / ".step-0000009.1.tmp").mkdir()
    assert checkpoint.find("auto", tmp_path) == tmp_path / "step-0000002"
    assert checkpoint.find("never", tmp_path) is None
    assert checkpoint.find(str(tmp_path / "step-0000001"), tmp_path) == tmp_path / "step-0000001"
    for wrong in ("atuo", str(tmp_path / "best"), str(tmp_path)):
        with pytest.raises(AffectError, match="no checkpoint is there; auto takes the newest, never starts anew"):
            checkpoint.find(wrong, tmp_path)


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path, **fields) -> None:
    path = path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


DAMAGES = {
    "truncated weights": lambda p: truncate(p / "model.safetensors"),
    "truncated average": lambda p: truncate(p / "average.safetensors"),
    "truncated optimiser": lambda p: truncate(p / "optimizer.pt"),
    "truncated state": lambda p: truncate(p / "state.json"),
    "no weights": lambda p: (p / "model.safetensors").unlink(),
    "no optimiser": lambda p: (p / "optimizer.pt").unlink(),
    "empty weights": lambda p: (p / "model.safetensors").write_bytes(b""),
    "empty optimiser": lambda p: (p / "optimizer.pt").write_bytes(b""),
    "noise": lambda p: (p / "optimizer.pt").write_bytes(bytes(range(256)) * 8),
    "unknown field": lambda p: edit(p, stpe=3),
    "no budget": lambda p: edit(p, budget=None),
    "no object": lambda p: (p / "state.json").write_text("[3]"),
    "a word for a number": lambda p: edit(p, step="3"),
    "a negative step": lambda p: edit(p, step=-3),
    "nothing": lambda p: (p / "state.json").write_text("{}"),
    "not text": lambda p: (p / "state.json").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_checkpoint_is_one_line(tmp_path, damage):
    part = Part()
    part.save(tmp_path, 3)
    path = tmp_path / "step-0000003"
    DAMAGES[damage](path)
    with pytest.raises(AffectError, match="step-0000003 can't be resumed from: .*--resume") as error:
        part.load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    Part().save(tmp_path, 3)
    with pytest.raises(AffectError, match="can't be resumed from: .*") as error:
        Part(width=6).load(tmp_path / "step-0000003")
    assert "\n" not in str(error.value)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    part = Part()
    state = part.save(tmp_path, 3)
    wanted = part.everything()
    part.step()
    with monkeypatch.context() as patch:
        disks.fill(patch)
        with pytest.raises(AffectError, match=r"step-0000004: No space left on device; what was there before is kept"):
            part.save(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000003"]
    other = Part(seed=2)
    assert other.load(tmp_path / "step-0000003") == state
    assert same(other.everything(), wanted)


# Room for one checkpoint and: nothing more; the weights of a second; all but the end of its optimiser.
@pytest.mark.parametrize("kilobytes", [12, 16, 20, 24, 28, 32])
def test_a_disk_that_fills_up_keeps_the_checkpoint_before(tmp_path, kilobytes):
    part = Part()
    with disks.small_disk(tmp_path / "disk", f"{kilobytes}k") as disk:
        try:
            state = part.save(disk, 3)
        except AffectError as error:
            assert "No space left on device" in str(error)
            assert list(disk.iterdir()) == [], "nothing half is left"
            return
        wanted = part.everything()
        part.step()
        with pytest.raises(AffectError, match="could not write .*step-0000004: .*") as error:
            part.save(disk, 4)
        assert "\n" not in str(error.value)
        assert "No space left on device" in str(error.value)
        assert [path.name for path in disk.iterdir()] == ["step-0000003"]
        other = Part(seed=2)
        assert other.load(disk / "step-0000003") == state
        assert same(other.everything(), wanted)


def test_a_run_whose_disk_fills_up_ends_in_one_line_and_goes_on_later(tmp_path, small_corpus, monkeypatch):
    """A whole run on a real small disk: the error is an AffectError wherever the disk fills, and nothing is lost."""
    recipe = runs.recipe(small_corpus, epochs=3, trackers=("tensorboard",))
    whole = tmp_path / "whole"
    runs.make(recipe, whole).train()
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    ended = []
    for share in (0.3, 0.5, 0.7, 0.9, 1.1):
        with disks.small_disk(tmp_path / f"disk{share}", f"{int(size * share / 1024)}k") as disk:
            try:
                runs.make(recipe, disk / "run").train()
            except AffectError as error:
                assert "No space left on device" in str(error)
                assert "\n" not in str(error)
                ended.append(share)
                shutil.copytree(disk / "run", tmp_path / f"moved{share}")
    assert ended, "one of the disks was too small"
    for share in ended:
        folder = tmp_path / f"moved{share}"
        assert all((path / "state.json").exists() for path in checkpoint.steps(folder / "checkpoints"))
        if (folder / "recipe.json").exists():
            runs.make(recipe, folder).train()
            assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_best_is_replaced_whole(tmp_path, small_corpus, monkeypatch):
    run = runs.make(runs.recipe(small_corpus, epochs=1), tmp_path / "run")
    run.train()
    best = tmp_path / "run" / "checkpoints" / "best" / "model.safetensors"
    before = best.read_bytes()
    disks.fill(monkeypatch)
    with torch.no_grad():
        next(run.model.parameters()).add_(1.0)
    with pytest.raises(AffectError, match="No space left"):
        run._save_best({"ccc": 0.5})
    assert best.read_bytes() == before


def test_the_budget_in_force_is_resumed(tmp_path, small_corpus, monkeypatch):
    recipe = runs.recipe(small_corpus, epochs=2)
    run = runs.make(recipe, tmp_path / "run")
    run.state.budget, run.state.mode = 0.75, "replay"
    run.schedule = run._schedule()
    real, seen = loop.step.accumulate, []

    def interrupted(*arguments, **named):
        seen.append(1)
        if len(seen) > 4:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.step, "accumulate", interrupted)
        run.train()
    saved = json.loads((tmp_path / "run" / "checkpoints" / "step-0000003" / "state.json").read_text())
    assert (saved["step"], saved["budget"], saved["mode"]) == (3, 0.75, "replay")
    again = runs.make(recipe, tmp_path / "run")
    assert (again.state.step, again.state.budget, again.schedule.budget) == (3, 0.75, 0.75)
    named = runs.make(runs.recipe(small_corpus, epochs=2, budget=2.0), tmp_path / "run")
    assert named.schedule.budget == 2.0
    fresh = runs.make(recipe, tmp_path / "run", resume="never")
    assert fresh.state.step == 0
