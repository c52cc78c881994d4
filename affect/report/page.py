"""The report of an experiment: `report.md`, the same as one page `report.html`, and its plots, in its folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from affect.errors import AffectError
from affect.findings import Flag, Plot, Section
from affect.report import against, comparison, conditions, details, goals, html, result
from affect.report.compare import Comparison, compare
from affect.report.experiment import experiments_in, is_experiment, load
from affect.report.flags import flags
from affect.report.goals import Goals
from affect.report.runs import VALID, Run
from affect.report.study import Study
from affect.tables import counted, escaped, flat, grid, inside, slug, text

_LOG = logging.getLogger("affect")
_ABOVE = ("presence", "class_counts", "classes", "command")
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
        compare_all(study.folder.resolve().parent)
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
    found = compare(study, other) if other is not None else None
    wanted = goals.resolve(study, targets) if targets and study.finished else []
    parts = sections(study, found, wanted)
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
        drawn = figures.save([plot for part in parts for plot in part.plots], study.folder / "plots")
        content = page(study.name, parts, drawn)
        _replace(path, content)
        _replace(path.with_suffix(".html"), html.render(content, study.name, study.folder))
    except OSError as error:
        raise AffectError(f"the report {str(path)!r} can't be written: {error.strerror or error}") from error
    said = [result.table(study), *([against.summary(found)] if found else [])]
    said += [goals.distances(study, wanted)] if wanted else []
    return path, "\n\n".join([*said, *([left] if left else [])]).replace("**", "")


def compare_all(folder: Path) -> Path | None:
    """Write `comparison.md` into a folder of experiments; None where there is no experiment in it or it can't be."""
    if not experiments_in(folder):
        return None
    try:
        return comparison.write(folder)
    except AffectError as error:
        # The reports themselves are there; a read-only folder of experiments must not hide them.
        _LOG.warning("%s", error)
        return None


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


def sections(study: Study, found: Comparison | None = None, wanted: Goals | None = None) -> list[Section]:
    """Return all parts of the page: the core's, with the task's own between scores and settings."""
    parts = [_result(study)]
    parts += [Section(title="Targets", markdown=goals.distances(study, wanted))] if wanted else []
    parts += [_compared(study, found)] if found is not None else []
    if study.finished:
        parts += [_folds(study)]
    parts += [Section(title="Flags", markdown=_flagged(flags(study, found)))]
    if not study.reported:
        parts += [_training(study)]
    if study.finished and not study.reported:
        parts += [Section(title="Further scores", markdown=details.further(study)), *_classes(study)]
        parts += [_predicted(study), *conditions.sections(study)]
    parts += list(study.task.sections(study)) if study.task is not None and not study.reported else []
    if not study.reported:
        parts += [
            Section(title="Settings", markdown=_settings(study.recipe) if study.recipe else "No readable recipe.json."),
            Section(title="Reproduce", markdown=_command(study.runs, study.recipe)),
            Section(title="Environment", markdown=_environment([run.environment for run in study.runs])),
        ]
    return parts


def _result(study: Study) -> Section:
    from affect.report import plots

    if not study.finished:
        return Section(title="Result", markdown="No run is finished, so there is no score yet.")
    said = [result.words(study), result.scores(study)]
    if study.reported:
        source = escaped(str(study.environment.get("source", "")))
        said.append(f"These numbers were not measured here; they are reported in: {source}.")
    else:
        said.append(result.basis(study))
    left = result.unfinished(study)
    said += [f"**Not finished, or of a seed that is not, and left out: {', '.join(left)}.**"] if left else []
    drawn = Plot(name="scores", caption="Scores by evaluation", draw=partial(plots.scores, study))
    return Section(title="Result", markdown="\n\n".join(filter(None, said)), plots=[drawn])


def _compared(study: Study, found: Comparison) -> Section:
    from affect.report import plots

    assert study.other is not None
    caption = f"Difference to {found.name}, with its 95 % interval"
    drawn = [Plot(name="differences", caption=caption, draw=partial(plots.differences, found))]
    for name in dict.fromkeys(
        one.evaluation for one in found.differences if one.per == "fold" and one.evaluation != VALID
    ):
        caption = f"{name}: fold by fold beside {found.name} (lines: means)"
        drawn.append(
            Plot(name=f"beside-{slug(name)}", caption=caption, draw=partial(plots.beside, study, study.other, name))
        )
    return Section(title=f"Against {found.name}", markdown=against.section(found), plots=drawn)


def _folds(study: Study) -> Section:
    from affect.report import plots

    table = result.folds(study)
    drawn = [
        Plot(name=f"folds-{slug(name)}", caption=f"{name} by fold", draw=partial(plots.folds, study, name))
        for name in study.crossed if name != VALID or study.crossed == [VALID]
    ]  # fmt: skip
    return Section(title="Folds", markdown=f"{table}\n\n{result.FOLDS}" if table else "", plots=drawn)


