"""What an experiment reached: in words, beside the trivial models, by fold and seed, and how it was trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from affect.report.compare import sign_flips
from affect.report.runs import TRAIN, VALID, Run
from affect.report.significance import PAIRS, few, judge
from affect.report.study import NETWORK, Study
from affect.report.systems import ROW, Scored, spread
from affect.tables import NONE, counted, escaped, filled, goal, grid, inside, number, plural, signed, with_deviation
from affect.task import Measure

_PARTS = 3
"""Of more parts than this a line a run tells the main measure alone: nobody sees a wider one whole."""


def table(study: Study) -> str:
    """Return what is shown after a run: folds, scores beside the trivial models, and what is not finished."""
    parts = [folds(study), scores(study)] if study.finished else ["No run is finished yet."]
    left = unfinished(study)
    return "\n\n".join(filter(None, [*parts, f"not finished: {', '.join(left)}" if left else ""]))


def unfinished(study: Study) -> list[str]:
    """Return the runs that have no end or no part in the scores, by name."""
    counted_in = {run.name for run in study.finished}
    return [run.name for run in study.runs if run.name not in counted_in]


def words(study: Study) -> str:
    """Return the result in words, a line an evaluation: scores, how they vary, and what trivial models reach."""
    if study.reported:
        return _reported(study)
    lines = "\n".join(f"- {escaped(name)} {_reached(study, name)}" for name in study.evaluations)
    return "\n\n".join(filter(None, [lines, _seeds(study)]))


def _seeds(study: Study) -> str:
    count = len(study.seeds)
    if count == 1:
        return (
            "**A single run can't tell a better model from a luckier one**: with one seed nothing tells how much "
            f"another seed would change. {PAIRS} seeds are needed before a difference over seeds can be called real."
        )
    return f"{count} seeds are few: {PAIRS} are needed to test a difference over seeds." if count < PAIRS else ""


def _reported(study: Study) -> str:
    """Return numbers from elsewhere; there is nothing to pool or to compare with trivial models."""
    lines = []
    for name in study.evaluations:
        recorded = [(m, scored) for m in study.headline if (scored := study.scored(name, m)).cells]
        several = bool(recorded) and len(recorded[0][1].by_fold) > 1
        values = ", ".join(
            f"{m.shown} {with_deviation(s.mean, s.over_folds if several else math.nan)}" for m, s in recorded
        )
        over = f"mean ± deviation over {len(recorded[0][1].by_fold)} folds" if several else "the mean alone" if (
            recorded and 0 in recorded[0][1].by_fold) else "one fold"  # fmt: skip
        lines.append(f"- {escaped(name)}, {over}: **{values}**")
    return "As reported; nothing tells how much they vary beyond that.\n\n" + "\n".join(lines)


def _reached(study: Study, name: str) -> str:
    system = study.system(name)
    if not system.units:
        values = ", ".join(f"{m.shown} {number(study.scored(name, m).mean)}" for m in study.headline)
        return f"(as recorded, no rows): **{values}**."
    estimates = [(m, study.estimate(name, m)) for m in study.headline]
    values = ", ".join(
        f"{m.shown} {estimate.shown(number)}" for m, estimate in estimates if not math.isnan(estimate.value)
    )
    pooled = any(study.pooled(name, measure) for measure in study.headline)
    how = "the mean of the folds' models" if system.shared else "pooled" if pooled else "their mean"
    over = f"{counted(len(study.folds), 'fold')}, {how}; " if len(study.folds) > 1 else ""
    over += counted(system.size, "row") + (f"; mean of {len(study.seeds)} seeds" if len(study.seeds) > 1 else "")
    sentences = [f"({over}): **{values or 'no score'}**."]
    scored = {m: study.scored(name, m) for m in study.headline}
    if not system.shared and len(study.folds) > 1:
        sentences.append(f"Mean ± deviation over folds: {_listed(scored, folds=True)}.")
    if len(study.seeds) > 1:
        sentences.append(f"Over the seeds: {_listed(scored, folds=False)}.")
    return " ".join([*sentences, _against(study, name)]).rstrip()


def _listed(scored: dict[Measure, Scored], folds: bool) -> str:
    values = [(m, s.mean, s.over_folds if folds else s.over_seeds) for m, s in scored.items() if not math.isnan(s.mean)]
    return ", ".join(f"{m.shown} {with_deviation(mean, deviation)}" for m, mean, deviation in values)


def _against(study: Study, name: str) -> str:
    """Return the comparison with the best trivial model, for the main measure and one by one."""
    parts = []
    for measure in sorted(study.headline, key=lambda m: m is not study.main):
        best, value = study.best_trivial(name, measure)
        if best is None:
            continue
        difference, pairs = study.above(name, measure, best)
        groups = study.groups(name, measure)
        judgement = judge(
            difference, groups=groups.count, unit=groups.unit, single=len(study.seeds) == 1, p=sign_flips(pairs),
            pairs=len(pairs), sign=measure.sign,
        )  # fmt: skip
        tail = f": {difference.shown(signed)}" if judgement.strength != "unknown" else ""
        shown = f"{judgement.said(f'{best} ({number(value)})')}{tail}"
        parts.append(f"{measure.shown} **{shown}**" if measure is study.main else f"{measure.shown} {shown}")
    return f"Against the best trivial model: {'; '.join(parts)}." if parts else ""


def scores(study: Study) -> str:
    """Return a line an evaluation and model: the network's scores with intervals, those of trivial models below."""
    if study.reported or study.task is None:
        rows = [[name, *(number(study.scored(name, m).mean) for m in study.headline)] for name in study.evaluations]
        return grid(*filled(["evaluation", *(m.shown for m in study.headline)], rows)) if rows else ""
    head = ["evaluation", "model", "folds", "n", *(m.shown for m in study.headline)]
    head += [f"network minus it ({study.main.shown})"] if study.main else []
    rows = []
    for name in [*study.evaluations, *study.summaries]:
        for model in [NETWORK, *(study.baselines if name not in study.summaries else [])]:
            plain = study.summaries.get(name, [name])[0]
            system = study.system(plain, model)
            if not system.units:
                continue
            # Of a summary the main measure alone: each of its members is resampled for it.
            shown = [m for m in study.headline if name not in study.summaries or m is study.main]
            cells = [cell(study, name, m, model) if m in shown else NONE for m in study.headline]
            above = NONE
            if model != NETWORK and study.main is not None:
                above = study.above(name, study.main, model)[0].shown(signed)
            rows.append([name, model, _folds(study, plain, model), f"{system.size:,}", *cells, above])
    return grid(*filled(head, rows), left={1}) if rows else ""


