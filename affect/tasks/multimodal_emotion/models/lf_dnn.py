"""Late fusion by a small network: the hidden vectors side by side.

Legend: B examples, S streams, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion, Heads, Hidden, Noise


class LateFusion(Fusion):
    """The public toolkit's `lf_dnn` (after Cambria et al. 2017): an encoder a stream, then two layers over all of them.

    Dropout and twice (Linear, ReLU), [S * H -> H -> H], and the two heads.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        super().__init__(config, data)
        streams, hidden = len(data.streams), config.hidden
        self.encoders = self.stream_encoders()
        self.site("joined", streams * hidden)
        self.fusion = nn.Sequential(
            nn.Linear(streams * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.heads = Heads(hidden, len(data.classes))

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs and the modalities' own hidden vectors [B, H]."""
        joined = self.drop(torch.cat(hidden.vectors, dim=-1), "joined", noise)
        return {**self.heads(self.fusion(joined)), **hidden.outputs}