def _training(study: Study) -> Section:
    from affect.report import plots

    seeds = "; the seeds of a fold share its colour)" if len({run.seed for run in study.runs}) > 1 else ")"
    caption = f"Training loss and validation scores by epoch (dots: the chosen checkpoint{seeds}"
    return Section(
        title="Training", markdown=result.training(study),
        plots=[Plot(name="curves", caption=caption, draw=partial(plots.curves, study))],
    )  # fmt: skip


def _classes(study: Study) -> list[Section]:
    from affect.report import plots

    drawn = [
        Plot(name=f"confusion-{slug(target)}", caption=f"Confusion of {target}: percent of each label's rows",
             draw=partial(plots.confusion, study, target))
        for target in study.categorical()
    ]  # fmt: skip
    return [Section(title="Classes", markdown=details.classes(study), plots=drawn)] if drawn else []


def _predicted(study: Study) -> Section:
    from affect.report import plots

    caption = "Predicted against true, all tests"
    drawn = Plot(name="predicted", caption=caption, draw=partial(plots.predicted, study))
    return Section(title="Predictions", plots=[drawn])


def _flagged(found: Sequence[Flag]) -> str:
    """Return a line a flag, or what was looked for where there is none."""
    if not found:
        return "None: nothing missing or unreadable, no gap, no outlying fold, no NaN, no constant predictions."
    rows: list[list[str]] = []
    said: dict[str, str] = {}
    for flag in found:
        # The same advice is given once: a table full of it hides what differs.
        first = said.setdefault(flag.advice, flag.kind)
        repeated = bool(flag.advice) and any(row[3] == flag.advice for row in rows)
        again = "as above" if first == flag.kind else f'as for "{first}"'
        rows.append([flag.kind, flag.where, flag.evidence, again if repeated else flag.advice])
    return grid(["flag", "where", "evidence", "what to try"], rows, left=True)


def _settings(recipe: dict[str, object]) -> str:
    """Return a line a section of the recipe with its fields that are set; seed and fold are left out."""
    rows = []
    loose = {k: v for k, v in recipe.items() if not isinstance(v, dict) and k != "seed"}
    for name in ["recipe", *sorted(k for k, v in recipe.items() if isinstance(v, dict))]:
        fields = flat(loose if name == "recipe" else inside(recipe, name))
        kept = {k: v for k, v in fields.items() if v not in (None, "", [], {}) and (name, k) != ("data", "fold")}
        if kept:
            rows.append([name, ", ".join(f"{k} {text(v)}" for k, v in kept.items())])
    return grid(["part", "settings"], rows, left=True)


def _command(runs: Sequence[Run], recipe: Mapping[str, object]) -> str:
    """Return the command as the trainer recorded it, or what can be told of it from the recipe."""
    command = next((c for run in runs if (c := run.environment.get("command"))), None)
    if command:
        shown = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    else:
        seeds = " ".join(str(seed) for seed in sorted({run.seed for run in runs}))
        shown = f"accelerate launch recipes/RECIPE.py {recipe.get('experiment', 'EXPERIMENT')} --seeds {seeds}"
    # On one line: a block of code ends at an empty one.
    shown = " ".join(shown.splitlines())
    return (
        f"    {shown}\n\nEvery run folder holds its resolved recipe (`recipe.json`), which counts where the two differ."
    )


def _environment(records: Sequence[Mapping[str, object]]) -> str:
    """Return each fact of the runs' environments, with all its values where they differ."""
    known = [flat({k: v for k, v in record.items() if k not in _ABOVE}) for record in records if record]
    if not known:
        return "No readable environment.json."
    rows = []
    for name in sorted({name for record in known for name in record}):
        values = list(dict.fromkeys(text(record[name]) for record in known if name in record))
        rows.append(
            [name, " or ".join(values[:3]) + (f" … ({counted(len(values), 'value')})" if len(values) > 3 else "")]
        )
    return grid(["what", "value"], rows, left=True)


def _left_out(path: Path, other: Study | None, targets: Mapping[str, float] | None) -> str:
    """Return a line on what the page that is about to be replaced had and this one was not asked for ("": nothing)."""
    try:
        earlier = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    compared = re.search(r"^## Against (.+)$", earlier, re.MULTILINE)
    had = [(f"a comparison with {compared[1]}", "--against")] if compared and other is None else []
    had += [("targets", "--target")] if re.search(r"^## Targets$", earlier, re.MULTILINE) and not targets else []
    if not had:
        return ""
    what, options = (" and ".join(words) for words in zip(*had, strict=True))
    return f"The earlier page also had {what}; this one does not: give {options} again to have it back."


def _replace(path: Path, content: str) -> None:
    """Write a file in one go: a reader never sees half a page."""
    half = path.with_suffix(path.suffix + ".part")
    half.write_text(content, encoding="utf-8", newline="\n")
    os.replace(half, path)
