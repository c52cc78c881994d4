"""Small models of the task, without a run: what tests of the model, its prediction, export and card share."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from affect.data import prosody
from affect.models import saving, text
from affect.models.encoder import SpeechEncoder
from affect.tasks.emotion.config import Model, Signature
from affect.tasks.emotion.model import EmotionModel, text_options

_DATA = [item.name for item in fields(Signature)]


def section(**options: Any) -> Model:
    """Return a section `model` of a tiny encoder and narrow branches, of the fields of `Model` among `options`."""
    own = {name: value for name, value in options.items() if name not in _DATA}
    return Model(**{"encoder": "tiny", "hidden": 16, "prosody_dim": 8, **own})


def signature(**options: Any) -> Signature:
    """Return what a model knows of its data, of the fields of `Signature` among `options`."""
    kind = options.get("prosody", "default")
    own = {name: value for name, value in options.items() if name in _DATA}
    features = {"prosody_features": len(prosody.names(kind)), "prosody_version": prosody.VERSION}
    return Signature(**{**features, **own})


def model(encoder_module: SpeechEncoder | None = None, **options: Any) -> EmotionModel:
    """Return a model; `options` are fields of both sections."""
    return EmotionModel(section(**options), signature(**options), encoder=encoder_module)


def save(made: EmotionModel, folder: Path) -> EmotionModel:
    """Write a model, and its tokenizer where it reads, as a run does, and return it."""
    saving.save(made.state_dict(), {"task": "emotion", **made.describe()}, folder)
    if made.text is not None:
        text.save_tokenizer(text.read_tokenizer(text_options(made.config)), folder)
    return made
