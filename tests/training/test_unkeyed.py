"""A task's own model: its dropout modules are keyed, and what can't be is named."""

from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from affect.recipe import read
from tests.training import toy, toy_task


class Net(toy.Toy):
    """Drops out by torch's own module, or by its function."""

    def __init__(self, functional: bool):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.functional = functional

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return super().forward(F.dropout(x, 0.5, self.training) if self.functional else self.dropout(x))


class Its(toy_task.ToyTask):
    def __init__(self, recipe: toy_task.ToyRecipe, functional: bool):
        super().__init__(recipe)
        self.functional = functional

    def build_model(self) -> nn.Module:
        return Net(self.functional)


def trained(folder, functional: bool, **train):
    """Return the losses of a run and what it says is not keyed."""
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text('{"world": 1}')
    toy_task.train(Its(toy_task.recipe(train=train), functional), folder)
    said = [line for line in (folder / "train.log").read_text().splitlines() if "not keyed" in line]
    return [line["loss"] for line in toy_task.lines(folder, "step")], said


def test_torchs_modules_follow_the_examples(tmp_path):
    whole, said = trained(tmp_path / "whole", False)
    cut, _ = trained(tmp_path / "cut", False, budget=3.0, mode="replay")
    assert said == []
    assert cut == pytest.approx(whole, rel=1e-5)


def test_what_draws_from_a_generator_is_named_in_one_line_and_replayed_as_held(tmp_path):
    held, said = trained(tmp_path / "held", True, budget=3.0)
    replayed, _ = trained(tmp_path / "replayed", True, budget=3.0, mode="replay")
    whole, _ = trained(tmp_path / "whole", True)
    assert len(said) == 1
    assert "not keyed: the model (Net): what they draw depends on how a batch is cut" in said[0]
    assert read(tmp_path / "held" / "environment.json") == {"world": 1, "not_keyed": ["the model (Net)"]}
    assert replayed == pytest.approx(held, rel=1e-5)
    assert whole != pytest.approx(held, rel=1e-3)
