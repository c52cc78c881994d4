"""`comparison.md` in a folder of experiments: all of them so far, a line each, in the order they were run."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from affect.errors import AffectError, first_few
from affect.recipe import FREE
from affect.report import reported, suites
from affect.report.compare import Comparison, compare
from affect.report.experiment import experiments_in, load, replace_file
from affect.report.runs import VALID
from affect.report.significance import GROUPS, PAIRS, Judgement
from affect.report.study import Study, called, identities
from affect.report.suites import Compared
from affect.report.systems import spread
from affect.tables import NONE, escaped, filled, flat, grid, inside, signed, text, with_deviation
from affect.task import Measure

_LOG = logging.getLogger("affect")
FILE = "comparison.md"
BASELINE = "baseline"
"""The name of an experiment that all others are compared with."""

_MOST = 4
"""Changed settings named in a line; of more the rest is counted."""

# What differs by design, where data lies, and what decides no result.
_OWN = {"seed", "experiment", "data.fold", "data.root", *FREE}


def write(folder: Path) -> Path | None:
    """Write `comparison.md` into a folder of experiments; None where there is no experiment in it or it can't be."""
    path = folder / FILE
    if not experiments_in(folder):
        return None
    try:
        replace_file(path, page(folder))
    except (AffectError, OSError) as error:
        # The reports themselves are there; a read-only folder of experiments must not hide them.
        _LOG.warning("%r can't be written: %s", str(path), getattr(error, "strerror", None) or error)
        return None
    return path


def page(folder: Path) -> str:
    """Return the comparison of all experiments in a folder, in Markdown; what can't be read is named at the end."""
    finished, left = [], []
    for path in experiments_in(folder):
        try:
            study = load(path, scores_only=True)
        except AffectError as error:
            left.append(f"{path.name} ({error})")
            continue
        if any(study.scored(name, m).cells for name in study.evaluations for m in study.headline):
            finished.append(study)
        else:
            left.append(f"{study.name} (no run is finished)")
    try:
        compared = suites.read(folder)
    except AffectError as error:
        compared, left = {}, [*left, f"{suites.FILE} ({error})"]
    parts = ["# Experiments so far"]
    groups = _groups(sorted(finished, key=lambda study: (_time(study), study.name)))
    for (data, measures), studies in groups.items():
        title = ", ".join(measures) + (f" of {data}" if data else "")
        parts += [
            f"## {escaped(title)}" if data or len(groups) > 1 else "",
            table(studies),
            gains(studies),
            *(effects(name, suite, studies) for name, suite in compared.items()),
            preferred(studies),
        ]
    parts.append(_LEGEND if finished else "No experiment has a finished run yet.")
    parts += ["Left out: " + "; ".join(map(escaped, left)) + "."] if left else []
    return "\n\n".join(filter(None, parts)) + "\n"


_LEGEND = (
    "Scores are means over folds ± their deviation (of a sample): over folds that hold out groups (seeds averaged "
    "first), else over seeds. Differences are taken on what two experiments have in common, by the main measure; "
    '"within noise" means that the 95 % interval holds 0, "not confirmed" that it does not, but rests on few groups '
    f"(under {GROUPS} speakers, dialogues ...) or seeds (under {PAIRS}) or that the paired test disagrees, "
    '"with one seed" that another seed may undo it. Settings are compared with those of the line before. Experiments '
    "are to be chosen by validation: the more of them are tried on one test, the more the best of them is so by "
    "chance. Experiments on different data or scales have tables of their own and are never compared."
)


def table(studies: Sequence[Study]) -> str:
    """Return a line an experiment, in their order."""
    first = studies[0]
    names = list(dict.fromkeys(name for study in studies for name in (*_tests(study), VALID)))
    means = list(dict.fromkeys(name for study in studies for name in study.summaries))
    # Of two parts each measure has a column of its own.
    each = [[m] for m in first.headline] if len(names) == 2 else [first.headline]
    columns = [(name, shown) for name in names for shown in each]
    columns += [(name, [m for m in first.headline if m is first.main]) for name in means]
    head = ["experiment", "date", "folds x seeds"]
    head += [f"{name} {' / '.join(m.shown for m in shown)}" for name, shown in columns]
    head += ["against the best before", "what changed", "best"]
    best = {"tests": _top(studies, _tested), "validation": _top(studies, _validated)}
    rows = []
    for i, study in enumerate(studies):
        best_on = " and ".join(words for words, top in best.items() if top is study)
        rows.append([
            study.name, _time(study).date().isoformat(), _finished(study),
            *(" / ".join(_cell(study, name, m) for m in shown) for name, shown in columns),
            _difference(study, _top(studies[:i], _tested)), _changed(study, studies[:i]),
            best_on and f"best on {best_on}",
        ])  # fmt: skip
    return grid(*filled(head, rows), left=True)


