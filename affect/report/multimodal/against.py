"""The comparison with another experiment in Markdown: in words, as tables, and what both rest on."""

from __future__ import annotations

import math

from affect.report.judgement import probability
from affect.report.multimodal.compare import REST, Comparison, Difference
from affect.report.multimodal.names import SEEDS, shown
from affect.report.multimodal.result import gain
from affect.report.tables import NONE, escaped, grid, number

NAMES = {"f1": "f1", "acc": "acc", "val": "val", REST: "f1, incomplete subsets"}


def section(comparison: Comparison) -> str:
    """Return the whole comparison: in words, as a table, seed by seed, and what it rests on."""
    parts = [summary(comparison), table(comparison), seeds(comparison), basis(comparison), *comparison.notes]
    return "\n\n".join(filter(None, parts))


def summary(comparison: Comparison) -> str:
    """Return what the differences of weighted F1 mean, part by part, whole and over incomplete subsets."""
    said: dict[str, list[str]] = {}
    for found in comparison.differences:
        if found.score in ("f1", REST) and not math.isnan(found.estimate.value):
            what = "incomplete subsets " if found.score == REST else ""
            said.setdefault(shown(found.part), []).append(f"{what}{found.change()} points, **{found.said()}**")
    lines = "\n".join(f"- {part}: {'; '.join(words)}" for part, words in said.items())
    return f"Weighted F1 against {escaped(comparison.name)}:\n\n{lines}"


def table(comparison: Comparison) -> str:
    """Return a line a part and score: both sides, the difference with its interval, p, and the verdict."""
    head = ["part", "score", "here", comparison.name, "difference", "95 % interval", "paired test", "in words"]
    rows = []
    for found in comparison.differences:
        if math.isnan(found.estimate.value):
            # Valence is not rated on every part.
            continue
        bounds = found.change().partition(" ")[2] or NONE
        row = [shown(found.part), NAMES[found.score], number(found.ours), number(found.theirs)]
        rows.append([*row, gain(found.estimate.value, found.score), bounds, _test(found), found.said()])
    return grid(head, rows, left={1, len(head) - 1})


def seeds(comparison: Comparison) -> str:
    """Return a line a seed with its paired differences of weighted F1, in points; "" without pairs."""
    known = [found for found in comparison.differences if found.score in ("f1", REST) and found.seeds]
    numbers = sorted({seed for found in known for seed in found.seeds})
    if not numbers:
        return ""
    head = ["seed", *(f"{shown(found.part)}{', incomplete' if found.score == REST else ''}" for found in known)]
    rows = [
        [str(seed), *(gain(found.seeds[seed], "f1") if seed in found.seeds else NONE for found in known)]
        for seed in numbers
    ]
    return "Differences of weighted F1 seed by seed, in points:\n\n" + grid(head, rows)


def basis(comparison: Comparison) -> str:
    """Return what differences, intervals and tests are, and what it takes to call something better."""
    unit = "Differences of f1 and acc are in points (hundredths), those of val in its own unit (less is better)."
    if comparison.basis == "reported":
        return (
            f"{unit} One side is a number that somebody reports: the interval is that of the measured side, and says "
            "nothing of how much the reported one varies from run to run."
        )
    words = (
        f"{unit} The interval is a paired bootstrap: 1,000 resamples of the same utterances for both sides, of the "
        'means over seeds. "Better" and "worse" need an interval without 0, at least '
        f"{SEEDS} seeds and p of at most .05."
    )
    if comparison.basis == "seeds":
        pairs = max((len(found.seeds) for found in comparison.differences), default=0)
        words += (
            " The paired test flips the signs of the seeds' differences, in all 2^n ways up to 16 seeds; p is two-sided"
        )
        words += f", and of {pairs} seeds can't be under {2 / 2**pairs:.3g}." if 1 < pairs <= SEEDS else "."
    tests = sum(not math.isnan(found.estimate.value) for found in comparison.differences)
    words += f" There are {tests} lines: of that many one in twenty may leave out 0 by chance."
    return words


def _test(found: Difference) -> str:
    return NONE if math.isnan(found.p) else f"{probability(found.p)} (n {len(found.seeds)})"
