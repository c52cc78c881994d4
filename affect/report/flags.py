"""Signs of trouble (and of success) that run folders show by themselves, each with its evidence and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from affect.findings import Flag, gathered
from affect.recipe import FREE
from affect.report import gaps, gradients, leaks, learning_curves, ranges
from affect.report.compare import Comparison
from affect.report.study import Study
from affect.report.systems import score, spread
from affect.tables import flat, inside, number, signed, text
from affect.task import perfect

_AGAIN = "give the same command again: it goes on from the last checkpoint and skips what is finished"
_MIX = "average only runs of one recipe and corpus: another --name, or --overwrite the odd ones"
_CLIP = "clip gradients (--optim.clip .3) and lower the learning rates; in fp16 a few norms are overflows"
_EXPLODING = "clip gradients (--optim.clip .3), halve the learning rates, or warm up longer"
_OVERFIT = "against overfitting: more dropout and weight decay, a smaller model, {sooner}, augmentation"

ADVICE = {
    # The numbers are wrong, or not all there.
    "unreadable": "", "no predictions": _AGAIN, "labels differ": _MIX,
    "conditions disagree": "train those folds again with --overwrite",
    "mixed settings": _MIX, "mixed corpus": _MIX, "leaking split": "",
    "NaN predictions": "look at those rows (silence? a broken file?), then clip gradients and lower the rates",
    "constant predictions": "nothing is learned: a higher learning rate for the head, a larger batch, no NaN inputs",
    "collapse to one class": "a smaller learning rate, less dropout, a loss that weighs classes alike",
    "label range": "the scale of the data is not that of the labels; both sides must be on one scale",
    "NaN loss": _CLIP, "NaN gradient": _CLIP, "exploding loss": _EXPLODING, "exploding gradient": _EXPLODING,
    "undefined term": "batches that tell a term nothing (all labels missing or equal): a larger batch, or no such term",
    "undefined score": "means over folds leave it out: another split, so that each part has labels that differ",
    "unfinished": _AGAIN, "missing folds": _AGAIN,
    # They are right, but could be better, or say less than they seem to.
    "selected on a test": "choose on validation alone: a score chosen on a test is no test score",
    "below a trivial model":
        "does it learn its training rows (the train score)? Then more epochs or a higher rate; else a smaller model, "
        "more data, or that trivial model",
    "not the best epoch": "the kept epoch is not the best on validation: train that fold again with --overwrite",
    "gain within its interval": "more seeds, and no claim until then",
    "rising loss":
        "halve the learning rates, or let them fall (--optim.schedule cosine); a loss that rises is learning nothing",
    "loss does not fall":
        "a learning rate half as high, then one three times as high; look at whether the inputs tell anything at all",
    "vanishing gradient":
        "saturated outputs or dead units let nothing through: a lower learning rate, normalised inputs, fewer layers",
    "opposing gradients":
        "weigh one of the two down, or let them share less; a task may combine their gradients",
    "outlying fold": "look at who is in that fold, and repeat it with other seeds: data, or chance?",
    "valid above test": _OVERFIT, "train above valid": _OVERFIT,
    "falling score": "overfitting: {sooner}, more dropout, more weight decay",
    "stands still":
        "nothing is gained after the first epochs: other features or another model, a learning rate three times as "
        "high and as low; if it was learned within the first epoch, evaluate more often",
    "predictions off the scale": "bound the outputs to the scale",
    "predictions at the border":
        "the outputs are saturated, their gradient gone: a lower learning rate, or unbounded outputs",
    "seeds differ more than folds":
        "the folds tell less than chance does: more seeds before any comparison, their ensemble, weight averaging",
    "test above valid": "who is in which part, by chance: judge by the mean over folds, not by this fold",
    "sharing allowed": "train.log names what is shared; without data.allow_shared a leaking split is refused",
    "data-bound": "more loader workers (--train.workers), a faster disk",
    "memory nearly full": "--train.budget at half of what train.log names: it doesn't change the loss",
}  # fmt: skip
"""What to try about each kind of flag, what weighs most first; a task may know better."""

_SIGNS = {
    "class not trained": "it can't be predicted: give training rows of it, or leave it out (data.classes)",
    "classes alike": "if they are one, spell them alike, or join them (data.classes)",
    "constant features": "leave that feature out: it tells nothing of anybody",
    "repeated features": "what stands for nothing should be all zero (missing): say what made these vectors",
    "wildly scaled features": "--model.normalise True, or features without their few huge numbers",
    "silent recordings": "listen to them: without a voice they teach and test nothing",
    "still pictures": "look at them: a face that never moves teaches and tests nothing about talking",
    "constant clips": "look at what made that feature: of these clips it tells nothing",
    "speakers unknown": "a score on known voices is better than one on new ones: name the speakers, if you can",
}
"""What to try about what a run says of its data."""

_SAME = {
    "NaN gradient": "NaN loss", "exploding loss": "exploding", "exploding gradient": "exploding",
    "valid above test": "overfitting", "train above valid": "overfitting",
}  # fmt: skip
"""What a task's advice calls kinds that have one cause."""

