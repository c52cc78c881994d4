"""What is known of the speakers of a stream: embeddings, made of the surest frames or of means, and merging.

Legend: T frames, K speakers, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.tasks.diarization.config import Online
from affect.tasks.diarization.models import Diarizer

_RECENT = 1e-3
"""What a frame's rank in a memory gains a frame: of two as sure the later one stays."""


class FrameMemory:
    """Of each speaker the surest frames that were theirs alone, and the embeddings that are made of them."""

    by_frame: ClassVar = True
    """Whether a frame is taken in once; else an embedding is of all of a window, again with each hop."""

    def __init__(self, model: Diarizer, most: int):
        self.model, self.most = model, most
        self.frames: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.places: list[Tensor] = []
        """Where in the stream the frames are: none counts twice."""

    def __len__(self) -> int:
        return len(self.frames)

    def enrol(self) -> int:
        """Return the number of a new speaker, of whom nothing is known yet."""
        device = next(self.model.parameters()).device
        self.frames.append(torch.zeros(0, self.model.config.width, device=device))
        self.scores.append(torch.zeros(0, device=device))
        self.places.append(torch.zeros(0, dtype=torch.long, device=device))
        return len(self) - 1

    def add(self, speaker: int, features: Tensor, clean: Tensor, shares: Tensor, at: int) -> None:
        """Take in those of frames [T, D], from frame `at` of the stream on, that are `clean` [T]: the speaker's alone.

        `shares` [1 + K, T] are probabilities, the speaker's first: the surer they are, the longer a frame stays.
        """
        places = at + torch.arange(len(features), device=features.device)
        clean = clean & ~torch.isin(places, self.places[speaker])
        sure = shares.clamp(1e-4, 1 - 1e-4)
        score = sure[0].logit() + (1 - sure[1:]).log().sum(0) + _RECENT * places
        self._keep(speaker, features[clean].float(), score[clean], places[clean])

    def _keep(self, speaker: int, frames: Tensor, scores: Tensor, places: Tensor) -> None:
        scores = torch.cat([self.scores[speaker], scores])
        best = scores.argsort(descending=True)[: self.most]
        self.scores[speaker] = scores[best]
        self.frames[speaker] = torch.cat([self.frames[speaker], frames])[best]
        self.places[speaker] = torch.cat([self.places[speaker], places])[best]

    def merge(self, speaker: int, into: int) -> None:
        """Give a speaker's frames to an earlier one; the numbers behind move up."""
        self._keep(into, self.frames.pop(speaker), self.scores.pop(speaker), self.places.pop(speaker))

    def embeddings(self) -> Tensor:
        """Return the embeddings of all [K, D], of length 1."""
        if not self.frames:
            return torch.zeros(0, self.model.config.width, device=next(self.model.parameters()).device)
        features, counts = torch.cat(self.frames), torch.tensor([len(frames) for frames in self.frames])
        whose = torch.repeat_interleave(torch.arange(len(self)), counts).to(features.device)
        activity = F.one_hot(whose, len(self)).T.float()
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        return self.model.represent(features[None], mask, activity[None])[0]


class MeanMemory:
    """Of each speaker the mean of the embeddings of their windows, by how long they spoke there: the report's way."""

    by_frame: ClassVar = False

    def __init__(self, model: Diarizer):
        self.model = model
        self.sums: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.sums)

    def enrol(self) -> int:
        """Return the number of a new speaker, of whom nothing is known yet."""
        self.sums.append(torch.zeros(self.model.config.width, device=next(self.model.parameters()).device))
        return len(self) - 1

    def add(self, speaker: int, features: Tensor, clean: Tensor, shares: Tensor, at: int) -> None:
        """Take in frames [T, D] of which those that are `clean` [T] are the speaker's alone."""
        if clean.any():
            padded, mask = padded_to(self.model, features)
            query = F.pad(clean.float(), (0, padded.shape[1] - len(clean)))
            vector = self.model.represent(padded, mask, query[None, None])[0, 0]
            self.sums[speaker] = self.sums[speaker] + clean.sum() * vector

    def merge(self, speaker: int, into: int) -> None:
        """Give a speaker's embeddings to an earlier one; the numbers behind move up."""
        self.sums[into] = self.sums[into] + self.sums.pop(speaker)

    def embeddings(self) -> Tensor:
        """Return the embeddings of all [K, D], of length 1."""
        if not self.sums:
            return torch.zeros(0, self.model.config.width, device=next(self.model.parameters()).device)
        return F.normalize(torch.stack(self.sums), dim=-1)


Memory = FrameMemory | MeanMemory


def memory_of(model: Diarizer, options: Online) -> Memory:
    """Return an empty memory of the kind that a model's embeddings come from."""
    if model.config.name == "ours":
        return FrameMemory(model, max(1, round(options.memory * model.config.frames_per_second)))
    return MeanMemory(model)


def merged(memory: Memory, over: float, most: int | None = None) -> Iterator[tuple[int, int]]:
    """Merge the most alike pair whose cosine is `over` it, again and again, and yield each: a speaker, and into whom.

    Where there are more than `most` the most alike are merged, however alike they are.
    """
    while len(memory) > 1:
        vectors = memory.embeddings()
        cosines = vectors @ vectors.T
        # Only pairs of a speaker and an earlier one are left.
        cosines = cosines.tril(-1) - 2 * torch.ones_like(cosines).triu()
        if float(cosines.max()) <= over and (most is None or len(memory) <= most):
            return
        speaker, into = divmod(int(cosines.argmax()), len(memory))
        memory.merge(speaker, into)
        yield speaker, into


def padded_to(model: Diarizer, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return features [1, T, D] as long as a model wants them, and their mask [1, T]."""
    size = max(model.data.frames, len(features))
    mask = torch.arange(size, device=features.device) < len(features)
    return F.pad(features, (0, 0, 0, size - len(features)))[None], mask[None]