def gains(studies: Sequence[Study]) -> str:
    """Return a line an experiment with its differences to the one called `BASELINE`; "" where there is none."""
    # One that was measured here tells how much it varies; a paper's doesn't.
    base = min((s for s in studies if s.name == BASELINE), key=lambda study: study.reported, default=None)
    others = [study for study in studies if study is not base]
    if base is None or not others:
        return ""
    names = list(dict.fromkeys(name for study in others for name in (*study.evaluations, *study.summaries)))
    rows = []
    for study in others:
        rows.append([study.name, *_gains(study, base, names, _judged)])
    return grid(*filled([f"against {BASELINE}", *names], rows), left=True)


def effects(name: str, suite: Compared, studies: Sequence[Study]) -> str:
    """Return what each member of a suite changes, in a line: it helps, hurts, or nobody can tell; "" without any."""
    base = next((study for study in studies if study.name == suite.reference), None)
    others = [study for study in studies if study.name in suite.members and study is not base]
    if base is None or not others:
        return ""
    names = list(dict.fromkeys(part for study in others for part in (*study.evaluations, *study.summaries)))
    say = partial(_effect, takes_back=suite.takes_back)
    rows = [[study.name, *_gains(study, base, names, say)] for study in others]
    what = "what a line takes back of it" if suite.takes_back else "what a line changes of it"
    told = f"{escaped(name)}: each experiment less {escaped(base.name)}, and whether {what} helps or hurts."
    return f"{told}\n\n{grid(*filled([f'against {base.name}', *names], rows), left=True)}"


def _gains(study: Study, base: Study, names: Sequence[str], say: Callable[[Judgement], str]) -> list[str]:
    """Return the differences of an experiment to another one on each evaluation, and what they are called."""
    comparison = _compared(study, base)
    if comparison is None:
        return ["nothing in common", *[NONE] * (len(names) - 1)]
    differences = (comparison.of(name, study.main) for name in names)
    return [
        NONE if one is None or math.isnan(one.estimate.value) else f"{one.estimate.shown(signed)}: {say(one.judged)}"
        for one in differences
    ]


def _judged(judged: Judgement) -> str:
    return judged.said() if judged.strength == "really" else judged.strength


def _effect(judged: Judgement, takes_back: bool) -> str:
    """Return whether a change helps, where it is what a better experiment has or what a worse one takes back."""
    doubt = {"really": "", "one seed": ", one seed", "not confirmed": ", not confirmed"}.get(judged.strength)
    return judged.strength if doubt is None else f"{'hurts' if judged.better == takes_back else 'helps'}{doubt}"


def preferred(studies: Sequence[Study]) -> str:
    """Return a warning where the best experiment on the tests is not the best on validation ("": it is)."""
    scored = [study for study in studies if not math.isnan(_tested(study) + _validated(study))]
    by_test, by_valid = _top(scored, _tested), _top(scored, _validated)
    if by_test is None or by_valid is None or by_test is by_valid:
        return ""
    first, second = escaped(by_test.name), escaped(by_valid.name)
    return f"**{first} is best on the tests, {second} on validation: choosing {first} would be selection on a test.**"


def _tests(study: Study) -> list[str]:
    return study.tests or study.evaluations


def _tested(study: Study) -> float:
    """Return the mean over its tests of the main measure, greater where it is better."""
    main = study.main
    return main.sign * spread(study.scored(name, main).mean for name in _tests(study))[0] if main else math.nan


def _validated(study: Study) -> float:
    return study.main.sign * study.scored(VALID, study.main).mean if study.main else math.nan


