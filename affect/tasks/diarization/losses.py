"""What a diarization model learns by, at which rates, and what its logits of activity stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.losses.arcface import arcface
from affect.losses.focal import focal_loss, posterior
from affect.losses.slots import slot_activity
from affect.losses.speaker_contrastive import speaker_contrastive
from affect.recipe import Optim
from affect.task import Term
from affect.tasks.diarization.config import (
    ACTIVITY,
    CANDIDATES,
    EMBEDDING,
    REFERENCE,
    SPEAKER,
    VOICES,
    Loss,
    Model,
)
from affect.tasks.diarization.models.base import Diarizer


def terms_of(model: Model, loss: Loss) -> list[Term]:
    """Return the terms of activity, and of speakers' embeddings where the recipe asks for them."""
    if loss.activity == "focal":
        each = partial(focal_loss, alpha=loss.alpha, gamma=loss.gamma)
    else:
        each = partial(F.binary_cross_entropy_with_logits, reduction="none")
    columns = (0, 1) if loss.learned else (None, None)
    weights = (1.0, 1.0) if loss.learned else (math.exp(-loss.log_s_bce), math.exp(-loss.log_s_arcface))
    terms = [
        slot_activity(
            ACTIVITY, CANDIDATES, each, first=model.pseudo, first_weight=loss.pseudo_weight, arrival=loss.arrival,
            per_slot=loss.divide_by == "slots", name=loss.activity, weight=weights[0], log_variance=columns[0],
        )
    ]  # fmt: skip
    if loss.arcface:
        facts = {"margin": loss.margin, "scale": loss.scale, "weight": weights[1]}
        terms.append(arcface(SPEAKER, **facts, log_variance=columns[1]))
    if loss.contrastive:
        facts = {"temperature": loss.temperature, "weight": loss.contrastive}
        terms.append(speaker_contrastive(EMBEDDING, REFERENCE, VOICES, **facts))
    return terms


def calibrated(logits: Tensor, focal: Sequence[float]) -> Tensor:
    """Return logits of the probability of activity, of what a model gives that learned by a loss.

    `focal` are alpha and gamma of the focal loss, none of another one (`Signature.focal`).
    """
    if not focal:
        return logits
    alpha, gamma = focal
    return posterior(logits, alpha=alpha, gamma=gamma)


def param_groups(model: Diarizer, optim: Optim, loss: Loss) -> list[dict[str, Any]]:
    """Return the optimiser's groups: the loss's learned weights and a pretrained encoder have rates of their own.

    Neither those weights nor what has one dimension (biases, gains) are decayed.
    """
    own = set() if model.log_s is None else {id(model.log_s)}
    encoder = {id(entry) for entry in model.encoder_parameters()}
    groups: dict[tuple[str, float, float], list[torch.nn.Parameter]] = {}
    for entry in model.parameters():
        if not entry.requires_grad:
            continue
        part, rate = ("encoder_", optim.encoder_lr or optim.lr) if id(entry) in encoder else ("", optim.lr)
        decay = optim.weight_decay if entry.ndim > 1 else 0.0
        name = f"{part}{'' if entry.ndim > 1 else 'not_'}decayed"
        if id(entry) in own:
            name, rate = "loss_weights", loss.weights_lr or optim.lr
        groups.setdefault((name, rate, decay), []).append(entry)
    return [
        {"name": name, "params": entries, "lr": rate, "weight_decay": decay}
        for (name, rate, decay), entries in groups.items()
    ]