_SHOWN = 5e-4
"""Half of the last digit that tables show."""
_CORPUS = ("fingerprint", "mapped", "scale")
"""What tells versions of a corpus apart."""


def flags(study: Study, comparison: Comparison | None = None) -> list[Flag]:
    """Return everything that looks wrong (or, last, promising) in an experiment, what weighs most first."""
    flagged = [flag for find in _FINDERS for flag in find(study)]
    if study.task is not None and study.measured:
        flagged += study.task.flags(study)
    # Last: all files were read by now.
    flagged += _unreadable(study)
    # What depends on who is in a fold stays fold by fold; all else is a row a kind.
    by_fold = [*gaps.odd_folds(study), *gaps.valid_and_test(study)]
    by_fold += _unsure(study, comparison) if comparison and study.measured else []
    flagged = [*gathered(flagged, {run.name for run in study.runs}), *by_fold]
    weights = {kind: float(place) for place, kind in enumerate(ADVICE)}
    # A task's own kinds stand before what could be better, the grave first.
    own = weights["selected on a test"]
    flagged.sort(key=lambda flag: (weights.get(flag.kind, own - (1.5 if flag.grave else 0.5)), -flag.size))
    sooner = _sooner(study)
    return [
        replace(flag, advice=(flag.advice or _advice(study, flag.kind)).replace("{sooner}", sooner)) for flag in flagged
    ]


def _advice(study: Study, kind: str) -> str:
    return study.advice(_SAME.get(kind, kind), ADVICE.get(kind, ""))


def _sooner(study: Study) -> str:
    """Return how training ends sooner: by a patience, which recipes that keep the last weights don't take."""
    if inside(study.recipe, "train").get("choose") == "last":
        return "fewer epochs (--train.epochs), as the last weights are kept"
    return "earlier stopping (--train.patience)"


def _unfinished(study: Study) -> Iterator[Flag]:
    runs = study.measured
    for run in runs:
        if not run.finished:
            step = max((record["step"] for record in [*run.steps, *run.evals]), default=0)
            words = f"no end in metrics.jsonl (last step {step}); left out of every score"
            yield Flag("unfinished", run.name, words)
    count = inside(study.recipe, "data").get("folds")
    there = {run.fold for run in runs}
    # A single fold of several was asked for by --folds; else all that there are were meant.
    planned = set(range(1, count + 1)) if isinstance(count, int) and len(there) > 1 else set()
    for seed in sorted({run.seed for run in runs}):
        present = {run.fold for run in runs if run.seed == seed and (run.finished or not planned)}
        if missing := sorted((there | planned) - present):
            which = f"fold {' '.join(map(str, missing))}" + (f" of {count}" if planned else ", which another seed has")
            counts = "fewer models in the means" if seed in study.seeds else "the seed is left out of every score"
            yield Flag("missing folds", f"seed {seed}", f"{which}: {counts}")


def _unreadable(study: Study) -> Iterator[Flag]:
    if study.problem:
        yield Flag("unreadable", "across runs", f"{study.problem}; only recorded scores are shown")
    for name in study.names if study.task is not None else ():
        # Rows under a condition are read for it; what is wrong in a file is known then.
        size, part = study.size(name), name.partition("@")[0]
        if name != part and part in study.names and size < study.size(part):
            evidence = f"{name} has {size:,} of the {study.size(part):,} rows of {part}"
            yield Flag("conditions disagree", name, evidence)
    for run in study.measured:
        for name in (study.evaluations or ["test"]) if run.finished else ():
            if not run.predictions.get(name):
                words = f"finished, but no readable predictions-{name}.jsonl"
                yield Flag("no predictions", run.name, words)
        for problem in run.problems:
            yield Flag("unreadable", run.name, problem)
    for name in study.evaluations:
        labels: dict[str, set[str]] = {}
        for run in (run for run in study.measured if run.finished):
            for key, row in run.predictions.get(name, {}).items():
                labels.setdefault(key, set()).add(repr(sorted(row["target"].items())))
        if any(len(given) > 1 for given in labels.values()):
            yield Flag("labels differ", name, "runs of one part give the same rows different labels")


