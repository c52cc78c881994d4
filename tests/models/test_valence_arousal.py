"""The whole model of valence and arousal: inputs, outputs, parameter groups, saving."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from affect.errors import AffectError
from affect.models import tiny
from affect.models.encoder import EncoderConfig
from affect.models.pooling import POOLINGS
from affect.models.valence_arousal import CONFIG, WEIGHTS, VAConfig, VAModel, load, save, undecayed

SAMPLES = [6000, 9000, 2000]


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def config(**options) -> VAConfig:
    defaults = {"encoder": EncoderConfig(name="tiny"), "prosody_features": 5, "hidden": (16, 8)}
    return VAConfig(**(defaults | options))


def inputs() -> dict[str, torch.Tensor]:
    wave = torch.randn(3, max(SAMPLES))
    return {"waveform": wave, "samples": torch.tensor(SAMPLES), "prosody": torch.randn(3, 5)}


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
@pytest.mark.parametrize("name", [name for name in tiny.NAMES if name != "small"])
def test_alone_equals_batched(name, pooling):
    model = VAModel(config(encoder=EncoderConfig(name=name), pooling=pooling)).eval()
    batch = inputs()
    with torch.no_grad():
        outputs = model(**batch)
        for row, count in enumerate(SAMPLES):
            alone = model(
                waveform=batch["waveform"][row : row + 1, :count],
                samples=batch["samples"][row : row + 1],
                prosody=batch["prosody"][row : row + 1],
            )
            for target in ("valence", "arousal"):
                torch.testing.assert_close(outputs[target][row], alone[target][0], atol=1e-4, rtol=0)


def test_outputs():
    model = VAModel(config(targets=("valence", "arousal", "dominance"), uncertainty=True))
    with torch.no_grad():
        model.log_variance.copy_(torch.tensor([1.0, 2.0, 3.0]))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(**inputs())
    assert list(outputs) == ["valence", "arousal", "dominance", "log_variance"]
    assert {value.dtype for value in outputs.values()} == {torch.float32}
    assert all(outputs[target].shape == (3,) for target in model.config.targets)
    assert outputs["log_variance"].tolist() == [[1.0, 2.0, 3.0]] * 3
    outputs["log_variance"].sum().backward()
    assert model.log_variance.grad.tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("train", ["all", "transformer", "none"])
@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_every_trainable_parameter_gets_a_gradient(train, pooling):
    encoder = EncoderConfig(train=train, layers="weighted")
    model = VAModel(config(encoder=encoder, pooling=pooling, uncertainty=True)).train()
    outputs = model(**inputs())
    sum(value.square().sum() + value.sum() for value in outputs.values()).backward()
    trainable = {name: entry for name, entry in model.named_parameters() if entry.requires_grad}
    assert [name for name, entry in trainable.items() if entry.grad is None] == []


def test_prosody_alone_takes_no_audio():
    model = VAModel(config(encoder=EncoderConfig(name="none"))).eval()
    prosody = torch.randn(3, 5)
    outputs = model(prosody=prosody)
    assert outputs["valence"].shape == (3,)
    torch.testing.assert_close(model(**(inputs() | {"prosody": prosody})), outputs)
    assert model.encoder is None
    assert model.encoder_parameters() == []


def test_audio_alone_takes_no_prosody():
    model = VAModel(config(prosody_width=0)).eval()
    batch = inputs()
    del batch["prosody"]
    assert model(**batch)["arousal"].shape == (3,)


def test_missing_inputs():
    model = VAModel(config())
    batch = inputs()
    with pytest.raises(AffectError, match="waveform"):
        model(prosody=batch["prosody"])
    with pytest.raises(AffectError, match="prosody"):
        model(waveform=batch["waveform"], samples=batch["samples"])


@pytest.mark.parametrize("train", ["all", "transformer", "none"])
def test_parameter_groups_cover_every_trainable_parameter_once(train):
    model = VAModel(config(encoder=EncoderConfig(train=train, layers="weighted"), uncertainty=True))
    encoder, other = model.encoder_parameters(), model.other_parameters()
    trainable = [entry for entry in model.parameters() if entry.requires_grad]
    assert len(encoder) + len(other) == len(trainable)
    assert {id(entry) for entry in encoder + other} == {id(entry) for entry in trainable}
    assert (len(encoder) == 0) == (train == "none")
    assert any(entry is model.encoder.layer_weights for entry in other)


def test_decay_leaves_norms_biases_and_gains_alone():
    encoder = EncoderConfig(name="tiny", train="all", layers="weighted")
    model = VAModel(config(encoder=encoder, pooling="attention", uncertainty=True))
    spared = undecayed(model)
    decayed = {name: entry for name, entry in model.named_parameters() if name not in spared}
    assert {"speech.encoder.layer_weights", "log_variance", "prosody.network.1.weight"} <= spared
    assert "speech.encoder.backbone.layers.0.attention.gru_rel_pos_const" in spared
    assert "speech.encoder.backbone.pos_conv_embed.conv.parametrizations.weight.original0" in spared
    assert "speech.encoder.backbone.convolution.conv_layers.0.layer_norm.weight" in spared
    owners = {name.rsplit(".", 1)[0] for name in decayed}
    modules = dict(model.named_modules())
    convolution = "speech.encoder.backbone.pos_conv_embed.conv.parametrizations.weight"
    assert convolution in owners
    for owner in owners - {convolution}:
        assert isinstance(modules[owner], nn.Linear | nn.Conv1d)
    linear = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
    assert linear <= owners


def test_what_engines_ask_for():
    model = VAModel(config())
    assert model.get_input_embeddings() is None
    classes = {type(module).__name__ for module in model.modules()}
    assert model._no_split_modules
    assert set(model._no_split_modules) <= classes
    assert not any("BatchNorm" in name for name in classes)


@pytest.mark.parametrize("name", ["none", "tiny", "tiny-wav2vec2", "tiny-whisper"])
def test_save_and_load(name, tmp_path):
    layers = "last" if name == "none" else 1
    options = EncoderConfig(name=name, layers=layers)
    model = VAModel(config(encoder=options, scale=(1.0, 7.0), targets=("arousal", "valence")))
    model.prosody.set_statistics(torch.randn(5), torch.rand(5) + 0.5)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.config == model.config
    batch = inputs()
    torch.testing.assert_close(again(**batch), model.eval()(**batch), atol=0, rtol=0)


def test_loading_needs_neither_hub_nor_the_encoders_folder(tmp_path, monkeypatch):
    model = VAModel(config())
    facts = dataclasses.replace(model.config, encoder=EncoderConfig(name="owner/gone"))
    model.config = facts
    model.encoder.config = facts.encoder
    save(model, tmp_path)
    again = load(tmp_path)
    assert again.config.encoder.name == "owner/gone"
    batch = inputs()
    torch.testing.assert_close(again(**batch), model.eval()(**batch), atol=0, rtol=0)


def spoil(folder, what: str) -> None:
    path = folder / (WEIGHTS if "weights" in what else CONFIG)
    if what.startswith("no"):
        path.unlink()
    elif what.startswith("cut"):
        path.write_bytes(path.read_bytes()[:-200])
    else:
        facts = json.loads(path.read_text())
        facts["model"]["hidden"] = [3]
        path.write_text(json.dumps(facts))


@pytest.mark.parametrize("what", ["no weights", "no config", "cut weights", "cut config", "other config"])
def test_damaged_models(what, tmp_path):
    save(VAModel(config(encoder=EncoderConfig(name="none"))), tmp_path)
    spoil(tmp_path, what)
    with pytest.raises(AffectError) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_config_survives_json():
    made = config(
        encoder=EncoderConfig(name="small", layers="weighted", train="none"),
        targets=("valence",),
        scale=(0.0, 1.0),
        pooling="attentive_statistics",
    )
    assert VAConfig.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"pooling": "men"}, "did you mean 'mean'"),
        ({"targets": []}, "targets"),
        ({"targets": ["valence", "valence"]}, "twice"),
        ({"encoder": {"name": "none"}, "prosody_width": 0}, "no input"),
        ({"dropout": 1.0}, "dropout"),
        ({"polling": "mean"}, "did you mean 'pooling'"),
        ({"encoder": {"nam": "tiny"}}, "did you mean 'name'"),
    ],
)
def test_bad_config(facts, words):
    with pytest.raises(AffectError, match=words) as caught:
        VAConfig.from_dict(facts)
    assert "\n" not in str(caught.value)
