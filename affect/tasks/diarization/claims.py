"""What report 004 changes and what it expects of that, beside what a run has and what is measured of it.

Imports no tensor library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from affect.findings import Section, finite
from affect.tables import NONE, counted, goal, grid, number, signed
from affect.task import TRAIN, VALID
from affect.tasks.diarization import diagnostics
from affect.tasks.diarization.breakdown import rate, rows_of, simulated
from affect.tasks.diarization.config import Data, Diarization
from affect.tasks.diarization.learning import Means, averages, series, terms
from affect.tasks.diarization.measures import errors_by_overlap
from affect.tasks.diarization.trivial import ORACLE_SPEECH

if TYPE_CHECKING:
    from affect.report.runs import Run
    from affect.report.study import Study

TARGET = 0.5
"""The DER that the report expects to get under, on training and validation data."""
_WILD = 100
_NEAR = 1.05
"""A DER that is at most so many times a run's least is near it."""
_APART = 0.1
"""By how much the DER of tests may be above that of training."""
_QUERIES = {"before": "zeros", "improved": "learned, N(0, 1), one a slot", "ours": "none: a slot is its speaker"}
_NOTHING = "no diagnostics recorded"
_TITLE = "SSND's reported measures and expectations"
_SIMULATED = (
    "**Of simulated conversations alone**, as those that were reported: the recordings of this run ({recordings}) are "
    "in no DER of tests or validation here."
)
_TRAINED = "In training {share:.0f} % of the examples are windows of them: losses, gradients and its DER are of both."


def section(study: Study, recipe: Diarization) -> Section:
    """Return the report's five measures and four expectations, each beside what is measured, or why it has none."""
    words = (
        "SSND was reported with DERs of .92 to .95 (by counts, which silence has, too); five things were changed at "
        "once, and four expected. Each change alone is an experiment of the recipe."
    )
    blocks = [words, _of_what(recipe.data), _changes(study, recipe), _expectations(study)]
    return Section(title=_TITLE, markdown="\n\n".join(filter(None, blocks)))


def _of_what(data: Data) -> str:
    """Say what DERs and losses are of where there are recordings, too."""
    if data.recordings is None:
        return ""
    trained = [_TRAINED.format(share=100 * data.real)] if data.real else []
    return " ".join([_SIMULATED.format(recordings=data.recordings), *trained])


def _changes(study: Study, recipe: Diarization) -> str:
    model, loss, optim, train = recipe.model, recipe.loss, recipe.optim, recipe.train
    recorded = averages(study)
    last = recorded[1] if recorded else {}
    count = sum(len(series(run.steps)) for run in study.measured)
    learned = "learned" if loss.learned else "fixed"
    arcface = f"log s {loss.log_s_arcface:g} (weight {math.exp(-loss.log_s_arcface):.2g}), {learned}"
    focal = f"focal, alpha {loss.alpha:g}, gamma {loss.gamma:g}" if loss.activity == "focal" else "cross entropy"
    clip = "no clipping" if optim.clip is None and optim.clip_percentile is None else "clipping"
    every = f"every {train.diagnostics_every} steps" if train.diagnostics_every else "none"
    rows = [
        ["1 loss weights", "ArcFace log s 2.3026 to 4.6052 (.1 to .01)", arcface if loss.arcface else "no ArcFace",
         _weighed(study, recipe)],
        ["2 learned queries", "zeros to learned ones, N(0, 1)", _QUERIES[model.name], _told_apart(last)],
        ["3 focal loss", "cross entropy to alpha .25, gamma 2", focal, _calibrated(last)],
        ["4 training", "rate 1e-4 to 5e-5, batch 64 to 32, clipping, margin .2 to .1, scale 32 to 16, mask .5 to .3",
         f"rate {optim.lr:g}, batch {train.batch}, {clip}, margin {loss.margin:g}, scale {loss.scale:g}, "
         f"mask {loss.mask_prob:g}", _gradients(study)],
        ["5 diagnostics", "labels, predictions, speakers, weights", every,
         f"{count:,} records" if count else _NOTHING],
    ]  # fmt: skip
    table = grid(["measure", "reported: from, to", "here", "what is measured"], rows, left=True)
    return table if study.other is None else f"{table}\n\n{_against(study)}"


def _weighed(study: Study, recipe: Diarization) -> str:
    shares = [f"{name} {100 * term.share:.0f} %" for name, term in terms(study, recipe).items()]
    return f"of the loss at last: {', '.join(shares)}" if shares else NONE


def _told_apart(last: Means) -> str:
    if not last:
        return _NOTHING
    return (
        f"predicted {number(last['predicted_active'])} where a slot speaks, {number(last['predicted_silent'])} where "
        f"it does not"
    )


def _calibrated(last: Means) -> str:
    if not last:
        return _NOTHING
    threshold, least = diagnostics.best_threshold(last)
    return f"best threshold {threshold:g} (DER of frames {number(least)}, {number(last['der_50'])} at .5)"


def _gradients(study: Study) -> str:
    norms = [float(step["grad_norm"]) for run in study.measured for step in run.steps if finite(step.get("grad_norm"))]
    return f"gradient norm {np.median(norms):.3g} (median), {np.max(norms):.3g} at most" if norms else NONE


def _against(study: Study) -> str:
    """Say how the true DER of tests differs from that of the experiment that it is beside."""
    assert study.other is not None
    shared = [part for part in simulated(study) if part in simulated(study.other)]
    pairs = [[rate("der", rows_of(each, part)) for part in shared] for each in (study.other, study)]
    if not shared or not study.other.finished:
        return ""
    then, now = (float(np.mean(side)) for side in pairs)
    return f"Beside {study.other.name}: DER {number(now)}, there {number(then)} ({signed(now - then)}), means of tests."


