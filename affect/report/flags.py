"""Signs of trouble (and of success) that run folders show by themselves, each with its evidence and what to try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from affect.findings import Flag, gathered
from affect.recipe import FREE
from affect.report import courses, gaps, leaks, outliers, ranges
from affect.report.compare import Comparison
from affect.report.runs import Run
from affect.report.study import Study
from affect.report.systems import spread
from affect.tables import flat, inside, number, signed, text

SEVERITY = (
    # The numbers are wrong, or not all there.
    "unreadable", "no predictions", "labels differ", "conditions disagree", "mixed settings", "mixed corpus",
    "leaking split",
    "NaN predictions", "constant predictions", "collapse to one class", "label range", "NaN loss", "NaN gradient",
    "exploding loss", "exploding gradient", "undefined term", "unfinished", "missing folds",
    # They are right, but could be better, or say less than they seem to.
    "selected on a test", "not the best epoch", "gain within its interval", "rising loss", "outlying fold",
    "valid above test", "train above valid", "falling score", "stands still", "predictions off the scale",
    "predictions at the border", "seeds differ more than folds", "test above valid", "sharing allowed", "data-bound",
    "memory nearly full",
)  # fmt: skip
"""All kinds of flags, what weighs most first; a task's own kinds stand before what could be better, the grave first."""

_OWN = SEVERITY.index("selected on a test")
_AGAIN = "give the same command again: it goes on from the last checkpoint and skips what is finished"
_MIX = "average only runs of one recipe and corpus: another --name, or --overwrite the odd ones"
_SEEDS = "the folds tell less than chance does: more seeds before any comparison, their ensemble, weight averaging"


def flags(study: Study, comparison: Comparison | None = None) -> list[Flag]:
    """Return everything that looks wrong (or, last, promising) in an experiment, what weighs most first."""
    # Of a paper there is nothing to read but its scores.
    own = [run for run in study.runs if not run.reported]
    found = [
        *_unfinished(study, own),
        *_mixed(own),
        *leaks.leaks(study, own),
        *ranges.predictions(study),
        *ranges.averages(study),
        *courses.losses(study, own),
        *ranges.scales(study),
        *courses.scores_over_epochs(study),
        *courses.choices(study),
        *_seeds(study),
        *courses.waiting(study, own),
        *courses.memory(study, own),
    ]
    if study.task is not None and own:
        found += study.task.flags(study)
    # Last: all files were read by now.
    found += _unreadable(study, own)
    # What depends on who is in a fold stays fold by fold; all else is a row a kind.
    by_fold = [*outliers.odd_folds(study), *gaps.valid_and_test(study), *gaps.train_and_valid(study)]
    by_fold += _unsure(study, comparison) if comparison and own else []
    return sorted([*gathered(found, {run.name for run in study.runs}), *by_fold], key=_weight)


def _weight(flag: Flag) -> tuple[float, float]:
    known = flag.kind in SEVERITY
    place = SEVERITY.index(flag.kind) if known else _OWN - (0.5 if not flag.grave else 1.5)
    return place, -flag.size


def _unfinished(study: Study, runs: Sequence[Run]) -> Iterator[Flag]:
    for run in runs:
        if not run.finished:
            step = max((record["step"] for record in [*run.steps, *run.evals]), default=0)
            yield Flag(
                "unfinished", run.name, f"no end in metrics.jsonl (last step {step}); left out of every score", _AGAIN
            )
    told = inside(study.recipe, "data").get("folds")
    # A single fold of several was asked for by --folds; else all that there are were meant.
    several = len({run.fold for run in runs}) > 1
    planned = set(range(1, told + 1)) if isinstance(told, int) and several else set()
    everything = {run.fold for run in runs} | planned
    for seed in sorted({run.seed for run in runs}):
        present = {run.fold for run in runs if run.seed == seed}
        done = {run.fold for run in runs if run.seed == seed and run.finished}
        missing = sorted(everything - (done if planned else present))
        if missing:
            which = f"fold {' '.join(map(str, missing))}" + (f" of {told}" if planned else ", which another seed has")
            counts = "fewer models in the means" if seed in study.seeds else "the seed is left out of every score"
            yield Flag("missing folds", f"seed {seed}", f"{which}: {counts}", _AGAIN)


