"""The public toolkit's models: attention over streams, late fusion, tensor fusion and its low-rank form, MMIM.

Legend: B examples, S streams, H hidden width, R rank, O fused width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import mul

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion, Heads, Hidden, Noise, two_layers

WIDEST = 128
"""The hidden width beyond which `tfn` is refused: 275 million weights with three streams."""
MASKED = -1e9
"""The score of a stream that is not there: finite, so that a row without any has a gradient."""


class Attention(Fusion):
    """The public toolkit's attention over utterance features; with the configuration's switches the robust one.

    An MLP encoder a stream; the same kind of MLP over all of them side by side and a linear layer give a score a
    stream; the sum of the hidden vectors by their weights goes to the heads (MERTools, `attention`; as `topn` over
    up to 18 streams, any number of them a modality, which modality dropout leaves out together).
    """

    def __init__(self, config: Model, data: Signature) -> None:
        super().__init__(config, data)
        streams, hidden = len(data.streams), config.hidden
        self.scorer = self.encoder("scorer", streams * hidden)
        self.score = nn.Linear(hidden, streams)
        if config.drops_fused:
            self.site("fused", hidden)
        self.heads = Heads(hidden, data)

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs, `attention` [B, S], and the modalities' own hidden vectors."""
        joined = self.drop(torch.cat(hidden.vectors, dim=-1), "scorer", noise)
        weights = weigh(self.score(self.scorer(joined)), kept, self.config.score_softmax)
        if self.config.rescale:
            weights = weights * kept.sum(-1, keepdim=True)
        fused = (torch.stack(hidden.vectors, dim=-2) * weights[..., None]).sum(-2)
        if self.config.drops_fused:
            fused = self.drop(fused, "fused", noise)
        return {**self.heads(fused), "attention": weights.float(), **hidden.outputs}


def weigh(scores: Tensor, kept: Tensor, softmax: str) -> Tensor:
    """Return the weights [B, S] of streams from their `scores` [B, S], by the section's `score_softmax`.

    Masked, a stream whose `kept` [B, S] is 0 weighs exactly 0, and so do all where none is kept.
    """
    if softmax == "none":
        return scores
    if softmax == "masked":
        scores = torch.where(kept > 0, scores, MASKED)
        return torch.softmax(scores, dim=-1) * (kept > 0)
    return torch.softmax(scores, dim=-1)


class LateFusion(Fusion):
    """`lf_dnn` (after Cambria et al. 2017): an encoder a stream, then two layers over all of them side by side.

    Dropout and twice (Linear, ReLU), [S * H -> H -> H], and the heads.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        super().__init__(config, data)
        joined = len(data.streams) * config.hidden
        self.site("joined", joined)
        self.fusion = nn.Sequential(*two_layers(joined, config.hidden), nn.ReLU())
        self.heads = Heads(config.hidden, data)

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs and the modalities' own hidden vectors [B, H]."""
        joined = self.drop(torch.cat(hidden.vectors, dim=-1), "joined", noise)
        return {**self.heads(self.fusion(joined)), **hidden.outputs}


class TensorFusion(Fusion):
    """`tfn` (Zadeh et al. 2017): every product of values of the streams has its own weight.

    Dropout on the outer product and twice (Linear, ReLU), [(H + 1)^S -> H -> H], and the heads. The first of these
    layers holds H (H + 1)^S weights, with three streams about H^4: 1.2 million at 32, 17.6 million at 64, 275 million
    at 128, where weights, gradients and Adam's averages take 4.4 GB and an example's product, with its mask, 17 MB.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        """Raise AffectError where `hidden` is over 128."""
        if config.hidden > WIDEST:
            millions = config.hidden * (config.hidden + 1) ** len(data.streams) / 1e6
            raise AffectError(
                f"model.hidden is {config.hidden}: tfn's first layer would have {millions:,.0f} million weights, "
                f"set it to {WIDEST} at most or take lmf"
            )
        super().__init__(config, data)
        product = (config.hidden + 1) ** len(data.streams)
        self.site("product", product)
        self.fusion = nn.Sequential(*two_layers(product, config.hidden), nn.ReLU())
        self.heads = Heads(config.hidden, data)

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs and the modalities' own hidden vectors [B, H]."""
        product = self.drop(outer(hidden.vectors), "product", noise)
        return {**self.heads(self.fusion(product)), **hidden.outputs}


