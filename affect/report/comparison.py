"""`comparison.md` in a folder of experiments: all of them so far, a line each, in the order they were run."""

from __future__ import annotations

import logging
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
from affect.report.compare import compare
from affect.report.experiment import Experiment, experiments_in, load
from affect.report.multimodal import overview
from affect.report.multimodal.names import is_multimodal
from affect.report.multimodal.study import study_of
from affect.report.scores import MEAN, Scores
from affect.report.tables import NONE, escaped, flat, grid, label, number, over_folds, signed, text

_LOG = logging.getLogger("affect")
FILE = "comparison.md"
_MOST = 4
"""Changed settings named in a line; of more the rest is counted."""

# What differs by design, where data lies, and what decides no result.
_OWN = {"seed", "experiment", "data.fold", "data.root", *FREE}


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An experiment with its scores and the time that orders it."""

    experiment: Experiment
    scores: Scores
    time: datetime

    @property
    def mean(self) -> float:
        """The mean over folds of the mean over targets."""
        return over_folds(self.scores, "test", MEAN)[0]


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
            experiment = load(path, scores_only=True)
        except AffectError as error:
            left.append(f"{path.name} ({error})")
            continue
        if experiment.scores.runs or _multimodal(experiment):
            found.append(_Entry(experiment=experiment, scores=experiment.scores, time=_time(experiment)))
        else:
            left.append(f"{experiment.name} (no run is finished)")
    parts = ["# Experiments so far"]
    groups = _groups(sorted(found, key=lambda entry: (entry.time, entry.experiment.name)))
    for (corpus, targets), entries in groups.items():
        emotions = bool(entries) and _multimodal(entries[0].experiment)
        heading = ("multimodal emotion" if emotions else ", ".join(targets)) + (f" of {corpus}" if corpus else "")
        parts += [f"## {escaped(heading)}"] if len(groups) > 1 else []
        parts += [overview.section(_lines(entries)) if emotions else table(entries)]
    parts += [_LEGEND] if any(not _multimodal(entry.experiment) for entry in found) else []
    parts += [overview.LEGEND] if any(_multimodal(entry.experiment) for entry in found) else []
    parts += [] if found else ["No experiment has a finished run yet."]
    if left:
        parts.append("Left out: " + "; ".join(escaped(words) for words in left) + ".")
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Scores are test scores: the mean over folds ± its deviation (of a sample; seeds averaged first). The difference "
    "is that of the means over targets, taken on what the two experiments have in common, against the one that was "
    'best until then; "within noise" means that its 95 % interval holds 0, "not confirmed" that it does '
    "not, but rests on few groups (under 10 speakers, dialogues ...) or that the paired test over folds disagrees, "
    '"with one seed" that another seed may undo it. Settings are compared with those of the '
    "line before. The more experiments are tried on one test part, the more the best of them is so by chance."
)


def table(entries: Sequence[_Entry]) -> str:
    """Return a line an experiment, in their order."""
    targets = entries[0].scores.targets
    head = ["experiment", "date", "folds x seeds", *(label(t, targets) for t in [*targets, MEAN])]
    head += ["against the best before", "what changed", "best"]
    best = _highest(entries)
    rows = []
    for i, entry in enumerate(entries):
        cells = [_with_deviation(*over_folds(entry.scores, "test", t)) for t in [*targets, MEAN]]
        row = [entry.experiment.name, entry.time.date().isoformat(), _finished(entry.experiment), *cells]
        row += [_difference(entry, _highest(entries[:i])), _changed(entries[: i + 1])]
        rows.append([*row, "best" if entry is best else ""])
    return grid(head, rows, left=True)


def _multimodal(experiment: Experiment) -> bool:
    """Tell whether an experiment has scores of multimodal emotion, which compare in their own way."""
    return is_multimodal(experiment.runs) and any(run.finished for run in experiment.runs)


def _lines(entries: Sequence[_Entry]) -> list[overview.Line]:
    return [
        overview.Line(
            study=study_of(entry.experiment),
            date=entry.time.date().isoformat(),
            finished=_finished(entry.experiment),
            changed=_changed(entries[: i + 1]),
        )
        for i, entry in enumerate(entries)
    ]


def _groups(entries: Sequence[_Entry]) -> dict[tuple[str, tuple[str, ...]], list[_Entry]]:
    """Return entries by corpus and targets: scores of other ones don't compare.

    Where no corpus is named (a paper's numbers may leave it out) and one alone has the same targets, it is that one.
    """
    named: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        corpora = named.setdefault(tuple(entry.scores.targets), [])
        if entry.experiment.corpus and entry.experiment.corpus not in corpora:
            corpora.append(entry.experiment.corpus)
    groups: dict[tuple[str, tuple[str, ...]], list[_Entry]] = {}
    for entry in entries:
        targets = tuple(entry.scores.targets)
        alone = named[targets][0] if len(named[targets]) == 1 else ""
        groups.setdefault((entry.experiment.corpus or alone, targets), []).append(entry)
    return groups


def _highest(entries: Sequence[_Entry]) -> _Entry | None:
    known = [entry for entry in entries if not math.isnan(entry.mean)]
    return max(known, key=lambda entry: entry.mean) if known else None


def _difference(entry: _Entry, best: _Entry | None) -> str:
    if best is None:
        return NONE
    try:
        found = compare(entry.experiment, best.experiment)
    except AffectError:
        return f"{best.experiment.name}: nothing in common"
    difference = found.differences[MEAN]
    return f"{signed(difference.estimate.value)} against {best.experiment.name}: {verdict(found, difference)}"


def _changed(entries: Sequence[_Entry]) -> str:
    """Return which settings of the last entry differ from those of the measured one before it."""
    *earlier, last = entries
    if any(run.reported for run in last.experiment.runs):
        return f"reported: {last.experiment.runs[0].environment['source']}"
    members = _members(last.experiment)
    if members:
        return f"the mean of {', '.join(members)}"
    now = _settings(last.experiment)
    # A mean of others is no step from one to the next.
    own = [entry.experiment for entry in earlier if not _members(entry.experiment)]
    before = next((s for experiment in reversed(own) if (s := _settings(experiment))), None)
    if not now or before is None:
        return NONE if now else "settings unknown"
    names = [name for name in sorted(now | before) if now.get(name) != before.get(name)]
    said = [f"{name} {text(before.get(name))} to {text(now.get(name))}" for name in names]
    more = f" and {len(said) - _MOST} more" if len(said) > _MOST else ""
    return ", ".join(said[:_MOST]) + more if said else "nothing"


def _members(experiment: Experiment) -> list[str]:
    """Return whose mean an ensemble is; of any other experiment none."""
    held = next((run.recipe.get("members") for run in experiment.runs if run.recipe), None)
    return list(held) if isinstance(held, dict) else []


def _settings(experiment: Experiment) -> dict[str, object]:
    """Return an experiment's settings by dotted name; empty where nothing says them."""
    recipe = next((run.recipe for run in experiment.runs if run.recipe and not run.reported), {})
    return {name: value for name, value in flat(recipe).items() if name not in _OWN}


def _finished(experiment: Experiment) -> str:
    runs = experiment.runs
    done = [run for run in runs if run.finished]
    folds, seeds = ({getattr(run, name) for run in done} for name in ("fold", "seed"))
    if folds == {0}:
        return "mean alone"
    whole = f"{len(folds)} x {len(seeds)}"
    if len(done) == len(folds) * len(seeds) == len(runs):
        return whole
    return f"{len(done)} of {max(len(runs), len(folds) * len(seeds))} runs"


def _with_deviation(mean: float, deviation: float) -> str:
    return number(mean) if math.isnan(deviation) else f"{number(mean)} ± {number(deviation)}"


def _time(experiment: Experiment) -> datetime:
    """Return when an experiment began, as it is recorded, else when its settings were written."""
    stamps = []
    for run in experiment.runs:
        said = run.environment.get("date") if run.reported else run.environment.get("started")
        if isinstance(said, str) and (stamp := _parsed(said)) is not None:
            stamps.append(stamp)
    if stamps:
        return min(stamps)
    files = [*experiment.folder.glob("seed*/fold*/recipe.json"), *experiment.folder.glob("seed*/fold*/metrics.jsonl")]
    written = [path.stat().st_mtime for path in files or [experiment.folder / reported.FILE]]
    return datetime.fromtimestamp(min(written), UTC)


def _parsed(said: str) -> datetime | None:
    try:
        stamp = datetime.fromisoformat(said)
    except ValueError:
        return None
    return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
