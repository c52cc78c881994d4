"""The speech encoder's options: what learns, which layers, where it is read from, and what is refused."""

import dataclasses
import json

import pytest
import torch
import transformers
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor, WhisperModel

from affect.errors import AffectError
from affect.models import pretrained
from affect.models.encoder import EncoderConfig, SpeechEncoder
from affect.models.mel import NormalisedMel, make_encoder
from affect.models.speaker import XVector
from tests.models.encoders import KINDS, WAVEFORM_KINDS, make, speech


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


OPTIONS = [
    {"train": "all"},
    {"train": "transformer"},
    {"train": "all", "layers": "weighted"},
    {"train": "none", "layers": "weighted"},
    {"train": "all", "layers": 1},
    {"train": "all", "spec_augment": True},
    {"train": "all", "layerdrop": 0.9},
    {"train": "transformer", "gradient_checkpointing": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("name", KINDS)
def test_every_trainable_parameter_gets_a_gradient(name, options):
    encoder, _ = make(name, **options)
    frames, mask = encoder.train()(speech([8000, 500]), torch.tensor([8000, 500]))
    (frames * torch.randn_like(frames))[mask].sum().backward()
    trainable = {key: entry for key, entry in encoder.named_parameters() if entry.requires_grad}
    assert trainable
    assert [key for key, entry in trainable.items() if entry.grad is None] == []
    assert all(bool(torch.isfinite(entry.grad).all()) for entry in trainable.values())


@pytest.mark.parametrize("name", KINDS)
def test_frozen_encoder_builds_no_graph_and_stays_in_evaluation_mode(name):
    encoder, _ = make(name, train="none")
    encoder.train()
    assert not any(entry.requires_grad for entry in encoder.parameters())
    assert not any(module.training for module in encoder.backbone.modules())
    wave, samples = speech([8000]), torch.tensor([8000])
    first, _ = encoder(wave, samples)
    assert first.grad_fn is None
    torch.testing.assert_close(encoder(wave, samples)[0], first, atol=0, rtol=0)


@pytest.mark.parametrize("name", WAVEFORM_KINDS)
def test_frozen_convolution_builds_no_graph(name):
    encoder, _ = make(name, train="transformer")
    features, _ = encoder.train().backbone.convolution(speech([8000]), torch.tensor([8000]))
    assert features.grad_fn is None
    assert not any(entry.requires_grad for entry in encoder.backbone.convolution.parameters())
    assert all(entry.requires_grad for entry in encoder.backbone.layers.parameters())


def test_spec_augment_masks_only_while_training():
    encoder, _ = make("tiny", spec_augment=True, dropout=0.0)
    plain, _ = make("tiny", dropout=0.0)
    plain.load_state_dict(encoder.state_dict())
    wave, samples = speech([12_000, 9000]), torch.tensor([12_000, 9000])
    evaluated, _ = encoder.eval()(wave, samples)
    torch.testing.assert_close(evaluated, plain.train()(wave, samples)[0])
    changed = [bool((encoder.train()(wave, samples)[0] != evaluated).any()) for _ in range(5)]
    assert any(changed)


@pytest.mark.parametrize("name", KINDS)
def test_rebuilt_from_config_alone(name):
    encoder, _ = make(name, layers=-1, dropout=0.0)
    facts = json.loads(json.dumps(encoder.to_config()))
    again = SpeechEncoder.restore(encoder.config, facts)
    assert again.config == encoder.config
    assert again.to_config() == encoder.to_config()
    again.load_state_dict(encoder.state_dict())
    wave, samples = speech([8000, 5000]), torch.tensor([8000, 5000])
    torch.testing.assert_close(again.eval()(wave, samples)[0], encoder.eval()(wave, samples)[0])


@pytest.mark.parametrize("name", KINDS)
def test_read_from_a_folder(name, tmp_path):
    model, preprocessing = pretrained.read_encoder(name, None, None)
    if name == "tiny-whisper":
        whole = WhisperModel(model.config)
        model = whole.encoder
        whole.save_pretrained(tmp_path)
        WhisperFeatureExtractor().save_pretrained(tmp_path)
    else:
        model.save_pretrained(tmp_path)
        extractor = Wav2Vec2FeatureExtractor(do_normalize=preprocessing.do_normalize)
        extractor.save_pretrained(tmp_path)
    config = EncoderConfig(name=str(tmp_path))
    ours = SpeechEncoder(dataclasses.replace(config, name=name), model, preprocessing)
    read = SpeechEncoder.build(config)
    assert read.preprocessing == ours.preprocessing
    wave, samples = speech([8000, 5000]), torch.tensor([8000, 5000])
    torch.testing.assert_close(read.eval()(wave, samples)[0], ours.eval()(wave, samples)[0])


def test_half_precision_weights_are_read_in_float32(tmp_path):
    model, _ = pretrained.read_encoder("tiny", None, None)
    model.half().save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    encoder = SpeechEncoder.build(EncoderConfig(name=str(tmp_path)))
    assert {entry.dtype for entry in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", KINDS)
def test_the_rate_inside_attention_is_one_of_its_own(name):
    model, _ = pretrained.read_encoder(name, None, 0.2, 0.0)
    rates = {key: getattr(model.config, key) for key in pretrained.DROPOUTS if hasattr(model.config, key)}
    assert rates.pop("attention_dropout") == 0
    assert set(rates.values()) == {0.2}
    inside = [part.dropout for part in model.modules() if type(part).__name__.endswith("Attention")]
    assert set(inside) == {0.0}


def one_line(error: AffectError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "tinny", "a/b/c"])
def test_missing_encoder(name):
    with pytest.raises(AffectError) as caught:
        SpeechEncoder.build(EncoderConfig(name=name))
    assert name in one_line(caught.value)


def test_folder_that_holds_no_encoder(tmp_path):
    with pytest.raises(AffectError) as caught:
        SpeechEncoder.build(EncoderConfig(name=str(tmp_path)))
    assert str(tmp_path) in one_line(caught.value)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(AffectError, match="'bert', which is not supported"):
        SpeechEncoder.build(EncoderConfig(name=str(tmp_path)))
    model, _ = pretrained.read_encoder("tiny", None, None)
    model.save_pretrained(tmp_path)
    with pytest.raises(AffectError) as caught:
        SpeechEncoder.build(EncoderConfig(name=str(tmp_path)))
    assert "preprocessor" in one_line(caught.value)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(AffectError) as caught:
        SpeechEncoder.build(EncoderConfig(name=str(tmp_path)))
    assert "cannot be read" in one_line(caught.value)


def test_hub_name_without_network(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("We couldn't connect to\nthe hub.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(AffectError) as caught:
        SpeechEncoder.build(EncoderConfig(name="nobody/nothing"))
    assert "nobody/nothing" in one_line(caught.value)


@pytest.mark.parametrize("layers", [0, 3])
def test_a_layer_that_is_not_there(layers):
    with pytest.raises(AffectError, match="layers 1 to 2") as caught:
        SpeechEncoder.build(EncoderConfig(layers=layers))
    one_line(caught.value)


def test_whole_numbers_are_no_waveform():
    wave, samples = (speech([6000]) * 9000).to(torch.int16), torch.tensor([6000])
    hear = [make(name)[0] for name in KINDS]
    hear += [make_encoder(EncoderConfig(name="mel")), XVector.build("tiny-xvector"), NormalisedMel()]
    for encoder in hear:
        with pytest.raises(AffectError, match="in floating point, not int16: divide by full scale") as caught:
            encoder(wave, samples)
        one_line(caught.value)
