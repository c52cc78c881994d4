"""From rows of the corpus to a micro-batch: decoded, augmented, padded, with the targets on the unit scale.

Legend: U utterances, S samples, P functionals, W tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from affect.data import audio, augment, noise
from affect.data.embeddings import COLUMN
from affect.models.text import Tokenizer
from affect.task import Batch, Key, Row
from affect.tasks.emotion.config import EMOTION, Emotion
from affect.tasks.emotion.corpus import Classes
from affect.tasks.emotion.prepared import Prepared

KEYS = ("speaker", "session", "dialogue")
"""What a row of predictions is grouped by."""
_TOLD = ("gender", EMOTION)
"""What else a row of predictions says of an utterance, where the corpus knows it."""

_RATE = 16_000

Mix = tuple[Row, float]
"""The training row that an utterance is mixed with, and the utterance's own share."""


class Inputs:
    """Makes micro-batches of one recipe; a function of the rows and the key alone."""

    def __init__(
        self, recipe: Emotion, scale: tuple[float, float], classes: Classes | None, *, train: Dataset,
        tokenizer: Tokenizer | None,
    ) -> None:  # fmt: skip
        """`train` are the rows that utterances are mixed with."""
        self.recipe, self.scale, self.classes, self.train, self.tokenizer = recipe, scale, classes, train, tokenizer
        self.prepared = Prepared({})
        self.ids = list(train["id"])
        files = noise.recordings(recipe.augment.noise_files) if recipe.augment.noise_files else ()
        self.augmentation = augment.Augmentation(**{**vars(recipe.augment), "noise_files": files})

    def batch(self, rows: Sequence[Row], key: Key | None, turns: Sequence[int] | None = None) -> Batch:
        """Return a batch of utterances; `turns` says how many of them each dialogue or segment has."""
        model = self.recipe.model
        mixes = [self._mix(row, key) for row in rows]
        inputs = self.prepared.inputs(rows)
        if model.encoder != "none" and "states" not in inputs:
            waves = [self._wave(row, key, mix) for row, mix in zip(rows, mixes, strict=True)]
            inputs["waveform"] = nn.utils.rnn.pad_sequence(waves, batch_first=True)
            inputs["samples"] = torch.tensor([len(wave) for wave in waves])
        values = [self._mixed(row, mix) for row, mix in zip(rows, mixes, strict=True)]
        if model.prosody_dim:
            inputs["prosody"] = torch.from_numpy(np.stack([each["prosody"] for each in values]))
        if model.speaker == "embedding":
            inputs["speaker"] = torch.tensor([row[COLUMN] for row in rows], dtype=torch.float32)
        if self.tokenizer is not None:
            inputs["tokens"], inputs["token_mask"] = self.tokenizer([row["transcript"] for row in rows])
        if turns is not None:
            inputs["turns"] = torch.tensor(turns)
        targets: dict[str, Tensor] = {
            target: torch.from_numpy(np.stack([each[target] for each in values])) for target in self.recipe.targets
        }
        ids = tuple(row["id"] for row in rows)
        return Batch(ids=ids, inputs=inputs, targets=targets, rows=[*map(self._kept, rows)])

    def partner(self, name: str, key: Key) -> Row:
        """Return the training row that the utterance of this id is mixed with."""
        row: Row = self.train[augment.partner(self.ids, key.seed, key.epoch, name)]
        return row

    def _kept(self, row: Row) -> Row:
        """Return the group keys, length and labels of a row, on the corpus's own scale (a class by its name)."""
        told = {key: row[key] for key in _TOLD if row.get(key)}
        length = {"seconds" if self.recipe.data.layout.has_audio else "words": row["length"]}
        kept: Row = {**told, **length, **{key: row[key] for key in (*KEYS, *self.recipe.targets)}}
        return kept if self.classes is None else {**kept, EMOTION: self.classes.name(row[EMOTION])}

    def _mix(self, row: Row, key: Key | None) -> Mix | None:
        alpha = self.augmentation.mixup
        if key is None or not alpha:
            return None
        partner = self.partner(row["id"], key)
        # A label that one of the two lacks can't be mixed.
        both = [self._values(one) for one in (row, partner)]
        if not all(np.isfinite(values[target]).all() for values in both for target in self.recipe.targets):
            return None
        return partner, augment.share(alpha, key.seed, key.epoch, row["id"], partner["id"])

    def _wave(self, row: Row, key: Key | None, mix: Mix | None) -> Tensor:
        wave = audio.of_row(row, _RATE)
        if key is not None:
            wave = self.augmentation.apply(wave, _RATE, key.seed, key.epoch, row["id"])
        if mix is not None:
            # The partner is heard as it was recorded: the mix is a function of both ids, and its cost of one.
            partner, share = mix
            wave = augment.mix(wave, audio.of_row(partner, _RATE), share)
        return torch.from_numpy(wave)

    def _mixed(self, row: Row, mix: Mix | None) -> dict[str, np.ndarray]:
        """Return the labels and functionals of a row, mixed with those of its partner."""
        own = self._values(row)
        if mix is None:
            return own
        share, other = mix[1], self._values(mix[0])
        return {name: (share * own[name] + (1 - share) * other[name]).astype(np.float32) for name in own}

    def _values(self, row: Row) -> dict[str, Any]:
        """Return the targets of a row (numbers on [0, 1]; the class as shares [C], NaN if missing), its functionals."""
        low, high = self.scale
        values: dict[str, Any] = {name: np.float32((row[name] - low) / (high - low)) for name in self.recipe.numbers}
        if self.classes is not None:
            k = self.classes.index(row[EMOTION])
            shares = np.eye(len(self.classes.names), dtype=np.float32)[k]
            values[EMOTION] = shares if k >= 0 else np.full_like(shares, np.nan)
        if self.recipe.model.prosody_dim:
            values["prosody"] = np.asarray(row["prosody"], dtype=np.float32)
        return values
