"""`comparison.md` in a folder of experiments: all of them so far, a line each, in the order they were run."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from affect.errors import AffectError
from affect.recipe import FREE
from affect.report import reported
from affect.report.against import verdict
from affect.report.compare import Comparison, compare
from affect.report.experiment import experiments_in, load
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
        return [name for name in self.study.evaluations if name != VALID] or self.study.evaluations

    @property
    def tested(self) -> float:
        """The mean over its tests of the main measure, greater where it is better."""
        main = self.study.main
        if main is None:
            return math.nan
        return main.sign * spread(self.study.scored(name, main).mean for name in self.tests)[0]

    @property
    def validated(self) -> float:
        """The main measure on the validation part, greater where it is better."""
        main = self.study.main
        return math.nan if main is None else main.sign * self.study.scored(VALID, main).mean


def write(folder: Path) -> Path:
    """Write `comparison.md` into a folder of experiments and return its path; AffectError where it can't be."""
    path = Path(folder) / FILE
    content = page(folder)
    try:
        # Each process its own half: reports of several jobs may end at once.
        half = path.with_name(f".{FILE}.{os.getpid()}.part")
        half.write_text(content, encoding="utf-8", newline="\n")
        os.replace(half, path)
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
        if (
            study.finished
            and study.headline
            and any(study.scored(e, m).cells for e in study.evaluations for m in study.headline)
        ):
            found.append(_Entry(study=study, time=_time(study)))
        else:
            left.append(f"{study.name} (no run is finished)")
    parts = ["# Experiments so far"]
    groups = _groups(sorted(found, key=lambda entry: (entry.time, entry.study.name)))
    for (told, measures), entries in groups.items():
        parts += [f"## {escaped(', '.join(measures) + (f' of {told}' if told else ''))}"] if len(groups) > 1 else []
        parts += [table(entries), gains(entries), preferred(entries)]
    parts += [_LEGEND] if found else ["No experiment has a finished run yet."]
    parts += ["Left out: " + "; ".join(escaped(words) for words in left) + "."] if left else []
    return "\n\n".join(filter(None, parts)) + "\n"


_LEGEND = (
    "Scores are means over folds ± their deviation (of a sample): over folds that hold out groups (seeds averaged "
    "first), "
    "else over seeds. Differences are taken on what two experiments have in common, by the main measure; "
    '"within noise" means that the 95 % interval holds 0, "not confirmed" that it does not, but rests on few groups '
    f"(under {GROUPS} speakers, dialogues ...) or seeds (under {PAIRS}) or that the paired test disagrees, "
    '"with one seed" that another seed may undo it. Settings are compared with those of the line before. '
    "Experiments are "
    "to be chosen by validation: the more of them are tried on one test, the more the best of them is so by chance. "
    "Experiments on different data or scales have tables of their own and are never compared."
)


def table(entries: Sequence[_Entry]) -> str:
    """Return a line an experiment, in their order."""
    head = ["experiment", "date", "folds x seeds"]
    names = list(dict.fromkeys(name for entry in entries for name in (*entry.tests, VALID)))
    means = list(dict.fromkeys(name for entry in entries for name in entry.study.summaries))
    measures = entries[0].study.headline
    alone = len(names) == 2
    columns = [(name, [m]) for name in names for m in measures] if alone else [(name, measures) for name in names]
    columns += [(name, [m for m in measures if m is entries[0].study.main]) for name in means]
    head += [f"{name} {' / '.join(m.shown for m in shown)}" for name, shown in columns]
    head += ["against the best before", "what changed", "best"]
    rows = []
    for i, entry in enumerate(entries):
        row = [entry.study.name, entry.time.date().isoformat(), _finished(entry.study)]
        row += [" / ".join(_cell(entry.study, name, m) for m in shown) for name, shown in columns]
        row += [_difference(entry, _top(entries[:i], "tested")), _changed(entries[: i + 1])]
        best = [
            words for kind, words in (("tested", "tests"), ("validated", "validation")) if _top(entries, kind) is entry
        ]
        rows.append([*row, f"best on {' and '.join(best)}" if best else ""])
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
        rows.append(
            [study.name, *([_gain(found, name, study.main) for name in names] if found else ["nothing in common"])]
        )
        rows[-1] += [NONE] * (len(names) + 1 - len(rows[-1]))
    return grid(*filled([f"against {BASELINE}", *names], rows), left=True)


def _gain(found: Comparison, name: str, main: Measure | None) -> str:
    difference = found.of(name, main)
    if difference is None or math.isnan(difference.estimate.value):
        return NONE
    judged = difference.judged
    word = {"really": "really better" if judged.better else "really worse"}.get(judged.strength, judged.strength)
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
    mine = next((m for m in study.measures if m.name == measure.name), None)
    if mine is None or name not in (*study.evaluations, *study.summaries):
        return NONE
    found = study.scored(name, mine)
    by_fold = study.reported or name in study.evaluations and study.task is not None and study.pooled(name, mine)
    return with_deviation(found.mean, found.over_folds if by_fold else found.over_seeds)


