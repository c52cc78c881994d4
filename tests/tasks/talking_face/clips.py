"""Made-up clips as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from affect.tasks.talking_face.config import FRAMES, Model, Signature

FEATURES = (("visual", 6), ("audio", 5), ("au", 3))
SCORES = (("lip_sync_score", 1.0, 5.0), ("overall_score", 0.0, 100.0))
DATA = Signature(features=FEATURES, scores=SCORES)
COUNTS = ((5, 7, 5), (3, 0, 3), (0, 0, 0), (1, 2, 0), (9, 9, 9), (0, 4, 6))
"""Frames of each feature by clip; one has none at all."""
IDS = tuple(f"clip{k}" for k in range(len(COUNTS)))

SMALL = {"encoder_dim": 16, "heads": 2, "layers": 1, "encoder_layers": 2}
VARIANTS: dict[str, dict] = {
    "original": {"encoder_layers": 1, "residual": False, "norm": False, "temporal_attention": False,
                 "pooling": ("mean",), "dropout": 0.1},
    "optimized": {},
    "no_transformer": {"layers": 0, "output": "affine"},
    "linear": {"layers": 0, "output": "affine", "linear": True},
    "everything": {"modality_dropout": 0.4, "alignment": 0.1, "heteroscedastic": True, "heads": 3, "head_width": 5,
                   "hidden": 7, "encoder_hidden": 9, "fused": 7},
}  # fmt: skip


def config(name: str, **fields) -> Model:
    return Model(**{**SMALL, **VARIANTS[name], **fields})


def inputs(places: Sequence[int] = range(len(COUNTS)), *, longer: int = 0, padding: float = 0.0) -> dict[str, Tensor]:
    """Return the inputs of clips, with `longer` frames of `padding` beyond the longest."""
    made = {}
    for k, (name, width) in enumerate(FEATURES):
        counts = torch.tensor([COUNTS[place][k] for place in places])
        frames = torch.full((len(places), max(1, int(counts.max())) + longer, width), padding)
        for row, place in enumerate(places):
            g = torch.Generator().manual_seed(100 * place + k)
            frames[row, : counts[row]] = torch.randn(COUNTS[place][k], width, generator=g)
        made |= {name: frames, name + FRAMES: counts}
    return made
