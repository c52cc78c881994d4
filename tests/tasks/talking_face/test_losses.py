"""What a recipe says of its loss reaches the terms, their weights and what combines their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affect.losses.label_distribution import label_weights
from affect.tasks.talking_face.config import Data, Loss, TalkingFace
from affect.tasks.talking_face.losses import aggregator_of, terms_of, weighting_of
from affect.training.terms import whole

SCALES = [("s", 1.0, 5.0)]
LABELS = [1.0, 1.2, 3.0, 3.0, 3.1, 5.0]


def total(**loss) -> float:
    """Return the loss of predictions that are 1 over the labels."""
    recipe = TalkingFace(data=Data(scores=("s",)), loss=Loss(**loss))
    target = torch.tensor(LABELS)
    terms = terms_of(recipe, ("visual",), SCALES, {"s": LABELS})
    return float(whole(terms, {"s": target + 1}, {"s": target}).total)


def test_errors_beyond_delta_count_by_their_size():
    assert total(kind="huber") == pytest.approx(0.5)
    assert total(kind="huber", delta=0.2) == pytest.approx(0.2 * (1 - 0.1))


@pytest.mark.parametrize("given", [{}, {"smoothing_bins": 4}, {"smoothing_bins": 4, "smoothing_sigma": 0.3}])
def test_labels_are_weighed_by_their_neighbourhood(given):
    own = {name.removeprefix("smoothing_"): value for name, value in given.items()}
    weights = label_weights(LABELS, (1.0, 5.0), kind="sqrt", **own)(torch.tensor(LABELS))
    assert total(smoothing="sqrt", **given) == pytest.approx(float(weights.mean()))
    assert given == {} or label_weights(LABELS, (1.0, 5.0), kind="sqrt").weights != weights


def test_a_higher_temperature_weighs_more_alike():
    spans = []
    for temperature in (1.0, 2.0, 9.0):
        recipe = TalkingFace(data=Data(scores=("a", "b")), loss=Loss(weights="dwa", dwa_temperature=temperature))
        weighting = weighting_of(recipe)
        for epoch, values in enumerate(({"mse_a": 1.0, "mse_b": 1.0}, {"mse_a": 1.0, "mse_b": 0.1})):
            weighting.observe(values, epoch)
        weights = weighting.weights(["mse_a", "mse_b"], 2)
        shares = np.exp(np.array([1.0, 0.1]) / temperature)
        assert [*weights.values()] == pytest.approx((2 * shares / shares.sum()).tolist())
        spans.append(weights["mse_a"] - weights["mse_b"])
    assert spans == sorted(spans, reverse=True)


def test_a_cagrad_of_no_way_is_the_mean():
    for name in ("torchjd", "cvxpy"):
        pytest.importorskip(name, reason="needs pip install 'affect[aggregation]'")
    rows = torch.tensor([[1.0, 0.0], [-0.5, 1.0]])
    combined = [
        aggregator_of(TalkingFace(loss=Loss(weights="cagrad", cagrad_c=c)))(rows).tolist() for c in (0.0, 0.5)
    ]  # fmt: skip
    assert combined[0] == pytest.approx([0.5, 1.0], abs=1e-4)
    assert combined[1] != pytest.approx(combined[0], abs=1e-2)
