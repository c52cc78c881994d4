"""The recipe's section of what a model itself sees and hears of a clip. Imports no tensor library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from affect.config import DAY, WIDEST, hold, require, require_each, require_most

VIDEO, AUDIO = "video", "audio"
"""Features that the model makes of images and of sound."""
IMAGES, SAMPLES = "video_images", "audio_samples"
"""Inputs of the model: images as bytes, and sound; how many there are of each is called as that of a feature."""
SOUND_RATE, FRAMES_A_SECOND = 16_000, 50.0
"""What speech encoders take in Hz, and what they make of it."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """Encoders of images and sound inside the model, which then takes clips (`data.videos`); off by default."""

    video: str | None = None
    """Image encoder: a name on the Hub (owner/model), a folder of transformers, or tiny (random weights)."""
    audio: str | None = None
    """Speech encoder: a name on the Hub, a folder, or tiny, small and their like (random weights)."""
    video_revision: str | None = None
    audio_revision: str | None = None
    train_video: bool = False
    """Whether the image encoder learns, too."""
    train_audio: Literal["none", "transformer", "all"] = "none"
    """Which part of the speech encoder learns, too."""
    lr: float | None = None
    """Learning rate of encoders that learn; that of all else when not given."""
    rate: float = 5.0
    """Images a second."""
    side: int = 112
    """Pixels of the images' side as they are read; the encoder's own size is made of them."""
    faces: bool = False
    """See the faces that tables of boxes tell of (`data.boxes`), not the picture (`fit`)."""
    fit: Literal["crop", "pad"] = "crop"
    """Without `faces`: crop sees the square in the middle of the picture, pad all of it, with black borders."""
    margin: float = 0.3
    """How much more than a face's box is cut out, as a share of its longer side."""
    seconds: float = 10.0
    """What is taken of a clip, from its beginning."""
    features: bool = False
    """Take the features of the corpus, too."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "model.media")
        require_most(self, "model.media", 1_000, "lr", "rate", "margin")
        require_most(self, "model.media", WIDEST, "side")
        require_most(self, "model.media", DAY, "seconds")
        require_each(self, "model.media", "be a name or left out", bool, "video", "audio")
        require_each(self, "model.media", "be positive", lambda value: 0 < value < math.inf, "rate", "seconds", "lr")
        require(self.side >= 16, "model.media.side", "be at least 16", self.side)
        require(0 <= self.margin < math.inf, "model.media.margin", "not be negative", self.margin)
        for kind in (VIDEO, AUDIO):
            own = (f"{kind}_revision", f"train_{kind}")
            for name in own if getattr(self, kind) is None else ():
                given = getattr(self, name)
                require(
                    given in (None, False, "none"),
                    f"model.media.{name}",
                    f"be left out without model.media.{kind}",
                    given,
                )
        learns = self.train_video or self.train_audio != "none"
        require(self.lr is None or learns, "model.media.lr", "be left out where no encoder learns", self.lr)

    @property
    def taken(self) -> tuple[str, ...]:
        """The features that the model makes itself."""
        return tuple(name for name in (VIDEO, AUDIO) if getattr(self, name) is not None)
