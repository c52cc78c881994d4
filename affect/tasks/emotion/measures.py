"""The measures of valence, arousal, dominance and emotion: CCC of each number, unweighted accuracy of the class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect.metrics import measures
from affect.task import Measure
from affect.tasks.emotion.config import EMOTION


def measures_of(targets: Sequence[str]) -> list[Measure]:
    """Return the measures of these targets; the first chooses: the mean of all CCCs and UA, or the only class's UA."""
    numbers = [target for target in targets if target != EMOTION]
    cccs = [measures.ccc(target, _title(target, numbers), _aliases(target, numbers)) for target in numbers]
    classes = [measures.unweighted_accuracy(EMOTION)] if EMOTION in targets else []
    each = [*cccs, *classes]
    if not cccs:
        first = []
    elif classes:
        first = [measures.mean("mean", each), measures.combined("ccc", cccs, np.mean, headline=False)]
    else:
        first = [measures.mean("ccc", each)]
    further = [make(target) for target in numbers for make in (measures.pearson, measures.rmse)]
    if classes:
        further += [measures.accuracy(EMOTION, f"wa_{EMOTION}", "WA", headline=False)]
        further += [measures.macro_f1(EMOTION, f"f1_{EMOTION}", "macro F1")]
    return [*first, *each, *further]


def _title(target: str, numbers: Sequence[str]) -> str:
    """Return CCC-V, or the name in full where two targets begin alike."""
    alone = sum(other[:1] == target[:1] for other in numbers) == 1
    return f"CCC-{target[:1].upper() if alone else target}"


def _aliases(target: str, numbers: Sequence[str]) -> tuple[str, ...]:
    return (target, _title(target, numbers).removeprefix("CCC-"))
