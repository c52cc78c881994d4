"""Images to vectors: the image features of CLIP and its like, as MER2023's features are made.

Legend: F images, H, W height and width in pixels, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, CLIPVisionConfig, CLIPVisionModelWithProjection

# From where it is: transformers 5.17 offers its own name only beside torchvision, which Pillow's numbers don't need.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from affect.errors import AffectError, first_line
from affect.models.extractors.loading import TINY, drawn_alike, frozen, located, read, read_model

Image = NDArray[np.uint8]

_SIDE = 32
"""Pixels of the images of `tiny`."""
_TINY_CONFIG: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "projection_dim": 16, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "image_size": _SIDE, "patch_size": 8},
}


class VideoExtractor(nn.Module):
    """A frozen image encoder of transformers, with its own preprocessing.

    A vector is the projection into the space shared with texts, where the encoder has one (CLIP, SigLIP); else the
    mean of its last hidden state over the image: over all places of a convolutional one (ResNet), over all tokens, the
    first, special one among them (ViT, DINOv2), over the places alone where there are registers (DINOv3).
    """

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        super().__init__()
        self.model: Any = self.halved(model)
        frozen(self)
        self.processor: Any = processor
        plain = (str, int, float, bool, dict, list, type(None))
        facts = {name: value for name, value in sorted(processor.to_dict().items()) if isinstance(value, plain)}
        self.facts = {"processor": type(processor).__name__, **facts}
        if left_out := special_tokens(self.model.config):
            self.facts["special_tokens_left_out"] = left_out
        blank = np.zeros((64, 64, 3), np.uint8)
        try:
            self.width: int = self([self.prepare(blank)]).shape[1]
        # What models raise that want more than pixels, or other ones.
        except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
            raise AffectError(f"encoder {name!r} makes no vector of an image: {first_line(error)}") from error

    @staticmethod
    def halved(model: Any) -> Any:
        """Return a model without the half of a CLIP that no image passes through."""
        for part in ("text_model", "text_projection"):
            if hasattr(model, "vision_model") and hasattr(model, part):
                setattr(model, part, None)
        return model

    @classmethod
    def build(cls, name: str, revision: str | None) -> VideoExtractor:
        """Read the encoder `name` (a hub name, a folder, or `tiny`); raises AffectError."""
        if name == TINY:
            with drawn_alike():
                model = CLIPVisionModelWithProjection(CLIPVisionConfig(**_TINY_CONFIG))
            side = {"height": _SIDE, "width": _SIDE}
            return cls(model, CLIPImageProcessorPil(size={"shortest_edge": _SIDE}, crop_size=side), name)
        where = located(name, revision)
        config = read(name, "config.json", AutoConfig, where)
        # Pillow's numbers: torchvision, which is taken where it happens to be there, resizes otherwise.
        processor = read(name, "preprocessor_config.json", AutoImageProcessor, where, backend="pil")
        return cls(read_model(name, _class_of(config), where), processor, name)

    def prepare(self, image: Image) -> Tensor:
        """Return the pixels [3, H, W] that the encoder takes of an RGB image [H, W, 3] of any size."""
        made = self.processor(images=[image], return_tensors="pt", input_data_format="channels_last")
        pixels: Tensor = made["pixel_values"]
        if pixels.ndim != 4 or len(pixels) != 1:
            raise ValueError(f"its preprocessing cuts an image into {tuple(pixels.shape)}")
        return pixels[0]

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor]) -> NDArray[np.float32]:
        """Return the vectors [F, D] of images that were prepared."""
        first = next(self.parameters())
        pixels = torch.stack(list(images)).to(first.device, first.dtype)
        made: NDArray[np.float32] = vectors_of(self.model, pixels).float().cpu().numpy()
        return made


def vectors_of(model: Any, pixels: Tensor) -> Tensor:
    """Return the vectors [F, D] that an image model makes of prepared images [F, 3, H, W]."""
    output = getattr(model, "get_image_features", model)(pixel_values=pixels)
    if hasattr(model, "get_image_features"):
        return output if isinstance(output, Tensor) else cast(Tensor, output.pooler_output)
    if getattr(output, "image_embeds", None) is not None:
        return cast(Tensor, output.image_embeds)
    # Convolutional networks keep the image's two axes, and their channels before them.
    state: Tensor = output.last_hidden_state
    return state.mean((2, 3)) if state.ndim == 4 else state[:, special_tokens(model.config) :].mean(1)


def special_tokens(config: Any) -> int:
    """Return how many tokens the mean leaves out: registers, which hold no place of the image, and the first before."""
    registers = int(getattr(config, "num_register_tokens", 0) or 0)
    return registers + 1 if registers else 0


def _class_of(config: Any) -> Any:
    """Return the class that keeps the projection, which AutoModel drops where the file holds the image half alone."""
    for name in config.architectures if isinstance(config.architectures, list) else ():
        if str(name).endswith("VisionModelWithProjection") and hasattr(transformers, name):
            return getattr(transformers, name)
    return AutoModel
