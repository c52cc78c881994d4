"""From rows of the corpus to a micro-batch: decoded, augmented, padded, with the targets on the unit scale.

Legend: U utterances, S samples, P functionals, W tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affect.data import audio, augment
from affect.data.embeddings import COLUMN
from affect.task import Batch, Key, Row
from affect.tasks.emotion.classes import Classes
from affect.tasks.emotion.config import EMOTION, Emotion
from affect.tasks.emotion.prepared import Prepared

KEYS = ("speaker", "session", "dialogue")
"""What a row of predictions is grouped by."""

_RATE = 16_000

Tokenizer = Callable[[list[str]], tuple[Tensor, Tensor]]
Partner = Callable[[str, Key], Row]


class Inputs:
    """Makes micro-batches of one recipe; a function of the rows and the key alone."""

    def __init__(
        self,
        recipe: Emotion,
        scale: tuple[float, float],
        classes: Classes | None,
        *,
        prepared: Prepared,
        tokenizer: Tokenizer | None,
        noise_files: Sequence[str],
        partner: Partner,
    ):
        """`partner` gives the training row that an utterance is mixed with, by its id and the key."""
        self.recipe, self.scale, self.classes = recipe, scale, classes
        self.prepared, self.tokenizer, self.partner = prepared, tokenizer, partner
        chosen = recipe.augment
        self.augmentation = augment.Augmentation(
            stretch=chosen.stretch, shift=chosen.shift, noise=chosen.noise, noise_files=tuple(noise_files),
            gain=chosen.gain, mixup=chosen.mixup,
        )  # fmt: skip

    def batch(self, rows: Sequence[Row], key: Key | None, turns: Sequence[int] | None = None) -> Batch:
        """Return a batch of utterances; `turns` says how many of them each dialogue or segment has."""
        model = self.recipe.model
        partners = self._partners(rows, key)
        inputs = self.prepared.inputs(rows)
        if model.encoder != "none" and "states" not in inputs:
            waves = [self._wave(row, partner, key) for row, partner in zip(rows, partners, strict=True)]
            inputs["waveform"] = nn.utils.rnn.pad_sequence(waves, batch_first=True)
            inputs["samples"] = torch.tensor([len(wave) for wave in waves])
            if model.spec_augment and key is not None:
                inputs["seeds"] = torch.tensor(
                    [augment.number(key.seed, key.epoch, row["id"], what="spec_augment") for row in rows]
                )
        mixed = [self._mixed(row, partner, key) for row, partner in zip(rows, partners, strict=True)]
        if model.prosody_dim:
            inputs["prosody"] = torch.from_numpy(np.stack([values["prosody"] for values in mixed]))
        if model.speaker == "embedding":
            inputs["speaker"] = torch.tensor([row[COLUMN] for row in rows], dtype=torch.float32)
        if self.tokenizer is not None:
            inputs["tokens"], inputs["token_mask"] = self.tokenizer([row["transcript"] for row in rows])
        if turns is not None:
            inputs["turns"] = torch.tensor(turns)
        targets: dict[str, Tensor] = {
            target: torch.from_numpy(np.stack([values[target] for values in mixed])) for target in self.recipe.targets
        }
        return Batch(
            ids=tuple(row["id"] for row in rows), inputs=inputs, targets=targets, rows=[*map(self._kept, rows)]
        )

    def _kept(self, row: Row) -> Row:
        """Return the group keys and the labels of a row, on the corpus's own scale (a class by its name)."""
        kept: Row = {key: row[key] for key in KEYS}
        for target in self.recipe.targets:
            kept[target] = self.classes.name(row[EMOTION]) if target == EMOTION and self.classes else row[target]
        return kept

    def _partners(self, rows: Sequence[Row], key: Key | None) -> list[Row | None]:
        if key is None or not self.augmentation.mixup:
            return [None] * len(rows)
        partners: list[Row | None] = []
        for row in rows:
            other = self.partner(row["id"], key)
            # A label that one of the two lacks can't be mixed.
            both = [self._labels(one) for one in (row, other)]
            whole = all(np.isfinite(labels[target]).all() for labels in both for target in self.recipe.targets)
            partners.append(other if whole and other["id"] != row["id"] else None)
        return partners

    def _wave(self, row: Row, partner: Row | None, key: Key | None) -> Tensor:
        wave = audio.of_row(row, _RATE)
        if key is not None:
            wave = self.augmentation.apply(wave, _RATE, key.seed, key.epoch, row["id"])
            if partner is not None:
                # The partner is heard as it was recorded: the mix is a function of both ids, and its cost of one.
                share = self._share(row, partner, key)
                wave = augment.mix(wave, audio.of_row(partner, _RATE), share)
        return torch.from_numpy(wave)

    def _share(self, row: Row, partner: Row, key: Key) -> float:
        return augment.share(self.augmentation.mixup, key.seed, key.epoch, row["id"], partner["id"])

    def _mixed(self, row: Row, partner: Row | None, key: Key | None) -> dict[str, np.ndarray]:
        """Return the labels and functionals of a row, mixed with those of its partner."""
        mine = self._labels(row)
        if partner is None or key is None:
            return mine
        share, theirs = self._share(row, partner, key), self._labels(partner)
        return {name: (share * mine[name] + (1 - share) * theirs[name]).astype(np.float32) for name in mine}

    def _labels(self, row: Row) -> dict[str, Any]:
        """Return the targets of a row (numbers on [0, 1]; the class as shares [C], NaN where it is missing)."""
        low, high = self.scale
        found: dict[str, Any] = {name: np.float32((row[name] - low) / (high - low)) for name in self.recipe.numbers}
        if self.classes is not None:
            k = self.classes.index(row[EMOTION])
            shares = np.eye(len(self.classes.names), dtype=np.float32)[k]
            found[EMOTION] = shares if k >= 0 else np.full_like(shares, np.nan)
        if self.recipe.model.prosody_dim:
            found["prosody"] = np.asarray(row["prosody"], dtype=np.float32)
        return found
