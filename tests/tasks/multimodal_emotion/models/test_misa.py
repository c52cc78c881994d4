"""MISA: parts, transformer and fusion, layer by layer and against torch's own transformer layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from affect.errors import AffectError
from affect.losses.misa import misa_terms
from affect.tasks.multimodal_emotion.models.misa import FEEDFORWARD, MISA
from tests.tasks.multimodal_emotion.models.checks import (
    ENCODERS,
    PUBLIC,
    STREAMS,
    answers,
    config,
    count,
    encoded,
    flatter,
    inputs,
    is_restated,
    linear,
    stands_everything,
    values_of,
)


def transformed(layer, x, noise):
    """Return the transformer layer's output [T, H] of one example's vectors [T, H], with its masks, head by head."""
    query, key, value = linear(layer.project, x).chunk(3, dim=1)
    width = x.shape[1] // 2
    heads = []
    for h in range(2):
        q, k, v = (part[:, h * width : (h + 1) * width] for part in (query, key, value))
        weights = torch.softmax(q @ k.T / width**0.5, dim=1)
        if noise:
            weights = weights * noise["attention"].view(2, len(x), len(x))[h]
        heads.append(weights @ v)
    attended = linear(layer.output, torch.cat(heads, dim=1))
    if noise:
        attended = attended * noise["attended"].view(x.shape)
    x = layer.norm1(x + attended)
    inner = torch.relu(linear(layer.linear1, x))
    if noise:
        inner = inner * noise["feedforward"].view(len(x), FEEDFORWARD)
    out = linear(layer.linear2, inner)
    if noise:
        out = out * noise["transformed"].view(x.shape)
    return layer.norm2(x + out)


def restate(model, batch, noise):
    wanted = {}
    for name, h in zip(("audio", "text", "video"), encoded(model, batch, noise), strict=True):
        projection = model.projections[name]
        projected = wanted[f"{name}_projected"] = projection[2](torch.relu(linear(projection[0], h)))
        private = wanted[f"{name}_private"] = torch.sigmoid(linear(model.privates[name][0], projected))
        shared = wanted[f"{name}_shared"] = torch.sigmoid(linear(model.shared[0], projected))
        wanted[f"{name}_reconstructed"] = linear(model.reconstructions[name], private + shared)
    parts = [wanted[f"{name}_{part}"] for part in ("private", "shared") for name in ("audio", "text", "video")]
    joined = []
    for row in range(len(parts[0])):
        own = {name: mask[row] for name, mask in noise.items()}
        joined.append(transformed(model.layer, torch.stack([part[row] for part in parts]), own).reshape(-1))
    x = torch.relu(linear(model.joined, torch.stack(joined)) * noise.get("joined", 1.0))
    x = linear(model.fused, x)
    return {**wanted, **answers(model, x)}


def test_forward_is_the_formula():
    is_restated(MISA, config("misa"), restate)


def test_the_layer_is_torchs_own():
    torch.manual_seed(0)
    model = MISA(*config("misa")).eval()
    flatter(model)
    theirs = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    ours = {
        name.replace("project.", "self_attn.in_proj_").replace("output.", "self_attn.out_proj."): value
        for name, value in model.layer.state_dict().items()
    }
    theirs.load_state_dict(ours)
    x = torch.randn(5, 6, 8)
    torch.testing.assert_close(model._transform(x, {}), theirs(x))


def test_the_transformers_dropout_is_torchs_default_or_less():
    sites = MISA(*config("misa", dropout=0.5)).sites
    four = ("attention", "attended", "feedforward", "transformed")
    assert [sites[name] for name in four] == [(2 * 36, 0.1), (48, 0.1), (6 * 2048, 0.1), (48, 0.1)]
    assert sites["joined"] == (24, 0.5)
    assert {p for _, p in MISA(*config("misa", dropout=0.0)).sites.values()} == {0.0}


def test_it_stands_what_every_model_stands():
    stands_everything(MISA, config("misa"))
    stands_everything(MISA, config("misa", streams=(STREAMS[0], STREAMS[2]), missing="token"))


@pytest.mark.parametrize("streams", [STREAMS, STREAMS[:2], (STREAMS[0], STREAMS[2])])
def test_its_losses_fall(streams):
    torch.manual_seed(0)
    facts = config("misa", streams=streams, dropout=0.0)
    model, terms = MISA(*facts), misa_terms(facts.data.modalities)
    batch = inputs(facts, rows=16, whole=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    course = []
    for _ in range(40):
        targets = {"present": torch.ones(16, 3)}
        values = values_of(terms, model(**batch), targets)
        course.append({name: float(value.detach()) for name, value in values.items()})
        optimiser.zero_grad()
        sum(term.weight * values[term.name] for term in terms).backward()
        optimiser.step()
    for name, value in course[0].items():
        assert course[-1][name] < 0.9 * value, name


def test_parameters_of_the_public_widths():
    square = 129 * 128
    # Projection with its norm, private and reconstruction a modality; one shared layer.
    parts = 3 * (square + 256 + 2 * square) + square
    layer = nn.TransformerEncoderLayer(128, 2)
    transformer = sum(parameter.numel() for parameter in layer.parameters())
    fusion = (6 * 128 + 1) * 384 + 385 * 64
    total = ENCODERS + parts + transformer + fusion + 65 * 7
    assert count(MISA, config("misa", streams=PUBLIC, hidden=128)) == total == 2_063_495


def test_what_it_cannot_be_is_said():
    with pytest.raises(AffectError, match="misa tells what modalities share, it needs at least two"):
        MISA(*config("misa", streams=STREAMS[:1]))
    with pytest.raises(AffectError, match="model.hidden is 7: misa's attention has 2 heads"):
        MISA(*config("misa", hidden=7))
