"""MISA's auxiliary losses (Hazarika et al. 2020): what keeps private and shared parts of the modalities apart.

Two are statistics of a batch (centred products, central moments), one is a mean over vectors. A row counts for a
modality where that modality is present. Legend: N examples of the global batch, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from affect.losses.masked import MODALITIES, present, several
from affect.task import Outputs, Targets, Term


def rows_where(x: Tensor, mask: Tensor) -> Tensor:
    """Return `x` [N, H] with zeros in the rows that `mask` [N] excludes, whatever they hold."""
    return torch.where(mask[:, None], x, 0.0)


def centred(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [H] of `x` [N, H] over the rows of `mask` [N], and `x` less the mean, other rows zero."""
    mean = rows_where(x, mask).sum(0) / mask.sum().clamp(min=1)
    return mean, rows_where(x - mean, mask)


def orthogonality(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Return how far [] from orthogonal two matrices [N, H] are over the rows of `mask` [N].

    The mean square of the H x H entries of the product of centred matrices with rows of length 1: the squared
    Frobenius norm over H squared, as the public code weighs it. The lengths are constants to the gradient, as there.
    """
    unit = []
    for x in (first, second):
        centre = centred(x, mask)[1]
        unit.append(centre / (centre.detach().norm(dim=1, keepdim=True) + 1e-6))
    product: Tensor = unit[0].T @ unit[1]
    return product.square().mean()


def moment_discrepancy(first: Tensor, second: Tensor, first_mask: Tensor, second_mask: Tensor) -> Tensor:
    """Return the central moment discrepancy [] of the rows of two matrices [N, H] (Zellinger et al. 2017).

    The distance of the means plus those of the central moments of order 2 to 5, for values in (0, 1). Each matrix has
    its own rows, as distributions need no pairs; one without a row gives 0.
    """
    mean_a, a = centred(first, first_mask)
    mean_b, b = centred(second, second_mask)
    count_a, count_b = first_mask.sum().clamp(min=1), second_mask.sum().clamp(min=1)
    total = _length(mean_a - mean_b)
    power_a, power_b = a, b
    for _ in range(4):
        power_a, power_b = power_a * a, power_b * b
        total = total + _length(power_a.sum(0) / count_a - power_b.sum(0) / count_b)
    return torch.where(first_mask.any() & second_mask.any(), total, 0.0)


def _length(x: Tensor) -> Tensor:
    """Return the Euclidean length [] of `x` [H], with a slope of 0 at 0 (the root's own is infinite)."""
    square = x.square().sum()
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def misa_terms(
    modalities: Sequence[str] = MODALITIES, *, reconstruction: float = 1.0, difference: float = 0.3,
    similarity: float = 1.0,
) -> list[Term]:  # fmt: skip
    """Return reconstruction, difference and similarity of the outputs `<modality>_<part>` [N, H] of MISA.

    Reconstruction: mean squared error over all present vectors. Difference: the sum over private and shared of each
    modality and over each pair of privates (rows that have both). Similarity: the mean moment discrepancy of the pairs
    of shared matrices that have rows. The defaults are the weights of the paper's public code; `modalities` are the
    model's, at least two of `MODALITIES`. All read the target `present` [N, 3].
    """
    pairs = list(combinations(modalities, 2))

    def part(outputs: Outputs, targets: Targets, kind: str) -> dict[str, Tensor]:
        return {
            name: rows_where(outputs[f"{name}_{kind}"].float(), present(targets, name)) for name in modalities
        }  # fmt: skip

    def errors(outputs: Outputs, targets: Targets) -> Tensor:
        made, true = (part(outputs, targets, kind) for kind in ("reconstructed", "projected"))
        return torch.stack([(made[name] - true[name]).square().mean(1).sum() for name in modalities]).sum()

    def apart(outputs: Outputs, targets: Targets) -> Tensor:
        own, common = part(outputs, targets, "private"), part(outputs, targets, "shared")
        distances = [orthogonality(own[name], common[name], present(targets, name)) for name in modalities]
        distances += [orthogonality(own[a], own[b], present(targets, a, b)) for a, b in pairs]
        return torch.stack(distances).sum()

    def gaps(outputs: Outputs, targets: Targets) -> Tensor:
        common = part(outputs, targets, "shared")
        discrepancies = [
            moment_discrepancy(common[a], common[b], present(targets, a), present(targets, b)) for a, b in pairs
        ]
        return torch.stack(discrepancies).sum() / comparable(targets).sum().clamp(min=1)

    def comparable(targets: Targets) -> Tensor:
        """Return which pairs of modalities have rows of both."""
        return torch.stack([present(targets, a).any() & present(targets, b).any() for a, b in pairs])

    def names(*kinds: str) -> tuple[str, ...]:
        return tuple(f"{modality}_{kind}" for kind in kinds for modality in modalities)

    target = ("present",)
    return [
        Term(name="reconstruction", outputs=names("projected", "reconstructed"), targets=target, weight=reconstruction,
             sum=errors, count=lambda targets: torch.stack([present(targets, name) for name in modalities]).sum()),
        Term(name="difference", outputs=names("private", "shared"), targets=target, weight=difference, value=apart,
             defined=lambda targets: several(targets, modalities)),
        Term(name="similarity", outputs=names("shared"), targets=target, weight=similarity, value=gaps,
             defined=lambda targets: several(targets, modalities) & comparable(targets).any()),
    ]  # fmt: skip
