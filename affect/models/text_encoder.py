"""Text encoders of transformers: BERT, RoBERTa, DeBERTa, XLM-R and their like, from the hub, a folder, or random.

Legend: B texts, L tokens, D channels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from affect.errors import AffectError, nearest
from affect.frozen import once
from affect.models import reading
from affect.models.attention import use_keyed_attention
from affect.models.dropout import replace_dropout
from affect.models.pooling import masked_mean
from affect.models.reading import attempt

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedConfig

TINY = "tiny-text"
_LOG = logging.getLogger("affect")
_SPARE = 8
"""Positions that some kinds (RoBERTa) keep for themselves, at most."""
_FEWEST = 4
"""Tokens that a text may have at least: a word beside special ones."""


class ByteTokenizer:
    """Texts to their UTF-8 bytes behind a start token: 0 is padding, 1 the start, 2 to 257 the bytes."""

    size = 258

    def __init__(self, limit: int = 512) -> None:
        self.limit = limit
        self._told = False

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens [B, L] int64 and mask [B, L] bool; what is beyond the limit is cut off, logged once."""
        rows = [[1, *(byte + 2 for byte in text.encode("utf-8", "replace"))] for text in texts]
        self._told = _tell(self._told, max(map(len, rows), default=0), self.limit, TINY)
        cut = [torch.tensor(row[: self.limit]) for row in rows]
        tokens = nn.utils.rnn.pad_sequence(cut, batch_first=True)
        return tokens, tokens != 0


class PretrainedTokenizer:
    """A tokenizer of transformers, its special tokens included."""

    def __init__(self, tokenizer: Any, limit: int, name: str, vocabulary: int | None = None) -> None:
        """Take over a tokenizer; raises AffectError where it is not one of an encoder of `vocabulary` tokens."""
        if tokenizer.pad_token_id is None:
            raise AffectError(f"text encoder {name!r}: its tokenizer has no padding token")
        _check_vocabulary(tokenizer, name, vocabulary)
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        self.tokenizer = tokenizer
        self.limit = limit
        self.name = name
        self._told = False

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens [B, L] int64 and mask [B, L] bool, one token at least; cut at `limit`, which is logged once."""
        whole = self.tokenizer(list(texts), verbose=False)["input_ids"]
        self._told = _tell(self._told, max(map(len, whole), default=0), self.limit, self.name)
        # Cut by the tokenizer, which keeps the token that ends a text.
        rows = self.tokenizer(list(texts), truncation=True, max_length=self.limit)["input_ids"]
        pad = self.tokenizer.pad_token_id
        numbers = [torch.tensor(row or [pad], dtype=torch.int64) for row in rows]
        tokens = nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=pad)
        lengths = torch.tensor([len(row) for row in numbers])
        return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]


def _check_vocabulary(tokenizer: Any, name: str, vocabulary: int | None) -> None:
    """Raise AffectError for a tokenizer that knows no word, or more tokens than the encoder has vectors for."""
    tokens: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_tokens)
    # Where a folder lacks a tokenizer's files, transformers invents one of special tokens alone: each word is unknown.
    if not any(token not in special and any(map(str.isalnum, token)) for token in tokens):
        raise AffectError(
            f"text encoder {name!r}: its tokenizer knows no word, only {len(tokens)} special tokens: files that it is "
            "read from (tokenizer.json, or a vocabulary) are missing"
        )
    if vocabulary is not None and (highest := max(tokens.values())) >= vocabulary:
        raise AffectError(
            f"text encoder {name!r}: its tokenizer has the tokens 0 to {highest}, its config.json a vocab_size of "
            f"{vocabulary}: they belong to different models"
        )


def _tell(told: bool, longest: int, limit: int, name: str) -> bool:
    """Log, unless that was done, that a text is longer than the limit; return whether it has been said."""
    if longest > limit and not told:
        _LOG.warning("text encoder %s: a text of %d tokens is cut off at %d, as are others", name, longest, limit)
        return True
    return told


def read_tokenizer(name: str) -> PretrainedTokenizer | ByteTokenizer:
    """Return the tokenizer of the encoder `name`; raises AffectError if it can't be had."""
    if name == TINY:
        return ByteTokenizer()
    where: dict[str, Any] = {"pretrained_model_name_or_path": _located(name)}
    from transformers import AutoConfig, AutoTokenizer

    config = attempt(name, "config.json", AutoConfig.from_pretrained, **where)
    return wrap(attempt(name, "tokenizer", AutoTokenizer.from_pretrained, **where), config, name)


def wrap(tokenizer: Any, config: PreTrainedConfig, name: str) -> PretrainedTokenizer:
    """Return `tokenizer` with the limit of the encoder that `config` describes."""
    # The workers of a data loader are forked; the tokenizer's own threads would not survive it, and say so at length.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    most = tokenizer.model_max_length
    if not isinstance(most, int | float) or not (limit := min(most, _positions(config))) >= _FEWEST:
        raise AffectError(f"text encoder {name!r}: it takes no text of its tokenizer's model_max_length, {most}")
    return PretrainedTokenizer(tokenizer, int(limit), name, getattr(config, "vocab_size", None))


