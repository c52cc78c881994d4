"""Attention over many streams."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.models.toolkit import Attention
from tests.tasks.multimodal_emotion.models.checks import (
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
)

FIVE = (("audio", "a", 7), ("audio", "a2", 3), ("text", "t", 5), ("video", "v", 6), ("video", "v2", 4))
MOST = tuple((modality, f"{modality}{n}", 2 + n) for modality in ("audio", "text", "video") for n in range(6))


def restate(model, batch, noise):
    vectors = encoded(model, batch, noise)
    x = torch.cat(vectors, dim=1) * noise.get("scorer", 1.0)
    for layer in [module for module in model.scorer.modules() if isinstance(module, nn.Linear)]:
        x = torch.relu(linear(layer, x))
    weights = linear(model.score, x)
    fused = sum(weights[:, s : s + 1] * h for s, h in enumerate(vectors))
    return {**answers(model, fused), "attention": weights}


@pytest.mark.parametrize("streams", [STREAMS, FIVE, MOST, STREAMS[:1]], ids=["3", "5", "18", "1"])
def test_forward_is_the_formula(streams):
    is_restated(Attention, config("topn", streams=streams), restate)


def test_it_stands_what_every_model_stands():
    stands_everything(Attention, config("topn", streams=FIVE))
    stands_everything(Attention, config("topn", streams=MOST, softmax="masked", missing="token"))


def test_streams_go_by_the_names_of_their_inputs():
    facts = config("topn", streams=FIVE)
    assert facts.data.keys == ("audio", "audio_2", "text", "video", "video_2")
    outputs = Attention(*facts).eval()(**inputs(facts))
    assert outputs["attention"].shape == (6, 5)
    assert {"audio_h", "text_h", "video_h"} <= outputs.keys()


def test_modality_dropout_leaves_out_all_streams_of_a_modality():
    torch.manual_seed(0)
    facts = config("topn", streams=FIVE, softmax="masked", modality_dropout=0.9, dropout_kind="balanced")
    model = Attention(*facts).train()
    weights = model(**inputs(facts, rows=200, whole=True))["attention"] > 0
    assert bool((weights[:, 0] == weights[:, 1]).all())
    assert bool((weights[:, 3] == weights[:, 4]).all())
    assert set(weights.sum(1).tolist()) == {1, 2, 3, 4, 5}


def test_parameters_of_the_public_widths():
    facts = config("topn", streams=PUBLIC, hidden=128)
    assert count(Attention, facts) == 1_067_786
    doubled = config("topn", streams=tuple((m, f + n, w) for m, f, w in PUBLIC for n in "12"), hidden=128)
    assert (
        count(Attention, doubled) == 2 * 984_192 + (6 * 128 + 1) * 128 + 2 * 129 * 128 + 129 * 6 + 129 * 7 == 2_101_517
    )


def test_only_topn_takes_more_than_one_stream_a_modality():
    for name in ("attention", "lf_dnn", "lmf", "tfn", "misa", "mmim"):
        with pytest.raises(AffectError, match=f"must be topn with several features of a modality, not '{name}'"):
            config(name).model.check_streams(config("topn", streams=FIVE).data.modalities)
