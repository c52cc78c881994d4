"""Wrong fields of a diarization recipe, by their names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from affect.config import from_dict, to_dict
from affect.errors import AffectError
from affect.tasks.diarization.config import Loss, Model, Signature, check_together, signature


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": 30}, "model.width must be a multiple of model.heads"),
        ({"kernel": 4}, "model.kernel must be odd"),
        ({"channels": (8, 8)}, "model.channels must be four positive numbers"),
        ({"blocks": (3, 0, 6, 3)}, "model.blocks must be four positive numbers"),
        ({"pseudo": 6}, "model.pseudo must be less than model.slots"),
        ({"dropout": 1.0}, "model.dropout must lie in"),
        ({"slots": 0}, "model.slots must be positive"),
        ({"extractor": ""}, "model.extractor must be a name"),
        ({"train_encoder": "all"}, "model.train_encoder must be left out with model.extractor=convolution"),
        ({"extractor": "tiny", "norm": "block"}, "model.norm must be left out with model.extractor=tiny"),
        ({"embedding_divisor": 16.0}, "model.embedding_divisor must be left out with model.name=ours"),
        ({"activity_query": "mean"}, "model.activity_query must be left out with model.name=ours"),
        ({"name": "before", "pseudo": 2}, "model.pseudo must be 1 with model.name=before"),
    ],
)
def test_a_wrong_field_of_the_model_is_named(fields, said):
    with pytest.raises(AffectError, match=said):
        Model(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"alpha": 1.0}, "loss.alpha must lie in"),
        ({"gamma": -1.0}, "loss.gamma must not be negative"),
        ({"scale": 0.0}, "loss.scale must be positive"),
        ({"mask_prob": 1.5}, "loss.mask_prob must lie in"),
        ({"arrival": -0.1}, "loss.arrival must lie in"),
        ({"weights_lr": 0.01}, "loss.weights_lr must be left out without loss.learned"),
        ({"learned": True, "weights_lr": 0.0}, "loss.weights_lr must be positive"),
    ],
)
def test_a_wrong_field_of_the_loss_is_named(fields, said):
    with pytest.raises(AffectError, match=said):
        Loss(**fields)


@pytest.mark.parametrize(
    ("model", "loss", "said"),
    [
        ({"name": "before"}, {"arcface": True}, "loss.contrastive must be 0 with model.name=before"),
        ({"name": "improved"}, {"arcface": True, "contrastive": 0, "arrival": 0.5}, "loss.arrival must be 0 with"),
        ({"name": "before"}, {"contrastive": 0}, "loss.arcface must be on with model.name=before"),
        ({}, {"labelled": "speakers"}, "loss.labelled must be all where no speaker has a name"),
    ],
)
def test_a_loss_that_the_model_has_nothing_for_is_named(model, loss, said):
    with pytest.raises(AffectError, match=said):
        check_together(Model(**model), Loss(**loss))


def test_what_a_model_knows_of_its_data():
    known = signature(Model(), Loss(), frames=100, speakers=50)
    assert known == Signature()
    assert signature(Model(), Loss(arcface=True), frames=100, speakers=50) == Signature(speakers=50)
    report = signature(Model(name="before"), Loss(learned=True), frames=200, speakers=50)
    assert report == Signature(frames=200, speakers=50, log_s=(0.0, 2.3026))
    assert from_dict(Signature, to_dict(report)) == report
    with pytest.raises(AffectError, match="data.log_s must be two numbers or none"):
        replace(report, log_s=(1.0,))
    assert Model(frame=640).frames_per_second == 25
    assert Model().frames_per_second == 12.5
