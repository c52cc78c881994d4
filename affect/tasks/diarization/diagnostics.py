"""What a run says of itself while it learns: labels, predictions, losses beside chance, and what looks wrong.

Importing it loads no tensor library: reports ask it, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from affect.findings import Flag
from affect.metrics import chance
from affect.tasks.diarization.config import ACTIVITY, CANDIDATES, SPEAKER, VOICES, Diarization, Loss, Model

if TYPE_CHECKING:
    from torch import Tensor

    from affect.task import Outputs, Targets

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Probabilities from which on a slot is held to speak, that are tried."""
CONTRASTIVE = "speakers"
"""The name of the contrastive term, whose value is with the means where it is compared with chance."""
_AT_CHANCE = 0.97
"""A loss that is over this share of what chance gives has learned nothing."""
_CONSTANT = 0.02
"""Deviation of the predicted probabilities under which they are one number."""
_EARLY = 0.2
"""Share of the training before which a loss at chance is no news."""
_MOVED = 0.05
"""By how much a DER is better at another threshold than at .5 that is worth a word."""

Sums = dict[str, "Tensor | tuple[Tensor, Tensor]"]


def sums(outputs: Outputs, targets: Targets, model: Model, loss: Loss) -> Sums:
    """Return what `Task.diagnostics` adds up over a step: pairs (sum [], count []) by name.

    `der_<percent>` are of frames, at a threshold, with the slots' speakers as they are taught, who need no mapping.
    """
    return {
        **_of_activity(outputs[ACTIVITY], targets, model, loss),
        **(_of_speakers(outputs[SPEAKER], targets[SPEAKER], loss) if SPEAKER in outputs else {}),
        **(_compared(targets[VOICES]) if VOICES in targets else {}),
        **_of_weights(outputs, loss),
    }


def _of_activity(logits: Tensor, targets: Targets, model: Model, loss: Loss) -> Sums:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    from affect.losses.slots import taught
    from affect.tasks.diarization.losses import calibrated

    logits = calibrated(logits.float(), (loss.alpha, loss.gamma) if loss.activity == "focal" else ())
    fits = partial(bce, reduction="none")
    label = taught(logits, targets[ACTIVITY], targets[CANDIDATES], fits, model.pseudo)
    valid = torch.isfinite(label)
    count, spoken = valid.sum(), torch.where(valid, label, 0.0)
    # What is not taught is no prediction either.
    share = torch.where(valid, logits.sigmoid(), 0.0)
    rows = torch.full_like(count, len(label))
    means: Sums = {
        "positive_rate": (spoken.sum(), count),
        "active_slots": (spoken.any(-1).sum(), rows),
        "taught_slots": (valid.any(-1).sum(), rows),
        "predicted_mean": (share.sum(), count),
        "predicted_square": (share.square().sum(), count),
        "predicted_active": ((share * spoken).sum(), spoken.sum()),
        "predicted_silent": ((share * (1 - spoken)).sum(), count - spoken.sum()),
        "bce": (torch.where(valid, bce(logits, spoken, reduction="none"), 0.0).sum(), count),
    }
    heard = spoken.sum(1)
    for threshold in THRESHOLDS:
        held = (share > threshold).float()
        wrong = torch.maximum(heard, held.sum(1)) - (held * spoken).sum(1)
        means[f"der_{100 * threshold:.0f}"] = (wrong.sum(), heard.sum())
    return means


def _of_speakers(cosines: Tensor, speaker: Tensor, loss: Loss) -> Sums:
    from affect.losses.arcface import arcface

    term = arcface(SPEAKER, margin=loss.margin, scale=loss.scale)
    assert term.sum is not None
    valid = speaker != -100
    right = (cosines.argmax(-1) == speaker) & valid
    rows = valid.sum().new_full((), len(speaker))
    return {
        "arcface": (term.sum({SPEAKER: cosines}, {SPEAKER: speaker}), valid.sum()),
        "speakers_right": (right.sum(), valid.sum()),
        "valid_speakers": (valid.sum(), rows),
    }


def _compared(voices: Tensor) -> Sums:
    """Return how many speakers an example has whose embeddings from two blocks are compared."""
    valid = (voices != -100).sum()
    return {"compared_speakers": (valid, valid.new_full((), len(voices)))}


def _of_weights(outputs: Outputs, loss: Loss) -> Sums:
    """Return what each loss is multiplied by, exp(-s), where that is learned."""
    import torch

    from affect.task import LOG_VARIANCE

    if LOG_VARIANCE not in outputs:
        return {}
    weights = torch.exp(-outputs[LOG_VARIANCE].float())
    rows = torch.full((), len(weights), device=weights.device)
    return {f"weight_{name}": (weights[:, k].sum(), rows) for k, name in enumerate((loss.activity, "arcface"))}


