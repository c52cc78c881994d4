"""Signs that a multimodal experiment says less than it seems to, each with its evidence and what to try."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from affect.report.flag import Flag, finite, gathered, worst
from affect.report.multimodal import schedule
from affect.report.multimodal.compare import REST, Comparison
from affect.report.multimodal.measures import MEASURES
from affect.report.multimodal.names import MODALITIES, SEEDS, TESTS, shown
from affect.report.multimodal.study import Study
from affect.report.multimodal.training import courses
from affect.report.runs import Run
from affect.report.scores import section
from affect.report.tables import flat, number, text

SEVERITY = (
    # The numbers are wrong, or not all there.
    "unreadable", "no predictions", "scores disagree", "conditions disagree", "labels differ", "mixed settings",
    "mixed corpus", "NaN predictions", "NaN loss", "NaN gradient", "unfinished", "missing folds",
    # They are right, but say less than they seem to.
    "collapse to one class", "selected on a test", "not the best epoch", "few seeds", "gain within its interval",
    "stopped before 2W", "kept before 2W", "train above valid", "modality missing",
)  # fmt: skip
"""All kinds of flags, what weighs most first."""

COLLAPSE = 0.9
"""Largest share of predictions of one class that goes unflagged, where the labels are more varied."""

GAP = 0.2
"""Largest training minus validation emoval that goes unflagged: report 001's v1 has .07, its baseline .46."""

LACKING = 0.1
"""Largest share of a part's utterances without a modality that goes unflagged."""

_OFF = 1e-3
_AGAIN = "give the same command again: it goes on from the last checkpoint and skips what is finished"
_TWO = "one of the two files is of another run: train that fold again with --overwrite"
_MIX = "average only runs of one recipe and corpus: another --name, or --overwrite the odd ones"
_NAN = "a smaller learning rate, gradient clipping (clip 1.0); look for NaN in the features"


def alarms(study: Study, comparison: Comparison | None = None) -> list[Flag]:
    """Return everything that looks wrong, what weighs most first; nothing of a paper's numbers."""
    if study.reported:
        return []
    collapsed = [flag for run in study.finished for flag in _collapsed(study, run)]
    by_run = [
        *_unfinished(study), *_differing(study), *_nan(study), *collapsed, *schedule.chosen(study),
        *schedule.early(study), *_unreadable(study),
    ]  # fmt: skip
    found = [*gathered(by_run, {run.name for run in study.runs}), *_mixed(study), *_few(study), *_fitted(study)]
    found += [*_lacking(study), *(_unsure(comparison) if comparison else [])]
    return sorted(found, key=lambda flag: (SEVERITY.index(flag.kind), -flag.size))


def _unfinished(study: Study) -> Iterator[Flag]:
    for run in study.runs:
        if not run.finished:
            step = max((record["step"] for record in [*run.steps, *run.evals]), default=0)
            evidence = f"no end in metrics.jsonl (last step {step}); left out of every score"
            yield Flag("unfinished", run.name, evidence, _AGAIN)
    for seed in sorted({run.seed for run in study.runs}):
        done = {run.fold for run in study.runs if run.seed == seed and run.finished}
        missing = [str(fold) for fold in range(1, study.expected + 1) if fold not in done]
        if missing:
            evidence = f"fold {' '.join(missing)} of {study.expected}: "
            counts = seed in study.seeds
            evidence += "fewer models vote on the tests" if counts else "the seed is left out of every score"
            yield Flag("missing folds", f"seed {seed}", evidence, _AGAIN)


def _unreadable(study: Study) -> Iterator[Flag]:
    for run in study.finished:
        for part in study.parts:
            if (run.name, part) not in study.predicted:
                evidence = f"no readable predictions-{part}.jsonl: {shown(part)} of seed {run.seed} is left out"
                yield Flag("no predictions", run.name, evidence, _AGAIN)
        if not study.parts:
            yield Flag("no predictions", run.name, "finished, but no part's predictions can be read", _AGAIN)
    for part in study.parts:
        if study.unlike(part) and part in TESTS:
            yield Flag("labels differ", shown(part), "runs of one part bear different labels", _MIX)
    for name, problems in study.problems.items():
        for problem in problems:
            yield Flag("unreadable", name, problem)


def _differing(study: Study) -> Iterator[Flag]:
    """Yield scores that metrics.jsonl and the predictions tell differently, and conditions that fit neither."""
    keys = {"f1": "f1", "acc": "acc", "val": "mse"}
    for (name, part), rows in study.predicted.items():
        run = next(run for run in study.finished if run.name == name)
        written = section(section(run.end, "scores"), part)
        for score, key in keys.items():
            value, told = MEASURES[score](rows), written.get(key)
            if isinstance(told, int | float) and abs(told - value) > _OFF:
                evidence = f"{shown(part)} {score}: {number(told)} in metrics.jsonl, {number(value)} by predictions"
                yield Flag("scores disagree", name, evidence, _TWO, abs(told - value))
        given = study.conditions[name].rows(part, "subset=ATV", rows) if name in study.conditions else None
        if given is None:
            continue
        plain = rows.of(given.ids)
        moved = float(np.mean(given.emotion != plain.emotion)) if len(plain) else 0.0
        if moved > 0.01 or len(plain) < len(rows):
            evidence = f"{shown(part)}: {100 * moved:.0f} % of classes differ between conditions.npz and predictions"
            if len(plain) < len(rows):
                evidence = f"{shown(part)}: conditions.npz has {len(plain):,} of the {len(rows):,} predicted utterances"
            yield Flag("conditions disagree", name, evidence, _TWO, moved)


