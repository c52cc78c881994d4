"""How a diarization learned: its DER beside trivial ones, losses beside chance, weights and thresholds.

Imports no tensor library. What a run says of itself (`train.diagnostics_every`) is in the steps of its log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from affect.findings import Flag, Plot, Section, finite
from affect.tables import NONE, grid, inside, number
from affect.task import TRAIN, VALID
from affect.tasks.diarization import diagnostics
from affect.tasks.diarization.breakdown import rate, rows_of
from affect.tasks.diarization.config import Diarization, Loss
from affect.tasks.diarization.diagnostics import CONTRASTIVE
from affect.tasks.diarization.trivial import ALL_SPEAKERS, NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from affect.report.study import Study

Means = dict[str, float]
Series = list[tuple[int, Means]]
"""Means of diagnostics by step."""

_MOVED = 0.1
"""By how much the logarithm of a learned weight changes at least where it is learned."""
_WITHOUT = (
    "The run recorded no diagnostics: `--train.diagnostics_every 20` has losses beside chance, effective weights and "
    "thresholds here."
)


def series(steps: Sequence[Mapping[str, Any]]) -> Series:
    """Return the diagnostics of a run's steps, those that are complete and finite, with the contrastive loss."""
    records = [(int(step["step"]), _means(dict(step))) for step in steps]
    return [
        (step, {name: float(value) for name, value in means.items()})
        for step, means in records
        if "bce" in means and all(map(finite, means.values()))
    ]


def _means(step: dict[str, Any]) -> dict[str, Any]:
    means, own = inside(step, "diagnostics"), inside(step, "terms")
    there = CONTRASTIVE in own and "compared_speakers" in means
    return {**means, CONTRASTIVE: own[CONTRASTIVE]} if there else means


def average(records: Series) -> Means:
    """Return the means of records: of single batches most is noise."""
    names = set.intersection(*(set(means) for _, means in records))
    return {name: float(np.mean([means[name] for _, means in records])) for name in sorted(names)}


