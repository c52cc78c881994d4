"""`comparison.md` in a folder of experiments: all of them so far, a line each, in the order they were run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from affect.errors import AffectError
from affect.recipe import FREE
from affect.report import reported
from affect.report.compare import Comparison, compare
from affect.report.experiment import experiments_in, load, replace_file
from affect.report.judgement import GROUPS, PAIRS
from affect.report.runs import VALID
from affect.report.study import Study, identities
from affect.report.systems import spread
from affect.tables import NONE, escaped, filled, flat, grid, inside, signed, text, with_deviation
from affect.task import Measure

FILE = "comparison.md"
BASELINE = "baseline"
"""The name of an experiment that all others are compared with."""

_MOST = 4
"""Changed settings named in a line; of more the rest is counted."""

# What differs by design, where data lies, and what decides no result.
_OWN = {"seed", "experiment", "data.fold", "data.root", *FREE}


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An experiment and the time that orders it."""

    study: Study
    time: datetime

    @property
    def tests(self) -> list[str]:
        """Its tests; where it has none, what it has."""
        return self.study.tests or self.study.evaluations

    @property
    def measures(self) -> tuple[str, ...]:
        """Its main measures, as they are shown."""
        return tuple(measure.shown for measure in self.study.headline)

    @property
    def data(self) -> str:
        """Its corpus and the scale of the labels; "" where nobody says them."""
        return ", scale ".join(identities(self.study).values())

    @property
    def short(self) -> str:
        """The corpus as its recipe calls it."""
        return str(inside(self.study.recipe, "data").get("corpus") or "")

    @property
    def tested(self) -> float:
        """The mean over its tests of the main measure, greater where it is better."""
        return self._mean(self.tests)

    @property
    def validated(self) -> float:
        """The main measure on the validation part, greater where it is better."""
        return self._mean([VALID])

    def _mean(self, names: Sequence[str]) -> float:
        main = self.study.main
        return main.sign * spread(self.study.scored(name, main).mean for name in names)[0] if main else math.nan


def write(folder: Path) -> Path:
    """Write `comparison.md` into a folder of experiments and return its path; AffectError where it can't be."""
    path = Path(folder) / FILE
    content = page(folder)
    try:
        replace_file(path, content)
    except OSError as error:
        raise AffectError(f"{str(path)!r} can't be written: {error.strerror or error}") from error
    return path


def page(folder: Path) -> str:
    """Return the comparison of all experiments in a folder, in Markdown; what can't be read is named at the end."""
    found, left = [], []
    for path in experiments_in(folder):
        try:
            study = load(path, scores_only=True)
        except AffectError as error:
            left.append(f"{path.name} ({error})")
            continue
        if any(study.scored(name, m).cells for name in study.evaluations for m in study.headline):
            found.append(_Entry(study=study, time=_time(study)))
        else:
            left.append(f"{study.name} (no run is finished)")
    parts = ["# Experiments so far"]
    groups = _groups(sorted(found, key=lambda entry: (entry.time, entry.study.name)))
    for (data, measures), entries in groups.items():
        title = ", ".join(measures) + (f" of {data}" if data else "")
        parts += [f"## {escaped(title)}" if len(groups) > 1 else "", table(entries), gains(entries), preferred(entries)]
    parts.append(_LEGEND if found else "No experiment has a finished run yet.")
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


def table(entries: Sequence[_Entry]) -> str:
    """Return a line an experiment, in their order."""
    first = entries[0].study
    names = list(dict.fromkeys(name for entry in entries for name in (*entry.tests, VALID)))
    means = list(dict.fromkeys(name for entry in entries for name in entry.study.summaries))
    # Of two parts each measure has a column of its own.
    each = [[m] for m in first.headline] if len(names) == 2 else [first.headline]
    columns = [(name, shown) for name in names for shown in each]
    columns += [(name, [m for m in first.headline if m is first.main]) for name in means]
    head = ["experiment", "date", "folds x seeds"]
    head += [f"{name} {' / '.join(m.shown for m in shown)}" for name, shown in columns]
    head += ["against the best before", "what changed", "best"]
    by_test, by_valid = _top(entries, "tested"), _top(entries, "validated")
    rows = []
    for i, entry in enumerate(entries):
        best = " and ".join(
            words for words, top in (("tests", by_test), ("validation", by_valid)) if top is entry
        )  # fmt: skip
        rows.append([
            entry.study.name, entry.time.date().isoformat(), _finished(entry.study),
            *(" / ".join(_cell(entry.study, name, m) for m in shown) for name, shown in columns),
            _difference(entry, _top(entries[:i], "tested")), _changed(entries[: i + 1]), best and f"best on {best}",
        ])  # fmt: skip
    return grid(*filled(head, rows), left=True)


