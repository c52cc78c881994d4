"""Micro-batches of clips: features padded, scores, and in training augmentation that follows the epoch and the clip.

Legend: B clips, M features, T frames, W numbers of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affect.data import augment
from affect.data.store import Store
from affect.task import Batch, Key, Row
from affect.tasks.talking_face.config import FRAMES, SOUND, WORSE, Augment, Feature
from affect.tasks.talking_face.corruptions import Frames, corrupted, heard, offset


class Clips:
    """What makes micro-batches of the rows of a corpus; features stay where they are until a batch needs them."""

    def __init__(
        self, store: Store, features: Sequence[Feature], scores: Sequence[str], groups: Sequence[str],
        change: Augment, train: Sequence[Row] = (), *, worse: bool = False,
    ):  # fmt: skip
        """Take the features and scores that are used; clips are mixed with those of `train`.

        With `worse` a training batch has each clip made worse, too.
        """
        self.store, self.features, self.scores, self.groups, self.change = store, features, scores, groups, change
        self.worse = worse
        self._train = {row["id"]: row for row in train} if change.mixup else {}
        self._ids = list(self._train)

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of all features that the model fuses."""
        return tuple(name for name, _ in self.features)

    def media(self, rows: Sequence[Row], key: Key | None) -> dict[str, torch.Tensor]:
        """Return the inputs of rows that no feature of the store gives; here none."""
        return {}

    def functionals(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return what trivial models are given of rows beyond the store's features [rows, numbers]; here nothing."""
        return np.zeros((len(rows), 0))

    def frames(self, row: int, name: str) -> Frames | None:
        """Return the frames [T, W] of a feature of the store's `row`, one of a vector; None where it has none."""
        array = self.store.read(name, row)
        return np.atleast_2d(array).astype(np.float32, copy=False) if array is not None and array.size else None

    def batch(self, rows: Sequence[Row], key: Key | None) -> Batch:
        """Return rows as a micro-batch; with a key they are changed as the recipe asks for.

        Under a condition of late sound rows say which share of it is `left`, 0 of a clip without.
        """
        ids = tuple(row["id"] for row in rows)
        clips = [{name: self.frames(row["row"], name) for name, _ in self.features} for row in rows]
        left: list[float] = []
        if by := rows[0].get("condition"):
            moved = [self.late(row, clip, float(by.partition("=")[2])) for row, clip in zip(rows, clips, strict=True)]
            clips, left = [clip for clip, _ in moved], [share for _, share in moved]
        labels = [np.array([row[score] for score in self.scores], np.float32) for row in rows]
        if key is not None and self.change.mixup:
            for k, id in enumerate(ids):
                clips[k], labels[k] = self._mixed(id, clips[k], labels[k], key)
        if key is not None and self.change.mask:
            clips = [self._masked(id, clip, key) for id, clip in zip(ids, clips, strict=True)]
        inputs = self._padded(clips) | self.media(rows, key)
        if key is not None and self.worse:
            made = self._padded([corrupted(id, clip, key) for id, clip in zip(ids, clips, strict=True)])
            inputs |= {WORSE + name: value for name, value in made.items()}
        columns = torch.from_numpy(np.stack(labels, axis=1))
        targets = dict(zip(self.scores, columns, strict=True))
        targets["present"] = torch.stack([inputs[name + FRAMES] > 0 for name in self.streams], dim=1).float()
        about = [self._said(row) for row in rows]
        for k, share in enumerate(left):
            sound = any(inputs[name + FRAMES][k] > 0 for name in self.streams if SOUND in name)
            about[k]["left"] = max(0.0, share) * sound
        return Batch(ids=ids, inputs=inputs, targets=targets, rows=about)

    def late(self, row: Row, clip: Mapping[str, Frames | None], by: float) -> tuple[dict[str, Frames | None], float]:
        """Return the features of a row with sound `by` frames late, and which share of the sound is left."""
        share = min(1.0, by / max(1, heard(clip)))
        return offset(clip, share), 1 - share

    def _padded(self, clips: Sequence[Mapping[str, Frames | None]]) -> dict[str, torch.Tensor]:
        inputs: dict[str, torch.Tensor] = {}
        for name, width in self.features:
            inputs |= padded(name, width, [clip[name] for clip in clips])
        return inputs

    def _said(self, row: Row) -> Row:
        return {**{group: row[group] for group in self.groups}, "frames": row["length"]}

    def _masked(self, id: str, clip: Mapping[str, Frames | None], key: Key) -> dict[str, Frames | None]:
        """Return a clip with one stretch of each feature replaced by the feature's mean frame in this clip."""
        changed = dict(clip)
        for name, frames in clip.items():
            random = augment.generator(key.seed, key.epoch, id, name, what="mask")
            if frames is not None and (length := round(random.uniform(0, self.change.mask) * len(frames))):
                start = int(random.integers(len(frames) - length + 1))
                changed[name] = copied = frames.copy()
                copied[start : start + length] = frames.mean(0)
        return changed

    def _mixed(
        self, id: str, clip: Mapping[str, Frames | None], labels: Frames, key: Key
    ) -> tuple[dict[str, Frames | None], Frames]:
        """Return a clip mixed with another one of training, whose frames are taken at the same share of its length.

        What one of the two lacks stays as the clip has it; scores that one lacks are missing.
        """
        other = self._train[self._ids[augment.partner(self._ids, key.seed, key.epoch, id)]]
        share = np.float32(augment.share(self.change.mixup, key.seed, key.epoch, id, other["id"]))
        mixed: dict[str, Frames | None] = {}
        for name, frames in clip.items():
            theirs = self.frames(other["row"], name)
            mixed[name] = frames
            if frames is not None and theirs is not None:
                at = np.arange(len(frames)) * len(theirs) // len(frames)
                mixed[name] = share * frames + (1 - share) * theirs[at]
        return mixed, share * labels + (1 - share) * np.array([other[score] for score in self.scores], np.float32)


def padded(name: str, width: int, clips: Sequence[Frames | None]) -> dict[str, torch.Tensor]:
    """Return the frames [B, T, W] of a feature, at least one each, and how many of them count [B]."""
    frames, counts = side_by_side(clips, (width,), np.float32)
    return {name: frames, name + FRAMES: counts}


def side_by_side(
    sequences: Sequence[NDArray[Any] | None], shape: tuple[int, ...], dtype: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sequences [T, *shape] padded with zeros [B, T, *shape], to one at least, and how long each is [B]."""
    counts = [0 if values is None else len(values) for values in sequences]
    whole = np.zeros((len(sequences), max(1, *counts), *shape), dtype)
    for row, values in zip(whole, sequences, strict=True):
        if values is not None:
            row[: len(values)] = values
    return torch.from_numpy(whole), torch.tensor(counts)


def statistics(clips: Clips, rows: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return mean and deviation [W] of the frames of each feature over rows of the store.

    A constant one is only centred; of a feature that none has they are zeros and ones.
    """
    moments = []
    for name, width in clips.features:
        count, total, squares = 0, np.zeros(width), np.zeros(width)
        for row in rows:
            if (frames := clips.frames(row, name)) is not None:
                count += len(frames)
                total += frames.sum(0, dtype=np.float64)
                squares += np.einsum("tw,tw->w", frames, frames, dtype=np.float64)
        mean = total / max(1, count)
        variance = squares / max(1, count) - mean**2
        # What is left of a constant by rounding is no deviation.
        deviation = np.sqrt(np.where(variance > 1e-9 * np.maximum(mean**2, 1e-30), variance, 1.0))
        moments.append((torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()))
    return moments
