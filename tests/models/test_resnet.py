"""The ResNet: padding, both norms, frames that are kept between windows, and statistics of segments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from affect.models.resnet import ResNet, segments

STEPS = torch.tensor([64, 40, 8])


def made(norm: str) -> ResNet:
    torch.manual_seed(0)
    return ResNet(12, (4, 4, 6, 6), (1, 2, 1, 1), 5, norm)


def mel(longer: int = 0) -> Tensor:
    x = torch.randn(3, 64, 12, generator=torch.Generator().manual_seed(1))
    x = x.masked_fill((torch.arange(64) >= STEPS[:, None])[..., None], 0)
    return torch.nn.functional.pad(x, (0, 0, 0, longer))


@pytest.mark.parametrize("norm", ["frame", "block"])
def test_a_row_is_the_same_alone_and_with_more_padding(norm):
    net = made(norm)
    together, counts = net(mel(), STEPS)
    assert counts.tolist() == [8, 5, 1]
    assert together.shape == (3, 8, 5)
    padded, _ = net(mel(longer=24), STEPS)
    for row, count in enumerate(counts.tolist()):
        alone, _ = net(mel()[row : row + 1, : STEPS[row]], STEPS[row : row + 1])
        torch.testing.assert_close(alone[0], together[row, :count], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(padded[row, :count], together[row, :count], atol=1e-5, rtol=1e-4)


def test_frames_normalised_by_themselves_are_those_of_a_longer_window():
    """So they may be kept; over a block they may not."""
    g = torch.Generator().manual_seed(2)
    x = torch.randn(1, 320, 12, generator=g)
    for norm, equal in (("frame", True), ("block", False)):
        net = made(norm)
        whole, _ = net(x, torch.tensor([320]))
        window, _ = net(x[:, 64:256], torch.tensor([192]))
        same = torch.allclose(window[:, 8:-8], whole[:, 16:24], atol=1e-5)
        assert same == equal, norm


def test_every_parameter_has_a_gradient():
    for norm in ("frame", "block"):
        net = made(norm)
        y, _ = net(mel(), STEPS)
        (y * torch.randn(y.shape)).sum().backward()
        assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_segments_are_mean_and_deviation_of_two_steps():
    x = torch.tensor([[[1.0], [3.0], [8.0], [99.0]]])
    mean, deviation = segments(x, torch.tensor([3]))
    assert mean[0, :3, 0].tolist() == pytest.approx([2.0, 5.5, 8.0])
    assert deviation[0, :3, 0].tolist() == pytest.approx([1.0, 2.5, 1e-5**0.5], rel=1e-4)
