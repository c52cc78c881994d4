"""Models of diarization: the report's (before, improved) and ours."""

from __future__ import annotations

from typing import Any

from affect.config import from_dict
from affect.models.encoder import SpeechEncoder
from affect.models.mel import restore_encoder
from affect.tasks.diarization.config import Model, Signature
from affect.tasks.diarization.models.base import Diarizer
from affect.tasks.diarization.models.extractor import encoder_options
from affect.tasks.diarization.models.ours import OursModel
from affect.tasks.diarization.models.report import ReportModel

__all__ = ["Diarizer", "OursModel", "ReportModel", "build", "restore"]


def build(config: Model, data: Signature, encoder: SpeechEncoder | None = None) -> Diarizer:
    """Return a new model; a speech encoder, where it is not given, is read as `config` names it."""
    return (OursModel if config.name == "ours" else ReportModel)(config, data, encoder)


def restore(facts: dict[str, Any]) -> Diarizer:
    """Return the model that `Diarizer.describe` described, with random weights and without the Hub."""
    config, encoder = from_dict(Model, facts["model"], "model"), facts.get("encoder")
    built = None if encoder is None else restore_encoder(encoder_options(config), encoder)
    return build(config, from_dict(Signature, facts["data"], "data"), built)
