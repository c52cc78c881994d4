"""Pooling sees valid frames and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.errors import AffectError
from affect.models.pooling import POOLINGS, build_pooling


def example(lengths: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    frames = torch.randn(len(lengths), max(lengths) + 2, 6)
    return frames, torch.arange(frames.shape[1]) < torch.tensor(lengths)[:, None]


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(POOLINGS)),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    seed=st.integers(0, 100),
    junk=st.sampled_from([0.0, 1e3, float("nan"), float("inf")]),
)
def test_padding_changes_nothing(name, lengths, seed, junk):
    frames, mask = example(lengths, seed)
    pooling = build_pooling(name, 6)
    pooled = pooling(frames.masked_fill(~mask[..., None], junk), mask)
    assert pooled.shape == (len(lengths), pooling.width)
    for row, length in enumerate(lengths):
        alone = pooling(frames[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(pooled[row], alone[0], atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(sorted(POOLINGS)), length=st.integers(1, 12), seed=st.integers(0, 100))
def test_order_of_frames_changes_nothing(name, length, seed):
    frames, mask = example([length], seed)
    frames, mask = frames[:, :length], mask[:, :length]
    pooling = build_pooling(name, 6)
    shuffled = frames[:, torch.randperm(length)]
    torch.testing.assert_close(pooling(shuffled, mask), pooling(frames, mask), atol=1e-5, rtol=1e-5)


def test_mean_is_the_mean():
    frames, mask = example([3, 5], 0)
    expected = torch.stack([frames[0, :3].mean(0), frames[1, :5].mean(0)])
    torch.testing.assert_close(build_pooling("mean", 6)(frames, mask), expected)


def test_even_attention_gives_mean_and_population_deviation():
    frames, mask = example([3, 5], 0)
    for name in ("attention", "attentive_statistics"):
        pooling = build_pooling(name, 6)
        with torch.no_grad():
            pooling.attention.score.weight.zero_()
        rows = [frames[0, :3], frames[1, :5]]
        expected = torch.stack([row.mean(0) for row in rows])
        if name == "attentive_statistics":
            deviations = torch.stack([row.std(0, correction=0) for row in rows])
            expected = torch.cat([expected, deviations], dim=1)
        torch.testing.assert_close(pooling(frames, mask), expected)


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_gradients_are_finite_with_one_frame(name):
    frames, mask = example([1, 4], 0)
    pooling = build_pooling(name, 6)
    frames.requires_grad_()
    pooling(frames, mask).square().sum().backward()
    assert bool(torch.isfinite(frames.grad).all())
    assert bool((frames.grad[0, 1:] == 0).all())
    for parameter in pooling.parameters():
        assert bool(torch.isfinite(parameter.grad).all())


def test_unknown_pooling():
    with pytest.raises(AffectError, match="did you mean 'attention'"):
        build_pooling("atention", 4)
