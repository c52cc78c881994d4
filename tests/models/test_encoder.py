"""The speech encoder against transformers' own models."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor, WhisperModel

from affect.errors import AffectError
from affect.models import pretrained, tiny
from affect.models.encoder import EncoderConfig, SpeechEncoder

KINDS = [name for name in tiny.NAMES if name != "small"]
WAVEFORM_KINDS = [name for name in KINDS if name != "tiny-whisper"]
SAMPLES = [9000, 12000, 400, 6399, 90]


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def make(name: str, **options) -> tuple[SpeechEncoder, nn.Module]:
    """Return our encoder and an untouched copy of the transformers model it took over."""
    config = EncoderConfig(name=name, **options)
    model, preprocessing = pretrained.read_encoder(name, None, config.dropout)
    with torch.no_grad():
        # Away from their initial values, so that a forgotten bias, gain or gate shows.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    original = copy.deepcopy(model)
    return SpeechEncoder(config, model, preprocessing), original


def speech(samples: list[int]) -> torch.Tensor:
    """Return noise with an offset, garbage beyond the valid samples included."""
    level = 0.2 + torch.rand(len(samples), 1)
    return torch.randn(len(samples), max(samples)) * level + 0.1


def extract(name: str, wave: torch.Tensor) -> torch.Tensor:
    _, normalised = tiny.architecture(name)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalised, return_attention_mask=True)
    return extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_values


@pytest.mark.parametrize("train", ["all", "transformer", "none"])
@pytest.mark.parametrize("name", KINDS)
def test_alone_equals_batched(name, train):
    encoder, _ = make(name, train=train)
    encoder.eval()
    wave = speech(SAMPLES)
    with torch.no_grad():
        frames, mask = encoder(wave, torch.tensor(SAMPLES))
        for row, count in enumerate(SAMPLES):
            alone, alone_mask = encoder(wave[row : row + 1, :count], torch.tensor([count]))
            assert bool(alone_mask.all())
            assert int(mask[row].sum()) == alone.shape[1]
            torch.testing.assert_close(frames[row][mask[row]], alone[0], atol=1e-4, rtol=0)


def test_alone_equals_batched_in_windows_of_whisper():
    encoder, _ = make("tiny-whisper")
    encoder.eval()
    samples = [485_000, 20_000]
    wave = speech(samples)
    with torch.no_grad():
        frames, mask = encoder(wave, torch.tensor(samples))
        assert mask.sum(1).tolist() == [1516, 63]
        for row, count in enumerate(samples):
            alone, alone_mask = encoder(wave[row : row + 1, :count], torch.tensor([count]))
            torch.testing.assert_close(frames[row][mask[row]], alone[alone_mask], atol=1e-4, rtol=0)
        second, _ = encoder(wave[:1, 480_000:485_000], torch.tensor([5000]))
        torch.testing.assert_close(frames[:1, 1500:1516], second, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", WAVEFORM_KINDS)
def test_one_utterance_equals_transformers(name):
    encoder, original = make(name)
    wave = speech([11_111])
    with torch.no_grad():
        ours, mask = encoder.eval()(wave, torch.tensor([11_111]))
        theirs = original.eval()(extract(name, wave[0])).last_hidden_state
    assert ours.shape == theirs.shape
    assert bool(mask.all())
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "tiny-hubert", "tiny-xlsr"])
def test_batch_equals_transformers_with_its_attention_mask(name):
    encoder, original = make(name)
    samples = [9000, 12_000, 6399]
    wave = speech(samples)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    rows = [row[:count].numpy() for row, count in zip(wave, samples, strict=True)]
    batch = extractor(rows, padding=True, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        ours, mask = encoder.eval()(wave, torch.tensor(samples))
        theirs = original.eval()(**batch).last_hidden_state
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=1e-5)


def whisper_features(wave: torch.Tensor) -> torch.Tensor:
    extractor = WhisperFeatureExtractor()
    rows = [row.numpy() for row in wave]
    return extractor(rows, sampling_rate=16_000, return_tensors="pt").input_features


def test_whisper_spectrogram_equals_transformers():
    encoder, _ = make("tiny-whisper")
    wave = speech([480_000])
    ours = encoder.backbone.log_mel(wave, 3000)
    torch.testing.assert_close(ours, whisper_features(wave), atol=1e-4, rtol=0)
    short = speech([20_001])
    ours = encoder.backbone.log_mel(short, 130)
    torch.testing.assert_close(ours, whisper_features(short)[..., :130], atol=1e-4, rtol=0)


def test_padded_whisper_equals_transformers():
    encoder, original = make("tiny-whisper", whisper_pad=True)
    wave = speech([20_001])
    with torch.no_grad():
        ours, mask = encoder.eval()(wave, torch.tensor([20_001]))
        theirs = original.eval()(whisper_features(wave)).last_hidden_state
    assert ours.shape[1] == int(mask.sum()) == 63
    torch.testing.assert_close(ours, theirs[:, :63], atol=1e-5, rtol=1e-5)


def test_full_window_of_whisper_equals_transformers_unpadded():
    encoder, original = make("tiny-whisper")
    wave = speech([480_000])
    with torch.no_grad():
        ours, _ = encoder.eval()(wave, torch.tensor([480_000]))
        theirs = original.eval()(whisper_features(wave)).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def their_gradients(original: nn.Module, values: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    original.train()
    (original(values).last_hidden_state * weights).sum().backward()
    return {name: entry.grad for name, entry in original.named_parameters() if entry.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["tiny", "tiny-group", "tiny-wav2vec2"])
def test_gradients_equal_transformers(name, checkpointing):
    encoder, original = make(name, train="all", dropout=0.0, gradient_checkpointing=checkpointing)
    original.config.mask_time_prob = 0.0
    original.config.layerdrop = 0.0
    wave = speech([8000])
    frames, _ = encoder.train()(wave, torch.tensor([8000]))
    weights = torch.randn_like(frames)
    (frames * weights).sum().backward()
    theirs = their_gradients(original, extract(name, wave[0]), weights)
    ours = {entry_name(name): entry for name, entry in encoder.backbone.named_parameters()}
    compared = 0
    for name_, gradient in theirs.items():
        ours_ = ours[name_].grad
        torch.testing.assert_close(ours_, gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-5, rtol=1e-4)
        compared += 1
    assert compared == sum(entry.requires_grad for entry in encoder.backbone.parameters())


def entry_name(name: str) -> str:
    """Return transformers' name of a parameter of our encoder."""
    if name.startswith("convolution."):
        return "feature_extractor." + name.removeprefix("convolution.")
    return name if name.startswith(("feature_projection", "masked_spec")) else "encoder." + name


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


