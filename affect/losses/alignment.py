"""Contrastive alignment of the modalities: symmetric InfoNCE (van den Oord et al. 2018) over their pairs.

Legend: N examples of the global batch, M modalities (audio, text, video), H dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.errors import AffectError
from affect.task import Outputs, Targets, Term

MODALITIES = ("audio", "text", "video")
"""The columns of the target `present` [N, M]."""

MASKED = -1e9
"""The logit of an example that lacks one of the pair: finite, so that a row of them has a gradient."""


def alignment(modalities: Sequence[str] = MODALITIES, *, temperature: float = 0.1, weight: float = 1.0) -> Term:
    """Return InfoNCE between the outputs `<modality>_h` [N, H] of every pair of modalities.

    An example counts for a pair if both are there by the target `present` [N, M], as a row and as a negative of the
    others. The mean is over such rows of all pairs: with everything present, that of `contrastive` over the pairs.
    Fewer than two such examples of every pair tell it nothing. Raises AffectError if the modalities that the model has
    are fewer than two or unknown.
    """
    if len(set(modalities)) < 2 or not set(modalities) <= set(MODALITIES):
        raise AffectError(
            f"alignment needs two or more of {', '.join(MODALITIES)}, not {', '.join(modalities) or 'none'}"
        )
    if temperature <= 0:
        raise AffectError(f"the temperature of the alignment is {temperature}: it has to be over 0")
    pairs = list(combinations(modalities, 2))

    def both(targets: Targets, first: str, second: str) -> Tensor:
        there = targets["present"] > 0
        return there[:, MODALITIES.index(first)] & there[:, MODALITIES.index(second)]

    def value(outputs: Outputs, targets: Targets) -> Tensor:
        there = {name: targets["present"][:, MODALITIES.index(name)] > 0 for name in modalities}
        views = {
            # A row that does not count is replaced before it is normalised, so that nothing of it gets through.
            name: F.normalize(torch.where(there[name][:, None], outputs[f"{name}_h"].float(), 0.0), dim=-1)
            for name in modalities
        }
        total = views[modalities[0]].new_zeros(())
        count = torch.zeros_like(total)
        for first, second in pairs:
            valid = both(targets, first, second)
            similarity = views[first] @ views[second].T / temperature
            loss = (_cross_entropy(similarity, valid) + _cross_entropy(similarity.T, valid)) / 2
            total, count = total + loss, count + valid.sum()
        return total / count.clamp(min=1.0)

    def defined(targets: Targets) -> Tensor:
        return torch.stack([both(targets, *pair).sum() > 1 for pair in pairs]).any()

    return Term(
        name="alignment", outputs=tuple(f"{name}_h" for name in modalities), targets=("present",), weight=weight,
        value=value, defined=defined,
    )  # fmt: skip


def _cross_entropy(similarity: Tensor, valid: Tensor) -> Tensor:
    """Return the summed cross entropy [] of the diagonal of `similarity` [N, N] over rows and columns in `valid`."""
    rest = torch.where(valid[None, :], similarity, MASKED).logsumexp(-1)
    return torch.where(valid, rest - similarity.diagonal(dim1=-2, dim2=-1), 0.0).sum()
