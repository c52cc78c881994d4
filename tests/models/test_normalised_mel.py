"""Log-mel steps less their mean: level, padding, and steps that a window shares with the recording."""

from __future__ import annotations

import torch
from torch import Tensor

from affect.models.mel import NormalisedMel

SAMPLES = torch.tensor([8000, 5000, 100])


def waves(longer: int = 0) -> Tensor:
    x = 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.pad(x, (0, longer), value=9.0)


def test_a_row_is_the_same_alone_and_with_more_padding():
    mel = NormalisedMel()
    together, steps = mel(waves(), SAMPLES, 8)
    assert steps.tolist() == [56, 32, 8]
    assert together.shape == (3, 56, 80)
    padded, _ = mel(waves(longer=4000), SAMPLES, 8)
    for row, count in enumerate(SAMPLES.tolist()):
        alone, _ = mel(waves()[row : row + 1, :count], SAMPLES[row : row + 1], 8)
        for other in (alone[0], padded[row]):
            torch.testing.assert_close(other[: steps[row]], together[row, : steps[row]], atol=1e-4, rtol=0)
        assert not together[row, steps[row] :].any()


def test_a_level_moves_all_bins_alike_and_so_nothing():
    mel = NormalisedMel()
    one, _ = mel(waves()[:1], SAMPLES[:1])
    louder, _ = mel(4 * waves()[:1], SAMPLES[:1])
    torch.testing.assert_close(louder, one, atol=1e-3, rtol=0)
    assert one.mean(1).abs().max() < 1e-5
    assert 0.1 < one.std() < 2


def test_by_a_given_mean_a_window_has_the_recordings_steps():
    mel = NormalisedMel()
    levels, steps = mel.levels(waves()[:1], SAMPLES[:1])
    mean = levels.sum(1) / steps[:, None]
    whole, _ = mel(waves()[:1], SAMPLES[:1])
    window, _ = mel(waves()[:1, 1600:4800], torch.tensor([3200]), mean=mean)
    torch.testing.assert_close(window[:, 2:-2], whole[:, 12:28], atol=1e-4, rtol=0)


def test_silence_is_finite():
    quiet, steps = NormalisedMel()(torch.zeros(1, 0), torch.tensor([0]), 4)
    assert steps.tolist() == [4]
    assert not quiet.any()
