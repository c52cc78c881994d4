"""How well hidden vectors of streams are predicted from those of the other streams.

Legend: N examples, S streams, M modalities (audio, text, video), H dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from affect.errors import AffectError
from affect.losses.alignment import MODALITIES
from affect.task import Outputs, Targets


class Imputed:
    """The squared error of the output `imputed` [N, S, H] against `imputed_truth`, a mean over H; additive.

    A unit is a stream of an example that is there, by the target `present` [N, M], beside another one that is.
    """

    needs = ("imputed", "imputed_truth")

    def __init__(self, streams: Sequence[str] = MODALITIES, *, weight: float = 1.0):
        """Take each stream's modality; raises AffectError if one is unknown or they are fewer than two."""
        if len(streams) < 2 or not set(streams) <= set(MODALITIES):
            raise AffectError(
                f"imputation needs two or more streams of {', '.join(MODALITIES)}, not {', '.join(streams) or 'none'}"
            )
        self.columns = [MODALITIES.index(modality) for modality in streams]
        self.weights = {"imputed": weight}

    def sums(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the summed error []."""
        error = (outputs["imputed"].float() - outputs["imputed_truth"].float()).square().mean(-1)
        return {"imputed": torch.where(self._valid(targets), error, 0.0).sum()}

    def counts(self, targets: Targets) -> dict[str, Tensor]:
        """Return the number of streams [] that are there beside another one."""
        return {"imputed": self._valid(targets).sum()}

    def _valid(self, targets: Targets) -> Tensor:
        there = targets["present"][:, self.columns] > 0
        return there & (there.sum(-1, keepdim=True) > 1)
