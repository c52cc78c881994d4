"""What benchmarks/diarization_step.py compares: both steps do the same work."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from affect.tasks.diarization.config import TINY, Loss, Model


@pytest.mark.parametrize(("pieces", "same"), [(1, True), (2, False)])
def test_in_one_piece_the_bare_step_is_affects_and_in_two_it_has_another_loss(monkeypatch, pieces, same):
    """The contrastive loss of a piece is not that of the batch; the cut bare loop only says what a cut costs."""
    path = Path(__file__).parents[1] / "benchmarks" / "diarization_step.py"
    specification = importlib.util.spec_from_file_location("benchmark_of_a_step", path)
    assert specification is not None and specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    monkeypatch.setattr(script, "SECONDS", 2)
    model, built, make = Model(**TINY), [], script.of_ours

    def kept(*given):
        made = make(*given)
        built.append(made[0])
        return made

    monkeypatch.setattr(script, "of_ours", kept)
    steps = script.in_pieces(model, Loss(), 4, pieces, "here")
    assert [bare for bare, _ in steps.values()] == ["a bare loop, here"] * 2
    before = torch.nn.utils.parameters_to_vector(built[0].parameters()).detach().clone()
    assert all(step() > 0 for _, step in steps.values())
    ours, bare = (torch.nn.utils.parameters_to_vector(each.parameters()).detach() for each in built)
    gap = float((ours - bare).norm() / (bare - before).norm())
    assert (gap < 0.05) == same
