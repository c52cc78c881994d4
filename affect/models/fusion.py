"""Parts that join speech, prosody and the speaker: FiLM, cross-attention, gates.

Legend: B batch, T speech frames, D channels, E numbers of a condition, Q prosody vectors, P their features, K parts.
Every parameter gets a gradient in every forward, and no output depends on padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affect.errors import AffectError
from affect.models.pooling import masked_mean


class FiLM(nn.Module):
    """A scale and a shift of each channel, from a condition such as a speaker embedding (Perez et al. 2018).

    It starts as the identity and all its parameters learn from the first step: it is one linear layer that starts at
    zero, whose gradient needs no weight but its own input (of two such layers, the first would stand still at first).
    """

    def __init__(self, features: int, condition: int) -> None:
        super().__init__()
        self.width = features
        self.condition = condition
        self.modulation = nn.Linear(condition, 2 * features)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return `features` [B, D] or [B, T, D], scaled and shifted by `condition` [B, E].

        The condition counts by its direction alone (it is brought to a root mean square of 1), because embeddings of
        different models differ in length by a factor of hundreds. A row of zeros is an unknown speaker. Raises
        AffectError on a condition of another width.
        """
        if condition.shape[-1] != self.condition:
            raise AffectError(f"FiLM takes a condition of {self.condition} numbers, not {condition.shape[-1]}")
        direction = F.normalize(condition.float(), dim=-1) * self.condition**0.5
        scale, shift = self.modulation(direction.to(self.modulation.weight.dtype)).chunk(2, dim=-1)
        if features.ndim == 3:
            scale, shift = scale[:, None], shift[:, None]
        modulated: Tensor = features * (1 + scale) + shift
        return modulated


class ProsodyAttention(nn.Module):
    """Prosody looks at speech: queries from prosody vectors, keys and values from speech frames.

    Frames are normalised first, since the scale of hidden states differs from layer to layer by orders of magnitude.
    Keys and values have no bias: the former would change no softmax, the latter is the output's own.
    """

    def __init__(self, prosody_width: int, frame_width: int, width: int, heads: int = 4) -> None:
        """Raise AffectError where `width` is no multiple of `heads`."""
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise AffectError(f"the attention's width {width} has to be a multiple of its {heads} heads")
        self.width = width
        self.heads = heads
        self.norm = nn.LayerNorm(frame_width)
        self.query = nn.Linear(prosody_width, width)
        self.key = nn.Linear(frame_width, width, bias=False)
        self.value = nn.Linear(frame_width, width, bias=False)
        self.output = nn.Linear(width, width)

    def forward(self, prosody: Tensor, frames: Tensor, mask: Tensor, prosody_mask: Tensor | None = None) -> Tensor:
        """Return [B, width]: what each prosody vector saw in `frames` [B, T, D], the mean over the vectors.

        `prosody` [B, P], or [B, Q, P] with `prosody_mask` [B, Q] where some are padding; `mask` [B, T]. Masks are True
        where valid; what lies elsewhere is ignored, whatever it is.
        """
        queries = prosody[:, None] if prosody.ndim == 2 else prosody
        if prosody_mask is None:
            prosody_mask = torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device)
        # Zeros and not only a weight of 0: padding may hold values that are not finite.
        queries = queries.masked_fill(~prosody_mask[..., None], 0).to(self.query.weight.dtype)
        states = self.norm(frames.masked_fill(~mask[..., None], 0))
        attended = F.scaled_dot_product_attention(
            self.split(self.query(queries)),
            self.split(self.key(states)),
            self.split(self.value(states)),
            attn_mask=_bias(mask, states.dtype),
        )
        seen = attended.transpose(1, 2).flatten(2)
        return masked_mean(self.output(seen), prosody_mask)

    def split(self, values: Tensor) -> Tensor:
        """Return `values` [B, N, width] by head [B, heads, N, width / heads]."""
        batch, length, _ = values.shape
        return values.view(batch, length, self.heads, self.width // self.heads).transpose(1, 2)


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return [B, 1, 1, T] to add to scores: 0 where `mask` [B, T] is True, else as low as the type goes.

    Not -inf: an utterance without any valid frame would become NaN.
    """
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, torch.finfo(dtype).min)[:, None, None]


class Gate(nn.Module):
    """A target's own softmax gate over the parts of the features, such as prosody and the rest.

    The weights come from all parts and sum to the number of parts, so that equal ones, where it starts, leave the
    features as they are.
    """

    def __init__(self, parts: Sequence[int]) -> None:
        """Take the parts' widths; raises AffectError on fewer than two, between which there is nothing to choose."""
        super().__init__()
        if len(parts) < 2:
            raise AffectError(f"a gate needs at least 2 parts, not {len(parts)}")
        self.parts = tuple(parts)
        self.width = sum(parts)
        self.score = nn.Linear(self.width, len(parts))
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def weights(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the share of each part [B, K], which sum to 1."""
        scores: Tensor = self.score(torch.cat(list(parts), dim=-1))
        return scores.softmax(-1)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the parts, each [B, its width], weighed and side by side [B, D]."""
        shares = (len(self.parts) * self.weights(parts)).chunk(len(self.parts), dim=-1)
        return torch.cat([share * part for share, part in zip(shares, parts, strict=True)], dim=-1)
