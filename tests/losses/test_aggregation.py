"""Combined gradients against TorchJD's reference numbers; what a plain sum would be, and what is left out."""

from __future__ import annotations

import sys

import pytest
import torch

from affect.errors import AffectError
from affect.losses.aggregation import aggregator

KINDS = ("upgrad", "pcgrad", "cagrad")
ROWS = torch.tensor([[1.0, 0.0], [-0.5, 1.0]])


@pytest.fixture(scope="module")
def torchjd() -> None:
    for name in ("torchjd", "quadprog", "cvxpy"):
        pytest.importorskip(name, reason="needs pip install 'affect[aggregation]'")


@pytest.mark.parametrize(
    ("kind", "wanted"), [("upgrad", (0.8, 1.4)), ("pcgrad", (0.8, 1.4)), ("cagrad", (0.9158, 1.3736))]
)
def test_reference_numbers(torchjd, kind, wanted):
    """TorchJD 0.18 gives .4 .7, .8 1.4 and .4579 .6868: UPGrad and CAGrad are means, here taken times K."""
    found = aggregator(kind)(ROWS)
    assert found.tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(("kind", "wanted"), [("upgrad", (1.0, 1.0)), ("pcgrad", (1.0, 1.0)), ("cagrad", (1.5, 1.5))])
def test_without_a_conflict_it_is_the_sum_but_for_cagrads_share(torchjd, kind, wanted):
    assert aggregator(kind)(torch.eye(2)).tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_term_is_harmed_where_the_sum_harms_one(torchjd, kind):
    rows = torch.tensor([[1.0, 0.0], [-3.0, 1.0]])
    assert float((rows @ rows.sum(0)).min()) < -1
    assert float((rows @ aggregator(kind, c=1.0)(rows)).min()) > -1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_term_changes_nothing(torchjd, kind):
    """Of a row of zeros CAGrad makes 0, and UPGrad half."""
    combine = aggregator(kind)
    with_zeros = torch.cat([ROWS[:1], torch.zeros(1, 2), ROWS[1:]])
    torch.testing.assert_close(combine(with_zeros), combine(ROWS))
    assert combine(ROWS[1:]).tolist() == [-0.5, 1.0], "one row is itself"
    assert combine(torch.zeros(3, 2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_function_of_the_gradients_alone_and_moves_no_generator(torchjd, kind):
    rows = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    combine = aggregator(kind)
    before = torch.random.get_rng_state()
    first = combine(rows)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(combine(rows), first)
    assert combine(rows.to(torch.bfloat16)).dtype == torch.bfloat16


def test_cagrads_c_is_how_far_it_goes_from_the_mean(torchjd):
    assert aggregator("cagrad", c=0.0)(ROWS).tolist() == pytest.approx([0.5, 1.0], abs=1e-4)


@pytest.mark.parametrize("missing", ["torchjd.aggregation", "quadprog"])
def test_what_is_not_installed_is_one_line(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        AffectError, match="^upgrad combines gradients through TorchJD: pip install 'affect.aggregation.'$"
    ):
        aggregator("upgrad")
