"""Features of a video by the encoders that made those that a model was trained on (`recipes/extract_features.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affect.data.media import film
from affect.data.video import starts
from affect.errors import AffectError
from affect.inference import device
from affect.tasks.talking_face.config import Signature
from affect.tasks.talking_face.corruptions import Frames

if TYPE_CHECKING:
    from affect.inference.extractor import Extractor

Makers = Mapping[str, "Extractor"]
"""What makes a feature, by its name."""


def makers_of(data: Signature) -> Makers:
    """Return what makes the features of which a video's are known; raises AffectError where an encoder can't be had."""
    manifests = [(name, json.loads(text)) for name, text in data.made_by]
    # A video has no text: the encoder of one, and a program of its own, have nothing to do here.
    manifests = [(name, facts) for name, facts in manifests if facts.get("modality") != "text"]
    if not manifests:
        return {}
    # Loads transformers, which a prediction from features does without.
    from affect.inference.extractor import Extractor

    there = device.of_predictions()
    return {name: Extractor.from_facts(facts, Path(name), there) for name, facts in manifests}


def made(video: Path, makers: Makers) -> dict[str, Frames]:
    """Return the frames [T, W] of a video's features that can be made of it.

    Raises AffectError for a file that can't be read, one of whose faces nothing is known where a feature is of faces,
    and one of which nothing can be made.
    """
    clip = {}
    silent = starts(video).sound is None
    for name, maker in makers.items():
        if silent and maker.settings.modality == "audio":
            continue
        boxes = bool(getattr(maker.settings, "boxes", False))
        frames = np.atleast_2d(maker.extract(film(video, name, boxes=boxes)))
        # Zeros are the mark of what is missing.
        if frames.any():
            clip[name] = np.asarray(frames, np.float32)
    if not clip:
        raise AffectError(f"{video}: nothing of it can be made: it has neither sound nor faces")
    return clip
