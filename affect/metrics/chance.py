"""What losses come to where a model has learned nothing but how often a thing happens."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_DRAWS, _MOST = 500, 10_000_000
"""Embeddings that are drawn, and cosines of them at most."""


def entropy(rate: float) -> float:
    """Return the binary cross entropy of what happens at a `rate` and is predicted with that rate always, in nats."""
    return -sum(share * math.log(share) for share in (rate, 1 - rate) if share > 0)


def contrastive(embeddings: float, voices: int) -> float:
    """Return the InfoNCE loss of a batch of so many embeddings, each of one of so many voices, that are all alike.

    Others of its own voice are no negatives of an embedding. Embeddings that are random, and not alike, have more.
    """
    return math.log(1 + max(0.0, embeddings - 1) * (1 - 1 / voices))


def arcface(classes: int, scale: float, margin: float) -> float:
    """Return the least ArcFace loss of embeddings that say nothing of which of `classes` classes they are of.

    It is that of cosines which are all 1, the table's rows and the embeddings alike: the margin takes least from a
    cosine there (or, of the widest margins, past pi - margin), and no class is worth more than another.
    """
    if classes < 2:
        return 0.0
    least = min(1 - math.cos(margin), margin * math.sin(margin))
    return float(np.logaddexp(0.0, math.log(classes - 1) + scale * least))


@lru_cache(maxsize=64)
def random_arcface(classes: int, scale: float, margin: float, width: int = 256) -> float:
    """Return the ArcFace loss of random embeddings of `width` numbers and a random table of `classes` classes.

    Cosines of such are normal with variance 1 / width: the mean over some of them, of which each is drawn with its
    opposite.
    """
    if classes < 2:
        return 0.0
    draws = max(2, min(_DRAWS, _MOST // classes))
    drawn = np.random.default_rng(0).standard_normal((draws, classes)) / math.sqrt(width)
    cosine = np.concatenate([drawn, -drawn]).clip(-1, 1)
    true = cosine[:, 0]
    logits = scale * cosine
    logits[:, 0] = scale * (true * math.cos(margin) - np.sqrt(1 - true**2) * math.sin(margin))
    top = logits.max(1)
    return float((np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[:, 0]).mean())


def most_right(classes: float, count: float) -> float:
    """Return the share of `count` examples that a guess of one of so many classes seldom has more of right.

    It is two deviations of the binomial distribution over its mean.
    """
    rate = 1 / classes
    return rate + 2 * math.sqrt(rate * (1 - rate) / max(count, 1.0))
