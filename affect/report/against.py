"""The comparison with another experiment, in words and as tables; never more than its intervals say."""

from __future__ import annotations

import math

from affect.report.compare import Comparison, Difference
from affect.report.judgement import GROUPS, PAIRS, few
from affect.tables import NONE, counted, escaped, filled, grid, number, probability, signed


def section(comparison: Comparison) -> str:
    """Return the whole comparison in Markdown: in words, as a table, pair by pair, and what it rests on."""
    parts = [
        summary(comparison),
        table(comparison),
        *_pairs(comparison),
        basis(comparison),
        *map(escaped, comparison.notes),
    ]
    return "\n\n".join(filter(None, parts))


def summary(comparison: Comparison) -> str:
    """Return what the differences mean, a line an evaluation: the main measure first, then the others."""
    found: dict[str, list[Difference]] = {}
    for difference in comparison.differences:
        if not math.isnan(difference.estimate.value):
            found.setdefault(difference.evaluation, []).append(difference)
    lines = []
    for name, differences in found.items():
        # Of equal rank the measure that is made of the others.
        order = sorted(differences, key=lambda d: not d.measure.parts)
        words = [f"{escaped(d.measure.shown)} {_change(d)}, {verdict(d)}" for d in order]
        words[0] = f"{escaped(order[0].measure.shown)} **{_change(order[0])}**, **{verdict(order[0])}**"
        lines.append(f"- {escaped(name)}: {'; '.join(words)}")
    return f"Against {escaped(comparison.name)}:\n\n" + "\n".join(lines)


def verdict(difference: Difference) -> str:
    """Return in a few words what a difference means."""
    return difference.judged.said()


def table(comparison: Comparison) -> str:
    """Return a line a difference: both scores, percent, interval, the paired test and the verdict."""
    head = ["evaluation", "score", "here", comparison.name, "difference", "percent", "95 % interval", "paired test"]
    rows = []
    for found in comparison.differences:
        if math.isnan(found.estimate.value):
            continue
        test = NONE if math.isnan(found.p) else f"{probability(found.p)} (n {len(found.pairs)} {found.per}s)"
        row = [found.evaluation, found.measure.shown, number(found.ours), number(found.theirs)]
        row += [signed(found.estimate.value), _percent(found), found.estimate.bounds(signed) or NONE, test]
        rows.append([*row, verdict(found)])
    head, rows = filled([*head, "in words"], rows)
    return grid(head, rows, left={1, len(head) - 1})


def _pairs(comparison: Comparison) -> list[str]:
    """Return a table of the paired differences of the main measure by fold, and one by seed, where there are pairs."""
    main: dict[str, Difference] = {}
    for found in comparison.differences:
        if found.evaluation not in main or found.measure.parts and not main[found.evaluation].measure.parts:
            main[found.evaluation] = found
    tables = []
    for per in ("fold", "seed"):
        known = [found for found in main.values() if found.per == per and found.pairs]
        numbers = sorted({place for found in known for place in found.pairs})
        if not numbers:
            continue
        head = [per, *(f"{found.evaluation} {found.measure.shown}" for found in known)]
        rows = [
            [str(place), *(signed(found.pairs[place]) if place in found.pairs else NONE for found in known)]
            for place in numbers
        ]
        tables.append(f"Differences {per} by {per}:\n\n{grid(head, rows)}")
    return tables


def basis(comparison: Comparison) -> str:
    """Return what was compared, and what interval and test are."""
    known = [found for found in comparison.differences if not math.isnan(found.estimate.value)]
    said = []
    for kind in ("rows", "folds", "mean", "reported"):
        of_kind = [found for found in known if found.basis == kind]
        if of_kind:
            said.append(_basis(of_kind))
    pairs = [found for found in known if len(found.pairs) > 1]
    if pairs:
        said.append(_test(pairs))
    if any(found.basis == "rows" for found in known):
        said.append(
            f'"Really" needs an interval without 0, at least {GROUPS} groups, more than one seed (where seeds are '
            "paired, "
            f"{PAIRS} of them) and, with {PAIRS} pairs or more, p of at most .05."
        )
    if len(known) > 1:
        said.append(f"There are {len(known)} lines: of that many one in twenty may leave out 0 by chance.")
    return " ".join(said)


def _basis(found: list[Difference]) -> str:
    first = found[0]
    if first.basis == "rows":
        sizes = ", ".join(f"{name} {rows:,}" for name, rows in {d.evaluation: d.rows for d in found}.items())
        words = f"Compared on the rows of both ({escaped(sizes)})."
        if first.groups > 1:
            words += " The interval is a paired bootstrap: 1,000 resamples of the same "
            words += f"{counted(first.groups, first.unit)} for both sides. {few(first.groups, first.unit)}".rstrip()
        return words
    if first.basis == "folds":
        return (
            f"Compared fold by fold ({counted(first.folds, 'fold')}), as one side has no predictions. The interval is "
            "Student's t of the folds' differences."
        )
    if first.basis == "reported":
        return (
            "One side is a number that somebody reports: the interval is that of the measured side, and says "
            "nothing of "
            "how much the reported one varies from run to run."
        )
    if first.folds < 2:
        return "A mean alone on one side, and no more than one fold on the other: nothing tells how much they vary."
    return (
        f"There is a mean alone on one side. The interval is that of the mean of the {counted(first.folds, 'fold')} "
        "of the "
        "other (standard error over folds, Student's t); how much the mean alone varies is not in it. Without pairs "
        "there is no paired test."
    )


def _test(found: list[Difference]) -> str:
    """Return what the paired test is, and where it decides nothing."""
    words = (
        "The paired test flips the signs of the differences of folds (seeds averaged first) or seeds, exactly up "
        "to 16 of "
        "them; p is two-sided."
    )
    fewest = min(len(one.pairs) for one in found)
    if fewest <= PAIRS:
        words += f" Of {fewest} {found[0].per}s p can't be under {2 / 2**fewest:.3g}"
        words += ", so it decides nothing there." if fewest < PAIRS else "."
    return words


def _change(difference: Difference) -> str:
    return f"{signed(difference.estimate.value)} ({_percent(difference)})"


def _percent(difference: Difference) -> str:
    # Adding 0 turns a rounded -0.0 into 0.0.
    return NONE if math.isnan(difference.percent) else f"{round(difference.percent, 1) + 0.0:+.1f} %"
