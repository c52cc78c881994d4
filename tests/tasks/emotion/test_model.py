"""The whole model of valence and arousal: inputs, outputs, parameter groups, saving."""

import dataclasses

import pytest
import torch
from torch import nn

from affect import tasks
from affect.config import from_dict
from affect.errors import AffectError
from affect.models import tiny
from affect.models.pooling import POOLINGS
from affect.tasks.emotion.config import Model, Signature
from affect.tasks.emotion.model import undecayed
from tests.tasks.emotion import small

SAMPLES = [6000, 9000, 2000]


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def model(**options):
    return small.model(**{"prosody_features": 5, "prosody_dim": 64, **options})


def inputs() -> dict[str, torch.Tensor]:
    wave = torch.randn(3, max(SAMPLES))
    return {"waveform": wave, "samples": torch.tensor(SAMPLES), "prosody": torch.randn(3, 5)}


ENCODERS = [name for name in tiny.NAMES if name != "small"]


@pytest.mark.parametrize(("name", "pooling"), zip(ENCODERS, sorted(POOLINGS) * 2, strict=True))
def test_alone_equals_batched(name, pooling):
    made = model(encoder=name, pooling=pooling).eval()
    batch = inputs()
    with torch.no_grad():
        outputs = made(**batch)
        for row, count in enumerate(SAMPLES):
            alone = made(
                waveform=batch["waveform"][row : row + 1, :count],
                samples=batch["samples"][row : row + 1],
                prosody=batch["prosody"][row : row + 1],
            )
            for target in ("valence", "arousal"):
                torch.testing.assert_close(outputs[target][row], alone[target][0], atol=1e-4, rtol=0)


def test_outputs():
    made = model(targets=("valence", "arousal", "dominance"), uncertainty=True)
    with torch.no_grad():
        made.log_variance.copy_(torch.tensor([1.0, 2.0, 3.0]))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = made(**inputs())
    numbers = ("valence", "arousal", "dominance")
    assert outputs.keys() == {*numbers, *(f"{name}_unit" for name in numbers), "log_variance"}
    low, high = made.data.scale
    for name in numbers:
        unit = outputs[f"{name}_unit"]
        assert (unit >= 0).all() and (unit <= 1).all()
        torch.testing.assert_close(outputs[name], low + (high - low) * unit)
    assert {value.dtype for value in outputs.values()} == {torch.float32}
    assert all(outputs[target].shape == (3,) for target in made.data.targets)
    assert outputs["log_variance"].tolist() == [[1.0, 2.0, 3.0]] * 3
    outputs["log_variance"].sum().backward()
    assert made.log_variance.grad.tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(("train", "pooling"), zip(("all", "transformer", "none"), sorted(POOLINGS), strict=True))
def test_every_trainable_parameter_gets_a_gradient(train, pooling):
    made = model(train_encoder=train, layers="weighted", pooling=pooling, uncertainty=True).train()
    outputs = made(**inputs())
    sum(value.square().sum() + value.sum() for value in outputs.values()).backward()
    trainable = {name: entry for name, entry in made.named_parameters() if entry.requires_grad}
    assert [name for name, entry in trainable.items() if entry.grad is None] == []


def test_prosody_alone_takes_no_audio():
    made = model(encoder="none").eval()
    prosody = torch.randn(3, 5)
    outputs = made(prosody=prosody)
    assert outputs["valence"].shape == (3,)
    torch.testing.assert_close(made(**(inputs() | {"prosody": prosody})), outputs)
    assert made.encoder is None
    assert made.encoder_parameters() == []


def test_audio_alone_takes_no_prosody():
    made = model(prosody_dim=0).eval()
    batch = inputs()
    del batch["prosody"]
    assert made(**batch)["arousal"].shape == (3,)


def test_missing_inputs():
    made = model()
    batch = inputs()
    with pytest.raises(AffectError, match="waveform"):
        made(prosody=batch["prosody"])
    with pytest.raises(AffectError, match="prosody"):
        made(waveform=batch["waveform"], samples=batch["samples"])


