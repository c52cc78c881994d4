"""The report's tables, in Markdown whose columns also line up as plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence

from affect.report.multimodal.names import is_multimodal
from affect.report.runs import Run
from affect.report.scores import MEAN, NETWORK, UA, Estimate, Scores, Targets, by_fold, held_out, section, spread

NONE = "–"


def table(runs: Sequence[Run], known: Scores | None = None) -> str:
    """Return the fold table and the scores beside the baselines, as printed at the end of a run.

    `known` are scores that were computed before: they serve where they hold all finished runs.
    """
    if is_multimodal(runs):
        # Its tables are made with these here.
        from affect.report.multimodal.result import printed
        from affect.report.multimodal.study import Study

        return printed(Study(runs=runs))
    finished = [run for run in runs if run.finished]
    scores = known if known is not None and len(known.runs) == len(finished) else Scores(runs=finished)
    unfinished = [run.name for run in runs if not run.finished]
    parts = [folds(scores)] if scores.runs else ["No run is finished yet."]
    # Reported numbers have no predictions to pool.
    if any(not run.reported for run in scores.runs):
        parts.append(baselines(scores))
    if unfinished:
        parts.append("not finished: " + ", ".join(unfinished))
    return "\n\n".join(parts)


def folds(scores: Scores) -> str:
    """Return a line a run: who is held out, test and valid CCC, their gap, the best epoch; then mean and deviation."""
    columns = [*scores.targets, MEAN]
    seeds = len({run.seed for run in scores.runs}) > 1
    head = ["fold", *(["seed"] if seeds else []), "held out", "n"]
    head += [label(t, scores.targets) for t in columns]
    head += [f"valid {label(t, scores.targets)}" for t in columns] + ["gap", "best epoch"]
    rows = []
    for run in sorted(scores.runs, key=lambda run: (run.fold, run.seed)):
        test, valid = scores.part(run, "test"), scores.part(run, "valid")
        fold = str(run.fold) if run.fold else NONE
        row = [fold, *([str(run.seed)] if seeds else []), held_out(run), f"{len(run.test)}" if run.test else NONE]
        row += [number(part[t]) for part in (test, valid) for t in columns]
        rows.append([*row, signed(valid[MEAN] - test[MEAN]), _best_epoch(run)])
    blank = [""] * (3 if seeds else 2)
    means = {part: [over_folds(scores, part, t) for t in columns] for part in ("test", "valid")}
    gaps = spread(by_fold(scores.runs, lambda run: gap(scores, run)).values())[0]
    for name, i, last in (("mean", 0, signed(gaps)), ("std", 1, "")):
        cells = [number(pair[i]) for part in ("test", "valid") for pair in means[part]]
        rows.append([name, *blank, *cells, last, ""])
    return grid(*filled(head, rows))


def baselines(scores: Scores) -> str:
    """Return the pooled CCC of the network and of each baseline, and what the network has over it."""
    columns = [*scores.targets, MEAN]
    head = [
        "pooled test score" if scores.targets.classes else "pooled test CCC",
        "folds",
        *(label(t, scores.targets) for t in columns),
        "network minus it (mean)",
    ]
    pool = scores.pool(NETWORK)
    rows = [[NETWORK, _folds(scores, NETWORK), *(between(pool.estimate(t)) for t in columns), ""]]
    for name in scores.baselines:
        runs = scores.covered(name)
        other, ours = scores.pool(name, runs, NETWORK), scores.pool(NETWORK, runs, name)
        cells = [between(other.estimate(t)) for t in columns]
        rows.append([name, _folds(scores, name), *cells, between(ours.above(other, MEAN), signed)])
    return grid(head, rows)


def over_folds(scores: Scores, split: str, target: str) -> tuple[float, float]:
    """Return mean and standard deviation over folds of a split's CCC, seeds averaged first."""
    return spread(by_fold(scores.runs, lambda run: scores.part(run, split)[target]).values())


def gap(scores: Scores, run: Run) -> float:
    """Return the validation minus the test CCC of a run, averaged over targets."""
    return scores.part(run, "valid")[MEAN] - scores.part(run, "test")[MEAN]


