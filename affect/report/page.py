"""The report of an experiment: `report.md`, the same as one page `report.html`, and its plots, in its folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from affect.errors import writing
from affect.findings import Flag, Plot, Section
from affect.report import against, comparison, conditions, details, goals, gradients, html, mistakes, result, speed
from affect.report.compare import Comparison, compare
from affect.report.experiment import is_experiment, load, replace_file
from affect.report.flags import flags
from affect.report.goals import Goals
from affect.report.runs import VALID, Run
from affect.report.study import Study
from affect.tables import counted, escaped, flat, grid, slug, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FLAGS, _COMMANDS = 6, 6
_DIRTY = " with changes that were not committed"
_ABOVE = ("presence", "class_counts", "classes", "signs", "command")
"""What of an environment is told elsewhere."""


def write(folder: Path, against: Path | None = None, targets: Mapping[str, float] | None = None) -> Path:
    """Write `report.md`, `report.html` and `plots/*.png` into an experiment's folder and return the first's path.

    `against` is another experiment (its folder, its name beside this one, or a file of reported numbers), `targets`
    are scores to reach by name (see `goals`). `comparison.md` beside the folder is written anew.
    A pure function of the run folders: the same runs give the same bytes (PNGs: with the same matplotlib). Raises
    AffectError where there are no runs, nothing to compare, or the folder can't be written.
    """
    study = load(folder)
    other = load(against, study.folder.resolve().parent, scores_only=True) if against is not None else None
    path, _ = publish(study, other, targets)
    # A single run may be asked for too: its neighbours are seeds and folds.
    if is_experiment(study.folder):
        comparison.write(study.folder.resolve().parent)
    return path


def publish(study: Study, other: Study | None = None, targets: Mapping[str, float] | None = None) -> tuple[Path, str]:
    """Write the report of an experiment that was read, beside another one (see `write`).

    Returns the page's path and what the terminal shows of it: the tables, the comparison and the goals in words.
    """
    # The table printed after a run needs no matplotlib.
    from affect import figures

    path = study.folder / "report.md"
    # Of an experiment beside itself there is nothing to say.
    if other is not None and other.folder.resolve() == study.folder.resolve():
        other = None
    study = replace(study, other=other)
    left = _left_out(path, other, targets)
    # Before anything is written: what can't be compared leaves the earlier report whole.
    beside = compare(study, other) if other is not None else None
    wanted = goals.resolve(study, targets) if targets and study.finished else []
    parts = sections(study, beside, wanted)
    with writing(path):
        study.folder.mkdir(parents=True, exist_ok=True)
        drawn = figures.save([plot for part in parts for plot in part.plots], study.folder / "plots")
        content = page(study.name, parts, drawn)
        replace_file(path, content)
        replace_file(path.with_suffix(".html"), html.render(content, study.name, study.folder))
    blocks = [result.table(study), against.summary(beside) if beside else "", goals.distances(study, wanted), left]
    return path, "\n\n".join(filter(None, blocks)).replace("**", "")


def page(name: str, parts: Sequence[Section], drawn: Mapping[str, str]) -> str:
    """Return the report in Markdown; `drawn` are the paths of plots by name."""
    # Warnings on the data stand at the top.
    blocks = [f"# {escaped(name)}", *(part.markdown for part in parts if not part.title)]
    for part in parts:
        if not part.title:
            continue
        shown = [plot for plot in part.plots if plot.name in drawn]
        if part.markdown or shown:
            blocks += [f"{'#' * part.level} {escaped(part.title)}", part.markdown]
        for plot in shown:
            blocks += [escaped(plot.caption), f"![{escaped(plot.caption)}]({drawn[plot.name]})"]
    return "\n\n".join(filter(None, blocks)) + "\n"


def sections(study: Study, beside: Comparison | None = None, wanted: Goals = ()) -> list[Section]:
    """Return all parts of the page: the core's, with the task's own between scores and settings."""
    from affect.report import plots

    def plot(name: str, caption: str, draw: Callable[..., Figure | None], *arguments: object) -> Plot:
        return Plot(name=slug(name), caption=caption, draw=partial(draw, *arguments))

    drawn = [plot("scores", "Scores by evaluation", plots.scores, study)]
    parts = [Section(title="Result", markdown=_result(study), plots=drawn)]
    parts += [Section(title="Targets", markdown=goals.distances(study, wanted))] if wanted else []
    if beside is not None:
        drawn = [plot("differences", f"Difference to {beside.name}, with its 95 % interval", plots.differences, beside)]
        for name in dict.fromkeys(
            d.evaluation for d in beside.differences if d.per == "fold" and d.evaluation != VALID
        ):
            caption = f"{name}: fold by fold beside {beside.name} (lines: means)"
            drawn.append(plot(f"beside-{name}", caption, plots.beside, study, study.other, name))
        parts.append(Section(title=f"Against {beside.name}", markdown=against.section(beside), plots=drawn))
    if study.finished:
        table = result.folds(study)
        names = [name for name in study.crossed if name != VALID] or study.crossed
        drawn = [plot(f"folds-{name}", f"{name} by fold", plots.folds, study, name) for name in names]
        parts.append(Section(title="Folds", markdown=f"{table}\n\n{result.FOLDS}" if table else "", plots=drawn))
    parts.append(Section(title="Flags", markdown=_flagged(flags(study, beside))))
    if study.reported:
        return parts
    seeds = "; the seeds of a fold share its colour" if len({run.seed for run in study.runs}) > 1 else ""
    caption = f"Training loss and validation scores by epoch (dots: the chosen checkpoint{seeds})"
    drawn = [plot("curves", caption, plots.curves, study)]
    parts.append(Section(title="Training", markdown=result.training(study), plots=drawn))
    parts.append(Section(title="Gradients of the terms", markdown=gradients.table(study)))
    parts.append(Section(title="Speed", markdown=speed.table(study)))
    if study.finished:
        confusions = []
        for name in study.categorical:
            caption = f"Confusion of {name}: percent of each label's rows"
            confusions.append(plot(f"confusion-{name}", caption, plots.confusion, study, name))
        drawn = [plot("predicted", "Predicted against true, all tests", plots.predicted, study)]
        parts += [
            Section(title="Further scores", markdown=details.further(study)),
            Section(title="Classes", markdown=details.classes(study), plots=confusions),
            Section(title="Predictions", plots=drawn),
            Section(title="Where the errors are", markdown=mistakes.section(study)), *conditions.sections(study),
        ]  # fmt: skip
    parts += study.task.sections(study) if study.task is not None else []
    return [
        *parts,
        Section(title="Settings", markdown=_settings(study.recipe) if study.recipe else "No readable recipe.json."),
        Section(title="Reproduce", markdown=_command(study.runs)),
        Section(title="Environment", markdown=_environment([run.environment for run in study.runs])),
    ]


def _result(study: Study) -> str:
    if not study.finished:
        return "No run is finished, so there is no score yet."
    source = escaped(str(study.environment.get("source", "")))
    reported = f"These numbers were not measured here; they are reported in: {source}."
    left = ", ".join(result.unfinished(study))
    blocks = [
        result.words(study), result.scores(study), reported if study.reported else result.basis(study),
        f"**Not finished, or of a seed that is not, and left out: {left}.**" if left else "",
    ]  # fmt: skip
    return "\n\n".join(filter(None, blocks))


def _flagged(entries: Sequence[Flag]) -> str:
    """Return a line a flag, or what was looked for where there is none."""
    if not entries:
        return "None: nothing missing or unreadable, no gap, no outlying fold, no NaN, no constant predictions."
    rows: list[list[str]] = []
    # The same advice is given once: a table full of it hides what differs.
    first: dict[str, str] = {}
    for flag in entries[:_MOST_FLAGS]:
        advice = flag.advice
        if advice in first:
            advice = "as above" if first[advice] == flag.kind else f'as for "{first[advice]}"'
        elif advice:
            first[advice] = flag.kind
        rows.append([flag.kind, flag.where, flag.evidence, advice])
    table, rest = grid(["flag", "where", "evidence", "what to try"], rows, left=True), entries[_MOST_FLAGS:]
    if not rest:
        return table
    lighter = ", ".join(f"{flag.kind} ({flag.where})" for flag in rest)
    return f"{table}\n\nWhat weighs most is above; {counted(len(rest), 'further flag')}: {escaped(lighter)}."


def _settings(recipe: dict[str, object]) -> str:
    """Return a line a section of the recipe with its fields that are set; seed and fold are left out."""
    sections = {"recipe": {k: v for k, v in recipe.items() if not isinstance(v, dict) and k != "seed"}}
    sections |= {name: part for name, part in sorted(recipe.items()) if isinstance(part, dict)}
    rows = []
    for name, part in sections.items():
        fields = {k: v for k, v in flat(part).items() if v not in (None, "", [], {}) and (name, k) != ("data", "fold")}
        if fields:
            rows.append([name, ", ".join(f"{k} {text(v)}" for k, v in fields.items())])
    return grid(["part", "settings"], rows, left=True)


def _command(runs: Sequence[Run]) -> str:
    """Return the commands as the runs recorded them, and the version of the code that they were."""
    recorded = [c for run in runs if (c := run.environment.get("command"))]
    given = [" ".join(map(str, command)) if isinstance(command, list) else str(command) for command in recorded]
    # Each on one line: a block of code ends at an empty one.
    shown = list(dict.fromkeys(" ".join(command.splitlines()) for command in given))
    lines = [f"    {command}" for command in shown[:_COMMANDS]] or ["The command was not recorded."]
    more = f"And {counted(len(shown) - _COMMANDS, 'further command')}." if len(shown) > _COMMANDS else ""
    versions = {(str(c), run.environment.get("dirty")) for run in runs if (c := run.environment.get("commit"))}
    told = [f"`{commit}`{_DIRTY if dirty else ''}" for commit, dirty in sorted(versions, key=str)]
    at = f"Run at the commit {' and '.join(told)}." if told else ""
    resolved = "Every run folder holds its resolved recipe (`recipe.json`), which counts where the two differ."
    return "\n\n".join(filter(None, ["\n".join(lines), " ".join(filter(None, [more, at, resolved]))]))


def _environment(records: Sequence[Mapping[str, object]]) -> str:
    """Return each fact of the runs' environments, with all its values where they differ."""
    environments = [flat({k: v for k, v in record.items() if k not in _ABOVE}) for record in records if record]
    rows = []
    for name in sorted({name for record in environments for name in record}):
        values = list(dict.fromkeys(text(record[name]) for record in environments if name in record))
        more = f" … ({counted(len(values), 'value')})" if len(values) > 3 else ""
        rows.append([name, " or ".join(values[:3]) + more])
    return grid(["what", "value"], rows, left=True) if environments else "No readable environment.json."


def _left_out(path: Path, other: Study | None, targets: Mapping[str, float] | None) -> str:
    """Return a line on what the page that is about to be replaced had and this one was not asked for ("": nothing)."""
    try:
        earlier = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    compared = re.search(r"^## Against (.+)$", earlier, re.MULTILINE)
    had = {f"a comparison with {compared[1]}": "--against"} if compared and other is None else {}
    had |= {"targets": "--target"} if re.search(r"^## Targets$", earlier, re.MULTILINE) and not targets else {}
    if not had:
        return ""
    what, options = " and ".join(had), " and ".join(had.values())
    return f"The earlier page also had {what}; this one does not: give {options} again to have it back."
