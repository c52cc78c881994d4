"""MISA's auxiliary losses (Hazarika et al. 2020): what keeps private and shared parts of the modalities apart.

They are statistics of a batch (centred products, central moments), hence gathered. A row counts for a modality where
that modality is present. Legend: N examples of the global batch, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from affect.task import Outputs, Targets

MODALITIES = ("audio", "text", "video")
PARTS = ("projected", "reconstructed", "private", "shared")
MOMENTS = 5
EPSILON = 1e-6


def rows_where(x: Tensor, mask: Tensor) -> Tensor:
    """Return `x` [N, H] with zeros in the rows that `mask` [N] excludes, whatever they hold."""
    return torch.where(mask[:, None], x, 0.0)


def centred(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [H] of `x` [N, H] over the rows of `mask` [N], and `x` less the mean, other rows zero."""
    mean = rows_where(x, mask).sum(0) / mask.sum().clamp(min=1)
    return mean, rows_where(x - mean, mask)


def difference(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Return how far [] from orthogonal two matrices [N, H] are over the rows of `mask` [N].

    The mean square of the H x H entries of the product of centred matrices with rows of length 1: the squared
    Frobenius norm over H squared, as the public code weighs it. The lengths are constants to the gradient, as there.
    """
    unit = []
    for x in (first, second):
        centre = centred(x, mask)[1]
        unit.append(centre / (centre.detach().norm(dim=1, keepdim=True) + EPSILON))
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
    for _ in range(MOMENTS - 1):
        power_a, power_b = power_a * a, power_b * b
        total = total + _length(power_a.sum(0) / count_a - power_b.sum(0) / count_b)
    return torch.where(first_mask.any() & second_mask.any(), total, 0.0)


def _length(x: Tensor) -> Tensor:
    """Return the Euclidean length [] of `x` [H], with a slope of 0 at 0 (the root's own is infinite)."""
    square = x.square().sum()
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


class MISALoss:
    """Reconstruction, difference and similarity of the outputs `<modality>_<part>` [N, H] of MISA; gathered.

    Parts: projected, reconstructed, private, shared. The defaults are the weights of the paper's public code;
    `modalities` are the model's, at least two of `MODALITIES`.
    """

    def __init__(
        self,
        *,
        reconstruction: float = 1.0,
        difference: float = 0.3,
        similarity: float = 1.0,
        modalities: Sequence[str] = MODALITIES,
    ) -> None:
        self.modalities = tuple(modalities)
        self.weights = {"reconstruction": reconstruction, "difference": difference, "similarity": similarity}
        self.needs = tuple(f"{modality}_{part}" for part in PARTS for modality in self.modalities)

    def terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the three terms [] over the modalities that are present.

        Reconstruction: mean squared error over all present vectors. Difference: the sum over private and shared of
        each modality and over each pair of privates (rows that have both). Similarity: the mean moment discrepancy
        of the pairs of shared matrices that have rows. Reads the target `present` [N, 3]; nothing present gives 0.
        """
        names = self.modalities
        here = {name: targets["present"][:, MODALITIES.index(name)] > 0 for name in names}
        part = {
            (name, kind): rows_where(outputs[f"{name}_{kind}"].float(), here[name]) for name in names for kind in PARTS
        }
        pairs = list(combinations(names, 2))
        apart = [difference(part[name, "private"], part[name, "shared"], here[name]) for name in names]
        apart += [difference(part[a, "private"], part[b, "private"], here[a] & here[b]) for a, b in pairs]
        gaps = [moment_discrepancy(part[a, "shared"], part[b, "shared"], here[a], here[b]) for a, b in pairs]
        defined = torch.stack([here[a].any() & here[b].any() for a, b in pairs]).sum().clamp(min=1)
        errors = [(part[name, "reconstructed"] - part[name, "projected"]).square().mean(1).sum() for name in names]
        vectors = torch.stack(list(here.values())).sum().clamp(min=1)
        return {
            "reconstruction": torch.stack(errors).sum() / vectors,
            "difference": torch.stack(apart).sum(),
            "similarity": torch.stack(gaps).sum() / defined,
        }
