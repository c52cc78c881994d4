"""What a run goes on from: the newest whole checkpoint, with best weights that are whole or made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import checksums
from affect.errors import AffectError
from affect.training import checkpoint, trainer
from tests.training import runs
from tests.training.part import Part

NAMES = ("model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS")


def flip(path: Path, share: float = 0.5, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= mask
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {"flipped": flip, "cut": cut, "gone": Path.unlink, "empty": lambda path: path.write_bytes(b"")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run's checkpoints of steps 2, 4, 6 and 8 and its best weights, of step 6."""
    where = tmp_path_factory.mktemp("made") / "checkpoints"
    part = Part(steps=1)
    part.save(where, 2, keep=9, best=None)
    part.save(where, 4, keep=9, best=0.4, best_step=4)
    part.save(where, 6, keep=9, best=0.6, best_step=6)
    part.save(where, 8, keep=9, best=0.6, best_step=6)
    part.save_best(where, 6)
    return where


@pytest.fixture
def where(made, tmp_path):
    shutil.copytree(made, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


class Told(list[str]):
    """What was told, and with what result: the step that is gone on from."""

    def find(self, where: Path, how: str = "auto") -> str | None:
        found = checkpoint.find(how, where, self.append)
        assert not any("\n" in line for line in self)
        return found.name if found else None


def at(where: Path, step: int) -> Path:
    return where / f"step-{step:07d}"


def names(where: Path) -> set[str]:
    return {path.name for path in where.iterdir()}


# Which checkpoint


def test_the_newest_where_all_is_whole(where, tmp_path):
    told = Told()
    assert told.find(where) == "step-0000008"
    assert told.find(where, str(at(where, 6))) == "step-0000006"
    assert told.find(where, "never") is None
    assert told.find(tmp_path / "none") is None
    assert told == []


def test_what_is_no_checkpoint_of_this_run_is_refused(where, made):
    for wrong in ("atuo", str(where / "best"), str(where)):
        with pytest.raises(AffectError, match="no checkpoint is there; auto takes the newest, never starts anew"):
            checkpoint.find(wrong, where)
    with pytest.raises(AffectError, match="is a checkpoint of another run than"):
        checkpoint.find(str(at(made, 6)), where)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_one_is_passed_over_and_named(where, name, damage):
    DAMAGES[damage](at(where, 8) / name)
    told = Told()
    assert told.find(where) == "step-0000006"
    assert len(told) == 2
    assert "step-0000008 is damaged and passed over: " in told[0]
    # In the list of the others a digest has changed.
    assert name in told[0] or (name, damage) == ("SHA256SUMS", "flipped")
    assert told[1] == f"going on from {at(where, 6)}, the newest checkpoint that is whole"
    assert at(where, 8).is_dir(), "it is not lost yet"
    with pytest.raises(AffectError, match=r"step-0000008 is damaged: .*; auto takes the newest that is whole") as error:
        checkpoint.find(str(at(where, 8)), where)
    assert "\n" not in str(error.value)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(NAMES), share=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_byte_of_any_file(made, name, share, mask):
    path = at(made, 8) / name
    whole = path.read_bytes()
    flip(path, share, mask)
    try:
        assert Told().find(made) == "step-0000006"
    finally:
        path.write_bytes(whole)


def test_a_state_that_is_whole_and_not_understood_is_passed_over(where):
    path = at(where, 8)
    (path / "state.json").write_text("{}")
    checksums.write(path)
    told = Told()
    assert told.find(where) == "step-0000006"
    assert "state.json can't be read (state.json does not hold where a run stands)" in told[0]


def test_several_damaged_ones(where):
    for number in (8, 6):
        flip(at(where, number) / "model.safetensors")
    shutil.rmtree(where / "best")
    Part(steps=1).save_best(where, 4)
    told = Told()
    assert told.find(where) == "step-0000004"
    assert len(told) == 3


def test_none_that_is_whole_is_one_line_and_no_new_start(where):
    for number in (2, 4, 6, 8):
        (at(where, number) / "SHA256SUMS").unlink()
    with pytest.raises(
        AffectError, match=r"no checkpoint in .* is whole \(step-0000008: SHA256SUMS is missing; "
    ) as error:
        checkpoint.find("auto", where, Told().append)
    assert str(error.value).endswith(": --resume never or --overwrite trains anew")
    assert "\n" not in str(error.value)
    assert checkpoint.find("never", where) is None


# What is set aside, and when it goes


def test_a_passed_over_one_goes_with_the_first_save_past_it(where):
    flip(at(where, 8) / "model.safetensors")
    assert Told().find(where) == "step-0000006"
    assert checkpoint.clear(where, after=6) is False
    assert names(where) == {"step-0000002", "step-0000004", "step-0000006", "aside-0000008", "best"}
    part = Part(steps=1)
    part.save(where, 7, keep=2)
    assert names(where) == {"step-0000006", "step-0000007", "aside-0000008", "best"}
    part.save(where, 8, keep=2)
    assert names(where) == {"step-0000007", "step-0000008", "best"}


def test_a_new_start_loses_nothing_at_once(where):
    assert Told().find(where, "never") is None
    assert checkpoint.clear(where, after=0) is True
    assert names(where) == {f"aside-{n:07d}" for n in (2, 4, 6, 8)} | {"aside-best-0000006"}
    assert checkpoint.steps(where) == []
    part = Part(steps=1)
    part.save_best(where, 3)
    part.save(where, 5, keep=2)
    assert names(where) == {"aside-0000006", "aside-0000008", "best", "step-0000005"}


def test_clear_removes_what_kills_left_and_no_more(where):
    for name in (".step-0000009.1.tmp", ".best.1.tmp", ".best.old"):
        (where / name).mkdir()
        (where / name / "file").write_text("half")
    (where / "budget.json").write_text("{}")
    before = names(where)
    assert checkpoint.clear(where, after=8) is False
    assert names(where) == {name for name in before if not name.startswith(".")}


# The best weights


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "place.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_best_weights_are_made_again(where, name, damage):
    DAMAGES[damage](where / "best" / name)
    told = Told()
    assert told.find(where) == "step-0000004", "the newest from before their step"
    (line,) = told
    assert f"{where / 'best'}: the best weights are damaged" in line
    assert name in line or (name, damage) == ("SHA256SUMS", "flipped")
    assert line.endswith(f"; they are made again from {at(where, 4)} on")
    assert checkpoint.clear(where, after=4) is True
    assert "aside-best-0000006" in names(where)
    # Killed again before anything was saved.
    assert Told().find(where) == "step-0000004"
    Part(steps=1).save_best(where, 6)
    assert "aside-best-0000006" not in names(where)


def test_missing_best_weights_are_made_again(where):
    shutil.rmtree(where / "best")
    told = Told()
    assert told.find(where) == "step-0000004"
    assert "the best weights are missing" in told[0]
    assert checkpoint.clear(where, after=4) is True
    told.clear()
    assert told.find(where) == "step-0000004", "and a kill does not send it further back"
    assert told == []


def test_best_weights_of_another_step_are_made_again(where):
    Part(steps=1).save_best(where, 4)
    told = Told()
    assert told.find(where) == "step-0000004"
    assert "the best weights are of step 4, not 6" in told[0]


def test_best_weights_of_a_later_step_come_again(where):
    Part(steps=1).save_best(where, 9)
    told = Told()
    assert told.find(where) == "step-0000008"
    assert told == []
    assert checkpoint.clear(where, after=8) is True
    assert told.find(where) == "step-0000008"
    assert told == []


def test_damaged_best_weights_of_a_later_step_come_again(where):
    Part(steps=1).save_best(where, 9)
    flip(where / "best" / "model.safetensors")
    assert Told().find(where) == "step-0000008"


def test_what_damaged_weights_say_of_themselves_is_not_believed(where):
    path = where / "best" / "place.json"
    path.write_text(path.read_text().replace('"step": 6', '"step": 9'))
    assert Told().find(where) == "step-0000004"


def test_where_nothing_is_left_from_before_them_one_line_says_what_to_do(where):
    for number in (2, 4, 6):
        shutil.rmtree(at(where, number))
    flip(where / "best" / "model.safetensors")
    with pytest.raises(
        AffectError, match=r"best: the best weights are damaged .*before their step 6 is there"
    ) as error:
        checkpoint.find("auto", where, Told().append)
    assert "\n" not in str(error.value)
    assert f"--resume {at(where, 8)} chooses the best of what is still to come" in str(error.value)
    assert "best" in names(where), "nothing was touched"
    told = Told()
    assert told.find(where, str(at(where, 8))) == "step-0000008"
    assert "the best of what is still to come is taken" in told[0]
    assert checkpoint.clear(where, after=8) is True


def test_before_the_first_evaluation_no_best_weights_are_missed(where):
    for number in (4, 6, 8):
        shutil.rmtree(at(where, number))
    shutil.rmtree(where / "best")
    told = Told()
    assert told.find(where) == "step-0000002"
    assert told == []


# Whole runs


def test_a_run_whose_newest_checkpoint_is_damaged_ends_as_if_it_had_not_been(
    small_corpus, tmp_path, monkeypatch, caplog
):
    recipe = runs.recipe(small_corpus, epochs=4, keep=2)
    whole, folder = tmp_path / "whole", tmp_path / "run"
    runs.train(recipe, whole)
    runs.interrupt(runs.make(recipe, folder), 11, monkeypatch)
    assert [path.name for path in checkpoint.steps(folder / "checkpoints")] == ["step-0000006", "step-0000009"]
    flip(at(folder / "checkpoints", 9) / "model.safetensors")
    run = runs.make(recipe, folder)
    assert run.state.step == 6
    assert "step-0000009 is damaged and passed over: model.safetensors is not what was written" in caplog.text
    trainer.train(run)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert names(folder / "checkpoints") == names(whole / "checkpoints")


def test_a_run_whose_best_weights_are_damaged_makes_them_again(small_corpus, tmp_path, monkeypatch):
    recipe = runs.recipe(small_corpus, epochs=4, keep=9)
    whole, folder = tmp_path / "whole", tmp_path / "run"
    runs.train(recipe, whole)
    runs.interrupt(runs.make(recipe, folder), 11, monkeypatch)
    cut(folder / "checkpoints" / "best" / "model.safetensors")
    before = json.loads((folder / "checkpoints" / "best" / "place.json").read_text())["step"]
    run = runs.make(recipe, folder)
    assert run.state.step < before
    trainer.train(run)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    for path in (whole / "checkpoints" / "best").iterdir():
        assert (folder / "checkpoints" / "best" / path.name).read_bytes() == path.read_bytes()
