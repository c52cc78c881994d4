"""Late fusion by a small network."""

from __future__ import annotations

import torch

from affect.tasks.multimodal_emotion.models.toolkit import LateFusion
from tests.tasks.multimodal_emotion.models.checks import (
    ENCODERS,
    PUBLIC,
    answers,
    config,
    count,
    encoded,
    is_restated,
    linear,
    stands_everything,
)


def restate(model, batch, noise):
    joined = torch.cat(encoded(model, batch, noise), dim=1) * noise.get("joined", 1.0)
    return answers(model, torch.relu(linear(model.fusion[2], torch.relu(linear(model.fusion[0], joined)))))


def test_forward_is_the_formula():
    is_restated(LateFusion, config("lf_dnn"), restate)


def test_it_stands_what_every_model_stands():
    stands_everything(LateFusion, config("lf_dnn"))
    stands_everything(LateFusion, config("lf_dnn", streams=(("text", "t", 5), ("video", "v", 6)), missing="token"))


def test_parameters_of_the_public_widths():
    fusion = (3 * 128 + 1) * 128 + 129 * 128
    assert count(LateFusion, config("lf_dnn", streams=PUBLIC, hidden=128)) == ENCODERS + fusion + 129 * 7 == 1_050_887
