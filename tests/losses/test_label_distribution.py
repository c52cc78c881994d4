"""Weights of labels against the numbers of the public code of label-distribution smoothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from affect.losses.label_distribution import LabelWeights, bin_weights, label_weights
from affect.losses.masked import squared_error
from affect.training.terms import whole

KERNEL = [0.85829, 0.94583, 1.0, 0.94583, 0.85829]
COUNTS = np.array([10, 40, 100, 40, 10])


@pytest.mark.parametrize(
    ("kind", "wanted"), [("inverse", [1.33992, 1.00406, 0.92877]), ("sqrt", [1.39555, 1.02219, 0.90314])]
)
def test_weights_are_those_of_the_public_code_where_nothing_is_reflected(kind, wanted):
    """It has nothing beyond the ends: so do empty bins there."""
    padded = np.concatenate([[0, 0], COUNTS, [0, 0]])
    assert bin_weights(padded, kind=kind)[2:5] == pytest.approx(wanted, abs=1e-5)


def test_the_kernel_is_the_public_codes():
    """A Gaussian reflected in a window of its own length, so not .60653 at its ends."""
    smoothed = 1 / bin_weights([0, 0, 0, 0, 1, 0, 0, 0, 0])
    assert smoothed[2:7] / smoothed[4] == pytest.approx(KERNEL, abs=1e-5)


def test_ends_of_a_uniform_distribution_weigh_as_its_middle():
    assert bin_weights([20] * 50) == pytest.approx(np.ones(50))
    cut = 1 / convolve1d(np.full(50, 20.0), KERNEL, mode="constant")
    assert cut[0] / cut[25] == pytest.approx(1.64, abs=0.01), "the public code's"


def test_reflected_counts_by_hand():
    smoothed = np.array([40 * KERNEL[0] + 10 * KERNEL[1] + 10 + 40 * KERNEL[3] + 100 * KERNEL[4],
                         10 * KERNEL[0] + 10 * KERNEL[1] + 40 + 100 * KERNEL[3] + 40 * KERNEL[4]])  # fmt: skip
    found = bin_weights(COUNTS)
    assert found[0] / found[1] == pytest.approx(smoothed[1] / smoothed[0], abs=1e-5)
    assert found @ COUNTS == pytest.approx(200)
    assert (found == found[::-1]).all()
    assert bin_weights(COUNTS, sigma=0.1) == pytest.approx([4, 1, 0.4, 1, 4]), "hardly smoothed"


def test_a_wider_kernel_has_more_neighbours():
    for sigma, near in ((2.0, 2), (4.0, 4)):
        smoothed = 1 / bin_weights([0] * 7 + [1] + [0] * 7, sigma=sigma)[7:]
        assert (np.diff(smoothed[: near + 1]) < 0).all() and (smoothed[near:] == smoothed[near]).all()


def test_bins_far_from_any_label_weigh_as_the_rarest():
    found = bin_weights([50, 1, 0, 0, 0, 0, 0, 0, 0, 9])
    assert np.isfinite(found).all()
    assert found[5] == found[:4].max() == found.max()
    assert bin_weights([0, 0]).tolist() == [1, 1]


def test_a_label_has_the_weight_of_its_bin():
    weights = LabelWeights(1.0, 5.0, (1.0, 2.0, 3.0, 4.0))
    label = torch.tensor([[1.0, 1.99], [2.0, 3.5], [5.0, 4.0], [-7.0, 9.0]])
    assert weights(label).tolist() == [[1, 1], [2, 3], [4, 4], [1, 4]]


def test_weights_of_training_labels_have_a_mean_of_1_over_them():
    random = np.random.default_rng(0)
    labels = np.clip(random.normal(3, 0.7, 500), 0.1, 5.0)
    labels[::7] = np.nan
    for kind in ("inverse", "sqrt"):
        weights = label_weights(labels, (0.1, 5.0), kind=kind, bins=20)
        each = weights(torch.tensor(labels[~np.isnan(labels)], dtype=torch.float32))
        assert float(each.mean()) == pytest.approx(1, abs=0.01)  # float32 moves a label at a bin's border
        assert float(each[each.argmin()]) < 1 < float(each.max())
    inverse, root = (label_weights(labels, (0.1, 5.0), kind=kind).weights for kind in ("inverse", "sqrt"))
    assert max(inverse) / min(inverse) > max(root) / min(root) > 1


def test_a_term_weighs_by_it():
    weights = LabelWeights(1.0, 5.0, (1.0, 2.0, 3.0, 4.0))
    target = torch.tensor([1.5, 4.5, float("nan")])
    found = whole([squared_error("t", weigh=weights)], {"t": target + 1.0}, {"t": target}).total
    assert float(found) == pytest.approx((1 + 4) / 2)
