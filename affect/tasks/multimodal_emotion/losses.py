"""The loss of a fusion model: emotion and valence, and what the model or the recipe adds."""

from __future__ import annotations

from collections.abc import Sequence

from affect.losses.alignment import Alignment
from affect.losses.imputed import Imputed
from affect.losses.masked import CrossEntropy, Masked, squared
from affect.losses.misa import MISALoss
from affect.losses.mmim import MMIMLoss
from affect.losses.renamed import Renamed
from affect.losses.weighting import Added, Sum
from affect.models.multimodal.fusion import LESS
from affect.task import AdditiveLoss, Loss
from affect.tasks.multimodal_emotion.scores import EMOTION, VALENCE
from affect.tasks.multimodal_emotion.sections import Model


def loss_of(model: Model, streams: Sequence[str]) -> Loss:
    """Return cross entropy plus squared error of valence, and the further terms; `streams` are their modalities."""
    modalities = tuple(dict.fromkeys(streams))
    labels: tuple[AdditiveLoss, ...] = (CrossEntropy({EMOTION: 1.0}), Masked(squared, {VALENCE: 1.0}))
    additive = list(labels)
    if model.views:
        additive += [Renamed(loss, LESS, model.views) for loss in labels]
    if model.imputation:
        additive.append(Imputed(streams, weight=model.imputation))
    gathered: dict[str, Loss] = {}
    if model.contrastive:
        gathered["contrast"] = Alignment(modalities, temperature=model.temperature, weight=model.contrastive)
    if model.name == "misa":
        gathered["misa"] = MISALoss(modalities=modalities)
    if model.name == "mmim":
        gathered["mmim"] = MMIMLoss()
    labelled = Added(additive)
    return Sum({"label": labelled, **gathered}) if gathered else labelled
