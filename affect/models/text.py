"""The text branch of a model: transcripts to one vector each, and the tokenizer that goes with it.

Legend: B texts, L tokens, D channels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from affect.errors import AffectError
from affect.models import saving, text_encoder
from affect.models.ngrams import NgramEncoder, NgramTokenizer
from affect.models.pretrained import describe_config
from affect.models.reading import attempt
from affect.models.saving import TOKENIZER
from affect.models.text_encoder import ByteTokenizer, PretrainedText, PretrainedTokenizer

NGRAMS = "ngrams"
_FACTS = "affect_tokenizer.json"
_WIDTH = 16
_BUCKETS = 1 << 16
"""Width of the vectors of n-grams; their number, of words and of characters each."""
_DROPOUT = 0.6
"""Share of n-grams left out while training: the best of .3, .6, .75 and .8 on EmoBank."""

Tokenizer = NgramTokenizer | ByteTokenizer | PretrainedTokenizer
"""`tokenizer(texts)` -> tokens [B, L] int64, mask [B, L] bool (True where valid); can be pickled."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Which text encoder, and how it is used; a recipe's section names and checks these fields.

    `name` is a hub name (owner/model) or folder of an encoder of transformers; `ngrams`, trained from scratch; or
    `tiny-text`, a small random BERT over bytes. `train`: `all`, or `none`: frozen and always in evaluation mode.
    `dropout` replaces the encoder's own rates unless None; for `ngrams` it is the share of n-grams that are left out
    (None: 0.6).
    """

    name: str = text_encoder.TINY
    train: Literal["all", "none"] = "all"
    dropout: float | None = None


class TextEncoder(nn.Module):
    """Texts to vectors; a text's vector does not depend on its micro-batch."""

    def __init__(self, config: TextConfig, backbone: NgramEncoder | PretrainedText) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.width: int = backbone.width

    @classmethod
    def build(cls, config: TextConfig) -> TextEncoder:
        """Read or make the encoder that `config` names; raises AffectError if it can't be had."""
        if config.name == NGRAMS:
            return cls(config, _ngrams(config))
        model = text_encoder.read_model(config.name, config.dropout)
        return cls(config, PretrainedText(model, name=config.name, frozen=config.train == "none"))

    @classmethod
    def restore(cls, config: TextConfig, facts: dict[str, Any]) -> TextEncoder:
        """Rebuild the encoder that `to_config` described, with random weights and without the hub."""
        if config.name == NGRAMS:
            return cls(config, _ngrams(config))
        model = text_encoder.build_model(text_encoder.restore_config(facts["architecture"]))
        return cls(config, PretrainedText(model, name=config.name, frozen=config.train == "none"))

    def to_config(self) -> dict[str, Any]:
        """Return what `restore` needs beside the options, as plain JSON values."""
        pretrained = self.backbone.model.config if isinstance(self.backbone, PretrainedText) else None
        return {"architecture": None if pretrained is None else describe_config(pretrained)}

    @property
    def layer_class(self) -> str | None:
        """The class of the transformer layers, for engines that wrap by class name; None where there are none."""
        return self.backbone.layer_class if isinstance(self.backbone, PretrainedText) else None

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters taken over from a pretrained model, for a rate of their own."""
        if not isinstance(self.backbone, PretrainedText):
            return []
        return [entry for entry in self.backbone.parameters() if entry.requires_grad]

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return vectors [B, D] of `tokens` [B, L] int64 and `mask` [B, L] bool, as the tokenizer gives them."""
        vectors: Tensor = self.backbone(tokens, mask)
        return vectors


def read_tokenizer(config: TextConfig) -> Tokenizer:
    """Return the tokenizer of the encoder that `config` names; raises AffectError if it can't be had."""
    if config.name == NGRAMS:
        return NgramTokenizer(_BUCKETS)
    return text_encoder.read_tokenizer(config.name)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write all that `load_tokenizer` needs to the folder `tokenizer` inside `folder`."""
    inside = folder / TOKENIZER
    inside.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any]
    if isinstance(tokenizer, NgramTokenizer):
        facts = {"kind": NGRAMS, "buckets": tokenizer.buckets}
    elif isinstance(tokenizer, ByteTokenizer):
        facts = {"kind": text_encoder.TINY, "limit": tokenizer.limit}
    else:
        tokenizer.tokenizer.save_pretrained(inside)
        facts = {"kind": "transformers", "limit": tokenizer.limit, "name": tokenizer.name}
    (inside / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer that `save_tokenizer` wrote to `folder`, without the hub; raises AffectError."""
    file = folder / TOKENIZER / _FACTS
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        kind = facts["kind"]
        if kind == NGRAMS:
            return NgramTokenizer(int(facts["buckets"]))
        if kind == text_encoder.TINY:
            return ByteTokenizer(int(facts["limit"]))
        name, limit = str(facts["name"]), int(facts["limit"])
    except OSError as error:
        raise AffectError(f"{folder} holds no tokenizer: {TOKENIZER}/{_FACTS} cannot be read") from error
    # Cut-off JSON, or fields that are missing or of another kind.
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise AffectError(f"the tokenizer in {folder} cannot be read: {' '.join(str(error).split())[:300]}") from error
    from transformers import AutoTokenizer

    read = attempt(name, "saved tokenizer", AutoTokenizer.from_pretrained, pretrained_model_name_or_path=file.parent)
    return PretrainedTokenizer(read, limit, name, _vocabulary(folder))


def _vocabulary(folder: Path) -> int | None:
    """Return how many tokens the text encoder of a model's folder has vectors for, None where nothing says so."""
    part = saving.read_config(folder).get("text") if (folder / saving.CONFIG).is_file() else None
    architecture = part.get("architecture") if isinstance(part, dict) else None
    size = architecture.get("vocab_size") if isinstance(architecture, dict) else None
    return size if isinstance(size, int) else None


def _ngrams(config: TextConfig) -> NgramEncoder:
    return NgramEncoder(width=_WIDTH, buckets=_BUCKETS, dropout=_DROPOUT if config.dropout is None else config.dropout)