def outer(vectors: Sequence[Tensor]) -> Tensor:
    """Return the outer product of S vectors [1; h] [B, H], as [B, (H + 1)^S]; the last stream runs fastest."""
    one = torch.ones_like(vectors[0][:, :1])
    product = one
    for vector in vectors:
        product = (product[:, :, None] * torch.cat([one, vector], dim=1)[:, None]).flatten(1)
    return product


class LowRankFusion(Fusion):
    """`lmf` (Liu et al. 2018): the low-rank tensor product of all streams to H // 2 values, and the heads.

    The toolkit also makes a dropout for the fused vector and never applies it; here there is none.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        """Raise AffectError where `hidden` is too small to be halved."""
        super().__init__(config, data)
        if config.hidden < 2:
            raise AffectError(f"model.hidden is {config.hidden}: lmf halves it, so it has to be at least 2")
        fused = config.hidden // 2
        self.product = LowRankProduct(len(data.streams), config.hidden, fused, config.rank)
        self.heads = Heads(fused, data)

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs and the modalities' own hidden vectors [B, H]."""
        return {**self.heads(self.product(hidden.vectors)), **hidden.outputs}


class LowRankProduct(nn.Module):
    """A linear map of the outer product of S vectors [1; h], its weight a sum of R products of factors a stream.

    Linear in R where `TensorFusion`'s layer grows as (H + 1)^S.
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
        # [R, B, O] each of [1; h] and a factor [R, H + 1, O], whose first row meets the 1. The list is not sliced:
        # that makes parameters of its tensors, which `functional_call` would not reach.
        met = [h @ factor[:, 1:] + factor[:, :1] for h, factor in zip(vectors, self.factors, strict=True)]
        fused: Tensor = torch.einsum("r,rbo->bo", self.weights[0], reduce(mul, met)) + self.bias
        return fused


class MMIM(Fusion):
    """`mmim` (Han et al. 2021): the fusion is made to say much about each modality, and text about audio and video.

    Dropout and twice (Linear, tanh), [S * H -> H -> H], and the heads. For `affect.losses.mmim` it also predicts
    each modality's hidden vector from the fusion, and the densities of audio and video given text.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        """Raise AffectError unless there is text and another modality."""
        super().__init__(config, data)
        streams, hidden = len(data.streams), config.hidden
        if "text" not in data.modalities or streams < 2:
            raise AffectError("model.streams: mmim needs text and at least one other modality, add the missing one")
        self.site("joined", streams * hidden)
        self.fusion = nn.Sequential(*two_layers(streams * hidden, hidden, nn.Tanh), nn.Tanh())
        self.predictors = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in data.modalities})
        self.from_text = nn.ModuleDict({name: Gaussian(hidden) for name in data.modalities if name != "text"})
        self.heads = Heads(hidden, data)

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs and what the losses read.

        That is, [B, H] each, `<modality>_h`, `<modality>_predicted` from the fusion, and for audio and video
        `text_<modality>_mean` and `text_<modality>_log_variance`.
        """
        fused = self.fusion(self.drop(torch.cat(hidden.vectors, dim=-1), "joined", noise))
        outputs = {**self.heads(fused), **hidden.outputs}
        for name, predict in self.predictors.items():
            outputs[f"{name}_predicted"] = predict(fused)
        for name, gaussian in self.from_text.items():
            outputs[f"text_{name}_mean"], outputs[f"text_{name}_log_variance"] = gaussian(hidden.outputs["text_h"])
        return outputs


class Gaussian(nn.Module):
    """The density of a vector given another: a mean and a log variance in (-1, 1) a dimension, an MLP each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = two_layers(width, width)
        self.log_variance = nn.Sequential(*two_layers(width, width), nn.Tanh())

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log variance [B, H] given [B, H]."""
        return self.mean(given), self.log_variance(given)
