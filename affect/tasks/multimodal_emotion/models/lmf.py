"""Low-rank multimodal fusion (Liu et al. 2018): the tensor product of all streams without ever making it.

Legend: B examples, S streams, H hidden width, R rank, O fused width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion, Heads, Hidden, Noise


class LowRankProduct(nn.Module):
    """A linear map of the outer product of S vectors [1; h], its weight a sum of R products of factors a stream.

    Linear in R where `TensorProduct`'s fusion layer grows as (H + 1)^S.
    """

    def __init__(self, streams: int, width: int, fused: int, rank: int) -> None:
        super().__init__()
        self.factors = nn.ParameterList(torch.empty(rank, width + 1, fused) for _ in range(streams))
        self.weights = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.zeros(1, fused))
        for parameter in (*self.factors, self.weights):
            nn.init.xavier_normal_(parameter)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Return [B, O] of S vectors [B, H]."""
        # Not a slice of the list: slicing makes parameters of its tensors, which `functional_call` would not reach.
        first, *others = (self._meet(vector, factor) for vector, factor in zip(vectors, self.factors, strict=True))
        product = first
        for other in others:
            product = product * other
        fused: Tensor = torch.einsum("r,rbo->bo", self.weights[0], product) + self.bias
        return fused

    @staticmethod
    def _meet(vector: Tensor, factor: Tensor) -> Tensor:
        """Return [R, B, O] of [1; h] and a factor [R, H + 1, O], whose first row meets the 1."""
        product: Tensor = vector @ factor[:, 1:] + factor[:, :1]
        return product


class LowRankFusion(Fusion):
    """The public toolkit's `lmf`: an encoder a stream, the low-rank product of all to H // 2 values, the two heads.

    The toolkit also makes a dropout for the fused vector and never applies it; here there is none.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        """Raise AffectError where `hidden` is too small to be halved."""
        super().__init__(config, data)
        if config.hidden < 2:
            raise AffectError(f"model.hidden is {config.hidden}: lmf halves it, so it has to be at least 2")
        fused = config.hidden // 2
        self.encoders = self.stream_encoders()
        self.product = LowRankProduct(len(data.streams), config.hidden, fused, config.rank)
        self.heads = Heads(fused, len(data.classes))

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs and the modalities' own hidden vectors [B, H]."""
        return {**self.heads(self.product(hidden.vectors)), **hidden.outputs}
