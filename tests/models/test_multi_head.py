"""Attention written out, as training on a CPU has it, is the fused one."""

from __future__ import annotations

import pytest
import torch

from affect.errors import AffectError
from affect.models.multi_head import MultiHeadAttention


def test_written_out_it_is_the_fused_one():
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2)
    queries, keys, values = (torch.randn(2, n, 8, requires_grad=True) for n in (3, 5, 5))
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    found = []
    for training in (True, False):
        output = attention.train(training)(queries, keys, values, mask)
        found.append((output, *torch.autograd.grad(output.square().sum(), (queries, keys, values))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert not found[0][2][1, 2:].any(), "what is not there has no gradient"


def test_a_width_that_heads_do_not_divide_is_named():
    with pytest.raises(AffectError, match="width 9 has to be a multiple of its 2 heads"):
        MultiHeadAttention(9, 2)