def _groups(entries: Sequence[_Entry]) -> dict[tuple[str, tuple[str, ...]], list[_Entry]]:
    """Return entries by data and measures: scores of other ones don't compare.

    Where no corpus is named (a paper's numbers may leave it out) and one alone has the same measures, it is that one;
    a paper that calls the corpus as recipes do is beside those recipes.
    """
    known: dict[tuple[str, tuple[str, ...]], str] = {}
    named: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        measures, told = _measures(entry.study), _told(entry.study)
        if not entry.study.reported:
            known.setdefault((str(inside(entry.study.recipe, "data").get("corpus") or ""), measures), told)
        if told and told not in named.setdefault(measures, []) and not entry.study.reported:
            named[measures].append(told)
    groups: dict[tuple[str, tuple[str, ...]], list[_Entry]] = {}
    for entry in entries:
        measures, told = _measures(entry.study), _told(entry.study)
        alone = named[measures][0] if len(named.get(measures, [])) == 1 else ""
        if entry.study.reported:
            told = known.get((told, measures), told)
        groups.setdefault((told or alone, measures), []).append(entry)
    return groups


def _measures(study: Study) -> tuple[str, ...]:
    return tuple(measure.shown for measure in study.headline)


def _told(study: Study) -> str:
    found = identities(study)
    return found["corpus"] + (f", scale {found['scale']}" if "scale" in found else "")


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
    known = [(name, found.of(name, entry.study.main)) for name in entry.tests] if found else []
    said = [
        (f"{name} " if len(entry.tests) > 1 else "")
        + f"{signed(d.estimate.value)} against {best.study.name}: {verdict(d)}"
        for name, d in known if d is not None and not math.isnan(d.estimate.value)
    ]  # fmt: skip
    return "; ".join(said) or f"{best.study.name}: nothing in common"


def _changed(entries: Sequence[_Entry]) -> str:
    """Return which settings of the last entry differ from those of the measured one before it."""
    *earlier, last = entries
    if last.study.reported:
        return f"reported: {last.study.environment['source']}"
    members = _members(last.study)
    if members:
        return f"the mean of {', '.join(members)}"
    now = _settings(last.study)
    # A mean of others is no step from one to the next.
    own = [entry.study for entry in earlier if not _members(entry.study)]
    before = next((s for study in reversed(own) if (s := _settings(study))), None)
    if not now or before is None:
        return NONE if now else "settings unknown"
    names = [name for name in sorted(now | before) if now.get(name) != before.get(name)]
    said = [f"{name} {text(before.get(name))} to {text(now.get(name))}" for name in names]
    more = f" and {len(said) - _MOST} more" if len(said) > _MOST else ""
    return ", ".join(said[:_MOST]) + more if said else "nothing"


def _members(study: Study) -> list[str]:
    """Return whose mean an ensemble is; of any other experiment none."""
    held = study.recipe.get("members")
    return list(held) if isinstance(held, dict) else []


def _settings(study: Study) -> dict[str, object]:
    """Return an experiment's settings by dotted name; empty where nothing says them."""
    return {} if study.reported else {name: value for name, value in flat(study.recipe).items() if name not in _OWN}


def _finished(study: Study) -> str:
    runs = study.runs
    done = [run for run in runs if run.finished]
    folds, seeds = ({getattr(run, name) for run in done} for name in ("fold", "seed"))
    if folds == {0}:
        return "mean alone"
    whole = f"{len(folds)} x {len(seeds)}"
    if len(done) == len(folds) * len(seeds) == len(runs):
        return whole
    return f"{len(done)} of {max(len(runs), len(folds) * len(seeds))} runs"


def _time(study: Study) -> datetime:
    """Return when an experiment began, as it is recorded, else when its settings were written."""
    stamps = []
    for run in study.runs:
        said = run.environment.get("date") if run.reported else run.environment.get("started")
        if isinstance(said, str) and (stamp := _parsed(said)) is not None:
            stamps.append(stamp)
    if stamps:
        return min(stamps)
    files = [*study.folder.glob("seed*/fold*/recipe.json"), *study.folder.glob("seed*/fold*/metrics.jsonl")]
    written = [path.stat().st_mtime for path in files or [study.folder / reported.FILE]]
    return datetime.fromtimestamp(min(written), UTC)


def _parsed(said: str) -> datetime | None:
    try:
        stamp = datetime.fromisoformat(said)
    except ValueError:
        return None
    return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