def _mixed(study: Study) -> Iterator[Flag]:
    """Yield settings and corpus versions that differ between runs that are averaged."""
    # Folds differ by design, and what decides no result may change between sessions.
    own = {"seed", "data.fold", *FREE}
    recipes = [flat(run.recipe) for run in study.measured]
    facts = [flat(run.environment) for run in study.measured]
    corpora = [{k: v for k, v in environment.items() if k.split(".")[-1] in _CORPUS} for environment in facts]
    for what, records in (("settings", recipes), ("corpus", corpora)):
        for name in sorted({name for record in records for name in record} - own):
            values = sorted({text(record.get(name)) for record in records if record})
            if len(values) > 1:
                yield Flag(f"mixed {what}", "across runs", f"{name} is {' or '.join(values)}")


def _seeds(study: Study) -> Iterator[Flag]:
    """Yield a flag where the same fold differs more between seeds than folds, which hold out groups, differ."""
    lines = []
    for evaluation in gaps.tests(study):
        for measure in study.headline:
            scored = study.scored(evaluation, measure)
            if measure.parts or not scored.cells or not (study.reported or study.pooled(evaluation, measure)):
                continue
            within = [spread(v for (_, f), v in scored.cells.items() if f == fold)[1] for fold in study.folds]
            within = [deviation for deviation in within if not math.isnan(deviation)]
            # Of two folds, or two values in all, a deviation says nothing.
            if len(within) < 3:
                continue
            seeds = float(np.sqrt(np.mean(np.square(within))))
            # What the table shows as nothing is no difference.
            if seeds > max(scored.over_folds, _SHOWN):
                words = f"± {number(seeds)} over seeds, ± {number(scored.over_folds)} over folds"
                lines.append(f"{measure.shown}: {words}")
    if lines:
        yield Flag("seeds differ more than folds", "across runs", "; ".join(lines))


def _unsure(study: Study, comparison: Comparison) -> Iterator[Flag]:
    """Yield the gains of the main measure that their interval does not bear out."""
    for one in comparison.differences:
        gained = one.measure is study.main and one.measure.sign * one.estimate.value > 0
        if gained and one.judged.strength == "within noise":
            words = f"{one.evaluation} {one.measure.shown}: {one.estimate.shown(signed)} against {comparison.name}"
            words += "; the interval holds 0"
            yield Flag("gain within its interval", "comparison", words, size=abs(one.estimate.value))


def _undefined(study: Study) -> Iterator[Flag]:
    """Yield runs with a score that their labels don't define and those of others do: means leave it out."""
    for name in study.evaluations if study.task is not None else ():
        for measure in (measure for measure in study.headline if not measure.parts):
            parts = {run.name: [*(run.predictions.get(name) or {}).values()] for run in study.finished}
            gone = [run for run, rows in parts.items() if rows and math.isnan(score(measure, perfect(rows)))]
            for run in gone if len(gone) < len(study.finished) else ():
                words = f"{name}: no {measure.shown}: fewer than two labels, or all the same"
                yield Flag("undefined score", run, words)


def _of_data(study: Study) -> Iterator[Flag]:
    """Yield what misleads in the data of a run, as environment.json tells it."""
    for run in study.measured:
        signs = run.environment.get("signs")
        for sign in signs if isinstance(signs, list) else ():
            if isinstance(sign, dict):
                kind = text(sign.get("kind"))
                yield Flag(kind, run.name, text(sign.get("evidence")), _SIGNS.get(kind, ""))


_FINDERS: tuple[Callable[[Study], Iterable[Flag]], ...] = (
    _unfinished, _mixed, _undefined, _of_data, leaks.leaks, ranges.predictions, ranges.averages, learning_curves.losses,
    ranges.scales, learning_curves.scores_over_epochs, learning_curves.choices, _seeds, learning_curves.waiting,
    learning_curves.memory, gaps.train_and_valid, gaps.below_trivial, gradients.flags,
)  # fmt: skip
"""What looks for flags of runs, in the order of what is read."""