@pytest.mark.parametrize("name", ["tiny", "tiny-wav2vec2", "tiny-whisper"])
@pytest.mark.parametrize("layers", [1, -2])
def test_chosen_layer_equals_transformers_hidden_state(name, layers):
    encoder, original = make(name, layers=layers, whisper_pad=True)
    assert len(encoder.backbone.layers) == 1
    wave = speech([8000])
    values = whisper_features(wave) if name == "tiny-whisper" else extract(name, wave[0])
    with torch.no_grad():
        ours, _ = encoder.eval()(wave, torch.tensor([8000]))
        theirs = original.eval()(values, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(ours, theirs[:, : ours.shape[1]], atol=1e-5, rtol=1e-5)


def test_weighted_layers_mix_all_hidden_states():
    encoder, original = make("tiny", layers="weighted")
    wave = speech([8000])
    with torch.no_grad():
        encoder.layer_weights.copy_(torch.tensor([0.5, -1.0, 1.0]))
        ours, _ = encoder.eval()(wave, torch.tensor([8000]))
        theirs = original.eval()(extract("tiny", wave[0]), output_hidden_states=True)
    shares = torch.tensor([0.5, -1.0, 1.0]).softmax(0)
    states = [*theirs.hidden_states[:2], theirs.last_hidden_state]
    expected = sum(share * state for share, state in zip(shares, states, strict=True))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


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
    again = SpeechEncoder.from_config(facts)
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


def relative_error(values: torch.Tensor, exact: torch.Tensor) -> float:
    return float((values.float() - exact).square().mean().sqrt() / exact.std())


@pytest.mark.parametrize("name", WAVEFORM_KINDS)
def test_bfloat16_autocast_costs_no_more_than_in_transformers(name):
    encoder, original = make(name, train="all", dropout=0.0)
    wave, samples = speech([8000]), torch.tensor([8000])
    values = extract(name, wave[0])
    with torch.no_grad():
        ours, theirs = encoder.eval()(wave, samples)[0], original.eval()(values).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            our_halves, their_halves = encoder(wave, samples)[0], original(values).last_hidden_state
    assert relative_error(our_halves, ours) < 1.5 * relative_error(their_halves, theirs)


@pytest.mark.parametrize("name", KINDS)
def test_trains_under_bfloat16_autocast(name):
    encoder, _ = make(name, train="all", layers="weighted")
    with torch.autocast("cpu", torch.bfloat16):
        frames, mask = encoder.train()(speech([8000, 5000]), torch.tensor([8000, 5000]))
    frames[mask].float().square().sum().backward()
    assert all(bool(torch.isfinite(e.grad).all()) for e in encoder.parameters() if e.requires_grad)


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

    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(AffectError) as caught:
        SpeechEncoder.build(EncoderConfig(name="nobody/nothing"))
    assert "nobody/nothing" in one_line(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": 3}, "layers 1 to 2"),
        ({"layers": 0}, "layers 1 to 2"),
        ({"layers": "first"}, "encoder.layers"),
        ({"train": "al"}, "did you mean 'all'"),
        ({"layerdrop": 1.0}, "encoder.layerdrop"),
        ({"train": "none", "spec_augment": True}, "frozen"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(AffectError, match=words) as caught:
        SpeechEncoder.build(EncoderConfig(**options))
    one_line(caught.value)


def test_frames_follow_the_convolutions():
    encoder, original = make("tiny")
    counts = np.random.default_rng(0).integers(400, 20_000, 20)
    samples = torch.from_numpy(counts)
    _, mask = encoder(torch.zeros(20, int(counts.max())), samples)
    assert encoder.backbone.convolution.receptive_field == 400
    assert mask.sum(1).tolist() == original._get_feat_extract_output_lengths(samples).tolist()
