"""The speech encoder against transformers' own models, alone and in a padded batch."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from tests.models.encoders import KINDS, WAVEFORM_KINDS, extract, make, speech, whisper_features

SAMPLES = [9000, 12000, 400, 6399, 90]


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


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


def test_whisper_spectrogram_equals_transformers():
    encoder, _ = make("tiny-whisper")
    wave = speech([480_000])
    ours = encoder.backbone.log_mel(wave, 3000)
    torch.testing.assert_close(ours, whisper_features(wave), atol=1e-4, rtol=0)
    short = speech([20_001])
    ours = encoder.backbone.log_mel(short, 130)
    torch.testing.assert_close(ours, whisper_features(short)[..., :130], atol=1e-4, rtol=0)


def test_padded_whisper_equals_transformers():
    encoder, original = make("tiny-whisper", padded=True)
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


@pytest.mark.parametrize("name", ["tiny", "tiny-wav2vec2", "tiny-whisper"])
@pytest.mark.parametrize("layers", [1, -2])
def test_chosen_layer_equals_transformers_hidden_state(name, layers):
    encoder, original = make(name, layers=layers, padded=name == "tiny-whisper")
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


def test_frames_follow_the_convolutions():
    encoder, original = make("tiny")
    counts = np.random.default_rng(0).integers(400, 20_000, 20)
    samples = torch.from_numpy(counts)
    _, mask = encoder(torch.zeros(20, int(counts.max())), samples)
    assert encoder.backbone.convolution.receptive_field == 400
    assert mask.sum(1).tolist() == original._get_feat_extract_output_lengths(samples).tolist()
