"""A model that knows: each sample's value says who speaks there, as bits. What is wrong then is the loop's fault."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.data.activity import SampleTurn, activity
from affect.tasks.diarization.config import PSEUDO, TINY, Model, Signature

FRAME, WIDTH = 1280, 16
SECOND = 12.5


class Oracle(nn.Module):
    """Features are who speaks [T, D]; pseudo-speakers find the unknown who speak most in the window."""

    def __init__(self, alike: float = 0.0, pseudo: int = 1):
        super().__init__()
        self.config, self.data = Model(**{**TINY, "width": WIDTH}, pseudo=pseudo), Signature()
        self.place = nn.Parameter(torch.zeros(1))
        # Each voice is so like that of the first speaker.
        self.voices = F.normalize(torch.eye(WIDTH) + alike * F.one_hot(torch.tensor(0), WIDTH), dim=-1)

    def extractor(self, waveform: Tensor, samples: Tensor, mean: Tensor | None) -> tuple[Tensor, Tensor]:
        frames = -(-waveform.shape[1] // FRAME)
        codes = (waveform[:, ::FRAME] * 2.0**WIDTH).round().long()
        features = (codes[..., None] >> torch.arange(WIDTH)) & 1
        return features.float(), torch.ones(1, frames, dtype=torch.bool)

    def encode(self, features: Tensor, mask: Tensor) -> Tensor:
        return features

    def represent(self, features: Tensor, mask: Tensor, activity: Tensor) -> Tensor:
        return F.normalize((activity @ features) @ self.voices, dim=-1)

    def detect(self, encoded: Tensor, mask: Tensor, slots: Tensor, embeddings: Tensor) -> Tensor:
        # The speaker whose voice is nearest.
        whose = (embeddings[0] @ self.voices.T).argmax(-1).tolist()
        unknown = encoded[0].sum(0).clone()
        unknown[whose] = 0
        found = unknown.argsort(descending=True, stable=True).tolist()
        rows = [
            encoded[0, :, whose[slot]] if slot >= 0
            else encoded[0, :, found[PSEUDO - slot]] * (unknown[found[PSEUDO - slot]] > 0)
            for slot in slots[0].tolist()
        ]  # fmt: skip
        return torch.stack(rows)[None] * 10 - 5


def turn(start: float, end: float, speaker: int) -> SampleTurn:
    """Return a turn whose ends are at the nearest frame of these seconds."""
    return SampleTurn(round(start * SECOND) * FRAME, round(end * SECOND) * FRAME, str(speaker))


def sound(turns: Sequence[SampleTurn], frames: int) -> np.ndarray:
    """Return the samples [S] of turns that lie on frames."""
    active = activity(turns, [str(k) for k in range(WIDTH)], frames, FRAME)
    codes = (active * 2 ** np.arange(WIDTH)[:, None]).sum(0)
    return np.repeat(codes / 2.0**WIDTH, FRAME).astype(np.float32)


def spoken(speakers: int, frames: int, seed: int) -> list[SampleTurn]:
    """Return a conversation: two seconds or more a turn, a pause or an overlap between two, everybody in turn first."""
    random, at, turns = np.random.default_rng(seed), 0.4, []
    while at < frames / SECOND - 6:
        speaker = len(turns) if len(turns) < speakers else int(random.integers(speakers))
        end = at + random.uniform(3.0, 5.0)
        if not turns or turns[-1].speaker != str(speaker):
            turns.append(turn(at, end, speaker))
            at = end + random.uniform(-1.0, 1.0)
    return turns
