"""The state over a dialogue: its average by hand, no look ahead, no mixing of dialogues."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affect.models.dialogue import DialogueState, TemporalMamba, in_line, in_rows, moving_average


def test_the_average_is_that_of_the_report():
    """c_t = .8 c_(t-1) + .2 u_t from c_0 = 0, written out for three utterances."""
    increments = torch.tensor([[[1.0], [2.0], [-4.0]]])
    expected = [0.2, 0.8 * 0.2 + 0.2 * 2.0, 0.8 * (0.8 * 0.2 + 0.4) - 0.8]
    assert moving_average(increments, 0.8).flatten().tolist() == pytest.approx(expected)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_rows_and_lines_are_each_others_inverse(counts):
    turns = torch.tensor(counts)
    line = torch.arange(2.0 * sum(counts)).reshape(-1, 2)
    rows = in_rows(line, turns)
    assert rows.shape == (len(counts), max(counts), 2)
    assert torch.equal(in_line(rows, turns), line)
    padding = np.concatenate([rows[k, count:].numpy().ravel() for k, count in enumerate(counts)])
    assert not padding.any()


def state(seed: int = 0) -> DialogueState:
    torch.manual_seed(seed)
    return DialogueState(6, width=8, layers=2, state=3, decay=0.8, dropout=0.0).eval()


def test_dialogues_are_kept_apart_and_nothing_looks_ahead():
    model = state()
    said = torch.randn(7, 6)
    with torch.no_grad():
        together = model(said, torch.tensor([3, 4]))
        assert torch.allclose(together[:3], model(said[:3], torch.tensor([3])), atol=1e-6)
        assert torch.allclose(together[3:], model(said[3:], torch.tensor([4])), atol=1e-6)
        assert torch.allclose(together[:2], model(said[:2], torch.tensor([2])), atol=1e-6)
        changed = said.clone()
        changed[0] += 1.0
        moved = (model(changed, torch.tensor([3, 4])) - together).abs().amax(1)
    assert (moved[:3] > 1e-6).all(), "what was said first is remembered"
    assert (moved[3:] == 0).all()


def test_frames_see_those_before_them():
    torch.manual_seed(0)
    model = TemporalMamba(4, width=8, layers=1, dropout=0.0).eval()
    frames = torch.randn(1, 40, 4)
    changed = frames.clone()
    changed[0, 10] += 1.0
    with torch.no_grad():
        moved = (model(changed) - model(frames)).abs().amax(-1)[0]
    assert (moved[:10] == 0).all()
    assert moved[10:30].min() > 0, "beyond the convolution's four frames"