def chances(means: Mapping[str, float], recipe: Diarization, speakers: int) -> dict[str, float]:
    """Return what the losses among `means` come to by chance, with so many training `speakers`.

    Of activity it is the entropy of its rate, of the others the least of embeddings that do not tell who speaks: those
    that are all alike.
    """
    levels = {"bce": chance.entropy(means["positive_rate"])} if "positive_rate" in means else {}
    if "arcface" in means:
        levels["arcface"] = chance.arcface(speakers, recipe.loss.scale, recipe.loss.margin)
    if CONTRASTIVE in means and speakers:
        levels[CONTRASTIVE] = chance.contrastive(recipe.train.batch * means["compared_speakers"], speakers)
    return levels


def random_arcface(recipe: Diarization, speakers: int) -> float:
    """Return the ArcFace loss of random embeddings: as well as at chance, a loss may lie anywhere up to it."""
    return chance.random_arcface(speakers, recipe.loss.scale, recipe.loss.margin, recipe.model.width)


def _guessed(means: Mapping[str, float], recipe: Diarization, speakers: int) -> bool:
    """Tell whether as few speakers are nearest to their own row of the table as by chance."""
    counted = recipe.train.batch * means["valid_speakers"]
    return means["speakers_right"] <= chance.most_right(speakers, counted)


def deviation(means: Mapping[str, float]) -> float:
    """Return the deviation of the predicted probabilities over slots and frames."""
    return math.sqrt(max(0.0, means["predicted_square"] - means["predicted_mean"] ** 2))


def best_threshold(means: Mapping[str, float]) -> tuple[float, float]:
    """Return the threshold at which the DER of frames is least, and that DER."""
    rates = {threshold: means[f"der_{100 * threshold:.0f}"] for threshold in THRESHOLDS}
    least = min(rates, key=lambda threshold: (rates[threshold], abs(threshold - 0.5)))
    return least, rates[least]


def conclusions(
    means: Mapping[str, float], recipe: Diarization, speakers: int, share: float
) -> tuple[dict[str, float], list[Flag]]:
    """Return chance levels by name, and what looks wrong after that `share` of the training, of a step's means."""
    levels = chances(means, recipe, speakers)
    numbers = {f"chance_{name}": level for name, level in levels.items()}
    if "arcface" in levels:
        random = random_arcface(recipe, speakers)
        numbers |= {"chance_arcface_random": random, "chance_speakers_right": 1 / speakers}
    return numbers, [] if share < _EARLY else unlearned(means, recipe, speakers, "training")


def unlearned(means: Mapping[str, float], recipe: Diarization, speakers: int, where: str) -> list[Flag]:
    """Return the losses at chance, and whether the output is constant, of what `where` names (a run)."""
    signs = []
    for name, level in chances(means, recipe, speakers).items():
        # Rows of the table lie apart from the start: ArcFace can be far over chance and tell speakers apart.
        if means[name] >= _AT_CHANCE * level > 0 and (name != "arcface" or _guessed(means, recipe, speakers)):
            evidence = f"{name} {means[name]:.3f}, chance {level:.3f}"
            if name == "arcface":
                random = random_arcface(recipe, speakers)
                evidence += f" to {random:.3f}; {100 * means['speakers_right']:.1f} % right, one of {speakers}"
            signs.append(Flag("a loss at chance", where, evidence, _CHANCE_ADVICE[name], size=means[name] / level))
    spread = deviation(means)
    if spread < _CONSTANT:
        evidence = f"predicted {means['predicted_mean']:.3f} with a deviation of {spread:.4f}"
        signs.append(Flag("constant output", where, evidence, "everything is predicted alike: see the loss's chance"))
    return signs


def flags(means: Mapping[str, float], recipe: Diarization, speakers: int, where: str) -> list[Flag]:
    """Return what looks wrong of the means of a step's diagnostics, which `where` names (a run)."""
    signs = unlearned(means, recipe, speakers, where)
    threshold, rate = best_threshold(means)
    if rate < means["der_50"] - _MOVED:
        evidence = f"DER of frames {means['der_50']:.3f} at .5, {rate:.3f} at {threshold:g}"
        signs.append(Flag("another threshold is better", where, evidence, "choose it on validation, or calibrate"))
    return signs


_CHANCE_ADVICE = {
    "bce": "the model predicts how often slots speak and nothing else: are they told apart by their embeddings?",
    "arcface": "embeddings tell no speakers apart: can the representation see when each speaks?",
    CONTRASTIVE: "embeddings tell no speakers apart: does each speak long enough in both blocks?",
}
