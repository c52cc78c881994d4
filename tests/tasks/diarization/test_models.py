"""Models of diarization, of every kind: padding, chance, gradients, sizes, and what is saved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from affect import keyed
from affect.models import saving
from affect.task import LOG_VARIANCE
from affect.tasks.diarization.config import ACTIVITY, MEDIUM, SMALL, Loss, Model, signature
from affect.tasks.diarization.models import Diarizer, build, restore
from tests.tasks.diarization.blocks import EVERY, IDS, OURS, VARIANTS, heard, inputs, made


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_block_is_the_same_alone_in_another_order_and_with_more_padding(name, training):
    model = made(name).train(training)
    together = heard(model)
    turned = heard(model, EVERY[::-1], longer=3 if name in OURS else 0, noise=9.0)
    others = [{output: values.flip(0) for output, values in turned.items()}]
    alone = [heard(model, [place]) for place in EVERY]
    others.append({output: torch.cat([one[output] for one in alone]) for output in together})
    for output, values in together.items():
        assert torch.isfinite(values).all(), output
        for other in others:
            torch.testing.assert_close(other[output], values, atol=1e-4, rtol=1e-4)
    if training:
        with keyed.examples(0, 8, IDS):
            again = model(**inputs(model.config))
        assert not torch.allclose(again[ACTIVITY][0], together[ACTIVITY][0])


def untaught(model: Diarizer) -> set[str]:
    """Return the parameters whose gradient is 0, as in the report: a norm of zeros, and whom no slot holds."""
    names = {"non_speaker"} if model.config.padding == "pseudo" else set()
    return names | ({"detection.0.frames_norm.weight"} if model.config.name == "before" else set())


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("places", [EVERY, [1]])
def test_every_parameter_has_a_gradient_in_every_forward(name, places):
    model = made(name).train()
    with keyed.examples(0, 7, [IDS[place] for place in places]):
        outputs = model(**inputs(model.config, places))
    torch.stack([(values * torch.randn(values.shape)).sum() for values in outputs.values()]).sum().backward()
    assert bool(model.encoder_parameters()) == (model.config.train_encoder == "all")
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
            if len(places) > 1 and parameter_name not in untaught(model):
                assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", VARIANTS)
def test_a_saved_model_is_the_same(tmp_path, name):
    model = made(name).eval()
    saving.save(model.state_dict(), {"task": "diarization", **model.describe()}, tmp_path)
    again = saving.load(tmp_path, restore)
    for output, values in heard(model).items():
        assert torch.equal(heard(again)[output], values), output


@pytest.mark.parametrize(
    ("size", "name", "millions"),
    [(SMALL, "improved", 17.2), (SMALL, "ours", 14.2), (MEDIUM, "improved", 46.6), (MEDIUM, "ours", 40.6)],
)
def test_sizes_are_those_of_the_paper(size, name, millions):
    assert sum(sizes_of(size, name).values()) / 1e6 == pytest.approx(millions, abs=0.05)


def sizes_of(size: dict[str, Any], name: str) -> Counter[str]:
    """Return how many parameters the parts of a model have that is as wide as the paper's."""
    model = Model(**size, name=name, extractor="resnet", norm="block", frame=640, slots=30)
    loss = Loss(arcface=name != "ours", contrastive=0.0)
    with torch.device("meta"):
        built = build(model, signature(model, loss, frames=200, speakers=481))
    sizes = Counter[str]()
    for parameter_name, parameter in built.named_parameters():
        sizes[parameter_name.split(".")[0]] += parameter.numel()
    return sizes


@pytest.mark.parametrize(("size", "decoder"), [(SMALL, 3.2), (MEDIUM, 6.2)])
def test_ours_is_smaller_by_the_decoder_of_embeddings(size, decoder):
    """The table and the slots' queries, which it lacks too, are a twentieth of that; its own layers are a tenth."""
    theirs, ours = sizes_of(size, "improved"), sizes_of(size, "ours")
    assert theirs["representation"] / 1e6 == pytest.approx(decoder, abs=0.05)
    assert theirs.total() - ours.total() == pytest.approx(theirs["representation"], rel=0.05)
    assert theirs["table"] + theirs["detection_query"] + theirs["representation_query"] < 0.2e6
    assert ours["extractor"] == theirs["extractor"] and ours["layers"] == theirs["detection"]


@pytest.mark.parametrize("name", VARIANTS)
def test_stages_one_by_one_give_what_a_forward_does(name):
    model = made(name).eval()
    given = inputs(model.config)
    features, mask = model(stage="features", waveform=given["waveform"], samples=given["samples"])
    encoded = model(stage="encode", features=features, mask=mask)
    if name in OURS:
        others = model(stage="features", waveform=given["reference"], samples=given["reference_samples"])
        spoken = given["reference_spoken"]
        vectors = model(stage="represent", features=others[0], mask=others[1], activity=spoken)
    else:
        vectors = model.table[given["speaker"]]
    logits = model(stage="detect", encoded=encoded, mask=mask, slots=given["slots"], embeddings=vectors)
    torch.testing.assert_close(logits, model(**given)[ACTIVITY])


def test_learned_weights_begin_where_the_loss_says():
    outputs = heard(made("before"))
    torch.testing.assert_close(outputs[LOG_VARIANCE], torch.tensor([0.0, 2.3026]).expand(3, 2))
    assert LOG_VARIANCE not in heard(made("mended"))


@pytest.mark.parametrize("name", ["ours_resnet", "ours_encoder", "mended"])
def test_half_precision_stays_near(name):
    model = made(name).eval()
    whole = heard(model)[ACTIVITY]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = heard(model)[ACTIVITY]
    assert half.dtype == torch.float32
    there = whole > -19
    assert float((half - whole)[there].abs().max()) < 0.15
