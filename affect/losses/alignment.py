"""Symmetric contrastive alignment (InfoNCE, van den Oord et al. 2018) of two views, or of all pairs of modalities.

Legend: N examples of the global batch, M modalities (audio, text, video), H dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.errors import AffectError
from affect.losses.masked import MODALITIES, present
from affect.task import Outputs, Targets, Term


def contrastive(first: str, second: str, *, temperature: float = 0.1, weight: float = 1.0) -> Term:
    """Return InfoNCE between the outputs `first` and `second` [N, H], the rest of the global batch as negatives."""

    def value(outputs: Outputs, targets: Targets) -> Tensor:
        one, other = (F.normalize(outputs[name].float(), dim=-1) for name in (first, second))
        everyone = torch.ones(len(one), dtype=torch.bool, device=one.device)
        return _both_ways(one @ other.T / temperature, everyone) / len(one)

    return Term(name="contrastive", outputs=(first, second), weight=weight, value=value)


def alignment(
    modalities: Sequence[str] = MODALITIES, *, columns: Sequence[str] = MODALITIES, temperature: float = 0.1,
    weight: float = 1.0,
) -> Term:  # fmt: skip
    """Return InfoNCE between the outputs `<modality>_h` [N, H] of every pair of modalities.

    An example counts for a pair if both are there by the target `present` [N, M], whose `columns` are named, as a row
    and as a negative of the others. The mean is over such rows of all pairs: with everything present, that of
    `contrastive` over the pairs. Fewer than two such examples of every pair tell it nothing. Raises AffectError if the
    modalities that the model has are fewer than two or unknown.
    """
    if len(set(modalities)) < 2 or not set(modalities) <= set(columns):
        raise AffectError(f"alignment needs two or more of {', '.join(columns)}, not {', '.join(modalities) or 'none'}")
    if temperature <= 0:
        raise AffectError(f"the temperature of the alignment is {temperature}: it has to be over 0")
    pairs, there = list(combinations(modalities, 2)), partial(present, columns=columns)

    def value(outputs: Outputs, targets: Targets) -> Tensor:
        views = {
            # A row that does not count is replaced before it is normalised, so that nothing of it gets through.
            name: F.normalize(torch.where(there(targets, name)[:, None], outputs[f"{name}_h"].float(), 0.0), dim=-1)
            for name in modalities
        }
        total = views[modalities[0]].new_zeros(())
        count = torch.zeros_like(total)
        for first, second in pairs:
            valid = there(targets, first, second)
            total = total + _both_ways(views[first] @ views[second].T / temperature, valid)
            count = count + valid.sum()
        return total / count.clamp(min=1.0)

    def defined(targets: Targets) -> Tensor:
        return torch.stack([there(targets, *pair).sum() > 1 for pair in pairs]).any()

    return Term(
        name="alignment", outputs=tuple(f"{name}_h" for name in modalities), targets=("present",), weight=weight,
        value=value, defined=defined,
    )  # fmt: skip


def info_nce(similarity: Tensor, valid: Tensor) -> Tensor:
    """Return the summed cross entropy [] of the diagonal of `similarity` [N, N] over the rows and columns in `valid`.

    0 without such a row.
    """
    # A finite number, since a row of minus infinities alone has no gradient.
    rest = torch.where(valid[None, :], similarity, -1e9).logsumexp(-1)
    return torch.where(valid, rest - similarity.diagonal(dim1=-2, dim2=-1), 0.0).sum()


def _both_ways(similarity: Tensor, valid: Tensor) -> Tensor:
    return (info_nce(similarity, valid) + info_nce(similarity.T, valid)) / 2