def gains(entries: Sequence[_Entry]) -> str:
    """Return a line an experiment with its differences to the one called `BASELINE`; "" where there is none."""
    named = [entry.study for entry in entries if entry.study.name == BASELINE]
    # One that was measured here tells how much it varies; a paper's doesn't.
    base = min(named, key=lambda study: study.reported, default=None)
    others = [entry.study for entry in entries if entry.study is not base]
    if base is None or not others:
        return ""
    names = list(dict.fromkeys(name for study in others for name in (*study.evaluations, *study.summaries)))
    rows = []
    for study in others:
        found = _compared(study, base)
        nothing = ["nothing in common", *[NONE] * (len(names) - 1)]
        rows.append([study.name, *([_gain(found, name, study.main) for name in names] if found else nothing)])
    return grid(*filled([f"against {BASELINE}", *names], rows), left=True)


def _gain(found: Comparison, name: str, main: Measure | None) -> str:
    difference = found.of(name, main)
    if difference is None or math.isnan(difference.estimate.value):
        return NONE
    judged = difference.judged
    word = judged.said() if judged.strength == "really" else judged.strength
    return f"{difference.estimate.shown(signed)}: {word}"


def preferred(entries: Sequence[_Entry]) -> str:
    """Return a warning where the best experiment on the tests is not the best on validation ("": it is)."""
    known = [entry for entry in entries if not math.isnan(entry.tested + entry.validated)]
    by_test, by_valid = _top(known, "tested"), _top(known, "validated")
    if len(known) < 2 or by_test is None or by_valid is None or by_test is by_valid:
        return ""
    first, second = escaped(by_test.study.name), escaped(by_valid.study.name)
    return f"**{first} is best on the tests, {second} on validation: choosing {first} would be selection on a test.**"


def _top(entries: Sequence[_Entry], kind: str) -> _Entry | None:
    known = [entry for entry in entries if not math.isnan(getattr(entry, kind))]
    return max(known, key=lambda entry: float(getattr(entry, kind)), default=None)


def _cell(study: Study, name: str, measure: Measure) -> str:
    own = next((m for m in study.measures if m.name == measure.name), None)
    if own is None or name not in (*study.evaluations, *study.summaries):
        return NONE
    found = study.scored(name, own)
    by_fold = study.reported or name in study.evaluations and study.task is not None and study.pooled(name, own)
    return with_deviation(found.mean, found.over_folds if by_fold else found.over_seeds)


def _groups(entries: Sequence[_Entry]) -> dict[tuple[str, tuple[str, ...]], list[_Entry]]:
    """Return entries by data and measures: scores of other ones don't compare.

    Where no corpus is named (a paper's numbers may leave it out) and one alone has the same measures, it is that one;
    a paper that calls the corpus as recipes do is beside those recipes.
    """
    measured = [entry for entry in entries if not entry.study.reported]
    groups: dict[tuple[str, tuple[str, ...]], list[_Entry]] = {}
    for entry in entries:
        alike = [other for other in measured if other.measures == entry.measures]
        data = entry.data
        if entry.study.reported:
            data = next((other.data for other in alike if other.short == data), data)
        known = {other.data for other in alike} - {""}
        groups.setdefault((data or (known.pop() if len(known) == 1 else ""), entry.measures), []).append(entry)
    return groups


def _compared(study: Study, other: Study) -> Comparison | None:
    try:
        return compare(study, other, main_only=True)
    except AffectError:
        return None


def _difference(entry: _Entry, best: _Entry | None) -> str:
    """Return the difference to the best experiment until then on each test, in words."""
    if best is None:
        return NONE
    found = _compared(entry.study, best.study)
    words = []
    for name in entry.tests:
        one = found.of(name, entry.study.main) if found else None
        if one is not None and not math.isnan(one.estimate.value):
            where = f"{name} " if len(entry.tests) > 1 else ""
            words.append(f"{where}{signed(one.estimate.value)} against {best.study.name}: {one.judged.said()}")
    return "; ".join(words) or f"{best.study.name}: nothing in common"


def _changed(entries: Sequence[_Entry]) -> str:
    """Return which settings of the last entry differ from those of the measured one before it."""
    *earlier, study = [entry.study for entry in entries]
    if study.reported:
        return f"reported: {study.environment['source']}"
    if members := inside(study.recipe, "members"):
        return f"the mean of {', '.join(members)}"
    now = _settings(study)
    # A mean of others is no step from one to the next.
    own = [_settings(other) for other in reversed(earlier) if not inside(other.recipe, "members")]
    before = next(filter(None, own), None)
    if not now or before is None:
        return NONE if now else "settings unknown"
    names = [name for name in sorted(now | before) if now.get(name) != before.get(name)]
    words = [f"{name} {text(before.get(name))} to {text(now.get(name))}" for name in names[:_MOST]]
    return (", ".join(words) or "nothing") + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def _settings(study: Study) -> dict[str, object]:
    """Return an experiment's settings by dotted name; empty where nothing says them."""
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
