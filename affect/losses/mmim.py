"""MMIM's auxiliary losses (Han et al. 2021): bounds of the mutual information between modalities and with the fusion.

The contrastive bound takes the other rows of the batch as negatives: a batch term. A row counts for a modality where
that modality is present. Legend: N examples of the global batch, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.losses.alignment import info_nce
from affect.losses.masked import MODALITIES, present, several
from affect.task import Outputs, Targets, Term


def log_likelihood(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log density [N] of `value` [N, H] under independent Gaussians, without the constant.

    The public code leaves out the log variance itself, after which the widest Gaussian would always be best; here it
    is kept, as in the paper's bound.
    """
    return -0.5 * (log_variance + (value - mean).square() * torch.exp(-log_variance)).sum(1)


def contrastive_bound(value: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross entropy [] of finding each row of `value` [N, H] its own row of `predicted` [N, H].

    The score is the cosine (a temperature of 1, as in the paper). Rows that `mask` [N] excludes are neither asked nor
    offered; without a row it is 0.
    """
    value, predicted = (F.normalize(torch.where(mask[:, None], x, 0.0), dim=1, eps=1e-6) for x in (value, predicted))
    return info_nce(value @ predicted.T, mask) / mask.sum().clamp(min=1)


def mmim_terms(
    modalities: Sequence[str] = MODALITIES, *, contrast: float = 0.1, information: float = 0.1
) -> list[Term]:  # fmt: skip
    """Return contrastive prediction from the fusion, and the likelihood of audio and of video given text, of MMIM.

    They read `<modality>_h`, `<modality>_predicted` and, for audio and video, `text_<modality>_mean` and
    `text_<modality>_log_variance`, all [N, H], and the target `present` [N, 3]. The terms `information_<modality>` are
    negative likelihoods, as losses fall; the weights are the paper's alpha and beta. The entropies that its main stage
    adds from a memory of past batches are left out, as the public toolkit does: a term here is a function of its batch.
    `modalities` are the model's: text and at least one other of `MODALITIES`.
    """

    def contrasts(outputs: Outputs, targets: Targets) -> Tensor:
        each = [
            contrastive_bound(
                outputs[f"{name}_h"].float(), outputs[f"{name}_predicted"].float(), present(targets, name)
            )
            for name in modalities
        ]
        return torch.stack(each).sum()

    def given_text(name: str) -> Term:
        needs = (f"{name}_h", f"text_{name}_mean", f"text_{name}_log_variance")

        def total(outputs: Outputs, targets: Targets) -> Tensor:
            valid = present(targets, "text", name)
            value, mean, log_variance = (torch.where(valid[:, None], outputs[need].float(), 0.0) for need in needs)
            return -torch.where(valid, log_likelihood(value, mean, log_variance), 0.0).sum()

        return Term(
            name=f"information_{name}", outputs=needs, targets=("present",), weight=information, sum=total,
            count=lambda targets: present(targets, "text", name).sum(),
        )  # fmt: skip

    needs = tuple(f"{name}_{kind}" for kind in ("h", "predicted") for name in modalities)
    contrasting = Term(
        name="contrast",
        outputs=needs,
        targets=("present",),
        weight=contrast,
        value=contrasts,
        defined=lambda targets: several(targets, modalities),
    )
    return [contrasting, *(given_text(name) for name in modalities if name != "text")]
