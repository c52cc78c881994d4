"""MMIM: the fusion, and what its bounds are computed from."""

from __future__ import annotations

import pytest
import torch

from affect.errors import AffectError
from affect.losses.mmim import mmim_terms
from affect.tasks.multimodal_emotion.models.toolkit import MMIM
from tests.tasks.multimodal_emotion.models.checks import (
    ENCODERS,
    PUBLIC,
    STREAMS,
    answers,
    config,
    count,
    encoded,
    inputs,
    is_restated,
    linear,
    stands_everything,
    values_of,
)


def restate(model, batch, noise):
    h = dict(zip(("audio", "text", "video"), encoded(model, batch, noise), strict=True))
    x = torch.cat(list(h.values()), dim=1) * noise.get("joined", 1.0)
    for layer in (model.fusion[0], model.fusion[2]):
        x = torch.tanh(linear(layer, x))
    wanted = answers(model, x)
    for name, vector in h.items():
        wanted[f"{name}_h"] = vector
        wanted[f"{name}_predicted"] = linear(model.predictors[name], x)
    for name in ("audio", "video"):
        gaussian = model.from_text[name]
        wanted[f"text_{name}_mean"] = linear(gaussian.mean[2], torch.relu(linear(gaussian.mean[0], h["text"])))
        inner = torch.relu(linear(gaussian.log_variance[0], h["text"]))
        wanted[f"text_{name}_log_variance"] = torch.tanh(linear(gaussian.log_variance[2], inner))
    return wanted


def test_forward_is_the_formula():
    is_restated(MMIM, config("mmim"), restate)


def test_it_stands_what_every_model_stands():
    stands_everything(MMIM, config("mmim"))
    stands_everything(MMIM, config("mmim", streams=STREAMS[1:], missing="token"))


@pytest.mark.parametrize("streams", [STREAMS, STREAMS[:2], STREAMS[1:]])
def test_its_loss_falls_and_lets_the_fusion_know_the_modalities(streams):
    torch.manual_seed(0)
    facts = config("mmim", streams=streams, dropout=0.0)
    model, terms = MMIM(*facts), mmim_terms(facts.data.modalities)
    batch = inputs(facts, rows=16, whole=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    course = []
    for _ in range(40):
        values = values_of(terms, model(**batch), {"present": torch.ones(16, 3)})
        course.append({name: float(value.detach()) for name, value in values.items()})
        optimiser.zero_grad()
        sum(term.weight * values[term.name] for term in terms).backward()
        optimiser.step()
    assert course[-1]["contrast"] < course[0]["contrast"] - 0.05
    first, last = (sum(v for name, v in values.items() if "information" in name) for values in (course[0], course[-1]))
    assert last < first - 0.05


def test_parameters_of_the_public_widths():
    """The toolkit's own has 8,256 more: two projections for entropies that it never computes."""
    square = 129 * 128
    fusion = (3 * 128 + 1) * 128 + square
    total = ENCODERS + fusion + 3 * square + 2 * 4 * square + 129 * 7
    assert count(MMIM, config("mmim", streams=PUBLIC, hidden=128)) == total == 1_232_519


@pytest.mark.parametrize("streams", [STREAMS[:1], STREAMS[1:2], (STREAMS[0], STREAMS[2])])
def test_it_needs_text_and_another_modality(streams):
    with pytest.raises(AffectError, match="mmim needs text and at least one other modality"):
        MMIM(*config("mmim", streams=streams))
