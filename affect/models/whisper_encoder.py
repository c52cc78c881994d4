"""Whisper's encoder: a padded waveform in, hidden states out, without padding each utterance to 30 s."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from affect.frozen import once
from affect.keyed import draw_keys, recomputation
from affect.models.attention import use_keyed_attention
from affect.models.dropout import Dropout
from affect.models.layer_stack import additive_mask, mask_frames, masked_waveform, run_layers
from affect.models.spec_augment import draw_spans


def smaller(a: int, b: int) -> int:
    """Return the smaller number; in an export, where a length is a symbol, as part of the graph."""
    return cast(int, torch.sym_min(a, b))  # type: ignore[no-untyped-call]


def mel_filters(frequencies: int, bins: int, sampling_rate: int, highest: float = 8000.0) -> Tensor:
    """Return triangles [`frequencies`, `bins`] (float64) of equal area, evenly spread on Slaney's mel scale from 0 Hz.

    That scale (Slaney 1998, Auditory Toolbox) is linear below 1000 Hz and logarithmic above; `highest` is in Hz.
    """
    step = math.log(6.4) / 27
    top = 15 + math.log(highest / 1000) / step
    mel = torch.linspace(0.0, top, bins + 2, dtype=torch.float64)
    edges = torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp(step * (mel - 15)))
    rise = edges[None] - torch.linspace(0.0, sampling_rate // 2, frequencies, dtype=torch.float64)[:, None]
    width = edges.diff()
    triangles = torch.minimum(-rise[:, :-2] / width[:-1], rise[:, 2:] / width[1:]).clamp(min=0)
    return triangles * 2 / (edges[2:] - edges[:-2])


class LogMel(nn.Module):
    """Whisper's log-mel spectrogram, on the waveform's device, equal to `WhisperFeatureExtractor`'s frames."""

    def __init__(self, *, bins: int, n_fft: int, hop: int, sampling_rate: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        self.register_buffer("filters", mel_filters(1 + n_fft // 2, bins, sampling_rate).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor, steps: int) -> Tensor:
        """Return [B, M, `steps`] of `waveform` [B, S], which is silent beyond S. M mel bins."""
        with torch.autocast(waveform.device.type, enabled=False):
            mel = cast(Tensor, self.filters).float().T @ self.spectrum(waveform, steps).abs().square()
            level = mel.clamp(min=1e-10).log10()
            return (torch.maximum(level, level.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    def spectrum(self, waveform: Tensor, steps: int) -> Tensor:
        """Return the complex spectrum [B, 1 + n_fft / 2, `steps`] of `waveform` [B, S], which is silent beyond S."""
        enough = max(steps * self.hop, self.n_fft)
        wave = F.pad(waveform, (0, enough - waveform.shape[1]))
        window = cast(Tensor, self.window).float()
        return torch.stft(wave, self.n_fft, self.hop, window=window, return_complex=True)[..., :steps]


class WhisperLayer(nn.Module):
    """transformers' `WhisperEncoderLayer`, whose own dropout is no module: it takes over that layer's modules."""

    def __init__(self, layer: Any, *, checkpointed: bool) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.self_attn: nn.Module = layer.self_attn
        self.self_attn_layer_norm: nn.LayerNorm = layer.self_attn_layer_norm
        self.fc1: nn.Linear = layer.fc1
        self.fc2: nn.Linear = layer.fc2
        self.final_layer_norm: nn.LayerNorm = layer.final_layer_norm
        self.activation: nn.Module = layer.activation_fn
        self.attention_dropout = Dropout(layer.dropout)
        self.activation_dropout = Dropout(layer.activation_dropout)
        self.output_dropout = Dropout(layer.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return [B, T, D] of `hidden` [B, T, D]; `mask` [B, 1, 1, T] is added to the scores."""
        if self.checkpointed and self.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(self.layer, hidden, mask, use_reentrant=False, context_fn=recomputation)
            return again
        return self.layer(hidden, mask)

    def layer(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return what `forward` does, its activations kept."""
        attended, _ = self.self_attn(hidden_states=self.self_attn_layer_norm(hidden), attention_mask=mask)
        hidden = hidden + self.attention_dropout(attended)
        inner = self.activation_dropout(self.activation(self.fc1(self.final_layer_norm(hidden))))
        hidden = hidden + self.output_dropout(self.fc2(inner))
        if hidden.dtype == torch.float16:
            most = torch.finfo(hidden.dtype).max - 1000
            hidden = hidden.clamp(-most, most)
        return hidden


class WhisperFrames(nn.Module):
    """The encoder of transformers' WhisperModel, run on the frames that hold speech.

    The original pads every utterance with silence to 30 s and attends to the silence. Here a batch is as
    long as its longest utterance and attention sees valid frames only, which costs a tenth for 3 s of
    speech; the frames before attention are the original's. `pad_to_window` restores the original exactly,
    30 s and all. What is longer than 30 s is cut into windows of 30 s, each run by itself from position 0.

    It takes over the modules of `encoder`, which is of no use afterwards. `depth` layers are kept, and the
    norm after the last one only if all are.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        depth: int,
        log_mel: LogMel,
        freeze_convolution: bool,
        layerdrop: float,
        spec_augment: bool,
        checkpointed: bool = False,
        pad_to_window: bool = False,
    ) -> None:
        super().__init__()
        config = encoder.config
        use_keyed_attention(encoder)
        self.width: int = config.d_model
        self.window_frames: int = config.max_source_positions
        self.layerdrop = layerdrop
        self.spec_augment = spec_augment
        self.pad_to_window = pad_to_window
        self.dropout = Dropout(config.dropout)
        self.time_masks = (config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks)
        self.feature_masks = (
            config.mask_feature_prob,
            config.mask_feature_length,
            getattr(config, "mask_feature_min_masks", 0),
        )
        self.freeze_convolution = freeze_convolution
        self.log_mel = log_mel
        self.conv1: nn.Conv1d = encoder.conv1
        self.conv2: nn.Conv1d = encoder.conv2
        self.embed_positions: nn.Embedding = encoder.embed_positions
        layers = list(encoder.layers)[:depth]
        self.layers = nn.ModuleList(WhisperLayer(layer, checkpointed=checkpointed) for layer in layers)
        self.layer_norm: nn.LayerNorm | None = encoder.layer_norm if depth == len(encoder.layers) else None
        if freeze_convolution:
            self.conv1.requires_grad_(False)
            self.conv2.requires_grad_(False)

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the hidden states, first to last, each [B, T, D], and the mask of valid frames [B, T].

        `waveform` [B, S] at 16 kHz, `samples` [B] valid samples; a frame is 20 ms.
        """
        wave = masked_waveform(waveform, samples)
        size = self.window_frames * 2 * self.log_mel.hop
        if torch.compiler.is_exporting():
            return self.run_exported(wave, samples, size)
        windows = [
            self.run_window(wave[:, start : start + size], (samples - start).clamp(0, size))
            for start in range(0, max(wave.shape[1], 1), size)
        ]
        states = [torch.cat(parts, dim=1) for parts in zip(*(s for s, _ in windows), strict=True)]
        mask = torch.cat([mask for _, mask in windows], dim=1)
        mask[:, 0] = True
        return states, mask

    def run_exported(self, wave: Tensor, samples: Tensor, size: int) -> tuple[list[Tensor], Tensor]:
        """Return what `forward` does, as a graph for every length: the windows of `size` samples are a batch."""
        # Two frames of silence more: no length is then too short for a spectrum.
        wave = F.pad(wave, (0, 4 * self.log_mel.hop))
        batch, length = wave.shape
        count = (length + size - 1) // size
        width = smaller(length, size)
        wave = F.pad(wave, (0, count * width - length)).reshape(batch * count, width)
        valid = (samples[:, None] - size * torch.arange(count)).clamp(0, size).flatten()
        states, mask = self.run_window(wave, valid)
        steps = count * mask.shape[1]
        mask = mask.reshape(batch, steps)
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1)
        return [state.reshape(batch, steps, self.width) for state in states], mask

    def run_window(self, wave: Tensor, samples: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the states and the mask of one window of at most 30 s."""
        frame = 2 * self.log_mel.hop
        length = max(1, (wave.shape[1] + frame - 1) // frame)
        mask = mask_frames(torch.div(samples + frame - 1, frame, rounding_mode="floor"), length)
        steps = self.window_frames if self.pad_to_window else length
        hidden = self.embed(wave, samples, steps)
        attended: Tensor | None = None
        if not self.pad_to_window:
            # A row with nothing in this window attends to its first frame: a softmax over nothing is NaN.
            first = torch.arange(length, device=mask.device) == 0
            attended = additive_mask(mask | first, hidden.dtype)

        def call(layer: nn.Module, hidden: Tensor) -> Tensor:
            output: Tensor = layer(hidden, attended)
            return output

        states = run_layers(self.layers, hidden, call, layerdrop=self.layerdrop, training=self.training)
        if self.layer_norm is not None:
            states[-1] = self.layer_norm(states[-1])
        return [state[:, :length] for state in states], mask

    def embed(self, wave: Tensor, samples: Tensor, length: int) -> Tensor:
        """Return the input of the first layer [B, `length`, D]."""
        # One mel step more than asked for, so that the last frame sees silence and not the edge.
        steps = smaller(2 * length + 1, 2 * self.window_frames)
        mel = self.log_mel(wave, steps)
        if self.spec_augment and self.training:
            mel = self.augment(mel, samples)
        mel = mel.to(self.conv1.weight.dtype)

        def convolve() -> Tensor:
            x = F.gelu(self.conv1(mel))[..., : 2 * length]
            return F.gelu(self.conv2(x)).transpose(1, 2)

        if self.freeze_convolution:
            with torch.no_grad():
                x = once(self, convolve)
        else:
            x = convolve()
        hidden = x + self.embed_positions(torch.arange(length, device=x.device))
        dropped: Tensor = self.dropout(hidden)
        return dropped

    def augment(self, mel: Tensor, samples: Tensor) -> Tensor:
        """Return `mel` [B, M, F] of a window with SpecAugment's spans of time and of bins set to 0."""
        keys = draw_keys(self, mel.shape[:1], mel.device)
        probability, span, least = self.time_masks
        if probability > 0:
            steps = torch.div(samples, self.log_mel.hop, rounding_mode="floor").clamp(max=mel.shape[2])
            spans = draw_spans(
                steps, mel.shape[2], probability=probability, span=span, least=least, keys=keys, stream=0
            )
            mel = mel.masked_fill(spans[:, None], 0)
        probability, span, least = self.feature_masks
        if probability > 0:
            bins = torch.full_like(samples, mel.shape[1])
            spans = draw_spans(bins, mel.shape[1], probability=probability, span=span, least=least, keys=keys, stream=1)
            mel = mel.masked_fill(spans[..., None], 0)
        return mel