def _positions(config: PreTrainedConfig) -> int:
    """Return the number of tokens for which an encoder has positions."""
    total = int(getattr(config, "max_position_embeddings", 0) or 0)
    if total <= 0:
        return 1 << 20
    # RoBERTa and its kin count positions from the padding token's number + 1.
    counts_from_padding = config.model_type in ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet")
    return total - (min(config.pad_token_id or 0, _SPARE) + 1 if counts_from_padding else 0)


def read_model(name: str, dropout: float | None) -> Any:
    """Return transformers' model `name` in float32; `dropout` replaces all its rates. Raises AffectError."""
    if name == TINY:
        return build_model(with_dropout(_tiny(), dropout))
    where: dict[str, Any] = {"pretrained_model_name_or_path": _located(name)}
    from transformers import AutoConfig, AutoModel

    config = attempt(name, "config.json", AutoConfig.from_pretrained, **where)
    _check(config, name)
    config = with_dropout(config, dropout)
    return reading.read_model(name, AutoModel, **where, config=config, spare=(reading.POOLER,))


def build_model(config: PreTrainedConfig) -> Any:
    """Return a model of `config` with random weights."""
    from transformers import AutoModel

    make: Callable[..., Any] = AutoModel.from_config
    return make(config, dtype=torch.float32, trust_remote_code=False)


def restore_config(facts: dict[str, Any]) -> PreTrainedConfig:
    """Return the configuration of plain JSON values; raises AffectError on a kind that transformers does not know."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = str(facts.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise AffectError(f"a text encoder of kind {kind!r} is not known; {nearest(kind, CONFIG_MAPPING)}")
    config: PreTrainedConfig = CONFIG_MAPPING[kind].from_dict(dict(facts))
    return config


def with_dropout(config: PreTrainedConfig, dropout: float | None) -> PreTrainedConfig:
    """Set every dropout rate of `config` to `dropout`, unless that is None, and return it."""
    if dropout is not None:
        for field, value in config.to_dict().items():
            if field.endswith(("dropout", "dropout_prob")) and isinstance(value, float | int):
                setattr(config, field, dropout)
    return config


class PretrainedText(nn.Module):
    """The mean over a text's tokens of the last layer of a model of transformers."""

    def __init__(self, model: Any, *, name: str, frozen: bool) -> None:
        super().__init__()
        _check(model.config, name)
        if getattr(model, "pooler", None) is not None:
            # It reads the first token for a task of pretraining; here nothing would read it.
            model.pooler = None
        use_keyed_attention(model)
        replace_dropout(model)
        self.model = model
        self.width: int = model.config.hidden_size
        self.frozen = frozen
        if frozen:
            model.requires_grad_(False)
        else:
            _freeze_unused(self)

    def train(self, mode: bool = True) -> PretrainedText:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] of `tokens` [B, L] int64 and `mask` [B, L] (True where valid)."""
        if not self.frozen:
            return self.encode(tokens, mask)
        return once(self, lambda: self.encode(tokens, mask))

    def encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return what `forward` does."""
        states: Tensor = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return masked_mean(states, mask)

    @property
    def layer_class(self) -> str:
        """The class of the transformer layers, for engines that wrap by class name."""
        stacks = [module for module in self.model.modules() if isinstance(module, nn.ModuleList) and len(module)]
        return type(max(stacks, key=len)[0]).__name__ if stacks else type(self.model).__name__


def _freeze_unused(encoder: PretrainedText) -> None:
    """Freeze what has no part in the output (a layer for pretraining alone): such parameters would stop DDP."""
    encoder.eval()
    tokens = torch.tensor([[2, 3, 4]]).clamp(max=encoder.model.config.vocab_size - 1)
    with torch.enable_grad():
        output = encoder(tokens, torch.ones_like(tokens, dtype=torch.bool))
        wanted = [entry for entry in encoder.parameters() if entry.requires_grad]
        gradients = torch.autograd.grad(output.sum(), wanted, allow_unused=True)
    unused = [entry for entry, gradient in zip(wanted, gradients, strict=True) if gradient is None]
    for entry in unused:
        entry.requires_grad_(False)
    if unused:
        _LOG.info("text encoder: %d tensors have no part in its output and stay as they are", len(unused))
    encoder.train()


def _check(config: PreTrainedConfig, name: str) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise AffectError(f"text encoder {name!r} is an encoder with a decoder ({config.model_type}): name an encoder")
    if not getattr(config, "hidden_size", 0) or not getattr(config, "vocab_size", 0):
        raise AffectError(f"text encoder {name!r} is of kind {config.model_type!r}, which reads no text")


def _located(name: str) -> str:
    """Return a folder's path or a hub name; raises AffectError for what is neither."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        hint = nearest(name, (TINY, "ngrams"))
        raise AffectError(f"text encoder {name!r}: no such folder, and not a hub name (owner/model); {hint}")
    return name


def _tiny() -> BertConfig:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=ByteTokenizer.size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        pad_token_id=0,
    )
