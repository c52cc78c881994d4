"""FiLM, prosody's attention to speech, and gates."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from affect.errors import AffectError
from affect.models.fusion import FiLM, Gate, ProsodyAttention


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def gradients(module: nn.Module, output: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return each parameter's gradient of a sum of squares to random targets."""
    module.zero_grad()
    (output - torch.randn_like(output)).square().sum().backward()
    return {name: entry.grad for name, entry in module.named_parameters()}


@pytest.mark.parametrize("shape", [(5, 12), (5, 7, 12)])
def test_film_starts_as_the_identity_and_learns_at_once(shape):
    film = FiLM(12, 192)
    features, speaker = torch.randn(shape), torch.randn(5, 192)
    output = film(features, speaker)
    torch.testing.assert_close(output, features, atol=0, rtol=0)
    for name, gradient in gradients(film, output).items():
        assert bool((gradient != 0).any(dim=-1).all()), name


def test_film_scales_and_shifts_by_the_condition():
    film = FiLM(3, 4)
    with torch.no_grad():
        film.modulation.weight.normal_()
        film.modulation.bias.normal_()
    speaker = torch.randn(2, 4)
    level = speaker.square().mean(-1, keepdim=True).sqrt()
    scale, shift = film.modulation(speaker / level).split(3, dim=-1)
    frames = torch.randn(2, 6, 3)
    for time in range(6):
        expected = frames[:, time] * (1 + scale) + shift
        torch.testing.assert_close(film(frames, speaker)[:, time], expected)
        torch.testing.assert_close(film(frames[:, time], speaker), expected)
    torch.testing.assert_close(film(frames, 300 * speaker), film(frames, speaker))
    # An unknown speaker: no direction, the bias alone.
    unknown = film(frames, torch.zeros(2, 4))
    scale, shift = film.modulation.bias.split(3)
    torch.testing.assert_close(unknown, frames * (1 + scale) + shift)
    with pytest.raises(AffectError, match="a condition of 4 numbers, not 5"):
        film(frames, torch.randn(2, 5))


def reference(attention: ProsodyAttention, prosody: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """One utterance without padding through torch's own multi-head attention: [Q, P], [T, D] -> [width]."""
    width = attention.width
    theirs = nn.MultiheadAttention(width, attention.heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.eye(width).repeat(3, 1))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(attention.output.weight)
        theirs.out_proj.bias.copy_(attention.output.bias)
    states = attention.norm(frames)[None]
    output, _ = theirs(attention.query(prosody)[None], attention.key(states), attention.value(states))
    return output[0].mean(0)


def moved(attention: ProsodyAttention) -> ProsodyAttention:
    with torch.no_grad():
        for entry in attention.parameters():
            entry.add_(0.3 * torch.randn_like(entry))
    return attention


def test_attention_equals_torch_alone_and_in_a_padded_batch():
    attention = moved(ProsodyAttention(9, 10, 16))
    counts, queries = [7, 3, 1], [4, 1, 2]
    mask = torch.arange(7) < torch.tensor(counts)[:, None]
    prosody_mask = torch.arange(4) < torch.tensor(queries)[:, None]
    # Garbage in the padding, the worst there is included.
    frames = torch.randn(3, 7, 10).masked_fill(~mask[..., None], float("nan"))
    prosody = torch.randn(3, 4, 9).masked_fill(~prosody_mask[..., None], float("inf"))
    many = attention(prosody, frames, mask, prosody_mask)
    one = attention(prosody[:, 0], frames, mask)
    assert many.shape == one.shape == (3, 16)
    for row, (count, number) in enumerate(zip(counts, queries, strict=True)):
        expected = reference(attention, prosody[row, :number], frames[row, :count])
        torch.testing.assert_close(many[row], expected, atol=1e-5, rtol=1e-5)
        expected = reference(attention, prosody[row, :1], frames[row, :count])
        torch.testing.assert_close(one[row], expected, atol=1e-5, rtol=1e-5)
        alone = attention(prosody[row : row + 1, 0], frames[row : row + 1, :count], mask[row : row + 1, :count])
        torch.testing.assert_close(one[row], alone[0], atol=1e-5, rtol=1e-5)


def test_attention_without_any_frame_is_finite():
    attention = moved(ProsodyAttention(4, 6, 8, heads=2))
    prosody, frames = torch.randn(2, 4), torch.randn(2, 5, 6)
    mask = torch.tensor([[False] * 5, [True] * 5])
    output = attention(prosody, frames, mask)
    longer = attention(prosody, torch.cat([frames, frames], 1), torch.cat([mask, torch.zeros_like(mask)], 1))
    torch.testing.assert_close(output, longer, atol=1e-5, rtol=1e-5)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients(attention, output).values())


@pytest.mark.parametrize("queries", [None, 3])
def test_attention_gives_every_parameter_a_gradient(queries):
    attention = ProsodyAttention(4, 6, 8)
    prosody = torch.randn(5, 4) if queries is None else torch.randn(5, queries, 4)
    output = attention(prosody, torch.randn(5, 9, 6), torch.arange(9) < torch.tensor([9, 4, 5, 2, 8])[:, None])
    for name, gradient in gradients(attention, output).items():
        assert gradient.abs().max() > 1e-4, name


@pytest.mark.parametrize("training", [True, False])
def test_attention_is_the_same_without_gradients(training):
    attention = moved(ProsodyAttention(4, 6, 8)).train(training)
    inputs = torch.randn(5, 4), torch.randn(5, 9, 6), torch.arange(9) < torch.tensor([9, 4, 5, 2, 8])[:, None]
    with torch.no_grad():
        without = attention(*inputs)
    torch.testing.assert_close(without, attention(*inputs), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("width", "heads"), [(10, 4), (8, 0), (0, 4)])
def test_attention_of_a_bad_width(width, heads):
    with pytest.raises(AffectError, match=f"width {width} has to be a multiple of its {heads} heads"):
        ProsodyAttention(4, 6, width, heads=heads)


def test_gate_starts_open_and_learns_at_once():
    gate = Gate((3, 5))
    parts = [torch.randn(6, 3), torch.randn(6, 5)]
    output = gate(parts)
    torch.testing.assert_close(output, torch.cat(parts, -1))
    assert gate.width == 8
    for name, gradient in gradients(gate, output).items():
        assert bool((gradient != 0).all()), name


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(0, 1000))
def test_gate_weighs_each_part_by_its_own_share(batch, widths, seed):
    torch.manual_seed(seed)
    gate = Gate(widths)
    with torch.no_grad():
        gate.score.weight.normal_()
        gate.score.bias.normal_()
    parts = [torch.randn(batch, width) for width in widths]
    shares = gate.weights(parts)
    assert shares.shape == (batch, len(widths))
    torch.testing.assert_close(shares.sum(-1), torch.ones(batch))
    output = gate(parts)
    start = 0
    for index, width in enumerate(widths):
        expected = len(widths) * shares[:, index, None] * parts[index]
        torch.testing.assert_close(output[:, start : start + width], expected)
        start += width
    for row in range(batch):
        torch.testing.assert_close(gate([part[row : row + 1] for part in parts])[0], output[row])


def test_a_gate_of_one_part():
    with pytest.raises(AffectError, match="at least 2 parts, not 1"):
        Gate((4,))
