"""MISA's losses against loops over rows and columns in NumPy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.losses.misa import MODALITIES, misa_terms, moment_discrepancy, orthogonality
from affect.training.terms import Loss, whole
from tests.losses.modalities import each_is_one_alone, padding_changes_nothing

ALL = torch.ones(7, dtype=torch.bool)
PARTS = ("projected", "reconstructed", "private", "shared")
NAMES = [f"{modality}_{part}" for part in PARTS for modality in MODALITIES]


def of(outputs: dict[str, torch.Tensor], present: torch.Tensor, **weights: float) -> Loss:
    return whole(misa_terms(**weights), outputs, {"present": present})


def outputs_of(n: int = 7, h: int = 4, seed: int = 0, models: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {name: torch.rand(*models, n, h, generator=g) for name in NAMES}


def difference_by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean square of all H x H inner products of columns, entry by entry."""
    unit = []
    for x in (first.astype(np.float64), second.astype(np.float64)):
        x = x - x.mean(0)
        unit.append(np.array([row / (np.sqrt((row**2).sum()) + 1e-6) for row in x]))
    h = first.shape[1]
    return sum(float(unit[0][:, i] @ unit[1][:, j]) ** 2 for i in range(h) for j in range(h)) / h**2


def discrepancy_by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """Return the distances of the means and of the moments 2 to 5, column by column."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    total = 0.0
    for order in range(1, 6):
        gaps = []
        for a, b in zip(first.T, second.T, strict=True):
            if order == 1:
                gaps.append(a.mean() - b.mean())
            else:
                gaps.append(np.mean((a - a.mean()) ** order) - np.mean((b - b.mean()) ** order))
        total += float(np.sqrt(np.sum(np.square(gaps))))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_difference_is_that_of_the_columns(seed):
    first, second = list(outputs_of(seed=seed).values())[:2]
    wanted = difference_by_hand(first.numpy(), second.numpy())
    assert float(orthogonality(first, second, ALL)) == pytest.approx(wanted, rel=1e-4)
    # The squared Frobenius norm, over the number of entries.
    unit = [(x - x.mean(0)) / ((x - x.mean(0)).norm(dim=1, keepdim=True) + 1e-6) for x in (first, second)]
    frobenius = torch.linalg.matrix_norm(unit[0].T @ unit[1]) ** 2 / 16
    torch.testing.assert_close(orthogonality(first, second, ALL), frobenius)


def test_orthogonal_parts_have_no_difference_and_equal_ones_have_much():
    first = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    second = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, -1.0], [0.0, -1.0]])
    everyone = torch.ones(4, dtype=torch.bool)
    assert float(orthogonality(first, second, everyone)) == 0
    assert float(orthogonality(first, first, everyone)) == pytest.approx(4.0, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_discrepancy_is_that_of_the_moments(seed):
    first, second = list(outputs_of(seed=seed).values())[:2]
    wanted = discrepancy_by_hand(first.numpy(), second.numpy())
    assert float(moment_discrepancy(first, second, ALL, ALL)) == pytest.approx(wanted, rel=1e-5)
    assert float(moment_discrepancy(first, first.flip(0), ALL, ALL)) == pytest.approx(0, abs=1e-6)


def test_the_fifth_moment_counts_and_the_sixth_does_not():
    """Two distributions on a few points whose moments agree up to the order named."""

    def matched(order: int) -> float:
        # The signs of the binomials: the nodes 0..order+1 split in two multisets with equal power sums up to `order`.
        even, odd = [], []
        for k in range(order + 2):
            side = even if k % 2 == 0 else odd
            side += [k / (order + 1)] * int(round(float(np.prod([(order + 1 - i) / (i + 1) for i in range(k)]))))
        a, b = (torch.tensor(side, dtype=torch.float64)[:, None] for side in (even, odd))
        masks = (torch.ones(len(x), dtype=torch.bool) for x in (a, b))
        return float(moment_discrepancy(a, b, *masks))

    assert matched(5) < 1e-12
    assert matched(4) > 1e-4


def test_terms_are_sums_over_the_modalities_by_hand():
    outputs = outputs_of(n=9)
    present = torch.ones(9, 3)
    present[0, 0] = present[1, 1] = present[2] = present[3, 2] = present[4, 0] = present[4, 2] = 0
    terms = of(outputs, present).values
    x = {name: value.numpy() for name, value in outputs.items()}
    here = {name: present[:, m].numpy() > 0 for m, name in enumerate(MODALITIES)}
    errors = [((x[f"{m}_projected"] - x[f"{m}_reconstructed"])[here[m]] ** 2).mean(1) for m in MODALITIES]
    assert float(terms["reconstruction"]) == pytest.approx(float(np.concatenate(errors).mean()), rel=1e-5)
    wanted = sum(difference_by_hand(x[f"{m}_private"][here[m]], x[f"{m}_shared"][here[m]]) for m in MODALITIES)
    pairs = list(combinations(MODALITIES, 2))
    for a, b in pairs:
        both = here[a] & here[b]
        wanted += difference_by_hand(x[f"{a}_private"][both], x[f"{b}_private"][both])
    assert float(terms["difference"]) == pytest.approx(wanted, rel=1e-4)
    gaps = [discrepancy_by_hand(x[f"{a}_shared"][here[a]], x[f"{b}_shared"][here[b]]) for a, b in pairs]
    assert float(terms["similarity"]) == pytest.approx(float(np.mean(gaps)), rel=1e-5)
    weighed = float(terms["reconstruction"] + 0.3 * terms["difference"] + terms["similarity"])
    assert float(of(outputs, present).total) == pytest.approx(weighed, rel=1e-6)


def test_a_modality_that_nobody_has_is_left_out():
    outputs = outputs_of()
    present = torch.ones(7, 3)
    present[:, 2] = 0
    terms = of(outputs, present).values
    gap = discrepancy_by_hand(outputs["audio_shared"].numpy(), outputs["text_shared"].numpy())
    assert float(terms["similarity"]) == pytest.approx(gap, rel=1e-5)
    values = dict(outputs, **{f"video_{part}": torch.full((7, 4), float("nan")) for part in PARTS})
    for name, value in of(values, present).values.items():
        torch.testing.assert_close(value, terms[name], rtol=0, atol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.integers(0, 2**31 - 1), st.sampled_from([0.0, 1e9, float("nan")]))
def test_padding_rows_change_nothing(padding, seed, filling):
    torch.manual_seed(seed)
    padding_changes_nothing(of, outputs_of(seed=seed), padding, filling, atol=1e-6)


def test_many_models_at_once_are_each_one_alone():
    each_is_one_alone(of, outputs_of(models=(3,)))


@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("there", [0.0, 1.0])
def test_constant_inputs_have_finite_gradients(fill, there):
    outputs = {name: torch.full((5, 4), fill, requires_grad=True) for name in NAMES}
    loss = of(outputs, torch.full((5, 3), there)).total
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(torch.isfinite(x.grad).all() for x in outputs.values())


def test_gradients_are_those_of_finite_differences():
    """The reconstruction and the moments; the difference takes lengths as constants, so it is not among them."""
    outputs = {name: x.double().requires_grad_() for name, x in outputs_of(n=4, h=2).items()}
    everyone = torch.ones(4, dtype=torch.bool)
    pair = (outputs["audio_shared"], outputs["text_shared"])
    assert torch.autograd.gradcheck(lambda a, b: moment_discrepancy(a, b, everyone, everyone), pair)


def test_the_reconstruction_is_additive_and_the_rest_of_the_batch():
    terms = {term.name: term for term in misa_terms()}
    assert {name: term.additive for name, term in terms.items()} == {
        "reconstruction": True, "difference": False, "similarity": False,
    }  # fmt: skip
    assert {name: term.weight for name, term in terms.items()} == {
        "reconstruction": 1.0, "difference": 0.3, "similarity": 1.0,
    }  # fmt: skip
    assert sorted({name for term in terms.values() for name in term.outputs}) == sorted(NAMES)
    assert all(term.targets == ("present",) for term in terms.values())


def test_two_rows_define_the_difference_and_a_pair_the_similarity():
    for rows, wanted in (
        ([[1, 1, 1]], {"reconstruction"}),
        ([[1, 0, 0]] * 2, {"reconstruction", "difference"}),
        ([[1, 0, 0]] * 2 + [[0, 1, 0]], {"reconstruction", "difference", "similarity"}),
        ([[0, 0, 0]] * 2, set()),
    ):
        found = of(outputs_of(n=len(rows)), torch.tensor(rows).float())
        assert {name for name, known in found.defined.items() if known} == wanted


def test_half_precision_is_widened():
    half = {name: x.bfloat16() for name, x in outputs_of().items()}
    assert all(x.dtype == torch.float32 for x in of(half, torch.ones(7, 3)).values.values())
