"""Fusion of audio, text and video features of an utterance into its emotion and valence."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from affect import checksums
from affect.checksums import DamagedError
from affect.errors import AffectError
from affect.models.multimodal.attention import Attention
from affect.models.multimodal.config import MultimodalConfig
from affect.models.multimodal.fusion import Fusion
from affect.models.multimodal.lf_dnn import LateFusion
from affect.models.multimodal.lmf import LowRankFusion
from affect.models.multimodal.misa import MISA
from affect.models.multimodal.mmim import MMIM
from affect.models.multimodal.tfn import TensorFusion
from affect.models.multimodal.topn import TopN

__all__ = ["CONFIG", "WEIGHTS", "Fusion", "MultimodalConfig", "build", "load", "save"]

WEIGHTS = "model.safetensors"
CONFIG = "config.json"

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


def build(config: MultimodalConfig) -> Fusion:
    """Return a new model with random weights, of the kind that `config.name` says."""
    return MODELS[config.name](config)


def save(model: Fusion, folder: Path) -> None:
    """Write the weights (safetensors) and the configuration to `folder`; `load` needs nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"multimodal": model.config.to_dict()}, indent=2) + "\n")


def load(folder: Path) -> Fusion:
    """Return the model that `save` wrote, on the CPU and in evaluation mode.

    A folder with checksums is held against them. Raises AffectError if it holds no such model or its files are damaged.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise AffectError(f"{folder} holds no model: {name} is missing")
    try:
        if (folder / checksums.FILE).exists():
            checksums.check(folder)
        facts = json.loads((folder / CONFIG).read_text())
        if not isinstance(facts, dict) or "multimodal" not in facts:
            raise ValueError(f"{CONFIG} does not describe a fusion model")
        model = build(MultimodalConfig.from_dict(facts["multimodal"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
    # Before ValueError, which it is one of.
    except DamagedError as error:
        raise AffectError(
            f"the fusion model in {folder} is damaged: {error}; copy it there again, or train it anew with --overwrite"
        ) from error
    # Cut-off JSON, cut-off weights, fields, shapes or tensors that do not belong to this model.
    except (AffectError, OSError, ValueError, TypeError, AttributeError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise AffectError(f"the fusion model in {folder} cannot be read: {reason[:300]}") from error
    return model.eval()
