"""How well hidden vectors of streams are predicted from those of the other streams.

Legend: N examples, S streams, M modalities (audio, text, video), H dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from affect.errors import AffectError
from affect.losses.masked import MODALITIES
from affect.task import Outputs, Targets, Term


def imputed(streams: Sequence[str] = MODALITIES, *, weight: float = 1.0) -> Term:
    """Return the squared error of the output `imputed` [N, S, H] against `imputed_truth`, a mean over H.

    A unit is a stream of an example that is there, by the target `present` [N, M], beside another one that is.
    `streams` are each stream's modality; raises AffectError if one is unknown or they are fewer than two.
    """
    if len(streams) < 2 or not set(streams) <= set(MODALITIES):
        raise AffectError(
            f"imputation needs two or more streams of {', '.join(MODALITIES)}, not {', '.join(streams) or 'none'}"
        )
    columns = [MODALITIES.index(modality) for modality in streams]

    def valid(targets: Targets) -> Tensor:
        there = targets["present"][:, columns] > 0
        return there & (there.sum(-1, keepdim=True) > 1)

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        error = (outputs["imputed"].float() - outputs["imputed_truth"].float()).square().mean(-1)
        return torch.where(valid(targets), error, 0.0).sum()

    return Term(
        name="imputed", outputs=("imputed", "imputed_truth"), targets=("present",), weight=weight, sum=total,
        count=lambda targets: valid(targets).sum(),
    )  # fmt: skip
