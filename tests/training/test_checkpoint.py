"""Checkpoints: equal when loaded, named by parameter, whole or absent, and one that can't be read is one line."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from affect import checksums
from affect.errors import AffectError
from affect.training import checkpoint, trainer
from tests.training import disks, runs
from tests.training.part import Part, same


def test_what_is_loaded_is_what_was_saved(tmp_path):
    one, other = Part(), Part(seed=1)
    one.average.count = 2  # a step that fp16 skipped is not averaged
    state = one.save(tmp_path, 3)
    assert not same(one.everything(), other.everything())
    assert other.load(tmp_path / "step-0000003") == state
    assert same(one.everything(), other.everything())
    assert other.average.count == 2
    for group, mine in zip(other.optimizer.param_groups, one.optimizer.param_groups, strict=True):
        assert {k: v for k, v in group.items() if k != "params"} == {k: v for k, v in mine.items() if k != "params"}
    torch.manual_seed(5)
    one.step()
    torch.manual_seed(5)
    other.step()
    assert same(one.everything(), other.everything()), "and it goes on as the one that was saved"


def test_what_is_in_a_checkpoint(tmp_path):
    part = Part()
    (tmp_path / "recipe.json").write_text('{"seed": 1}\n')
    state = part.save(tmp_path / "checkpoints", 3)
    path = tmp_path / "checkpoints" / "step-0000003"
    names = {"model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json", "recipe.json"}
    assert {item.name for item in path.iterdir()} == {*names, "SHA256SUMS"}, "and nothing that is pickled"
    moments = load_file(str(path / "optimizer.safetensors"))
    states = {
        f"{kind}/{name}": part.optimizer.optimizer.state[parameter][kind]
        for name, parameter in part.net.named_parameters()
        for kind in ("step", "exp_avg", "exp_avg_sq")
    }
    assert same(moments, states)
    assert same(load_file(str(path / "model.safetensors")), part.net.state_dict())
    told = json.loads((path / "state.json").read_text())
    assert told == json.loads(json.dumps(asdict(state)))
    assert (told["averaged"], told["written_by"]) == (3, {"engine": part.engine.name, "world": 1})
    assert (path / "recipe.json").read_text() == '{"seed": 1}\n'
    for line in (path / "SHA256SUMS").read_text().splitlines()[:-1]:
        digest, name = line.split("  ")
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest


def test_a_loss_scaler_is_plain_numbers(tmp_path, monkeypatch):
    part, taken = Part(), []
    numbers = {
        "scale": 1024.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 7,
    }
    monkeypatch.setattr(part.engine, "scaler_state", lambda: numbers)
    part.save(tmp_path, 3)
    other = Part(seed=1)
    monkeypatch.setattr(other.engine, "load_scaler", taken.append)
    other.load(tmp_path / "step-0000003")
    assert taken == [numbers]
    assert json.loads((tmp_path / "step-0000003" / "scaler.json").read_text()) == numbers


def test_before_the_first_step_there_are_no_moments(tmp_path):
    part, other = Part(steps=0), Part(steps=0, seed=1)
    part.save(tmp_path, 0)
    other.load(tmp_path / "step-0000000")
    assert same(other.everything(), part.everything())


def test_best_weights_are_checksummed_and_say_whose_they_are(tmp_path):
    part = Part()
    part.save_best(tmp_path, 3)
    part.step()
    part.save_best(tmp_path, 4)
    best = tmp_path / "best"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert {path.name for path in best.iterdir()} == {"model.safetensors", "config.json", "place.json", "SHA256SUMS"}
    assert json.loads((best / "place.json").read_text()) == {"step": 4, "scores": {"valid": {"ccc": 0.4}}}
    assert same(load_file(str(best / "model.safetensors")), part.net.state_dict())
    assert checksums.faults(best) == {}


def test_the_newest_are_kept(tmp_path):
    part = Part(steps=0)
    for step in (1, 2, 10, 100):
        part.save(tmp_path, step, keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-0000010", "step-0000100"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000010", "step-0000100"]


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path, **fields) -> None:
    path = path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def strip(path, *names) -> None:
    tensors = load_file(str(path / "optimizer.safetensors"))
    save_file({k: v for k, v in tensors.items() if k not in names}, str(path / "optimizer.safetensors"))


def add(path, name, tensor) -> None:
    save_file(load_file(str(path / "optimizer.safetensors")) | {name: tensor}, str(path / "optimizer.safetensors"))


DAMAGES = {
    "truncated weights": lambda p: truncate(p / "model.safetensors"),
    "truncated average": lambda p: truncate(p / "average.safetensors"),
    "truncated optimiser": lambda p: truncate(p / "optimizer.safetensors"),
    "truncated state": lambda p: truncate(p / "state.json"),
    "no weights": lambda p: (p / "model.safetensors").unlink(),
    "no optimiser": lambda p: (p / "optimizer.safetensors").unlink(),
    "empty weights": lambda p: (p / "model.safetensors").write_bytes(b""),
    "empty optimiser": lambda p: (p / "optimizer.safetensors").write_bytes(b""),
    "noise": lambda p: (p / "optimizer.safetensors").write_bytes(bytes(range(256)) * 8),
    "no moments of one kind": lambda p: strip(p, "exp_avg/0.weight"),
    "moments of another parameter": lambda p: add(p, "exp_avg/3.weight", torch.zeros(2)),
    "moments of another shape": lambda p: add(p, "exp_avg/0.weight", torch.zeros(2)),
    "no number averaged": lambda p: edit(p, averaged="3"),
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


def test_missing_moments_are_named(tmp_path):
    part = Part()
    part.save(tmp_path, 3)
    strip(tmp_path / "step-0000003", "exp_avg_sq/1.bias")
    with pytest.raises(AffectError, match="the optimiser's state lacks exp_avg_sq/1.bias; name another"):
        part.load(tmp_path / "step-0000003")


def test_a_rank_that_does_not_see_the_disk_says_so(tmp_path):
    with pytest.raises(AffectError, match=rf"rank 0 on {platform.node()} sees no .*step-0000003: --runs must be on"):
        Part(steps=0).load(tmp_path / "step-0000003")


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


# Room for no checkpoint, for one, for the weights of a second, for all but the end of its list of checksums.
@pytest.mark.parametrize("kilobytes", [8, 12, 16, 20, 24, 28, 32, 36])
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
    runs.train(recipe, whole)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    ended = []
    for share in (0.3, 0.6, 0.9):
        with disks.small_disk(tmp_path / f"disk{share}", f"{int(size * share / 1024)}k") as disk:
            try:
                runs.train(recipe, disk / "run")
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
            runs.train(recipe, folder)
            assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_best_is_replaced_whole(tmp_path, small_corpus, monkeypatch):
    run = runs.make(runs.recipe(small_corpus, epochs=1), tmp_path / "run")
    trainer.train(run)
    best = tmp_path / "run" / "checkpoints" / "best" / "model.safetensors"
    before = best.read_bytes()
    disks.fill(monkeypatch)
    with torch.no_grad():
        next(run.model.parameters()).add_(1.0)
    with pytest.raises(AffectError, match="No space left"):
        run._write_best(run.engine.weights(run.model), {"valid": {"ccc": 0.5}})
    assert best.read_bytes() == before


def test_the_budget_in_force_is_resumed(tmp_path, small_corpus, monkeypatch):
    recipe = runs.recipe(small_corpus, epochs=2)
    run = runs.make(recipe, tmp_path / "run")
    run.state.budget, run.state.mode = 0.75, "replay"
    run.cut_anew()
    runs.interrupt(run, 5, monkeypatch)
    saved = json.loads((tmp_path / "run" / "checkpoints" / "step-0000003" / "state.json").read_text())
    assert (saved["step"], saved["budget"], saved["mode"]) == (3, 0.75, "replay")
    again = runs.make(recipe, tmp_path / "run")
    assert (again.state.step, again.state.budget, again.schedule.budget) == (3, 0.75, 0.75)
    named = runs.make(runs.recipe(small_corpus, epochs=2, budget=2.0), tmp_path / "run")
    assert named.schedule.budget == 2.0
    fresh = runs.make(recipe, tmp_path / "run", resume="never")
    assert fresh.state.step == 0
