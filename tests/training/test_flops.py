"""Operations that are counted, against what a pencil gives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from affect.models.mamba import MambaLayers
from affect.training.flops import Counter
from tests.models.encoders import WAVEFORM_KINDS, make, speech


def forward(module, *inputs):
    """Return the operations of a module's forward alone."""
    with Counter() as counter:
        module(*inputs)
    return counter.total


def both(module, *inputs):
    """Return those of a forward and backward."""
    with Counter() as counter:
        output = module(*inputs)
        (output[0] if isinstance(output, tuple) else output).sum().backward()
    return counter.total


@pytest.mark.parametrize("batch", [(), (3,), (3, 4)])
def test_linear(batch):
    linear, x = nn.Linear(8, 5), torch.randn(*batch, 8, requires_grad=True)
    once = 2 * math.prod(batch) * 8 * 5
    assert forward(linear, x) == once
    if batch:
        assert both(linear, x) == 3 * once
    with torch.inference_mode():
        assert forward(linear, x.detach()) == once
    with torch.autocast("cpu", torch.bfloat16):
        assert forward(linear, x) == once


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_convolution(kind, groups):
    convolution = kind(8, 16, 5, stride=2, groups=groups)
    x = torch.randn(3, 8, 21)
    frames = 21 if kind is nn.ConvTranspose1d else 9
    once = 2 * 3 * frames * 8 * 16 * 5 // groups
    assert forward(convolution, x) == once
    assert both(convolution, x) == 2 * once
    assert both(convolution, x.requires_grad_()) == 3 * once
    with torch.inference_mode():
        assert forward(convolution, x) == once


def test_fused_attention_counts_as_written_out():
    query, key, value = (torch.randn(2, 3, frames, 8, requires_grad=True) for frames in (5, 7, 7))
    mask = torch.zeros(1, 1, 5, 7)

    def plain(query, key, value):
        return (query @ key.transpose(-1, -2) + mask).softmax(-1) @ value

    def fused(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, mask)

    once = 2 * (2 * 2 * 3 * 5 * 7 * 8)
    assert forward(fused, query, key, value) == forward(plain, query, key, value) == once
    assert both(fused, query, key, value) == both(plain, query, key, value) == 3 * once


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent(kind, gates):
    model = kind(8, 6, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(2, 5, 8, requires_grad=True)
    start = torch.zeros(4, 2, 6, requires_grad=True)
    once = 2 * 2 * 5 * gates * 6 * 2 * ((8 + 6) + (12 + 6))
    assert forward(model, x) == once
    assert both(model, x, (start, start) if kind is nn.LSTM else start) == 3 * once
    with torch.inference_mode():
        assert forward(model, x) == once


def test_product_with_a_vector_and_a_scalar_product():
    matrix, vector = torch.randn(4, 6), torch.randn(6)
    assert forward(torch.mv, matrix, vector) == forward(torch.addmv, torch.randn(4), matrix, vector) == 2 * 4 * 6
    assert forward(torch.dot, vector, vector) == 2 * 6


def test_fourier_transform():
    frames = 1 + (1600 - 400) // 160
    window = torch.ones(400)
    once = forward(
        lambda x: torch.stft(x, 400, 160, window=window, center=False, return_complex=True), torch.randn(2, 1600)
    )
    assert once == pytest.approx(2.5 * 2 * frames * 400 * math.log2(400), abs=1)
    assert forward(torch.fft.irfft, torch.fft.rfft(torch.randn(3, 64))) == 2.5 * 3 * 64 * 6
    assert forward(torch.fft.fft, torch.randn(3, 64, dtype=torch.complex64)) == 5 * 3 * 64 * 6


@pytest.mark.parametrize("kind", ["layer", "attention"])
def test_layers_fused_in_evaluation_count_as_in_training(kind):
    x = torch.randn(2, 5, 8)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    module = layer if kind == "layer" else lambda x: attention(x, x, x)
    once = 2 * 2 * 5 * 8 * 8 * 4 + 4 * 2 * 5 * 5 * 8 + (4 * 2 * 5 * 8 * 16 if kind == "layer" else 0)
    assert forward(module, x) == once
    layer.eval(), attention.eval()
    with torch.no_grad():
        assert forward(module, x) == once


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_is_counted_apart(reentrant):
    layer, x = nn.Sequential(nn.Linear(8, 5), nn.Tanh()), torch.randn(3, 8, requires_grad=True)
    with Counter() as counter:
        checkpoint(layer, x, use_reentrant=reentrant).sum().backward()
    once = 2 * 3 * 8 * 5
    assert (counter.total, counter.recomputed) == (3 * once, once)


@pytest.mark.parametrize("name", WAVEFORM_KINDS)
def test_waveform_encoders(name):
    encoder, _ = make(name)
    config = encoder.architecture
    samples = 48_000
    expected, frames, channels = 0, samples, 1
    for width, kernel, stride in zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True):
        frames = (frames - kernel) // stride + 1
        expected += 2 * frames * channels * width * kernel
        channels = width
    width = config["hidden_size"]
    expected += 2 * frames * channels * width
    # An even kernel gives a step more.
    per_group = width // config["num_conv_pos_embedding_groups"]
    expected += 2 * (frames + 1) * width * per_group * config["num_conv_pos_embeddings"]
    layer = 8 * frames * width**2 + 4 * frames**2 * width + 4 * frames * width * config["intermediate_size"]
    # Of each head, 8 numbers for the gate on relative positions.
    layer += 2 * frames * width * 8 if config["model_type"] == "wavlm" else 0
    expected += config["num_hidden_layers"] * layer
    wave, count = speech([samples]), torch.tensor([samples])
    with torch.no_grad():
        fused = forward(encoder.eval(), wave, count)
    assert forward(encoder, wave, count) == fused
    # Convolutions by stride compute some frames that are cut off.
    assert fused == pytest.approx(expected, rel=0.001)


def test_whisper():
    encoder, _ = make("tiny-whisper")
    config = encoder.architecture
    samples = 48_000
    bins, width, inner, frames = config["num_mel_bins"], config["d_model"], config["encoder_ffn_dim"], 150
    # Centred windows: one more than there are hops, and one at the end.
    expected = 2.5 * 302 * 400 * math.log2(400) + 2 * 301 * 201 * bins
    expected += 2 * 300 * bins * width * 3 + 2 * frames * width * width * 3
    layer = 8 * frames * width**2 + 4 * frames**2 * width + 4 * frames * width * inner
    expected += config["encoder_layers"] * layer
    with torch.no_grad():
        counted = forward(encoder.eval(), speech([samples]), torch.tensor([samples]))
    assert counted == pytest.approx(expected, rel=0.001)


def test_mamba():
    model = MambaLayers(16, 1, 0.0, state=4)
    inner, frames, states = 32, 40, 4
    projections = 2 * 2 * frames * (16 * 2 * inner + inner * (1 + 2 * states) + inner + inner * 16)
    scan = 2 * frames * inner * states * 4
    assert forward(model, torch.randn(2, frames, 16)) == projections + scan