def _top(studies: Sequence[Study], of: Callable[[Study], float]) -> Study | None:
    return max((study for study in studies if not math.isnan(of(study))), key=of, default=None)


def _cell(study: Study, name: str, measure: Measure) -> str:
    own = next((m for m in study.measures if m.name == measure.name), None)
    if own is None or name not in (*study.evaluations, *study.summaries):
        return NONE
    scored = study.scored(name, own)
    by_fold = study.reported or name in study.evaluations and study.task is not None and study.pooled(name, own)
    return with_deviation(scored.mean, scored.over_folds if by_fold else scored.over_seeds)


def _groups(studies: Sequence[Study]) -> dict[tuple[str, tuple[str, ...]], list[Study]]:
    """Return experiments by data and measures: scores of other ones don't compare.

    Where no corpus is named (a paper's numbers may leave it out) and one alone has the same measures, it is that one;
    a paper that calls the corpus as recipes do is beside those recipes.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Study]] = {}
    for study in studies:
        measures, data = _measures(study), _data(study)
        alike = [other for other in studies if not other.reported and _measures(other) == measures]
        if study.reported:
            data = next((_data(other) for other in alike if called(other) & called(study)), data)
        corpora = {_data(other) for other in alike} - {""}
        groups.setdefault((data or (corpora.pop() if len(corpora) == 1 else ""), measures), []).append(study)
    return groups


def _measures(study: Study) -> tuple[str, ...]:
    return tuple(measure.shown for measure in study.headline)


def _data(study: Study) -> str:
    return ", scale ".join(identities(study).values())


def _compared(study: Study, other: Study) -> Comparison | None:
    try:
        return compare(study, other, main_only=True)
    except AffectError:
        return None


def _difference(study: Study, best: Study | None) -> str:
    """Return the difference to the best experiment until then on each test, in words."""
    if best is None:
        return NONE
    comparison = _compared(study, best)
    words = []
    for name in _tests(study):
        one = comparison.of(name, study.main) if comparison else None
        if one is not None and not math.isnan(one.estimate.value):
            where = f"{name} " if len(_tests(study)) > 1 else ""
            words.append(f"{where}{signed(one.estimate.value)} against {best.name}: {one.judged.said()}")
    return "; ".join(words) or f"{best.name}: nothing in common"


def _changed(study: Study, earlier: Sequence[Study]) -> str:
    """Return which settings of an experiment differ from those of the measured one before it."""
    if study.reported:
        return f"reported: {study.environment['source']}"
    if members := inside(study.recipe, "members"):
        return f"the mean of {', '.join(members)}"
    now = _settings(study)
    # A mean of others is no step from one to the next.
    own = (_settings(other) for other in reversed(earlier) if not inside(other.recipe, "members"))
    before = next(filter(None, own), None)
    if not now or before is None:
        return NONE if now else "settings unknown"
    names = [name for name in sorted(now | before) if now.get(name) != before.get(name)]
    words = [f"{name} {text(before.get(name))} to {text(now.get(name))}" for name in names]
    return first_few(words, _MOST) or "nothing"


def _settings(study: Study) -> dict[str, object]:
    return {} if study.reported else {name: value for name, value in flat(study.recipe).items() if name not in _OWN}


def _finished(study: Study) -> str:
    done = [run for run in study.runs if run.finished]
    folds, seeds = {run.fold for run in done}, {run.seed for run in done}
    if folds == {0}:
        return "mean alone"
    whole = len(folds) * len(seeds)
    if len(done) == whole == len(study.runs):
        return f"{len(folds)} x {len(seeds)}"
    return f"{len(done)} of {max(len(study.runs), whole)} runs"


def _time(study: Study) -> datetime:
    """Return when an experiment began, as it is recorded, else when its settings were written."""
    stamps = []
    for run in study.runs:
        with contextlib.suppress(ValueError):
            stamp = datetime.fromisoformat(str(run.environment.get("date" if run.reported else "started")))
            stamps.append(stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC))
    if stamps:
        return min(stamps)
    files = [*study.folder.glob("seed*/fold*/recipe.json"), *study.folder.glob("seed*/fold*/metrics.jsonl")]
    written = [path.stat().st_mtime for path in files or [study.folder / reported.FILE]]
    return datetime.fromtimestamp(min(written), UTC)
