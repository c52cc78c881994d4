"""The regression head."""

import pytest
import torch
from torch import nn

from affect.models.dropout import Dropout
from affect.models.heads import RegressionHead


@pytest.mark.parametrize("sigmoid", [True, False])
def test_one_number_an_utterance(sigmoid):
    torch.manual_seed(0)
    head = RegressionHead(6, hidden=(8, 4), dropout=0.5, sigmoid=sigmoid).eval()
    features = 100 * torch.randn(50, 6)
    values = head(features)
    assert values.shape == (50,)
    free = head.network(features)[:, 0]
    torch.testing.assert_close(values, free.sigmoid() if sigmoid else free)
    kinds = [type(layer) for layer in head.network]
    assert kinds == [nn.Linear, nn.LayerNorm, nn.ReLU, Dropout] * 2 + [nn.Linear]


def test_float32_under_autocast():
    head = RegressionHead(6, hidden=(), dropout=0.0, sigmoid=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.randn(3, 6)).dtype == torch.float32
