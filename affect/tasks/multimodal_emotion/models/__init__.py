"""Fusion of audio, text and video features of an utterance into its emotion and valence."""

from __future__ import annotations

from typing import Any

from affect.config import from_dict
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.attention import Attention
from affect.tasks.multimodal_emotion.models.fusion import Fusion
from affect.tasks.multimodal_emotion.models.lf_dnn import LateFusion
from affect.tasks.multimodal_emotion.models.lmf import LowRankFusion
from affect.tasks.multimodal_emotion.models.misa import MISA
from affect.tasks.multimodal_emotion.models.mmim import MMIM
from affect.tasks.multimodal_emotion.models.tfn import TensorFusion
from affect.tasks.multimodal_emotion.models.topn import TopN

__all__ = ["MODELS", "Fusion", "build", "restore"]

MODELS: dict[str, type[Fusion]] = {
    "attention": Attention,
    "attention_robust": Attention,
    "lf_dnn": LateFusion,
    "lmf": LowRankFusion,
    "tfn": TensorFusion,
    "misa": MISA,
    "mmim": MMIM,
    "topn": TopN,
}
"""The model of each of the configuration's names."""


def build(config: Model, data: Signature) -> Fusion:
    """Return a new model with random weights, of the kind that `config.name` says."""
    return MODELS[config.name](config, data)


def restore(facts: dict[str, Any]) -> Fusion:
    """Return the model that `Fusion.describe` described, with random weights."""
    return build(from_dict(Model, facts["model"], "model"), from_dict(Signature, facts["data"], "data"))
