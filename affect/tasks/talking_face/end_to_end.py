"""A model that sees and hears clips itself: encoders of images and speech before the fusion of features.

Legend: B clips, T images or frames, S pixels of a side, N samples, D an encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.models.encoder import EncoderConfig, SpeechEncoder
from affect.models.image_encoder import ImageEncoder, ImageEncoderConfig
from affect.tasks.talking_face.config import FRAMES, Feature, Model, Scale, Signature
from affect.tasks.talking_face.media import AUDIO, IMAGES, SAMPLES, SOUND_RATE, VIDEO, Media
from affect.tasks.talking_face.model import TalkingFaceModel


class EndToEndModel(nn.Module):
    """Encoders, whose vectors are normalised, before a `TalkingFaceModel` that takes them as features."""

    def __init__(
        self, config: Model, data: Signature, images: ImageEncoder | None, speech: SpeechEncoder | None
    ) -> None:
        """Take the encoders, whose features are among those of `data`."""
        super().__init__()
        self.config, self.data = config, data
        self.images, self.speech = images, speech
        widths = {name: width for name, width in data.features if name in config.media.taken}
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in widths.items()})
        self.fusion = TalkingFaceModel(config, data)

    @classmethod
    def build(cls, config: Model, given: Sequence[Feature], scores: Sequence[Scale], **facts: Any) -> EndToEndModel:
        """Return a new model of clips that also bring along the features `given`; reads or makes the encoders.

        `facts` are further fields of its `Signature`. Raises AffectError if an encoder can't be had, and for a given
        feature that is called as one that the model makes.
        """
        media = config.media
        if taken := {name for name, _ in given} & {*media.taken}:
            raise AffectError(f"the model makes {min(taken)} itself, and clips bring along another one: leave it out")
        images = ImageEncoder.build(_images(media)) if media.video else None
        speech = SpeechEncoder.build(_speech(media)) if media.audio else None
        if speech is not None and speech.sampling_rate != SOUND_RATE:
            raise AffectError(f"encoder {media.audio!r} takes sound at {speech.sampling_rate} Hz, not {SOUND_RATE}")
        made = [(name, coder.width) for name, coder in ((VIDEO, images), (AUDIO, speech)) if coder is not None]
        data = Signature(features=(*given, *made), scores=tuple(scores), **facts)
        return cls(config, data, images, speech)

    @classmethod
    def restore(cls, config: Model, data: Signature, facts: dict[str, Any]) -> EndToEndModel:
        """Return the model that `describe` described, with random weights."""
        media = config.media
        images = ImageEncoder.restore(_images(media), facts[VIDEO]) if media.video else None
        speech = SpeechEncoder.restore(_speech(media), facts[AUDIO]) if media.audio else None
        return cls(config, data, images, speech)

    def coders(self) -> list[nn.Parameter]:
        """Return the parameters of the encoders, those that are frozen too."""
        coders = [coder for coder in (self.images, self.speech) if coder is not None]
        return [parameter for coder in coders for parameter in coder.parameters()]

    def standardise(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Set mean and deviation [W] of the frames of each feature that clips bring along."""
        rest = self.data.features[len(statistics) :]
        plain = [(torch.zeros(width), torch.ones(width)) for _, width in rest]
        self.fusion.standardise([*statistics, *plain])

    def describe(self) -> dict[str, Any]:
        """Return what its task makes it of again, as JSON types."""
        facts: dict[str, Any] = {}
        if self.images is not None:
            facts[VIDEO] = self.images.to_config()
        if self.speech is not None:
            facts[AUDIO] = self.speech.to_config()
        return {**self.fusion.describe(), "encoders": facts}

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return what `TalkingFaceModel` does.

        Beside features it takes `video_images` [B, T, S, S, 3] (bytes) and how many there are `video_frames` [B], and
        `audio_samples` [B, N] at the encoder's rate and `audio_frames` [B]; 0 where a clip has no images or no sound.
        Raises AffectError for what is not given.
        """
        features = {name: value for name, value in inputs.items() if name not in (IMAGES, SAMPLES)}
        if self.images is not None:
            images = _given(inputs, IMAGES, VIDEO)
            vectors = self.images(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            features[VIDEO] = self.norms[VIDEO](vectors)
        if self.speech is not None:
            samples = _given(inputs, SAMPLES, AUDIO)
            counts = inputs[AUDIO + FRAMES]
            # A clip without sound has a frame of silence, which the mask of 0 frames leaves out.
            frames, mask = self.speech(samples, counts.clamp(min=1))
            features[AUDIO] = self.norms[AUDIO](frames)
            features[AUDIO + FRAMES] = torch.where(counts > 0, mask.sum(1), 0)
        return self.fusion(**features)  # type: ignore[no-any-return]


def _given(inputs: dict[str, Tensor], name: str, feature: str) -> Tensor:
    if name not in inputs or feature + FRAMES not in inputs:
        raise AffectError(f"the model takes {name} and {feature}{FRAMES}: of a clip without it 0")
    return inputs[name]


def _images(media: Media) -> ImageEncoderConfig:
    return ImageEncoderConfig(name=media.video or "", revision=media.video_revision, train=media.train_video)


def _speech(media: Media) -> EncoderConfig:
    return EncoderConfig(name=media.audio or "", revision=media.audio_revision, train=media.train_audio)
