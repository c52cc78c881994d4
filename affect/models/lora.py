"""LoRA: a frozen encoder that learns through small low-rank matrices beside its linear layers.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models"; the layers are peft's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from affect.errors import AffectError
from affect.models.dropout import replace_dropout
from affect.models.encoder import SpeechEncoder

TARGETS = (
    *("q_proj", "k_proj", "v_proj", "out_proj"),
    *("intermediate_dense", "output_dense"),
    *("fc1", "fc2"),
)
"""The linear layers that are adapted, by the last part of their name: attention, feed-forward, Whisper's feed-forward.

WavLM's gate on its positions is left out: it maps to 8 numbers, of which no low rank saves anything.
"""


def add_lora(encoder: SpeechEncoder, rank: int, alpha: float | None = None, dropout: float = 0.0) -> None:
    """Freeze what is pretrained in `encoder` and put an adapter beside each linear layer of its transformer.

    A layer W then computes W x + alpha / rank * B A x, A [rank, inputs] drawn at random and B [outputs, rank] zero, so
    that the output is what it was. `alpha` is twice the rank unless given; `dropout` is on the x that A takes. The
    parameters of the backbone that learn are then the adapters alone. To load trained weights, build the encoder, call
    this with the same rank and alpha, and load the state_dict. Raises AffectError on values that make no sense, an
    encoder that is frozen or already adapted, and a rank above the width of every layer.
    """
    if rank < 1:
        raise AffectError(f"lora rank is {rank}: it has to be at least 1")
    if alpha is not None and alpha <= 0:
        raise AffectError(f"lora alpha is {alpha}: it has to be over 0")
    if not 0 <= dropout < 1:
        raise AffectError(f"lora dropout is {dropout}: it has to be at least 0 and under 1")
    if encoder.config.train == "none":
        raise AffectError("encoder.train is 'none': a frozen encoder passes adapters no gradient; use 'transformer'")
    backbone = cast(nn.Module, encoder.backbone)
    if is_adapted(encoder):
        raise AffectError("the encoder has LoRA adapters already")
    widths = {
        name: min(module.in_features, module.out_features)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("layers.") and name.rpartition(".")[2] in TARGETS
    }
    fitting = [name for name, width in widths.items() if rank <= width]
    if not fitting:
        widest = max(widths.values(), default=0)
        raise AffectError(f"lora rank is {rank}, but no layer of {encoder.config.name!r} is wider than {widest}")
    scaling = 2 * rank if alpha is None else alpha
    # peft only divides alpha by the rank: it need not be the whole number that its type says.
    config = LoraConfig(r=rank, lora_alpha=cast(int, scaling), lora_dropout=dropout, target_modules=fitting)
    inject_adapter_in_model(config, backbone)
    replace_dropout(backbone)


def is_adapted(encoder: SpeechEncoder) -> bool:
    """Say whether `encoder` has LoRA adapters."""
    return next(_adapters(encoder), None) is not None


def merge(encoder: SpeechEncoder) -> SpeechEncoder:
    """Return a copy without adapters that gives the same output: each layer's weight is W + alpha / rank * B A.

    It is for prediction and export: its weights stay frozen. Without adapters it is a plain copy.
    """
    merged = copy.deepcopy(encoder)
    backbone = cast(nn.Module, merged.backbone)
    for name, adapter in list(_adapters(merged)):
        adapter.merge()
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, adapter.get_base_layer())
    if hasattr(backbone, "peft_config"):
        del backbone.peft_config
    return merged


def _adapters(encoder: SpeechEncoder) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers with their names in the backbone."""
    for name, module in cast(nn.Module, encoder.backbone).named_modules():
        if isinstance(module, LoraLinear):
            yield name, module