def settings(recipe: dict[str, object]) -> str:
    """Return a line a section of the recipe with its fields that are set; seed and fold are left out."""
    rows = []
    loose = {k: v for k, v in recipe.items() if not isinstance(v, dict) and k != "seed"}
    for name in ["recipe", *sorted(k for k, v in recipe.items() if isinstance(v, dict))]:
        fields = flat(loose if name == "recipe" else section(recipe, name))
        kept = {k: v for k, v in fields.items() if v not in (None, "", [], {}) and (name, k) != ("data", "fold")}
        if kept:
            rows.append([name, ", ".join(f"{k} {text(v)}" for k, v in kept.items())])
    return grid(["part", "settings"], rows, left=True)


def flat(record: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Return the leaves of nested objects by dotted name, sorted."""
    leaves: dict[str, object] = {}
    for key in sorted(record):
        value = record[key]
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return leaves


def text(value: object) -> str:
    """Return a setting's value in a few words, on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NONE}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        shown = " ".join(text(item) for item in value[:8])
        return f"{shown} … ({len(value)} in all)" if len(value) > 8 else shown
    shown = " ".join(str(value).split())
    return shown if len(shown) <= 120 else shown[:119] + "…"


def escaped(name: str) -> str:
    """Return a name or an id as Markdown shows it letter by letter, on one line."""
    return re.sub(r"[\\`*<|&]|(?<=\])\(", r"\\\g<0>", " ".join(name.split()))


def label(target: str, targets: Sequence[str]) -> str:
    """Return the short name of a target's score: CCC-V (in full where two begin alike), or UA of the classes.

    `targets` is `Scores.targets`, which knows the categorical ones; in a plain list none is.
    """
    if target == MEAN:
        return MEAN
    classes = targets.classes if isinstance(targets, Targets) else frozenset[str]()
    if target in classes:
        return UA if len(classes) == 1 else f"{UA} {target}"
    alone = sum(other[:1] == target[:1] for other in targets if other not in classes) == 1
    return f"CCC-{target[:1].upper() if alone else target}"


def number(value: float) -> str:
    """Return a score with three decimals, a dash where it is unknown."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    return NONE if math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def signed(value: float) -> str:
    """Return a difference with three decimals and its sign, a dash where it is unknown."""
    return NONE if math.isnan(value) else f"{round(value, 3) + 0.0:+.3f}"


def between(estimate: Estimate, shape: Callable[[float], str] = number) -> str:
    """Return a value with its interval, each formed by `shape`."""
    if math.isnan(estimate.value) or math.isnan(estimate.low):
        return shape(estimate.value)
    return f"{shape(estimate.value)} [{shape(estimate.low)}, {shape(estimate.high)}]"


def filled(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Return a table without columns that hold nothing: of reported numbers little else is known."""
    kept = [i for i in range(len(head)) if any(row[i] not in ("", NONE) for row in rows)]
    return [head[i] for i in kept], [[row[i] for i in kept] for row in rows]


def grid(head: list[str], rows: list[list[str]], left: bool | Collection[int] = False) -> str:
    """Return a Markdown table with padded cells of plain text: the first column to the left, the others to the right.

    `left` puts all of them to the left, or those that it numbers.
    """
    head, rows = [escaped(cell) for cell in head], [[escaped(cell) for cell in row] for row in rows]
    # Two at least: a colon alone is no rule of a table.
    widths = [max(2, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    sides = [i == 0 or (left if isinstance(left, bool) else i in left) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.ljust(w) if s else c.rjust(w) for c, w, s in zip(cells, widths, sides, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * w if s else "-" * (w - 1) + ":") for w, s in zip(widths, sides, strict=True)]
    return "\n".join(line(cells) for cells in (head, rule, *rows))


def _best_epoch(run: Run) -> str:
    """Return after how many epochs the chosen checkpoint was made (its step says so whatever epochs count from)."""
    step = run.end.get("best_step")
    return f"{round(step * run.pace, 1):g}" if isinstance(step, int) else NONE


def _folds(scores: Scores, name: str) -> str:
    numbers = sorted({run.fold for run in scores.covered(name)})
    everything = sorted({run.fold for run in scores.runs})
    return f"all {len(numbers)}" if numbers == everything else " ".join(map(str, numbers))
