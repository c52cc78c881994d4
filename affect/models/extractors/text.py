"""Texts to frames, one a token: the sum of a language model's last hidden layers, as MER2023's features are made.

Legend: T tokens that are no special ones, D channels.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from affect.errors import AffectError, first_line
from affect.models import text_encoder
from affect.models.extractors.loading import TINY, check_layers, drawn_alike, frozen, located, read, read_model

_LOG = logging.getLogger("affect")


class Tokens(NamedTuple):
    """The tokens of a text, and which of them stand for something in it: special ones do not."""

    numbers: list[int]
    counted: list[bool]


class Tokenizer:
    """A text to tokens, cut at the number that the encoder takes; a text that was cut is logged, once."""

    def __init__(self, tokenizer: Any, config: Any, name: str) -> None:
        """Take over transformers' tokenizer, with the limit of the encoder that `config` describes."""
        if tokenizer.pad_token_id is None:
            # Padding is masked here and takes any number; it is asked for, and language models often have none.
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        self.tokenizer = tokenizer
        self.limit = text_encoder.wrap(tokenizer, config, name).limit
        self.name = name
        self._said = False
        self._ends = {getattr(tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "cls", "sep")}

    def __call__(self, text: str) -> Tokens:
        """Return the tokens of a text."""
        whole = self.tokenizer(text, verbose=False)["input_ids"]
        if len(whole) > self.limit and not self._said:
            self._said = True
            _LOG.warning("%s: a text of %d tokens is cut at %d, as are others", self.name, len(whole), self.limit)
        cut = self.tokenizer(
            text, truncation=True, max_length=self.limit, return_special_tokens_mask=True, verbose=False
        )
        numbers, counted = list(cut["input_ids"]), [not special for special in cut["special_tokens_mask"]]
        # Tokenizers written in Python may not tell; what they add stands at the ends.
        places = range(len(numbers))
        for ends in (places, reversed(places)):
            for place in takewhile(lambda place: numbers[place] in self._ends, ends):
                counted[place] = False
        return Tokens(numbers, counted)

    def facts(self) -> dict[str, Any]:
        """Return the tokenizer's kind, its vocabulary's SHA-256 and its limit."""
        words = json.dumps(sorted(self.tokenizer.get_vocab().items()), ensure_ascii=False)
        digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()
        return {"tokenizer": type(self.tokenizer).__name__, "vocabulary_sha256": digest, "limit": self.limit}


class ByteTokens:
    """The tokenizer of `tiny`: the bytes of a text behind a start token."""

    def __init__(self) -> None:
        self.plain = text_encoder.ByteTokenizer()

    def __call__(self, text: str) -> Tokens:
        """Return the tokens of a text."""
        numbers = self.plain([text])[0][0].tolist()
        return Tokens(numbers, [False, *[True] * (len(numbers) - 1)])

    def facts(self) -> dict[str, Any]:
        """Return the tokenizer's kind and its limit."""
        return {"tokenizer": "bytes", "limit": self.plain.limit}


class TextExtractor(nn.Module):
    """A frozen encoder or causal language model of transformers; texts are padded and masked in batches."""

    def __init__(self, model: Any, tokenizer: Tokenizer | ByteTokens, layers: int, name: str) -> None:
        super().__init__()
        check_layers(layers, int(model.config.num_hidden_layers), name)
        self.model = model
        self.tokenizer = tokenizer
        self.facts = tokenizer.facts()
        self.layers = layers
        self.name = name
        self.width: int = int(model.config.hidden_size)
        frozen(self)

    @classmethod
    def build(
        cls, name: str, revision: str | None, layers: int, *, dtype: torch.dtype = torch.float32, trust: bool = False
    ) -> TextExtractor:
        """Read the encoder `name` (a hub name, a folder, or `tiny`) with weights of `dtype`; raises AffectError."""
        if name == TINY:
            with drawn_alike():
                model = text_encoder.read_model(text_encoder.TINY, None).to(dtype)
            return cls(model, ByteTokens(), layers, name)
        where = located(name, revision, trust=trust)
        config = read(name, "config.json", AutoConfig, where)
        if getattr(config, "is_encoder_decoder", False):
            raise AffectError(f"encoder {name!r} is an encoder with a decoder ({config.model_type}): name an encoder")
        if not all(getattr(config, field, 0) for field in ("hidden_size", "num_hidden_layers", "vocab_size")):
            raise AffectError(f"encoder {name!r} is of kind {config.model_type!r}, which reads no text")
        tokenizer = read(name, "tokenizer", AutoTokenizer, where)
        # What generating would keep of each layer, nothing here reads.
        config.use_cache = False
        model = read_model(name, AutoModel, {**where, "config": config}, dtype)
        return cls(model, Tokenizer(tokenizer, config, name), layers, name)

    def tokens(self, text: str) -> Tokens | None:
        """Return the tokens of a text; None where it is blank, or nothing in it is a token."""
        tokens = self.tokenizer(text) if text.strip() else None
        return tokens if tokens is not None and any(tokens.counted) else None

    def cost(self, tokens: Tokens) -> float:
        """Return the number of tokens, special ones included."""
        return len(tokens.numbers)

    @torch.inference_mode()
    def forward(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """Return the frames [T, D] of each text; raises AffectError where the model gives no hidden states."""
        device = next(self.parameters()).device
        numbers = [torch.tensor(tokens.numbers) for tokens in texts]
        # On the right, where causal attention does not see it and positions do not shift.
        padded = nn.utils.rnn.pad_sequence(numbers, batch_first=True).to(device)
        lengths = torch.tensor([len(row) for row in numbers], device=device)
        mask = (torch.arange(padded.shape[1], device=device) < lengths[:, None]).long()
        try:
            states = self.model(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
        except (TypeError, AttributeError) as error:
            raise AffectError(f"encoder {self.name!r} reads no text: {first_line(error)}") from error
        if not states or len(states) < self.layers:
            raise AffectError(f"encoder {self.name!r} gives no hidden states")
        summed = torch.stack([state.float() for state in states[-self.layers :]]).sum(0).cpu().numpy()
        return [row[: len(tokens.counted)][tokens.counted] for row, tokens in zip(summed, texts, strict=True)]