def ends(records: Series) -> tuple[Means, Means]:
    """Return the averages of the first and of the last tenth of a run's records."""
    size = max(1, len(records) // 10)
    return average(records[:size]), average(records[-size:])


def chances(means: Means, study: Study, recipe: Diarization) -> dict[str, float]:
    """Return what the losses come to by chance."""
    return diagnostics.chances(means, recipe, speakers_of(study))


def speakers_of(study: Study) -> int:
    """Return how many training speakers there are."""
    count = inside(study.environment, "voices").get("training")
    return count if isinstance(count, int) else 0


def flags(study: Study, recipe: Diarization) -> Iterator[Flag]:
    """Yield what looks wrong at the end of each run's training, and learned weights that barely move."""
    for run in study.measured:
        if not (records := series(run.steps)):
            continue
        first, last = ends(records)
        yield from diagnostics.flags(last, recipe, speakers_of(study), run.name)
        weights = {name: (first[name], last[name]) for name in last if name.startswith("weight_") and name in first}
        moved = [abs(math.log(now / then)) for then, now in weights.values()]
        if recipe.loss.learned and moved and max(moved) < _MOVED:
            words = ", ".join(f"{name.removeprefix('weight_')} {a:.3g} to {b:.3g}" for name, (a, b) in weights.items())
            advice = "a rate of their own, without decay (--loss.weights_lr .01), or fixed weights"
            yield Flag("learned weights barely move", run.name, words, advice)


def section(study: Study, recipe: Diarization) -> Section:
    """Return how the runs learned."""
    caption = "DER over epochs beside trivial diarizations of the validation part, and losses beside chance (dashed)"
    drawn = [Plot(name="learning", caption=caption, draw=partial(curves, study, recipe))]
    recorded = averages(study)
    parts = [_terms(study, recipe)]
    if recorded is None:
        parts.append(_WITHOUT)
    else:
        parts += [_losses(study, recipe, *recorded), _statistics(study, *recorded), _thresholds(recorded[1])]
        caption = "DER of training frames by threshold"
        drawn.append(Plot(name="thresholds", caption=caption, draw=partial(_sweep, recorded[1])))
    return Section(title="How it learned", markdown="\n\n".join(filter(None, parts)), plots=drawn)


def averages(study: Study) -> tuple[Means, Means] | None:
    """Return the averages over runs of what `ends` returns; None where no run has diagnostics."""
    each = [ends(records) for run in study.measured if (records := series(run.steps))]
    if not each:
        return None
    first, last = (average([(0, means) for means in side]) for side in zip(*each, strict=True))
    return first, last


@dataclass(frozen=True)
class Share:
    """A term of the loss over the first and the last tenth of the steps, its weight, and its share of the loss."""

    first: float
    last: float
    weight: float
    share: float


def terms(study: Study, recipe: Diarization) -> dict[str, Share]:
    """Return the terms of the loss by name, means over runs."""
    tenths: dict[str, tuple[list[float], list[float]]] = {}
    for run in study.measured:
        size = max(1, len(run.steps) // 10)
        for side, steps in enumerate((run.steps[:size], run.steps[-size:])):
            for name, value in (item for step in steps for item in inside(step, "terms").items()):
                if finite(value):
                    tenths.setdefault(name, ([], []))[side].append(float(value))
    means = {name: [float(np.mean(side)) for side in sides] for name, sides in tenths.items() if all(sides)}
    weights = {name: _weight_of(name, study, recipe) for name in means}
    total = sum(weights[name] * last for name, (_, last) in means.items())
    return {
        name: Share(first, last, weights[name], weights[name] * last / total if total > 0 else math.nan)
        for name, (first, last) in means.items()
    }


def _terms(study: Study, recipe: Diarization) -> str:
    rows = [
        [_called(name), number(term.first), number(term.last), f"{term.weight:.3g}", f"{100 * term.share:.0f} %"]
        for name, term in terms(study, recipe).items()
    ]
    words = "Means of the first and the last tenth of the steps, over runs."
    return f"{words}\n\n{grid(['term', 'at first', 'at last', 'weight at last', 'of the loss'], rows)}" if rows else ""


def _called(term: str) -> str:
    """Return a term with what it is about."""
    kind = "contrastive" if term == CONTRASTIVE else "speakers" if term.startswith("arcface") else "activity"
    return f"{term} ({kind})"


def _weight_of(term: str, study: Study, recipe: Diarization) -> float:
    recorded = averages(study)
    name = term if term == CONTRASTIVE else "arcface" if term.startswith("arcface") else "bce"
    return weight(name, recipe.loss, recorded[1] if recorded else {})


def _losses(study: Study, recipe: Diarization, first: Means, last: Means) -> str:
    levels = chances(last, study, recipe)
    rows = []
    for name, level in levels.items():
        weights = weight(name, recipe.loss, first), weight(name, recipe.loss, last)
        share = f"{100 * last[name] / level:.0f} %" if level > 0 else NONE
        random = number(diagnostics.random_arcface(recipe, speakers_of(study))) if name == "arcface" else NONE
        shown = [number(first[name]), number(last[name]), number(level), share, random]
        rows.append([_NAMES[name], *shown, *(f"{value:.3g}" for value in weights)])
    head = ["loss", "at first", "at last", "chance", "of chance", "random", "weight at first", "weight at last"]
    words = (
        "*Chance* is the least that a model comes to that knows only how often somebody speaks (the entropy of that "
        "rate), and of ArcFace (at this scale, margin and number of speakers) and the contrastive loss one whose "
        "embeddings do not tell who it is: **a loss near it has learned nothing, however low it looks**. ArcFace falls "
        "from what random embeddings have to its chance without telling anybody apart, and may be above it where it "
        "does: below is how often it names the right speaker. Where weights are learned, a loss is multiplied by "
        "exp(-s)."
    )
    return f"{words}\n\n{grid(head, rows)}"


_NAMES = {"bce": "activity (cross entropy)", "arcface": "ArcFace", CONTRASTIVE: "contrastive"}


def weight(name: str, loss: Loss, means: Means) -> float:
    """Return what a loss is multiplied by: exp(-s), as recorded where s is learned."""
    if name == CONTRASTIVE:
        return loss.contrastive
    recorded = means.get(f"weight_{loss.activity if name == 'bce' else name}")
    if recorded is not None:
        return recorded
    return math.exp(-(loss.log_s_bce if name == "bce" else loss.log_s_arcface))


_STATISTICS = {
    "positive_rate": "share of slots' frames with speech",
    "taught_slots": "slots of a block that are taught",
    "active_slots": "of these with speech",
    "predicted_mean": "predicted probability, mean",
    "deviation": "its deviation",
    "predicted_active": "its mean where there is speech",
    "predicted_silent": "its mean where there is none",
    "valid_speakers": "speakers of a block with an embedding",
    "speakers_right": "of these nearest to their own row",
    "guessed_right": "the same by chance",
    "compared_speakers": "speakers of a block whose embeddings from two blocks are compared",
}


def _statistics(study: Study, first: Means, last: Means) -> str:
    guessed = {"guessed_right": 1 / speakers_of(study)} if "arcface" in last and speakers_of(study) else {}
    sides = [{**means, **guessed, "deviation": diagnostics.deviation(means)} for means in (first, last)]
    rows = [
        [words, *(number(means[name]) for means in sides)] for name, words in _STATISTICS.items() if name in sides[1]
    ]
    return grid(["labels and predictions in training", "at first", "at last"], rows)


def _thresholds(last: Means) -> str:
    best, least = diagnostics.best_threshold(last)
    rates = [number(last[f"der_{100 * threshold:.0f}"]) for threshold in diagnostics.THRESHOLDS]
    words = (
        "DER of training frames at last, whose slots' speakers are those that they are taught, by the threshold over "
        f"which a slot is held to speak: least {number(least)} at {best:g}."
    )
    table = grid(["threshold", *(f"{each:g}" for each in diagnostics.THRESHOLDS)], [["DER", *rates]])
    return f"{words}\n\n{table}"


def _sweep(last: Means) -> Figure:
    from affect.figures import COLOURS, GREY, lay_out

    figure, (axes,) = lay_out(1, 3.7, 2.4)
    rates = [last[f"der_{100 * threshold:.0f}"] for threshold in diagnostics.THRESHOLDS]
    axes.plot(diagnostics.THRESHOLDS, rates, "o-", color=COLOURS[0], ms=4)
    axes.axvline(0.5, color=GREY, lw=1, ls="--")
    axes.set(xlabel="threshold", ylabel="DER of frames", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    return figure


def curves(study: Study, recipe: Diarization) -> Figure | None:
    """Return DER over epochs beside trivial diarizations, and each loss beside its chance."""
    from affect.figures import lay_out

    runs = [run for run in study.measured if run.evals or run.steps]
    if not runs:
        return None
    records = {run.name: series(run.steps) for run in runs}
    losses = [name for name in _NAMES if any(name in means for each in records.values() for _, means in each)]
    figure, panels = lay_out(1 + len(losses), 4.4, 3.0)
    _errors(study, panels[0])
    for axes, name in zip(panels[1:], losses, strict=True):
        for run in runs:
            points = [(step * run.pace, means) for step, means in records[run.name] if name in means]
            _loss(axes, name, points, partial(chances, study=study, recipe=recipe))
        axes.set(title=_NAMES[name], xlabel="epoch", xlim=(0, None))
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")
    return figure


def _errors(study: Study, axes: Axes) -> None:
    from affect.figures import COLOURS, DASHES, GREY

    for part, colour in ((TRAIN, COLOURS[5]), (VALID, COLOURS[0])):
        label: str | None = part
        for run in study.measured:
            course = run.course(part, "der")
            epochs = [step * run.pace for step in course]
            axes.plot(
                epochs, [*course.values()], color=colour, lw=1.3, label=label, marker="." if len(course) < 3 else ""
            )
            label = None if course else label
    rows = rows_of(study, VALID) if VALID in study.evaluations else []
    # That of all speakers always is over 1: curves beside it would be flat.
    names = [name for name in NAMES if name != ALL_SPEAKERS]
    for place, name in enumerate(names if rows else ()):
        level = rate("der", rows_of(study, VALID, name))
        axes.axhline(level, color=GREY, ls=DASHES[place + 1], lw=1.3, label=name.replace("_", " "))
    axes.set(title="DER (lower is better)", xlabel="epoch", xlim=(0, None))
    axes.set_ylim(bottom=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")


def _loss(
    axes: Axes, name: str, points: Sequence[tuple[float, Means]], levels: Callable[[Means], Mapping[str, float]]
) -> None:
    from affect.figures import COLOURS, GREY

    if not points:
        return
    fresh = not axes.lines
    epochs = [epoch for epoch, _ in points]
    axes.plot(epochs, [means[name] for _, means in points], color=COLOURS[0], lw=1.3, label="loss" if fresh else None)
    chance = [levels(means)[name] for _, means in points]
    axes.plot(epochs, chance, color=GREY, ls="--", lw=1.3, label="chance" if fresh else None)
