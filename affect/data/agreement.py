"""How far raters agree: Krippendorff's alpha, of any number of raters, who need not rate all.

Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". Units that one rater rated alone tell nothing.
Legend: U units.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def alpha_of_numbers(units: Sequence[Sequence[float]]) -> float:
    """Return the alpha of numbers [U][ratings] (interval metric; NaN: missing); NaN where they don't define one."""
    rated = [[value for value in unit if value == value] for unit in units]
    rated = [unit for unit in rated if len(unit) > 1]
    every = [value for unit in rated for value in unit]
    if len(every) < 2 or min(every) == max(every):
        return math.nan
    # About their mean, as squares of raw values would cancel.
    centre = sum(every) / len(every)
    observed = sum(_differences([value - centre for value in unit]) / (len(unit) - 1) for unit in rated)
    return 1 - (len(every) - 1) * observed / _differences([value - centre for value in every])


def alpha_of_names(units: Sequence[Sequence[str]]) -> float:
    """Return the alpha of classes [U][ratings] ("": missing), as `alpha_of_numbers`."""
    rated = [Counter(name for name in unit if name) for unit in units]
    rated = [unit for unit in rated if unit.total() > 1]
    every = sum(rated, Counter[str]())
    if len(every) < 2:
        return math.nan
    observed = sum(_unlike(unit) / (unit.total() - 1) for unit in rated)
    return 1 - (every.total() - 1) * observed / _unlike(every)


def _differences(values: Sequence[float]) -> float:
    """Return the sum of squared differences over all ordered pairs."""
    return 2 * (len(values) * sum(value * value for value in values) - sum(values) ** 2)


def _unlike(counts: Counter[str]) -> int:
    """Return the number of ordered pairs of different names."""
    return counts.total() ** 2 - sum(count * count for count in counts.values())