def _nan(study: Study) -> Iterator[Flag]:
    for (name, part), rows in study.predicted.items():
        wrong = int(((rows.emotion < 0) | ~np.isfinite(rows.valence)).sum())
        if wrong:
            evidence = f"{shown(part)}: {wrong:,} of {len(rows):,} utterances have no prediction"
            yield Flag("NaN predictions", name, evidence, _NAN, wrong)
    for run in study.runs:
        for kind, key in (("NaN loss", "loss"), ("NaN gradient", "grad_norm")):
            steps = [e["step"] for e in run.steps if e.get(key) is not None and not finite(e[key])]
            if steps:
                yield Flag(kind, run.name, f"{len(steps)} steps, the first is {steps[0]}", _NAN, len(steps))


def _collapsed(study: Study, run: Run) -> Iterator[Flag]:
    for part in study.parts:
        rows = study.predicted.get((run.name, part))
        if rows is None or not len(rows):
            continue
        said = np.bincount(rows.emotion[rows.emotion >= 0], minlength=len(study.classes))
        labels = np.bincount(rows.label[rows.label >= 0], minlength=len(study.classes))
        share, true = said.max() / max(said.sum(), 1), labels.max() / max(labels.sum(), 1)
        if share > COLLAPSE and true <= COLLAPSE:
            name = study.classes[int(said.argmax())]
            evidence = f"{shown(part)}: {100 * share:.0f} % of predictions are {name}, "
            evidence += f"of the labels {100 * labels[said.argmax()] / max(labels.sum(), 1):.0f} %"
            advice = "less modality dropout or a longer warm-up (W), a smaller learning rate, less dropout"
            yield Flag("collapse to one class", run.name, evidence, advice, share)


def _mixed(study: Study) -> Iterator[Flag]:
    # Folds differ by design, and what decides memory and speed alone may change between sessions.
    speed = ("budget", "mode", "workers", "trackers", "world", "keep")
    free = {"seed", "data.fold", "together", *(f"train.{name}" for name in speed)}
    prints = [{"fingerprint": run.environment.get("fingerprint")} for run in study.runs if run.environment]
    for what, records in (("settings", [run.recipe for run in study.runs]), ("corpus", prints)):
        known = [flat(record) for record in records if record]
        for name in sorted({name for record in known for name in record} - free):
            values = sorted({text(record.get(name)) for record in known})
            if len(values) > 1:
                yield Flag(f"mixed {what}", "across runs", f"{name} is {' or '.join(values)}", _MIX)


def _few(study: Study) -> Iterator[Flag]:
    count = len(study.seeds)
    if study.strict and 0 < count < SEEDS:
        evidence = f"protocol strict with {count} of {SEEDS} seeds: no difference can be called real"
        yield Flag("few seeds", "across runs", evidence, f"train seeds up to {SEEDS} (--seeds)")


def _fitted(study: Study) -> list[Flag]:
    found = {
        course.run.name: (course.gap, f"emoval: train {number(course.train)}, valid {number(course.valid)}")
        for course in courses(study)
        if course.gap > GAP
    }
    advice = "more dropout (.35 to .5), modality dropout, weight decay, early stopping: report 001's robust_v1 to v3"
    return worst("train above valid", found, len(study.finished), advice)


def _lacking(study: Study) -> Iterator[Flag]:
    told, sizes = section(study.environment, "presence"), section(study.environment, "utterances")
    for part, known in told.items():
        size = sizes.get(part)
        if not isinstance(known, dict) or not isinstance(size, int) or size < 1:
            continue
        for name in MODALITIES:
            count = known.get(name)
            if isinstance(count, int) and 1 - count / size > LACKING:
                evidence = f"{name} in {count:,} of {size:,} utterances ({100 * (1 - count / size):.0f} % lack it)"
                advice = "a model that is told what is missing (robust_ours), and scores by subset"
                yield Flag("modality missing", str(part), evidence, advice, 1 - count / size)


def _unsure(comparison: Comparison) -> Iterator[Flag]:
    """Yield the gains that their interval does not bear out."""
    for found in comparison.differences:
        if found.score in ("f1", REST) and found.improved and found.judged.strength == "within noise":
            what = f"{shown(found.part)} f1{' of incomplete subsets' if found.score == REST else ''}"
            evidence = f"{what}: {found.change()} points against {comparison.name}; the interval holds 0"
            advice = "more seeds, and no claim until then; report 001's gain of 1.6 points was gone in a second run"
            yield Flag("gain within its interval", "comparison", evidence, advice, abs(found.estimate.value))
