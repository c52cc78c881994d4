"""The image encoder of a model: which one, and whether it learns.

Legend: F images, S pixels of a side, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.frozen import once
from affect.models.pretrained import describe_config


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """Which image encoder: a hub name (owner/model), a folder, or tiny (random weights); and whether it learns."""

    name: str = "tiny"
    revision: str | None = None
    train: bool = False


class ImageEncoder(nn.Module):
    """An image encoder of transformers that takes images as bytes; each one's vector is its own alone.

    It stays in evaluation mode where it learns, too: it drops nothing, and what it normalises by are its own
    statistics, not the batch's. Parameters that no vector depends on are frozen.
    """

    def __init__(self, config: ImageEncoderConfig, model: Any, facts: dict[str, Any]) -> None:
        """Take over a `model`, and of `facts` its `side`, and `mean` and `deviation` by channel (of values to 1)."""
        super().__init__()
        self.config, self.model, self.facts = config, model, facts
        self.register_buffer("mean", torch.tensor(facts["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(facts["deviation"]).view(3, 1, 1), persistent=False)
        model.requires_grad_(config.train).eval()
        blank = torch.zeros(1, facts["side"], facts["side"], 3, dtype=torch.uint8)
        with torch.enable_grad():
            vector = self._vectors(blank)
        self.width: int = vector.shape[1]
        if config.train:
            learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(vector.sum(), learned, allow_unused=True)
            for parameter, gradient in zip(learned, gradients, strict=True):
                parameter.requires_grad_(gradient is not None)

    @classmethod
    def build(cls, config: ImageEncoderConfig) -> ImageEncoder:
        """Read or make the encoder that `config` names; raises AffectError if it can't be had."""
        from affect.models.extractors.video import VideoExtractor

        read = VideoExtractor.build(config.name, config.revision)
        blank = np.zeros((64, 64, 3), np.uint8)
        height, width = read.prepare(blank).shape[1:]
        scales: list[Any] = [getattr(read.processor, name, None) for name in ("image_mean", "image_std")]
        if height != width or any(np.shape(scale) != (3,) for scale in scales):
            raise AffectError(f"encoder {config.name!r} takes images of {height} by {width}, or scales no colours")
        mean, deviation = ([float(value) for value in cast(Any, scale)] for scale in scales)
        facts = {
            "class": type(read.model).__name__, "architecture": describe_config(read.model.config), "side": height,
            "mean": mean, "deviation": deviation,
        }  # fmt: skip
        return cls(config, read.model, facts)

    @classmethod
    def restore(cls, config: ImageEncoderConfig, facts: dict[str, Any]) -> ImageEncoder:
        """Rebuild the encoder that `to_config` described, with random weights, without the hub; raises AffectError."""
        import transformers

        from affect.models.extractors.video import VideoExtractor

        settings = dict(facts["architecture"])
        made_by = getattr(transformers, facts["class"], None)
        if not (isinstance(made_by, type) and issubclass(made_by, transformers.PreTrainedModel)):
            raise AffectError(f"this version of transformers has no image encoder {facts['class']}")
        architecture = cast(Any, made_by).config_class.from_dict(settings)
        return cls(config, VideoExtractor.halved(cast(Any, made_by)(architecture)), facts)

    def to_config(self) -> dict[str, Any]:
        """Return what `restore` needs beside the options, as plain JSON values."""
        return self.facts

    def train(self, mode: bool = True) -> ImageEncoder:
        """Set training mode; the encoder itself stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors [F, D] of images [F, S, S, 3], numbers from 0 to 255, brought to the encoder's size."""
        if self.config.train:
            return self._vectors(images)
        with torch.no_grad():
            return once(self, lambda: self._vectors(images))

    def _vectors(self, images: Tensor) -> Tensor:
        from affect.models.extractors.video import vectors_of

        pixels = images.movedim(-1, 1).float() / 255
        side = self.facts["side"]
        if pixels.shape[-1] != side:
            pixels = nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        pixels = (pixels - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
        return vectors_of(self.model, pixels)