def _expectations(study: Study) -> str:
    rows = [
        ["1 lower DER", "from .92 and more to under .5", *_lower(study)],
        ["2 stable training", "learned queries: a better start", *_stable(study)],
        ["3 faster convergence", "better hyperparameters", *_fast(study)],
        ["4 generalisation", "focal loss: hard examples", *_general(study)],
    ]
    words = (
        f"Met: 1, a DER under {goal(TARGET)} on training and validation data; 2, no step without a finite loss or with "
        f"a gradient norm over {_WILD} times the median; 3, fewer epochs to the other experiment's least validation "
        f"DER; 4, tests at most {goal(_APART)} above training."
    )
    return f"{grid(['expectation', 'why', 'met', 'what is measured'], rows, left=True)}\n\n{words}"


def _lower(study: Study) -> tuple[str, str]:
    scores = {TRAIN: float(np.mean([run.recorded(TRAIN, "der") for run in study.finished]))}
    parts = [*([VALID] if VALID in study.evaluations else []), *simulated(study)]
    scores |= {part: rate("der", rows_of(study, part)) for part in parts}
    oracle = {part: rate("der", rows_of(study, part, ORACLE_SPEECH)) for part in parts}
    values = ", ".join(f"{part} {number(value)}" for part, value in scores.items())
    above = [part for part in parts if scores[part] >= oracle[part]]
    own = [value for part in (TRAIN, VALID) if not math.isnan(value := scores.get(part, math.nan))]
    words = f"DER {values}"
    words += f"; not below oracle speech as one speaker: {', '.join(above)}" if above else "; all below oracle speech"
    return ("yes" if own and max(own) < TARGET else "no" if own else NONE), words


def _stable(study: Study) -> tuple[str, str]:
    wild = 0
    for run in study.measured:
        norms = np.array([step["grad_norm"] for step in run.steps if finite(step.get("grad_norm"))], np.float64)
        bad = sum(not finite(step.get("loss")) for step in run.steps if not step.get("skipped"))
        wild += bad + (int((norms > _WILD * np.median(norms)).sum()) if len(norms) else 0)
    course = [[*run.course(VALID, "der").values()] for run in study.measured]
    late = [float(np.std(values[-(len(values) // 3) :])) for values in course if len(values) >= 6]
    steps = sum(len(run.steps) for run in study.measured)
    words = [f"{wild} of {steps:,} steps out of bounds"]
    if late:
        words.append(f"validation DER ± {number(float(np.mean(late)))} over the last third of epochs")
    parts = [study.system(part).by_seed for part in simulated(study)]
    seeds = [rate("der", [row for by_seed in parts for row in by_seed.get(seed, ())]) for seed in study.seeds]
    if len(seeds) > 1:
        words.append(f"test DER ± {number(float(np.std(seeds, ddof=1)))} over {len(seeds)} seeds")
    return "yes" if steps and not wild else "no" if wild else NONE, "; ".join(words)


def _fast(study: Study) -> tuple[str, str]:
    under = [_first(run, TARGET) for run in study.finished]
    nearly = [_first(run, _NEAR * min(run.course(VALID, "der").values(), default=0.0)) for run in study.finished]
    words = [_epochs("validation DER under .5", under), _epochs("within 5 % of its least", nearly)]
    if study.other is None:
        return NONE, "; ".join([*words, "--against another experiment tells which is faster"])
    best = [min(run.course(VALID, "der").values(), default=math.nan) for run in study.other.finished]
    taken = [_first(run, value) for run, value in zip(study.other.finished, best, strict=True)]
    wanted = float(np.mean(best)) if best else math.nan
    there = [_first(run, wanted) for run in study.finished]
    words.append(f"{_epochs(f'the least of {study.other.name} ({number(wanted)})', there)}, there {_mean(taken)}")
    reached = [epoch for epoch in there if epoch is not None]
    faster = len(reached) == len(there) > 0 and float(np.mean(reached)) < float(_mean(taken) or "nan")
    return "yes" if faster else "no", "; ".join(words)


def _first(run: Run, value: float) -> float | None:
    """Return after how many epochs the validation DER was at most `value` for the first time."""
    return next((step * run.pace for step, der in run.course(VALID, "der").items() if der <= value), None)


def _mean(epochs: Sequence[float | None]) -> str:
    reached = [epoch for epoch in epochs if epoch is not None]
    return f"{np.mean(reached):.1f}" if reached else ""


def _epochs(what: str, epochs: Sequence[float | None]) -> str:
    reached = [epoch for epoch in epochs if epoch is not None]
    if not reached:
        return f"{what}: never"
    some = f" ({len(reached)} of {counted(len(epochs), 'run')})" if len(reached) < len(epochs) else ""
    return f"{what} after {_mean(epochs)} epochs{some}"


def _general(study: Study) -> tuple[str, str]:
    train = float(np.mean([run.recorded(TRAIN, "der") for run in study.finished]))
    rows = [row for part in simulated(study) for row in rows_of(study, part)]
    test, (alone, several) = rate("der", rows), errors_by_overlap(rows)
    words = (
        f"DER train {number(train)}, tests {number(test)} ({signed(test - train)}); hard moments: "
        f"{number(several.rate)} where several speak, {number(alone.rate)} where one does"
    )
    if not train < TARGET:
        return NONE, f"{words}; what was not learned can't be generalised"
    return "yes" if test - train <= _APART else "no" if not math.isnan(test) else NONE, words