def cell(study: Study, name: str, measure: Measure, model: str = NETWORK) -> str:
    """Return a score with its deviation over seeds (of a mean over folds or seeds) and its interval."""
    estimate = study.estimate(name, measure, model)
    if math.isnan(estimate.value):
        return NONE
    pooled = name not in study.summaries and study.pooled(name, measure)
    deviation = math.nan if pooled else study.scored(name, measure, model).over_seeds
    return " ".join(filter(None, [with_deviation(estimate.value, deviation), estimate.bounds(number)]))


def _folds(study: Study, name: str, model: str) -> str:
    """Return which folds a model predicted: all of them, or their numbers."""
    rows = study.runs_with(name, model)
    return f"all {len(rows)}" if rows == study.folds else " ".join(map(str, rows))


def basis(study: Study) -> str:
    """Return what is pooled and what a mean, what intervals stand for, and who chose the epochs."""
    notes = []
    if any(study.pooled(name, measure) for name in study.evaluations for measure in study.headline):
        notes.append("Where folds hold out groups, scores are of all folds' rows pooled (the folds' own are below).")
    if any(study.system(name).shared for name in study.evaluations):
        notes.append("A part that all folds predict is predicted by the mean of their models, once a seed.")
    if len(study.seeds) > 1:
        notes.append("± is the deviation over seeds (of a sample).")
    return " ".join([*notes, *_intervals(study), chosen(study)])


