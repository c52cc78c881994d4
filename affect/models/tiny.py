"""Small encoders with random weights, one for each kind of pretrained encoder, for tests, demos and timing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CONVOLUTION: dict[str, Any] = {
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "num_feat_extract_layers": 7,
}
"""The real encoders' kernels and strides: a frame each 320 samples (20 ms at 16 kHz)."""

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    **CONVOLUTION,
}
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "conv_dim": (128,) * 7,
    **CONVOLUTION,
}
LARGE_STYLE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
BASE_STYLE: dict[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False}

NAMES = (
    "tiny",
    "tiny-group",
    "tiny-hubert",
    "tiny-wav2vec2",
    "tiny-xlsr",
    "tiny-whisper",
    "small",
)


def architecture(name: str) -> tuple[PreTrainedConfig, bool]:
    """Return the configuration of a small encoder of `NAMES` and whether its input is normalised.

    `tiny` is built like wavlm-large, `tiny-group` like wavlm-base, `tiny-hubert` like hubert-large,
    `tiny-wav2vec2` like wav2vec2-base, `tiny-xlsr` like XLS-R, `tiny-whisper` like Whisper; `small` is
    `tiny` with 128 channels and 4 layers.
    """
    from transformers import HubertConfig, Wav2Vec2Config, WavLMConfig, WhisperConfig

    if name == "tiny":
        return WavLMConfig(**TINY, **LARGE_STYLE), True
    if name == "tiny-group":
        return WavLMConfig(**TINY, **BASE_STYLE), False
    if name == "tiny-hubert":
        return HubertConfig(**TINY, **LARGE_STYLE, conv_bias=True), True
    if name == "tiny-wav2vec2":
        return Wav2Vec2Config(**TINY, **BASE_STYLE), True
    if name == "tiny-xlsr":
        return Wav2Vec2Config(**TINY, **LARGE_STYLE, conv_bias=True), True
    if name == "small":
        return WavLMConfig(**SMALL, **LARGE_STYLE), True
    whisper = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
    )
    return whisper, False
