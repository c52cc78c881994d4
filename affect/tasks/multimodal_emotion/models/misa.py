"""MISA (Hazarika et al. 2020): each modality as a part that all share and a part of its own.

Legend: B examples, M modalities, T = 2 M vectors (privates, then shareds), H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion, Heads, Hidden, Noise

HEADS = 2
FEEDFORWARD = 2048
TRANSFORMER_DROPOUT = 0.1


class Layer(nn.Module):
    """The weights of a transformer encoder layer: attention, two linear layers with a ReLU, norms after both.

    Shapes, names and initialisation are those of `nn.TransformerEncoderLayer`, whose own dropout could not be told
    what to draw.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.linear1 = nn.Linear(width, FEEDFORWARD)
        self.linear2 = nn.Linear(FEEDFORWARD, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.output.bias)


class MISA(Fusion):
    """The public toolkit's `misa`: a private and a shared part a modality, and a transformer layer over all parts.

    An encoder a modality and its projection: Linear, ReLU, LayerNorm. Private and shared: Linear, sigmoid (one shared
    layer for all). Fusion: [2 M H -> 3 H], dropout, ReLU, [3 H -> H // 2], and the heads. A linear layer a modality
    takes its projection back from the sum of both parts, for `affect.losses.misa`. The transformer's four dropouts have
    the .1 that is torch's default, or the model's own where that is smaller. What stands in for a stream that modality
    dropout left out is what the losses see of it.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        """Raise AffectError for fewer than two modalities, or where `hidden` is no multiple of its two heads."""
        super().__init__(config, data)
        hidden, parts = config.hidden, 2 * len(data.streams)
        if len(data.streams) < 2:
            raise AffectError("model.streams: misa tells what modalities share, it needs at least two")
        if hidden % HEADS:
            raise AffectError(f"model.hidden is {hidden}: misa's attention has {HEADS} heads, it has to be even")
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.LayerNorm(hidden))
                for name in data.modalities
            }
        )
        self.privates = nn.ModuleDict({name: _part(hidden) for name in data.modalities})
        self.shared = _part(hidden)
        self.reconstructions = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in data.modalities})
        self.layer = Layer(hidden)
        self.joined = nn.Linear(parts * hidden, 3 * hidden)
        self.fused = nn.Linear(3 * hidden, hidden // 2)
        self.heads = Heads(hidden // 2, data)
        p = min(TRANSFORMER_DROPOUT, config.dropout)
        self.site("attention", HEADS * parts * parts, p)
        self.site("attended", parts * hidden, p)
        self.site("feedforward", parts * FEEDFORWARD, p)
        self.site("transformed", parts * hidden, p)
        self.site("joined", 3 * hidden)

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs, the modalities' own hidden vectors and the parts that the losses read.

        Those are `<modality>_projected`, `_reconstructed`, `_private` and `_shared`, [B, H] each.
        """
        names = self.data.modalities
        projected = {name: self.projections[name](h) for name, h in zip(names, hidden.vectors, strict=True)}
        private = {name: self.privates[name](x) for name, x in projected.items()}
        shared = {name: self.shared(x) for name, x in projected.items()}
        outputs = dict(hidden.outputs)
        for name in names:
            outputs[f"{name}_projected"] = projected[name]
            outputs[f"{name}_private"] = private[name]
            outputs[f"{name}_shared"] = shared[name]
            outputs[f"{name}_reconstructed"] = self.reconstructions[name](private[name] + shared[name])
        parts = self._transform(torch.stack([*private.values(), *shared.values()], dim=1), noise)
        joined = F.relu(self.drop(self.joined(parts.flatten(1)), "joined", noise))
        return {**self.heads(self.fused(joined)), **outputs}

    def _transform(self, x: Tensor, noise: Noise) -> Tensor:
        """Return [B, T, H] of `x` [B, T, H] through the transformer layer."""
        layer = self.layer
        x = layer.norm1(x + self._drop_parts(self._attend(x, noise), "attended", noise))
        inner = self._drop_parts(F.relu(layer.linear1(x)), "feedforward", noise)
        out: Tensor = layer.norm2(x + self._drop_parts(layer.linear2(inner), "transformed", noise))
        return out

    def _attend(self, x: Tensor, noise: Noise) -> Tensor:
        rows, parts, width = x.shape
        split = self.layer.project(x).reshape(rows, parts, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        weights = torch.softmax(query @ key.transpose(-1, -2) / (width // HEADS) ** 0.5, dim=-1)
        seen = self._drop_parts(weights, "attention", noise) @ value
        out: Tensor = self.layer.output(seen.transpose(1, 2).flatten(2))
        return out

    def _drop_parts(self, x: Tensor, name: str, noise: Noise) -> Tensor:
        """Return `x` [B, ...] with the mask of a site whose width is all its values."""
        return self.drop(x.flatten(1), name, noise).reshape(x.shape)


def _part(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
