"""Tensor fusion (Zadeh et al. 2017): every product of values of the streams has its own weight.

Legend: B examples, S streams, D features of a stream, H hidden width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion, Heads, Hidden, Noise

WIDEST = 128
"""The hidden width beyond which the model is refused: 275 million weights with three streams."""


def outer(vectors: Sequence[Tensor]) -> Tensor:
    """Return the outer product of S vectors [1; h] [B, H], as [B, (H + 1)^S]; the last stream runs fastest."""
    one = torch.ones_like(vectors[0][:, :1])
    product = torch.cat([one, vectors[0]], dim=1)
    for vector in vectors[1:]:
        product = (product[:, :, None] * torch.cat([one, vector], dim=1)[:, None]).flatten(1)
    return product


class TensorFusion(Fusion):
    """The public toolkit's `tfn`: an encoder a stream, the outer product of all, two layers, the two heads.

    Dropout on the product and twice (Linear, ReLU), [(H + 1)^S -> H -> H]. The first of these layers holds
    H (H + 1)^S weights, with three streams about H^4: 1.2 million at 32, 17.6 million at 64, 275 million at 128, where
    weights, gradients and Adam's averages take 4.4 GB and the product of an example, with its mask, 17 MB.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        """Raise AffectError where `hidden` is over 128."""
        super().__init__(config, data)
        streams, hidden = len(data.streams), config.hidden
        if hidden > WIDEST:
            millions = parameters(config, data) / 1e6
            raise AffectError(
                f"model.hidden is {hidden}: tfn would have {millions:,.0f} million parameters, "
                f"set it to {WIDEST} at most or take lmf"
            )
        self.encoders = self.stream_encoders()
        self.site("product", (hidden + 1) ** streams)
        self.fusion = nn.Sequential(
            nn.Linear((hidden + 1) ** streams, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.heads = Heads(hidden, len(data.classes))

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs and the modalities' own hidden vectors [B, H]."""
        product = self.drop(outer(hidden.vectors), "product", noise)
        return {**self.heads(self.fusion(product)), **hidden.outputs}


def parameters(config: Model, data: Signature) -> int:
    """Return the number of parameters of the model, without making it (stand-ins for missing streams apart)."""
    hidden = config.hidden
    square = hidden * (hidden + 1)
    encoders = sum((width + 1) * hidden + 2 * square for width in data.widths)
    fusion: int = ((hidden + 1) ** len(data.streams) + 1) * hidden + square
    return encoders + fusion + (hidden + 1) * (len(data.classes) + 1)