def _unreadable(study: Study, runs: Sequence[Run]) -> Iterator[Flag]:
    if study.problem:
        yield Flag("unreadable", "across runs", f"{study.problem}; only recorded scores are shown")
    main = study.main
    for name in study.names if study.task is not None and main is not None else ():
        # Read for the scores under conditions; what is wrong in a file is known then.
        assert main is not None
        study.scored(name, main)
        part = name.partition("@")[0]
        if name != part and part in study.names and study.size(name) < study.system(part).size:
            evidence = f"{name} has {study.size(name):,} of the {study.system(part).size:,} rows of {part}"
            yield Flag("conditions disagree", name, evidence, "train those folds again with --overwrite")
    for run in runs:
        if run.finished:
            for name in study.evaluations or ["test"]:
                if not (run.predictions.get(name) or {}):
                    yield Flag(
                        "no predictions", run.name, f"finished, but no readable predictions-{name}.jsonl", _AGAIN
                    )
        for problem in run.problems:
            yield Flag("unreadable", run.name, problem)
    for name in study.evaluations:
        if _labelled_differently(study, runs, name):
            yield Flag("labels differ", name, "runs of one part give the same rows different labels", _MIX)


def _labelled_differently(study: Study, runs: Sequence[Run], name: str) -> bool:
    known: dict[str, str] = {}
    for run in runs:
        for key, row in (run.predictions.get(name) or {}).items() if run.finished else ():
            if known.setdefault(key, told := repr(sorted(row["target"].items()))) != told:
                return True
    return False


def _mixed(runs: Sequence[Run]) -> Iterator[Flag]:
    """Yield settings and corpus versions that differ between runs that are averaged."""
    # Folds differ by design, and what decides no result may change between sessions.
    own = {"seed", "data.fold", *FREE}
    for what, records in (("settings", [r.recipe for r in runs]), ("corpus", [_corpus(r) for r in runs])):
        known = [flat(record) for record in records if record]
        for name in sorted({name for record in known for name in record} - own):
            values = sorted({text(record.get(name)) for record in known})
            if len(values) > 1:
                yield Flag(f"mixed {what}", "across runs", f"{name} is {' or '.join(values)}", _MIX)


def _corpus(run: Run) -> dict[str, object]:
    return {k: v for k, v in flat(run.environment).items() if k.split(".")[-1] in ("fingerprint", "mapped", "scale")}


def _seeds(study: Study) -> Iterator[Flag]:
    """Yield a flag where the same fold differs more between seeds than folds, which hold out groups, differ."""
    found = []
    for evaluation in gaps.tests(study):
        for measure in study.headline:
            scored = study.scored(evaluation, measure)
            if measure.parts or not scored.cells or not (study.reported or study.pooled(evaluation, measure)):
                continue
            within = [spread(v for (_, f), v in scored.cells.items() if f == fold)[1] for fold in study.folds]
            within = [deviation for deviation in within if not math.isnan(deviation)]
            # Of two folds, or two values in all, a deviation says nothing.
            seeds = float(np.sqrt(np.mean(np.square(within)))) if within else math.nan
            if len(within) >= 3 and seeds > scored.over_folds:
                words = f"± {number(seeds)} over seeds, ± {number(scored.over_folds)} over folds"
                found.append(f"{measure.shown}: {words}")
    if found:
        yield Flag("seeds differ more than folds", "across runs", "; ".join(found), _SEEDS)


def _unsure(study: Study, comparison: Comparison) -> Iterator[Flag]:
    """Yield the gains of the main measure that their interval does not bear out."""
    for found in comparison.differences:
        if found.measure is study.main and found.improved and found.judged.strength == "within noise":
            evidence = (
                f"{found.evaluation} {found.measure.shown}: {found.estimate.shown(signed)} against {comparison.name}"
            )
            advice = "more seeds, and no claim until then"
            where = "comparison"
            yield Flag(
                "gain within its interval",
                where,
                f"{evidence}; the interval holds 0",
                advice,
                abs(found.estimate.value),
            )