@pytest.mark.parametrize("train", ["all", "transformer", "none"])
def test_the_encoders_parameters_are_the_pretrained_ones_that_learn(train):
    made = model(train_encoder=train, layers="weighted", uncertainty=True)
    encoder = {id(entry) for entry in made.encoder_parameters()}
    assert len(encoder) == len(made.encoder_parameters())
    assert (len(encoder) == 0) == (train == "none")
    for name, entry in made.named_parameters():
        pretrained = name.startswith("speech.encoder.backbone.") and entry.requires_grad
        assert (id(entry) in encoder) == pretrained, name


def test_decay_leaves_norms_biases_and_gains_alone():
    made = model(train_encoder="all", layers="weighted", pooling="attention", uncertainty=True)
    spared = undecayed(made)
    decayed = {name: entry for name, entry in made.named_parameters() if name not in spared}
    assert {"speech.encoder.layer_weights", "log_variance", "prosody.network.1.weight"} <= spared
    assert "speech.encoder.backbone.layers.0.attention.gru_rel_pos_const" in spared
    assert "speech.encoder.backbone.pos_conv_embed.conv.parametrizations.weight.original0" in spared
    assert "speech.encoder.backbone.convolution.conv_layers.0.layer_norm.weight" in spared
    owners = {name.rsplit(".", 1)[0] for name in decayed}
    modules = dict(made.named_modules())
    convolution = "speech.encoder.backbone.pos_conv_embed.conv.parametrizations.weight"
    assert convolution in owners
    for owner in owners - {convolution}:
        assert isinstance(modules[owner], nn.Linear | nn.Conv1d)
    linear = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
    assert linear <= owners


def test_what_engines_ask_for():
    made = model()
    assert made.get_input_embeddings() is None
    classes = {type(module).__name__ for module in made.modules()}
    assert made._no_split_modules
    assert set(made._no_split_modules) <= classes
    assert not any("BatchNorm" in name for name in classes)


@pytest.mark.parametrize("name", ["none", "tiny", "tiny-wav2vec2", "tiny-whisper", "mel"])
def test_save_and_load(name, tmp_path):
    layers = 1 if name.startswith("tiny") else "last"
    made = model(encoder=name, layers=layers, scale=(1.0, 7.0), targets=("arousal", "emotion"), classes=("a", "b"))
    made.prosody.set_statistics(torch.randn(5), torch.rand(5) + 0.5)
    small.save(made, tmp_path / "model")
    again = tasks.load(tmp_path / "model")
    assert (again.config, again.data) == (made.config, made.data)
    batch = inputs()
    torch.testing.assert_close(again(**batch), made.eval()(**batch), atol=0, rtol=0)


def test_loading_needs_neither_hub_nor_the_encoders_folder(tmp_path):
    made = model()
    made.config = dataclasses.replace(made.config, encoder="owner/gone")
    small.save(made, tmp_path)
    again = tasks.load(tmp_path)
    assert again.encoder.config.name == "owner/gone"
    batch = inputs()
    torch.testing.assert_close(again(**batch), made.eval()(**batch), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("cls", "facts", "words"),
    [
        (Model, {"pooling": "men"}, "model.pooling must be"),
        (Model, {"polling": "mean"}, "unknown field model.polling; did you mean 'pooling'"),
        (Model, {"dropout": 1.0}, "model.dropout"),
        (Model, {"encoder": "none", "prosody_dim": 0}, "model.prosody_dim must be positive without an encoder or text"),
        (Signature, {"targets": []}, "targets must name at least one"),
        (Signature, {"targets": ["valence", "valence"]}, "targets must name each once"),
        (Signature, {"targets": ["emotion"], "classes": ["one"]}, "classes must be at least two"),
    ],
)
def test_a_configuration_that_can_not_be_is_one_line(cls, facts, words):
    with pytest.raises(AffectError, match=words) as caught:
        from_dict(cls, facts, "model" if cls is Model else "data")
    assert "\n" not in str(caught.value)
