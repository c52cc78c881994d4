"""What losses come to where a model has learned nothing but how often a thing happens."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_DRAWS = 500


def entropy(rate: float) -> float:
    """Return the binary cross entropy of what happens at a `rate` and is predicted with that rate always, in nats."""
    return -sum(share * math.log(share) for share in (rate, 1 - rate) if share > 0)


def contrastive(embeddings: float, voices: int) -> float:
    """Return the InfoNCE loss of a batch of so many embeddings, each of one of so many voices, that are all alike.

    Others of its own voice are no negatives of an embedding. Embeddings that are random, and not alike, have more.
    """
    return math.log(1 + max(0.0, embeddings - 1) * (1 - 1 / voices))


@lru_cache(maxsize=64)
def arcface(classes: int, scale: float, margin: float, width: int = 256) -> float:
    """Return the ArcFace loss of embeddings of `width` numbers that know nothing of their `classes` classes.

    Cosines of such are normal with variance 1 / width: the mean over some of them, of which each is drawn with its
    opposite.
    """
    drawn = np.random.default_rng(0).standard_normal((_DRAWS, classes)) / math.sqrt(width)
    cosine = np.concatenate([drawn, -drawn]).clip(-1, 1)
    true = cosine[:, 0]
    logits = scale * cosine
    logits[:, 0] = scale * (true * math.cos(margin) - np.sqrt(1 - true**2) * math.sin(margin))
    top = logits.max(1)
    return float((np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[:, 0]).mean())
