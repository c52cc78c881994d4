"""MMIM (Han et al. 2021): the fusion is made to say much about each modality, and text about audio and video.

Legend: B examples, S streams, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion, Heads, Hidden, Noise


class Gaussian(nn.Module):
    """The density of a vector given another: a mean and a log variance in (-1, 1) a dimension, an MLP each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.log_variance = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log variance [B, H] given [B, H]."""
        return self.mean(given), self.log_variance(given)


class MMIM(Fusion):
    """The public toolkit's `mmim`: an encoder a stream, a small fusion network, and what its two bounds need.

    Dropout and twice (Linear, tanh), [S * H -> H -> H], and the two heads. For `affect.losses.mmim` it also predicts
    each modality's hidden vector from the fusion, and the densities of audio and video given text.
    """

    def __init__(self, config: Model, data: Signature) -> None:
        """Raise AffectError unless there is text and another modality."""
        super().__init__(config, data)
        streams, hidden = len(data.streams), config.hidden
        if "text" not in data.modalities or streams < 2:
            raise AffectError("model.streams: mmim needs text and at least one other modality, add the missing one")
        self.encoders = self.stream_encoders()
        self.site("joined", streams * hidden)
        self.fusion = nn.Sequential(
            nn.Linear(streams * hidden, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh()
        )
        self.predictors = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in data.modalities})
        self.from_text = nn.ModuleDict({name: Gaussian(hidden) for name in data.modalities if name != "text"})
        self.heads = Heads(hidden, len(data.classes))

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
