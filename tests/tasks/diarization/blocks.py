"""Models of every kind, small, and blocks for them: three of different length, with three speakers each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from affect import keyed
from affect.tasks.diarization.config import ACTIVITY, EMPTY, NON_SPEAKER, PSEUDO, TINY, Loss, Model, signature
from affect.tasks.diarization.models import Diarizer, build

IDS, FRAMES, REFERENCE_FRAMES = ("a", "b", "c"), (12, 7, 10), (8, 12, 5)
LONGEST, SPEAKERS, TABLE = 12, 3, 7
EVERY = range(len(IDS))

REPORT: dict[str, Any] = {
    "extractor": "resnet", "norm": "block", "frame": 640, "padding": "pseudo", "embedding_divisor": 16.0,
    "activity_query": "mean",
}  # fmt: skip
"""The model of the report, with all causes of its failure that are the model's."""
ENCODER: dict[str, Any] = {"extractor": "tiny", "train_encoder": "all", "norm": "frame"}
"""A speech encoder in front, which normalises by itself: model.norm is left as it is."""
BEFORE_LOSS: dict[str, Any] = {
    "arcface": True, "contrastive": 0.0, "learned": True, "empty": 0.0, "pseudo_weight": 1.0, "mask_prob": 0.5,
    "log_s_arcface": 2.3026, "margin": 0.2, "scale": 32.0,
}  # fmt: skip
IMPROVED_LOSS: dict[str, Any] = {
    **BEFORE_LOSS, "activity": "focal", "alpha": 0.25, "gamma": 2.0, "log_s_arcface": 4.6052, "margin": 0.1,
    "scale": 16.0, "mask_prob": 0.3,
}  # fmt: skip
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ours": ({}, {}),
    "ours_two": ({"pseudo": 2, "padding": "non", "frame": 640}, {"arrival": 0.5}),
    "ours_resnet": ({"extractor": "resnet"}, {"arcface": True, "learned": True, "activity": "focal"}),
    "ours_encoder": (ENCODER, {}),
    "before": ({"name": "before", **REPORT}, BEFORE_LOSS),
    "improved": ({"name": "improved", **REPORT}, IMPROVED_LOSS),
    "before_encoder": ({"name": "before", **REPORT, **ENCODER}, BEFORE_LOSS),
    "improved_encoder": ({"name": "improved", **REPORT, **ENCODER}, IMPROVED_LOSS),
    "mended": (
        {"name": "before", "extractor": "convolution", "padding": "non", "activity_query": "whole"},
        {**BEFORE_LOSS, "learned": False},
    ),
}
"""Sections model and loss by name; mended is the report's without those of its causes that an option takes away."""
OURS = [name for name in VARIANTS if name.startswith("ours")]


def sections(name: str, **fields: Any) -> tuple[Model, Loss]:
    model, loss = VARIANTS[name]
    return Model(**{**TINY, "slots": 6, "dropout": 0.2, **model, **fields}), Loss(**loss)


def made(name: str, **fields: Any) -> Diarizer:
    torch.manual_seed(0)
    config, loss = sections(name, **fields)
    model = build(config, signature(config, loss, frames=LONGEST, speakers=TABLE))
    keyed.name_places(model)
    return model


def drawn(place: int, frames: int, size: int, what: int) -> tuple[Tensor, Tensor]:
    """Return samples of `frames` frames, the last of them not whole, and who speaks [K, T]."""
    g = torch.Generator().manual_seed(10 * place + what)
    waveform = 0.1 * torch.randn(LONGEST * size, generator=g)[: frames * size - 100]
    return waveform, (torch.rand(SPEAKERS, LONGEST, generator=g) > 0.5).float()[:, :frames]


def padded(parts: Sequence[tuple[Tensor, Tensor]], size: int, frames: int, noise: float) -> tuple[Tensor, ...]:
    waves = [F.pad(wave, (0, frames * size - len(wave)), value=noise) for wave, _ in parts]
    spoken = [F.pad(active, (0, frames - active.shape[1])) for _, active in parts]
    return torch.stack(waves), torch.tensor([len(wave) for wave, _ in parts]), torch.stack(spoken)


def inputs(config: Model, places: Sequence[int] = EVERY, longer: int = 0, noise: float = 0.0) -> dict[str, Tensor]:
    """Return what a model takes of the blocks at `places`, padded by so many frames more with samples of `noise`."""
    blocks = [drawn(place, FRAMES[place], config.frame, 0) for place in places]
    most = max(FRAMES[place] for place in places) + longer if config.name == "ours" else LONGEST
    waveform, samples, spoken = padded(blocks, config.frame, most, noise)
    filler = {"mask": EMPTY, "non": NON_SPEAKER, "pseudo": PSEUDO}[config.padding]
    pseudo = [PSEUDO - k for k in range(config.pseudo)]
    slots = [(*pseudo, 1, 0, *[filler] * 4)[:6], (*pseudo, 2, *[filler] * 5)[:6], (*pseudo, 0, 2, *[filler] * 4)[:6]]
    given = {"waveform": waveform, "samples": samples, "spoken": spoken,
             "slots": torch.tensor([slots[place] for place in places])}  # fmt: skip
    if config.name == "ours":
        others = [drawn(place, REFERENCE_FRAMES[place], config.frame, 1) for place in places]
        most = max(REFERENCE_FRAMES[place] for place in places) + longer
        names = ("reference", "reference_samples", "reference_spoken")
        return given | dict(zip(names, padded(others, config.frame, most, noise), strict=True))
    owner = torch.where(given["slots"] >= 0, given["slots"], -1)
    owner[:, 0] = 2
    return given | {"owner": owner, "speaker": torch.tensor([[place, 3 + place, 6] for place in places])}


def heard(model: Diarizer, places: Sequence[int] = EVERY, **named: Any) -> dict[str, Tensor]:
    """Return the outputs of blocks, of activity the frames that a block has."""
    with torch.no_grad(), keyed.examples(0, 7, [IDS[place] for place in places]):
        outputs = model(**inputs(model.config, places, **named))
    if model.config.name == "ours":
        parts = zip(places, outputs[ACTIVITY], strict=True)
        rows = [F.pad(row[:, : FRAMES[place]], (0, LONGEST - FRAMES[place])) for place, row in parts]
        outputs[ACTIVITY] = torch.stack(rows)
    return outputs