def _intervals(study: Study) -> list[str]:
    if study.main is None or not study.evaluations or not study.system(study.evaluations[0]).units:
        return []
    groups = study.groups(study.evaluations[0], study.main)
    if groups.count < 2:
        return ["There is only one group of rows, so there are no intervals."]
    unit, first = groups.unit, escaped(study.evaluations[0])
    notes = [
        f"Intervals are 95 % percentile intervals of 1,000 resamples of an evaluation's {plural(unit)} ({first}: "
        f"{groups.count:,}); they say how much the choice of test {plural(unit)} matters, not that of the seed. "
        f"Differences are paired: both on the same resamples. {few(groups.count, unit)}".rstrip()
    ]
    return [*notes, *(_ungrouped(study, study.main.groups) if unit == ROW else [])]


def _ungrouped(study: Study, kinds: Sequence[str]) -> list[str]:
    """Return why rows are drawn one by one: there is one group alone, or they do not say which they belong to."""
    system = study.system(study.evaluations[0])
    rows = system.keys(system.repeated).values()
    names = {kind: {str(row.get(kind) or "") for row in rows} for kind in kinds}
    if single := [kind for kind, named in names.items() if len(named) == 1 and named != {""}]:
        kind = "speaker" if "speaker" in single else single[0]
        return [f"All rows are of one {kind}: the intervals say nothing of other {plural(kind)}."]
    lacking = [kind for kind, named in names.items() if "" in named]
    # Where each is of another speaker, none belong together.
    if not lacking or len(names.get("speaker", ())) == len(rows):
        return []
    each = "The rows" if all(names[kind] == {""} for kind in lacking) else "Some rows"
    words = f"neither {' nor '.join(lacking)}" if len(lacking) > 1 else f"no {lacking[0]}"
    return [f"{each} name {words}: where some belong together, the intervals are too narrow."]


def chosen(study: Study) -> str:
    """Return who chose the epochs."""
    if study.reported or not study.measures:
        return ""
    if all(inside(run.recipe, "train").get("choose") == "last" for run in study.finished):
        return "The weights of the last step were taken, whatever the validation scores; the tests were evaluated once."
    words = (
        f"Checkpoints were chosen on the validation part, by {escaped(study.measures[0].shown)}; the tests chose "
        "nothing. Validation scores are therefore the best of several and lean upwards."
    )
    tests = [name for name in study.evaluations if name != VALID]
    if any(event.get("evaluation") in tests for run in study.finished for event in run.evals):
        words += " The tests were evaluated during training too: never choose by those curves."
    return words


def folds(study: Study) -> str:
    """Return a line a run: who is held out, its scores, their gap, the kept epoch; then mean and deviation.

    Evaluations that all folds predict alike have their mean in the table of scores, a single run has all of many there.
    """
    names = [name for name in study.crossed if any(study.scored(name, m).cells for m in study.headline)]
    if not names or len(study.finished) == 1 and len(names) > _PARTS:
        return ""
    tests = [name for name in names if name != VALID]
    columns = [(name, m) for name in names for m in study.headline]
    if len(names) > _PARTS:
        columns = [(name, m) for name, m in columns if m is study.main]
    several = len(study.seeds) > 1
    head = ["fold", *(["seed"] if several else []), "held out", "n"]
    head += [m.shown if [name] == tests else f"{name} {m.shown}" for name, m in columns] + ["gap", "best epoch"]
    rows = []
    for run in sorted(study.finished, key=lambda run: (run.fold, run.seed)):
        row = [str(run.fold or NONE), *([str(run.seed)] if several else []), study.held_out(run, names[0])]
        row += [str(len(run.predictions[names[0]])) if names[0] in run.predictions else NONE]
        row += [number(study.of_run(run, name, m)) for name, m in columns]
        rows.append([*row, signed(gap(study, run, tests)), _kept(run)])
    blank = [""] * (3 if several else 2)
    scored = [study.scored(name, m) for name, m in columns]
    gaps = Scored({(run.seed, run.fold): gap(study, run, tests) for run in study.finished})
    if len({run.fold for run in study.finished} - {0}) > 1 or several:
        rows.append(["mean", *blank, *(number(s.mean) for s in scored), signed(gaps.mean), ""])
        rows.append(["std", *blank, *(number(s.over_folds) for s in scored), "", ""])
    return grid(*filled(head, rows))


