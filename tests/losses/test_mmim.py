"""MMIM's losses against torch's own distributions and a sum over pairs by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from affect.losses.alignment import contrastive
from affect.losses.mmim import MODALITIES, contrastive_bound, log_likelihood, mmim_terms
from affect.training.terms import Loss, whole
from tests.losses.modalities import each_is_one_alone, padding_changes_nothing

NAMES = [
    *(f"{name}_{kind}" for kind in ("h", "predicted") for name in MODALITIES),
    *(f"text_{name}_{kind}" for name in ("audio", "video") for kind in ("mean", "log_variance")),
]


def of(outputs: dict[str, torch.Tensor], present: torch.Tensor, **weights: float) -> Loss:
    return whole(mmim_terms(**weights), outputs, {"present": present})


def outputs_of(n: int = 7, h: int = 4, seed: int = 0, models: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*models, n, h, generator=g) for name in NAMES}


def by_hand(value: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean cross entropy of a row among all predictions, pair by pair, in float64."""
    value, predicted = (x.astype(np.float64) for x in (value, predicted))
    total = 0.0
    for i, x in enumerate(value):
        cosines = [float(x @ p / np.linalg.norm(x) / np.linalg.norm(p)) for p in predicted]
        total += math.log(sum(map(math.exp, cosines))) - cosines[i]
    return total / len(value)


def test_likelihood_is_that_of_a_gaussian():
    value, mean, log_variance = list(outputs_of().values())[:3]
    wanted = Normal(mean, torch.exp(log_variance / 2)).log_prob(value).sum(1)
    constant = 4 * math.log(2 * math.pi) / 2
    torch.testing.assert_close(log_likelihood(value, mean, log_variance) - constant, wanted)


def test_the_likelihood_is_highest_at_the_true_variance():
    g = torch.Generator().manual_seed(0)
    value = 0.5 * torch.randn(20_000, 1, generator=g)
    grid = torch.linspace(-4, 2, 61)
    mean = [float(log_likelihood(value, torch.zeros(1, 1), s.expand(1, 1)).mean()) for s in grid]
    assert float(grid[int(np.argmax(mean))]) == pytest.approx(math.log(0.25), abs=0.06)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_contrast_is_that_of_the_pairs(n):
    value, predicted = list(outputs_of(n=n).values())[:2]
    everyone = torch.ones(n, dtype=torch.bool)
    wanted = by_hand(value.numpy(), predicted.numpy())
    assert float(contrastive_bound(value, predicted, everyone)) == pytest.approx(wanted, abs=1e-6)


def test_both_directions_are_the_symmetric_loss_at_temperature_one():
    value, predicted = list(outputs_of().values())[:2]
    everyone = torch.ones(7, dtype=torch.bool)
    both = (contrastive_bound(value, predicted, everyone) + contrastive_bound(predicted, value, everyone)) / 2
    symmetric = contrastive("a", "b", temperature=1.0).value({"a": value, "b": predicted}, {})
    torch.testing.assert_close(both, symmetric)


def test_terms_are_sums_over_the_modalities_by_hand():
    outputs = outputs_of(n=9)
    present = torch.ones(9, 3)
    present[0, 0] = present[1, 1] = present[2] = present[3, 2] = present[4, 0] = present[4, 2] = 0
    terms = of(outputs, present).values
    here = {name: present[:, m] > 0 for m, name in enumerate(MODALITIES)}
    wanted = sum(by_hand(outputs[f"{m}_h"][here[m]].numpy(), outputs[f"{m}_predicted"][here[m]].numpy()) for m in here)
    assert float(terms["contrast"]) == pytest.approx(wanted, abs=1e-5)
    information = {}
    for name in ("audio", "video"):
        both = here["text"] & here[name]
        mean, log_variance = (outputs[f"text_{name}_{kind}"][both] for kind in ("mean", "log_variance"))
        density = Normal(mean, torch.exp(log_variance / 2)).log_prob(outputs[f"{name}_h"][both])
        information[name] = -float(density.sum(1).mean()) - 4 * math.log(2 * math.pi) / 2
        assert float(terms[f"information_{name}"]) == pytest.approx(information[name], rel=1e-5)
    weighed = 0.2 * float(terms["contrast"]) + 0.5 * sum(information.values())
    assert float(of(outputs, present, contrast=0.2, information=0.5).total) == pytest.approx(weighed, rel=1e-5)
    assert {term.name: (term.weight, term.additive) for term in mmim_terms()} == {
        "contrast": (0.1, False), "information_audio": (0.1, True), "information_video": (0.1, True),
    }  # fmt: skip


def test_it_is_no_sum_over_pieces():
    """Why it is gathered: half a batch has half the negatives."""
    value, predicted = list(outputs_of(n=10).values())[:2]
    half = torch.ones(5, dtype=torch.bool)
    halves = (contrastive_bound(value[:5], predicted[:5], half) + contrastive_bound(value[5:], predicted[5:], half)) / 2
    whole = contrastive_bound(value, predicted, torch.ones(10, dtype=torch.bool))
    assert abs(float(halves - whole)) > 0.05


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.integers(0, 2**31 - 1), st.sampled_from([0.0, 1e9, float("nan")]))
def test_padding_rows_change_nothing(padding, seed, filling):
    torch.manual_seed(seed)
    padding_changes_nothing(of, outputs_of(seed=seed), padding, filling, atol=1e-5)


def test_many_models_at_once_are_each_one_alone():
    each_is_one_alone(of, outputs_of(models=(3,)))


@pytest.mark.parametrize("fill", [0.0, 1.0])
@pytest.mark.parametrize("there", [0.0, 1.0])
def test_constant_inputs_have_finite_gradients(fill, there):
    outputs = {name: torch.full((5, 4), fill, requires_grad=True) for name in NAMES}
    loss = of(outputs, torch.full((5, 3), there)).total
    loss.backward()
    contrast = 3 * math.log(5) if there else 0.0
    information = there * 2 * 4 * 0.5 * fill
    assert float(loss.detach()) == pytest.approx(0.1 * (contrast + information), rel=1e-5)
    assert all(torch.isfinite(x.grad).all() for x in outputs.values())


def test_half_precision_is_widened():
    half = {name: x.bfloat16() for name, x in outputs_of().items()}
    assert all(x.dtype == torch.float32 for x in of(half, torch.ones(7, 3)).values.values())
