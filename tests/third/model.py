"""A model of frames, each by itself."""

from __future__ import annotations

from torch import Tensor, nn


class FrameModel(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, hidden), nn.Tanh())
        self.active = nn.Linear(hidden, 1)
        self.share = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return logits [B, T] `active` and the guessed `share` [B] of active frames."""
        h = self.body(x)
        return {"active": self.active(h).squeeze(-1), "share": self.share(h.mean(1)).squeeze(-1)}
