"""Low-rank fusion against the tensor product that it avoids."""

from __future__ import annotations

import pytest
import torch

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.models.toolkit import LowRankFusion, LowRankProduct
from tests.tasks.multimodal_emotion.models.checks import (
    ENCODERS,
    PUBLIC,
    answers,
    config,
    count,
    encoded,
    is_restated,
    stands_everything,
)


def full(product: LowRankProduct, vectors: list[torch.Tensor]) -> torch.Tensor:
    """Return the fused vectors by the whole weight tensor [H + 1, H + 1, H + 1, O] and the whole outer product."""
    one = torch.ones(len(vectors[0]), 1)
    a, t, v = (torch.cat([one, vector], dim=1) for vector in vectors)
    weight = torch.zeros(a.shape[1], t.shape[1], v.shape[1], product.bias.shape[1])
    for r in range(product.weights.shape[1]):
        first, second, third = (factor[r] for factor in product.factors)
        weight = weight + product.weights[0, r] * torch.einsum("ao,to,vo->atvo", first, second, third)
    return torch.einsum("ba,bt,bv,atvo->bo", a, t, v, weight) + product.bias


def restate(model, batch, noise):
    return answers(model, full(model.product, encoded(model, batch, noise)))


@pytest.mark.parametrize("rank", [1, 2, 4, 7])
def test_forward_is_the_full_tensor_product(rank):
    is_restated(LowRankFusion, config("lmf", rank=rank), restate)


def test_it_stands_what_every_model_stands():
    stands_everything(LowRankFusion, config("lmf"))
    stands_everything(LowRankFusion, config("lmf", streams=(("audio", "a", 7), ("text", "t", 5)), missing="token"))


def test_factors_start_by_xavier_and_the_bias_at_zero():
    torch.manual_seed(0)
    product = LowRankProduct(3, 63, 32, 4)
    for factor in product.factors:
        # Of a 3-D tensor torch takes [out, in, extent]: fan in 64 * 32, fan out 4 * 32.
        assert float(factor.detach().std()) == pytest.approx((2 / (64 * 32 + 4 * 32)) ** 0.5, rel=0.05)
    assert bool((product.bias == 0).all())
    assert bool((product.weights != 0).all())


def test_parameters_of_the_public_widths():
    facts = config("lmf", streams=PUBLIC, hidden=128)
    assert count(LowRankFusion, facts) == ENCODERS + 3 * 4 * 129 * 64 + 4 + 64 + 65 * 7 == 1_083_787


def test_a_hidden_width_of_one_cannot_be_halved():
    with pytest.raises(AffectError, match="model.hidden must be at least 2, not 1"):
        LowRankFusion(*config("lmf", hidden=1))
