"""The comparison with another experiment, in words and as a table; never more than its intervals say."""

from __future__ import annotations

import math
from dataclasses import replace

from affect.report.compare import Comparison, Difference
from affect.report.judgement import GROUPS, PAIRS, Judgement, counted, few, judge
from affect.report.scores import MEAN
from affect.report.tables import NONE, between, escaped, filled, grid, label, number, signed


def section(comparison: Comparison) -> str:
    """Return the whole comparison in Markdown: in words, as a table, and what it rests on."""
    return "\n\n".join([summary(comparison), table(comparison), basis(comparison), *comparison.notes])


def summary(comparison: Comparison) -> str:
    """Return what the differences mean: the mean first, then target by target."""
    differences = comparison.differences
    said = [
        f"{label(t, comparison.targets)} {_change(differences[t])}, {verdict(comparison, differences[t])}"
        for t in comparison.targets
    ]
    overall = differences[MEAN]
    words = f"mean **{_change(overall)}**, **{verdict(comparison, overall)}**"
    return f"Against {escaped(comparison.name)}: {words}; " + "; ".join(said) + "."


def verdict(comparison: Comparison, difference: Difference) -> str:
    """Return in a few words what a difference means."""
    return judged(comparison, difference).said()


def judged(comparison: Comparison, difference: Difference) -> Judgement:
    """Return how sure a difference is; words and colours follow it."""
    estimate = difference.estimate
    if comparison.basis == "rows":
        groups, unit, doubt = comparison.groups, comparison.unit, ""
    else:
        # Folds that a paper gives: how many seeds stand behind a number it doesn't say.
        groups, unit, doubt = len(comparison.folds), "fold", "seeds unknown"
    found = judge(
        estimate, groups=groups, unit=unit, single=comparison.single, p=difference.p, pairs=difference.pairs,
        doubt=doubt,
    )  # fmt: skip
    if comparison.basis == "mean" and found.strength == "not confirmed":
        # How much the other mean varies is unknown, so that the interval is too narrow by as much.
        return replace(found, tail=" than the folds vary (how the other side's do is unknown)")
    return found


def table(comparison: Comparison) -> str:
    """Return a line a target: both scores, difference, percent, interval, the paired test and the verdict."""
    head = ["score", "here", comparison.name, "difference", "percent", "95 % interval", "paired test", "in words"]
    rows = []
    for target in [*comparison.targets, MEAN]:
        found = comparison.differences[target]
        interval = between(found.estimate, signed).partition(" ")[2] or NONE
        p = "p < 0.001" if found.p < 5e-4 else f"p {found.p:.3f}"
        test = NONE if math.isnan(found.p) else f"{p} (n {found.pairs})"
        row = [label(target, comparison.targets), number(found.ours), number(found.theirs)]
        row += [signed(found.estimate.value), _percent(found), interval, test, verdict(comparison, found)]
        rows.append(row)
    head, rows = filled(head, rows)
    return grid(head, rows, left={len(head) - 1})


def basis(comparison: Comparison) -> str:
    """Return what was compared, and what interval and test are."""
    folds = counted(len(comparison.folds), "fold")
    if comparison.basis == "mean":
        where = "here" if comparison.ours_known else "there"
        other = "there" if comparison.ours_known else "here"
        if not comparison.folds:
            return "Both sides give a mean alone: nothing tells how much it varies."
        if len(comparison.folds) == 1:
            return f"A mean alone {other} and one fold {where}: nothing tells how much they vary."
        return (
            f"There is a mean alone {other}. The interval is that of the mean of the {folds} {where} (standard error "
            f"over folds, Student's t); how much the mean {other} varies is not in it. Without pairs there is no "
            "paired test."
        )
    test = _test(comparison)
    if comparison.basis == "folds":
        return (
            f"Compared fold by fold ({folds}), as one side has no predictions. The interval is Student's t of the "
            f"folds' differences. {test}"
        )
    groups = counted(comparison.groups, comparison.unit)
    words = f"Compared on the {comparison.rows:,} test rows of both (pooled over {folds})."
    if comparison.groups > 1:
        words += f" The interval is a paired bootstrap: 1,000 resamples of the same {groups} for both sides."
        words += f" {few(comparison.groups, comparison.unit)}".rstrip()
    return " ".join(filter(None, [words, test, _rule(comparison)]))


def _test(comparison: Comparison) -> str:
    """Return what the paired test is; "" where no target has one."""
    pairs = max(difference.pairs for difference in comparison.differences.values())
    if pairs < 2:
        return ""
    words = (
        "The paired test flips the signs of the differences of folds (seeds averaged first), exactly up to 16 of "
        "them; p is two-sided."
    )
    if pairs < PAIRS:
        words += f" Of {pairs} folds p can't be under {2 / 2**pairs:.3f}, so it decides nothing here."
    return words


def _rule(comparison: Comparison) -> str:
    """Return what it takes to call a difference real."""
    words = f'"Really" needs an interval without 0, at least {GROUPS} {comparison.unit}s, more than one seed'
    pairs = max(difference.pairs for difference in comparison.differences.values())
    return words + (" and p of at most .05." if pairs >= PAIRS else ".")


def _change(difference: Difference) -> str:
    value = difference.estimate.value
    return "unknown" if math.isnan(value) else f"{signed(value)} ({_percent(difference)})"


def _percent(difference: Difference) -> str:
    # Adding 0 turns a rounded -0.0 into 0.0.
    return NONE if math.isnan(difference.percent) else f"{round(difference.percent, 1) + 0.0:+.1f} %"
