"""Gradients of the loss's terms as training recorded them: how large each one is, and which oppose each other."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from affect.findings import Flag, finite
from affect.report.runs import Run
from affect.report.study import Study
from affect.tables import NONE, grid, inside, signed

OPPOSE = -0.1
"""A mean cosine under which two gradients oppose each other: of unrelated ones of thousands of values it is near 0."""
_FEWEST, _ERRORS = 5, 2.0
"""Records of a run that are worth a mean, and how many of its standard errors it has to be under 0: from one batch to
the next a cosine varies by .1."""

Norms = dict[str, list[float]]
Cosines = dict[tuple[str, str], list[float]]


def recorded(runs: Sequence[Run]) -> tuple[Norms, Cosines]:
    """Return the norms of each term's gradient and the cosines of each pair, of all records of runs."""
    norms: defaultdict[str, list[float]] = defaultdict(list)
    cosines: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        for step in run.steps:
            by_kind: dict[str, dict[str, float]] = {"gradient_norm": {}, "gradient_cosine": {}}
            for name, value in inside(step, "diagnostics").items():
                kind, _, of = name.partition("/")
                if kind in by_kind and finite(value):
                    by_kind[kind][of] = float(value)
            # A term that took no part in a step has no direction there.
            present = {name: norm for name, norm in by_kind["gradient_norm"].items() if norm > 0}
            for name, norm in present.items():
                norms[name].append(norm)
            for pair, cosine in by_kind["gradient_cosine"].items():
                first, _, second = pair.partition("/")
                if first in present and second in present:
                    cosines[first, second].append(cosine)
    return dict(norms), dict(cosines)


def table(study: Study) -> str:
    """Return a line a term with the norm of its gradient and its cosine with those above it; "" without records."""
    norms, cosines = recorded(study.measured)
    if not cosines:
        return ""
    names = [*norms]
    rows = [
        [name, f"{np.median(norms[name]):.3g}", *(_mean(cosines, other, name) for other in names[:-1])]
        for name in names
    ]  # fmt: skip
    every = inside(study.recipe, "train").get("diagnostics_every")
    often = f", one every {every} steps" if isinstance(every, int) else ""
    words = (
        f"Of {max(map(len, norms.values())):,} records of all runs{often}: the median norm of each term's gradient, "
        "with its weight, of the parameters that all share, and the mean cosine of each pair. Under 0 a step for one "
        "undoes a part of the other's."
    )
    return f"{words}\n\n{grid(['term', 'norm', *names[:-1]], rows)}"


def _mean(cosines: Mapping[tuple[str, str], Sequence[float]], first: str, second: str) -> str:
    values = cosines.get((first, second))
    return signed(float(np.mean(values))) if values else NONE


def flags(study: Study) -> Iterator[Flag]:
    """Yield pairs of terms whose gradients oppose each other in the mean over a run's records."""
    for run in study.measured:
        _, cosines = recorded([run])
        for (first, second), values in cosines.items():
            if len(values) < _FEWEST:
                continue
            mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
            if mean < min(OPPOSE, -_ERRORS * error):
                words = f"{first} and {second}: cosine {signed(mean)} in the mean of {len(values)} records, under 0 in "
                words += f"{sum(value < 0 for value in values)}"
                yield Flag("opposing gradients", run.name, words, size=-mean)
