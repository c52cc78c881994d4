"""Fusion of audio, text and video features of an utterance into its emotion and valence (or one), and its loss."""

from __future__ import annotations

from collections.abc import Sequence

from affect.losses.alignment import alignment
from affect.losses.imputed import imputed
from affect.losses.masked import cross_entropy, squared_error
from affect.losses.misa import misa_terms
from affect.losses.mmim import mmim_terms
from affect.task import Term
from affect.tasks.multimodal_emotion.config import SCALE, Model, Signature
from affect.tasks.multimodal_emotion.measures import EMOTION, VALENCE
from affect.tasks.multimodal_emotion.models.fusion import LESS, Fusion, unit_of
from affect.tasks.multimodal_emotion.models.misa import MISA
from affect.tasks.multimodal_emotion.models.toolkit import MMIM, Attention, LateFusion, LowRankFusion, TensorFusion

MODELS: dict[str, type[Fusion]] = {
    "attention": Attention,
    "attention_robust": Attention,
    "lf_dnn": LateFusion,
    "lmf": LowRankFusion,
    "tfn": TensorFusion,
    "misa": MISA,
    "mmim": MMIM,
    "topn": Attention,
}
"""The model of each of the configuration's names."""


def build(config: Model, data: Signature) -> Fusion:
    """Return a new model with random weights, of the kind that `config.name` says."""
    return MODELS[config.name](config, data)


def terms_of(
    model: Model, streams: Sequence[str], targets: Sequence[str] = (EMOTION, VALENCE),
    scale: tuple[float, float] = SCALE,
) -> list[Term]:  # fmt: skip
    """Return cross entropy plus squared error of valence, those of `targets`, and the further terms.

    `streams` are their modalities. An error of valence counts as it would on MER2023's scale, whatever its own `scale`.
    """
    modalities = tuple(dict.fromkeys(streams))
    of_valence = unit_of(scale) ** -2
    terms = [cross_entropy(EMOTION)] if EMOTION in targets else []
    terms += [squared_error(VALENCE, weight=of_valence)] if VALENCE in targets else []
    if model.views and EMOTION in targets:
        terms.append(cross_entropy(EMOTION, output=LESS + EMOTION, name=f"{LESS}ce_{EMOTION}", weight=model.views))
    if model.views and VALENCE in targets:
        name, weight = f"{LESS}mse_{VALENCE}", model.views * of_valence
        terms.append(squared_error(VALENCE, output=LESS + VALENCE, name=name, weight=weight))
    if model.imputation:
        terms.append(imputed(streams, weight=model.imputation))
    if model.contrastive:
        terms.append(alignment(modalities, temperature=model.temperature, weight=model.contrastive))
    if model.name == "misa":
        terms += misa_terms(modalities)
    if model.name == "mmim":
        terms += mmim_terms(modalities)
    return terms
