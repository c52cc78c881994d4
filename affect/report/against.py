"""The comparison with another experiment, in words and as tables; never more than its intervals say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from affect.report.compare import Comparison, Difference
from affect.report.significance import GROUPS, PAIRS, few
from affect.tables import NONE, counted, escaped, filled, grid, number, plural, probability, signed


def section(comparison: Comparison) -> str:
    """Return the whole comparison in Markdown: in words, as a table, pair by pair, and what it rests on."""
    notes = map(escaped, comparison.notes)
    parts = [summary(comparison), table(comparison), *_pairs(comparison), basis(_known(comparison)), *notes]
    return "\n\n".join(filter(None, parts))


def _known(comparison: Comparison) -> list[Difference]:
    return [difference for difference in comparison.differences if not math.isnan(difference.estimate.value)]


def summary(comparison: Comparison) -> str:
    """Return what the differences mean, a line an evaluation: the main measure first, then the others."""
    differences = _known(comparison)
    lines = []
    for name in dict.fromkeys(one.evaluation for one in differences):
        # Of equal rank the measure that is made of the others.
        each = sorted((one for one in differences if one.evaluation == name), key=lambda one: not one.measure.parts)
        words = []
        for one in each:
            bold = "**" if one is each[0] else ""
            change = f"{bold}{signed(one.estimate.value)} ({_percent(one)}){bold}"
            words.append(f"{escaped(one.measure.shown)} {change}, {bold}{one.judged.said()}{bold}")
        lines.append(f"- {escaped(name)}: {'; '.join(words)}")
    return f"Against {escaped(comparison.name)}:\n\n" + "\n".join(lines)


def table(comparison: Comparison) -> str:
    """Return a line a difference: both scores, percent, interval, the paired test and the verdict."""
    head = ["evaluation", "score", "here", comparison.name, "difference", "percent", "95 % interval", "paired test"]
    rows = [
        [
            one.evaluation, one.measure.shown, number(one.ours), number(one.theirs), signed(one.estimate.value),
            _percent(one), one.estimate.bounds(signed) or NONE,
            NONE if math.isnan(one.p) else f"{probability(one.p)} (n {len(one.pairs)} {plural(one.per)})",
            one.judged.said(),
        ]
        for one in _known(comparison)
    ]  # fmt: skip
    head, rows = filled([*head, "in words"], rows)
    return grid(head, rows, left={1, len(head) - 1})


def _pairs(comparison: Comparison) -> list[str]:
    """Return a table of the paired differences of the main measure by fold, and one by seed, where there are pairs."""
    main: dict[str, Difference] = {}
    for one in comparison.differences:
        if one.evaluation not in main or one.measure.parts and not main[one.evaluation].measure.parts:
            main[one.evaluation] = one
    tables = []
    for per in ("fold", "seed"):
        shown = [one for one in main.values() if one.per == per and one.pairs]
        rows = [
            [str(place), *(signed(one.pairs.get(place, math.nan)) for one in shown)]
            for place in sorted({place for one in shown for place in one.pairs})
        ]
        head = [per, *(f"{one.evaluation} {one.measure.shown}" for one in shown)]
        tables += [f"Differences {per} by {per}:\n\n{grid(head, rows)}"] if rows else []
    return tables


def basis(differences: Sequence[Difference]) -> str:
    """Return what was compared, and what interval and test are."""
    by_basis = {kind: [d for d in differences if d.basis == kind] for kind in ("rows", "folds", "mean", "reported")}
    words = [_basis(each) for each in by_basis.values() if each]
    if paired := [one for one in differences if len(one.pairs) > 1]:
        words.append(
            "The paired test flips the signs of the differences of folds (seeds averaged first) or seeds, exactly up "
            "to 16 of them; p is two-sided."
        )
        fewest = min(len(one.pairs) for one in paired)
        nothing = ", so it decides nothing there" if fewest < PAIRS else ""
        least = f"Of {fewest} {plural(paired[0].per)} p can't be under {2 / 2**fewest:.3g}{nothing}."
        words += [least] if fewest <= PAIRS else []
    if by_basis["rows"]:
        words.append(
            f'"Really" needs an interval without 0, at least {GROUPS} groups, more than one seed (where seeds are '
            f"paired, {PAIRS} of them) and, with {PAIRS} pairs or more, p of at most .05."
        )
    if len(differences) > 1:
        words.append(f"There are {len(differences)} lines: of that many one in twenty may leave out 0 by chance.")
    return " ".join(words)


def _basis(differences: Sequence[Difference]) -> str:
    first = differences[0]
    if first.basis == "rows":
        sizes = ", ".join(f"{name} {rows:,}" for name, rows in {d.evaluation: d.rows for d in differences}.items())
        words = f"Compared on the rows of both ({escaped(sizes)})."
        if first.groups > 1:
            words += " The interval is a paired bootstrap: 1,000 resamples of the same "
            words += f"{counted(first.groups, first.unit)} for both sides. {few(first.groups, first.unit)}".rstrip()
        return words
    if first.basis == "folds":
        return (
            f"Compared fold by fold ({counted(first.groups, 'fold')}), as one side has no predictions. The interval is "
            "Student's t of the folds' differences."
        )
    if first.basis == "reported":
        return (
            "One side is a number that somebody reports: the interval is that of the measured side, and says nothing "
            "of how much the reported one varies from run to run."
        )
    if first.groups < 2:
        return "A mean alone on one side, and no more than one fold on the other: nothing tells how much they vary."
    return (
        f"There is a mean alone on one side. The interval is that of the mean of the {counted(first.groups, 'fold')} "
        "of the other (standard error over folds, Student's t); how much the mean alone varies is not in it. Without "
        "pairs there is no paired test."
    )


def _percent(difference: Difference) -> str:
    # Adding 0 turns a rounded -0.0 into 0.0.
    return NONE if math.isnan(difference.percent) else f"{round(difference.percent, 1) + 0.0:+.1f} %"
