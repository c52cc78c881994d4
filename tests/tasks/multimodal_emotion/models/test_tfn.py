"""Tensor fusion against torch's einsum."""

from __future__ import annotations

import pytest
import torch

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.models.toolkit import TensorFusion, outer
from tests.tasks.multimodal_emotion.models.checks import (
    ENCODERS,
    PUBLIC,
    STREAMS,
    answers,
    config,
    count,
    encoded,
    is_restated,
    linear,
    stands_everything,
)


def restate(model, batch, noise):
    vectors = [torch.cat([torch.ones(len(h), 1), h], dim=1) for h in encoded(model, batch, noise)]
    x = torch.einsum("ba,bt,bv->batv", *vectors).reshape(len(vectors[0]), -1) * noise.get("product", 1.0)
    for layer in (model.fusion[0], model.fusion[2]):
        x = torch.relu(linear(layer, x))
    return answers(model, x)


def test_forward_is_the_formula():
    is_restated(TensorFusion, config("tfn", hidden=8), restate)


def test_the_product_holds_every_subset_of_streams():
    product = outer([torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.tensor([[5.0]])])
    assert product.tolist() == [[1, 5, 3, 15, 2, 10, 6, 30]]


def test_it_stands_what_every_model_stands():
    stands_everything(TensorFusion, config("tfn", hidden=8))
    stands_everything(TensorFusion, config("tfn", hidden=8, streams=STREAMS[:2], missing="token"))


def test_parameters_of_the_public_widths():
    fusion = 129**3 * 128 + 128 + 129 * 128
    assert count(TensorFusion, config("tfn", streams=PUBLIC, hidden=128)) == ENCODERS + fusion + 129 * 7 == 275_777_927


def test_a_tensor_beyond_reason_is_refused_in_one_line():
    with pytest.raises(AffectError) as caught:
        TensorFusion(*config("tfn", streams=PUBLIC, hidden=256))
    line = "model.hidden is 256: tfn's first layer would have 4,345 million weights, set it to 128 at most or take lmf"
    assert str(caught.value) == line
