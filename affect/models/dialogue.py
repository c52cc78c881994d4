"""What has been said so far: utterances of a dialogue in order, through Mamba layers to a state that remembers.

Legend: U utterances of G dialogues (or segments of them), one after another in one tensor; K utterances of the
longest; D channels. Report 000's system: state increments from Mamba, an exponential moving average over utterances.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from affect.keyed import rearranged
from affect.models.mamba import MambaLayers
from affect.models.selective_scan import selective_scan


def in_rows(utterances: Tensor, turns: Tensor) -> Tensor:
    """Return `utterances` [U, ...] a dialogue a row [G, K, ...], zeros after the last of its `turns` [G]."""
    return nn.utils.rnn.pad_sequence(list(torch.split(utterances, turns.tolist())), batch_first=True)


def in_line(rows: Tensor, turns: Tensor) -> Tensor:
    """Return the rows [G, K, D] of `in_rows` as [U, D]."""
    return torch.cat([row[:count] for row, count in zip(rows, turns.tolist(), strict=True)])


def moving_average(increments: Tensor, decay: float) -> Tensor:
    """Return c_t = decay * c_(t-1) + (1 - decay) * u_t along the second axis of `increments` [G, K, D], c_0 = 0."""
    if torch.compiler.is_exporting():  # A graph has no loop over as many utterances as there may be.
        rates = torch.full((increments.shape[2], 1), math.log(max(decay, 1e-30)))
        once = torch.ones_like(increments[..., :1])
        return selective_scan(increments, torch.ones_like(increments), rates, (1 - decay) * once, once)
    states = []
    state = torch.zeros_like(increments[:, 0])
    for increment in increments.unbind(1):
        state = decay * state + (1 - decay) * increment
        states.append(state)
    return torch.stack(states, 1)


class DialogueState(nn.Module):
    """Utterances [U, D] in the order they were said -> the state after each [U, C]; it never looks ahead."""

    def __init__(self, features: int, *, width: int, layers: int, state: int, decay: float, dropout: float) -> None:
        super().__init__()
        self.decay = decay
        self.project = nn.Linear(features, width)
        self.layers = MambaLayers(width, layers, dropout)
        self.increment = nn.Linear(width, state)

    def forward(self, utterances: Tensor, turns: Tensor) -> Tensor:
        """Return [U, C] of `utterances` [U, D], the first `turns[0]` of which are one dialogue, and so on.

        In an exported graph all of them are one dialogue.
        """
        projected = self.project(utterances)
        if torch.compiler.is_exporting():  # A graph's shapes may not follow from values: all are one dialogue.
            return self._states(projected[None])[0]
        # Rows are shapes, which the host makes: it reads the numbers once.
        turns = turns.cpu()
        rows = in_rows(projected, turns)
        # Padding stands after a dialogue's last utterance and everything is causal, so no state has seen it.
        with rearranged(lambda keys: in_rows(keys, turns)):
            states = self._states(rows)
        return in_line(states, turns)

    def _states(self, rows: Tensor) -> Tensor:
        return moving_average(self.increment(self.layers(rows)), self.decay)


class TemporalMamba(nn.Module):
    """Frames [B, T, D] -> [B, T, C]: a projection and Mamba layers over time; padding has to stand at the end."""

    def __init__(self, features: int, *, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(features, width)
        self.layers = MambaLayers(width, layers, dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """Return [B, T, C] of `frames` [B, T, D]; a frame has seen those before it."""
        mixed: Tensor = self.layers(self.project(frames))
        return mixed
