"""The report of an experiment: `report.md` and its plots in the experiment's folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from affect.errors import AffectError
from affect.report.flags import flags, mapped
from affect.report.runs import Record, Run, read
from affect.report.scores import Scores, section
from affect.report.tables import baselines, flat, folds, grid, settings, text
from affect.report.words import resampling, result


def write(folder: Path) -> Path:
    """Write `report.md` and `plots/*.png` into an experiment folder and return the page's path.

    A pure function of the run folders: the same runs give the same bytes (PNGs: with the same matplotlib). Raises
    AffectError where there are no runs or the folder can't be written.
    """
    # The table printed after a run needs no matplotlib.
    from affect.report.plots import draw

    folder = Path(folder)
    runs = read(folder)
    path = folder / "report.md"
    try:
        plots = draw(runs, folder / "plots")
        text = page(folder.resolve().name, runs, plots)
        # Replaced in one go: a reader never sees half a page.
        half = path.with_suffix(".md.part")
        half.write_text(text, encoding="utf-8", newline="\n")
        os.replace(half, path)
    except OSError as error:
        raise AffectError(f"the report {str(path)!r} can't be written: {error.strerror or error}") from error
    return path


def page(name: str, runs: Sequence[Run], plots: Sequence[tuple[str, str]] = ()) -> str:
    """Return the report in Markdown; `plots` are (caption, path relative to the page)."""
    scores = Scores(runs=[run for run in runs if run.finished and run.test])
    parts = [f"# {name}", *_notice(runs)]
    if scores.runs:
        parts += ["## Result", result(scores), _honesty(runs), "## Folds", folds(scores)]
        parts += [_legend(), "## Pooled scores and baselines", baselines(scores), resampling(scores)]
    else:
        parts += ["## Result", "No run is finished, so there is no score yet."]
    parts += ["## Flags", _flagged(runs)]
    parts += ["## Plots", *(f"{caption}\n\n![{caption}]({path})" for caption, path in plots)] if plots else []
    recipe = next((run.recipe for run in runs if run.recipe), {})
    parts += ["## Settings", settings(recipe) if recipe else "No readable recipe.json."]
    parts += ["## Reproduce", _command(runs, recipe), "## Environment", _environment(runs)]
    return "\n\n".join(parts) + "\n"


def _notice(runs: Sequence[Run]) -> list[str]:
    if not any(mapped(run) for run in runs):
        return []
    return [
        "> **Labels mapped, not rated.** The dimensional labels were derived from emotion categories: each category "
        "has one point. The scores say how well categories are told apart along these axes; they are not comparable "
        "with scores on rated corpora."
    ]


def _honesty(runs: Sequence[Run]) -> str:
    if all(section(run.recipe, "train").get("choose") == "last" for run in runs):
        words = (
            "The weights of the last step were taken, whatever the validation scores; the test part was evaluated once."
        )
    else:
        words = (
            "Checkpoints were chosen on the validation part; the test part was evaluated once, with the chosen "
            "checkpoint. Validation scores are therefore the best of several and lean upwards."
        )
    unfinished = [run.name for run in runs if not run.finished]
    return words + (f" **Not finished and left out: {', '.join(unfinished)}.**" if unfinished else "")


def _legend() -> str:
    return (
        "`n`: utterances of the test part. `gap`: validation minus test, averaged over the targets. "
        "`mean`: of the targets' CCCs. The deviation is that of a sample, over folds (seeds averaged first)."
    )


def _flagged(runs: Sequence[Run]) -> str:
    found = flags(runs)
    if not found:
        return "None: no gap over .05, no outlying fold, no NaN, no constant predictions, no slow loading."
    return grid(["flag", "where", "evidence"], [[f.kind, f.where, text(f.evidence)] for f in found], left=True)


def _command(runs: Sequence[Run], recipe: Record) -> str:
    """Return the command as the trainer recorded it, or what can be told of it from the recipe."""
    command = next((c for run in runs if (c := run.environment.get("command"))), None)
    if command:
        shown = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    else:
        seeds = " ".join(str(seed) for seed in sorted({run.seed for run in runs}))
        shown = f"accelerate launch recipes/RECIPE.py {recipe.get('experiment', 'EXPERIMENT')} --seeds {seeds}"
    return (
        f"    {shown}\n\nEvery run folder holds its resolved recipe (`recipe.json`), which counts where the two differ."
    )


def _environment(runs: Sequence[Run]) -> str:
    """Return each fact of the environment, with all its values where the runs differ."""
    known = [flat(run.environment) for run in runs if run.environment]
    if not known:
        return "No readable environment.json."
    rows = []
    for name in sorted({name for record in known for name in record} - {"command"}):
        values = list(dict.fromkeys(text(record[name]) for record in known if name in record))
        rows.append([name, " or ".join(values[:3]) + (f" … ({len(values)} values)" if len(values) > 3 else "")])
    return grid(["what", "value"], rows, left=True)
