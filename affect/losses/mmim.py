"""MMIM's auxiliary losses (Han et al. 2021): bounds of the mutual information between modalities and with the fusion.

The contrastive bound takes the other rows of the batch as negatives, hence gathered. A row counts for a modality where
that modality is present. Legend: N examples of the global batch, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets

MODALITIES = ("audio", "text", "video")
FAR = -1e4


def log_likelihood(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log density [N] of `value` [N, H] under independent Gaussians, without the constant.

    The public code leaves out the log variance itself, after which the widest Gaussian would always be best; here it
    is kept, as in the paper's bound.
    """
    return -0.5 * (log_variance + (value - mean).square() * torch.exp(-log_variance)).sum(1)


def info_nce(value: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross entropy [] of finding each row of `value` [N, H] its own row of `predicted` [N, H].

    The score is the cosine (a temperature of 1, as in the paper). Rows that `mask` [N] excludes are neither asked nor
    offered; without a row it is 0.
    """
    value, predicted = (F.normalize(torch.where(mask[:, None], x, 0.0), dim=1, eps=1e-6) for x in (value, predicted))
    cosine = value @ predicted.T
    # A finite number, since a row of minus infinities alone has no gradient.
    everyone = torch.logsumexp(torch.where(mask[None], cosine, FAR), 1)
    return masked_mean(everyone - cosine.diagonal(), mask)


def masked_mean(value: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [] of `value` [N] over the rows of `mask` [N], 0 without any."""
    return torch.where(mask, value, 0.0).sum() / mask.sum().clamp(min=1)


class MMIMLoss:
    """Contrastive prediction from the fusion and the likelihood of audio and video given text, of MMIM; gathered.

    Reads `<modality>_h`, `<modality>_predicted` and, for audio and video, `text_<modality>_mean` and
    `text_<modality>_log_variance`, all [N, H]. The term `information` is a negative likelihood, as losses fall; the
    weights are the paper's alpha and beta. The entropies that its main stage adds from a memory of past batches are
    left out, as the public toolkit does: a loss here is a function of its batch. `modalities` are the model's: text and
    at least one other of `MODALITIES`.
    """

    def __init__(
        self, *, contrast: float = 0.1, information: float = 0.1, modalities: Sequence[str] = MODALITIES
    ) -> None:
        self.modalities = tuple(modalities)
        self.from_text = tuple(name for name in self.modalities if name != "text")
        self.weights = {"contrast": contrast, "information": information}
        self.needs = (
            *(f"{name}_h" for name in self.modalities),
            *(f"{name}_predicted" for name in self.modalities),
            *(f"text_{name}_{kind}" for name in self.from_text for kind in ("mean", "log_variance")),
        )

    def terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return both terms [], each summed over its modalities, over the rows that have them.

        Reads the target `present` [N, 3]. A modality without a row adds 0.
        """
        here = {name: targets["present"][:, MODALITIES.index(name)] > 0 for name in self.modalities}
        wide = {name: outputs[name].float() for name in self.needs}
        contrast = [info_nce(wide[f"{name}_h"], wide[f"{name}_predicted"], here[name]) for name in self.modalities]
        information = []
        for name in self.from_text:
            both = here["text"] & here[name]
            parts = (wide[f"{name}_h"], wide[f"text_{name}_mean"], wide[f"text_{name}_log_variance"])
            value, mean, log_variance = (torch.where(both[:, None], x, 0.0) for x in parts)
            information.append(-masked_mean(log_likelihood(value, mean, log_variance), both))
        return {"contrast": torch.stack(contrast).sum(), "information": torch.stack(information).sum()}