FOLDS = (
    "`n`: rows of the first part. `gap`: validation minus test, of the main measure. The deviation is that of a "
    "sample, over folds (seeds averaged first)."
)


def gap(study: Study, run: Run, tests: Sequence[str]) -> float:
    """Return a run's validation minus test score by the main measure."""
    if study.main is None or len(tests) != 1:
        return math.nan
    return study.validated(run, study.main) - study.of_run(run, tests[0], study.main)


def _kept(run: Run) -> str:
    """Return after how many epochs the chosen checkpoint was made (its step says so whatever epochs count from)."""
    step = run.end.get("best_step")
    return f"{round(step * run.pace, 1):g}" if isinstance(step, int) and run.evals else NONE


def training(study: Study) -> str:
    """Return how the runs were trained: the measure that chooses on both parts, and epochs; "" where nothing was."""
    runs = [run for run in sorted(study.finished, key=lambda run: (run.seed, run.fold)) if run.evals]
    if not runs or not study.measures:
        return ""
    first = study.measures[0]
    measured = [(run, run.recorded(TRAIN, first.name), study.validated(run, first)) for run in runs]
    train, valid, gaps = (spread(values)[0] for values in zip(*((a, b, a - b) for _, a, b in measured), strict=True))
    side = " (lower is better)" if first.sign < 0 else ""
    held = f" / valid {number(valid)} (gap {signed(gaps)})" if math.isfinite(valid) else ""
    summary = f"{first.shown}{side}: train {number(train)}{held}, means over {counted(len(runs), 'run')}."
    epochs = sorted(run.kept_epoch for run in runs if run.kept_epoch is not None)
    last = max((run.last_epoch for run in runs if run.last_epoch is not None), default=None)
    if epochs:
        summary += f" Kept epochs: {epochs[0]} to {epochs[-1]}, the median {epochs[len(epochs) // 2]}"
        summary += f", of {last} at most." if last is not None else "."
    early = sum(ended(run) == "stopped early" for run in runs)
    summary += f" {early} of {len(runs)} runs stopped early." if early else ""
    rows = [[str(run.seed), str(run.fold), number(a), number(b), signed(a - b), _epoch(run.kept_epoch),
             _epoch(run.last_epoch), ended(run)] for run, a, b in measured]  # fmt: skip
    head = ["seed", "fold", f"train {first.shown}", f"valid {first.shown}", "gap", "kept epoch", "last epoch", "end"]
    note = "The training scores are as the trainer recorded them; all others are recomputed from predictions. "
    head, rows = filled(head, rows)
    return "\n\n".join([escaped(summary), grid(head, rows, left={len(head) - 1}), note + "Epochs count from 1."])


def ended(run: Run) -> str:
    """Return why training ended where it did ("": unknown)."""
    planned = inside(run.recipe, "train").get("epochs")
    if run.last_epoch is None or not isinstance(planned, int):
        return ""
    return "stopped early" if run.last_epoch < planned else f"all {goal(planned)} epochs"


def _epoch(value: int | None) -> str:
    return NONE if value is None else str(value)
