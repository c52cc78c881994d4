"""The Conformer's block: padding, chance that follows the example, and how far its convolution sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from affect import keyed
from affect.models.conformer import ConformerBlock, ConvolutionModule

FRAMES = (9, 4, 1)


def made(dropout: float = 0.3) -> ConformerBlock:
    torch.manual_seed(0)
    block = ConformerBlock(8, heads=2, hidden=12, kernel=5, dropout=dropout)
    keyed.name_places(block)
    return block


def batch(longer: int = 0, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.full((len(FRAMES), max(FRAMES) + longer, 8), padding)
    for row, count in zip(x, FRAMES, strict=True):
        row[:count] = torch.randn(count, 8, generator=g)
    return x, torch.arange(x.shape[1]) < torch.tensor(FRAMES)[:, None]


def heard(block: ConformerBlock, rows, longer: int = 0, padding: float = 0.0) -> list[Tensor]:
    x, mask = batch(longer, padding)
    with torch.no_grad(), keyed.examples(0, 3, [f"{row}" for row in rows]):
        y = block(x[rows], mask[rows])
    return [one[: FRAMES[row]] for row, one in zip(rows, y, strict=True)]


@pytest.mark.parametrize("training", [False, True])
def test_a_row_is_the_same_alone_in_another_order_and_with_more_padding(training):
    block = made().train(training)
    together = heard(block, [0, 1, 2])
    for others in (
        heard(block, [0, 1, 2], longer=5, padding=1e3), heard(block, [2, 1, 0])[::-1],
        [heard(block, [row])[0] for row in range(3)],
    ):  # fmt: skip
        for other, wanted in zip(others, together, strict=True):
            torch.testing.assert_close(other, wanted, atol=1e-5, rtol=1e-5)


def test_every_parameter_has_a_gradient():
    block = made()
    x, mask = batch()
    (block(x, mask) * torch.randn(3, 9, 8)).sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_convolution_sees_half_its_kernel_to_each_side():
    torch.manual_seed(0)
    module = ConvolutionModule(4, kernel=5, dropout=0.0)
    x = torch.randn(1, 11, 4, requires_grad=True)
    module(x, torch.ones(1, 11, dtype=torch.bool))[0, 5].sum().backward()
    assert x.grad[0].any(-1).nonzero().flatten().tolist() == [3, 4, 5, 6, 7]
