"""The channels-last convolutions and the masked GroupNorm against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from affect.models import pretrained
from affect.models.convolution import ConvStack, PositionalConvolution, convolve
from affect.models.group_norm import normalise_over_time


@settings(max_examples=40, deadline=None)
@given(
    stride=st.integers(1, 5),
    extra=st.integers(0, 5),
    channels=st.integers(1, 4),
    blocks=st.integers(3, 9),
    batch=st.integers(1, 3),
    biased=st.booleans(),
)
def test_convolve_equals_conv1d(stride, extra, channels, blocks, batch, biased):
    kernel = stride + min(extra, stride)
    torch.manual_seed(0)
    x = torch.randn(batch, blocks * stride, channels, dtype=torch.double, requires_grad=channels > 1)
    weight = torch.randn(6, channels, kernel, dtype=torch.double, requires_grad=True)
    bias = torch.randn(6, dtype=torch.double, requires_grad=True) if biased else None
    expected = F.conv1d(x.transpose(1, 2), weight, bias, stride).transpose(1, 2)
    steps = expected.shape[1]
    found = convolve(x, weight, bias, stride)[:, :steps]
    torch.testing.assert_close(found, expected)
    inputs = [entry for entry in (x, weight, bias) if entry is not None and entry.requires_grad]
    seed = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, inputs, seed)
    for ours_, theirs_ in zip(torch.autograd.grad(found, inputs, seed), theirs, strict=True):
        torch.testing.assert_close(ours_, theirs_)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), scale=st.floats(0.01, 100))
def test_group_norm_equals_torch_on_each_unpadded_row(lengths, scale):
    torch.manual_seed(0)
    norm = nn.GroupNorm(5, 5)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(5))
        norm.bias.copy_(torch.randn(5))
    x = scale * (torch.randn(len(lengths), max(lengths), 5) + 0.5)
    found = normalise_over_time(x, torch.tensor(lengths), norm.weight, norm.bias, norm.eps)
    for row, length in enumerate(lengths):
        rows = x[row : row + 1, :length].transpose(1, 2)
        # torch refuses one value a channel, whose normalised value is 0.
        expected = norm(rows)[0].t() if length > 1 else norm.bias.expand(1, 5)
        torch.testing.assert_close(found[row, :length], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["tiny", "tiny-group"])
def test_rows_one_by_one_equal_rows_at_once(name):
    torch.manual_seed(0)
    model, _ = pretrained.read_encoder(name, None, None)
    stack = ConvStack(model.feature_extractor, frozen=False, checkpointed=False)
    samples = torch.tensor([5000, 7777, 300])
    wave = torch.randn(3, 7777) * (torch.arange(7777) < samples[:, None])
    found, frames = stack(wave, samples)
    expected, expected_frames = stack.run(wave, samples)
    assert frames.tolist() == expected_frames.tolist()
    assert found.shape == expected.shape
    valid = torch.arange(found.shape[1]) < frames[:, None]
    torch.testing.assert_close(found[valid], expected[valid])


def test_positional_convolution_equals_transformers():
    torch.manual_seed(0)
    model, _ = pretrained.read_encoder("tiny", None, None)
    theirs = model.encoder.pos_conv_embed
    ours = PositionalConvolution(theirs)
    hidden = torch.randn(2, 33, 32)
    torch.testing.assert_close(ours(hidden), theirs(hidden), atol=1e-6, rtol=1e-5)
