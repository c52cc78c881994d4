"""A suite: several experiments of a recipe file one after another, and the page that compares them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from affect import report
from affect.errors import AffectError
from affect.experiments import folds
from affect.options import Options
from affect.recipe import Recipe
from affect.training import run_dir, signals

_LOG = logging.getLogger("affect")


@signals.stoppable
def run(
    members: Mapping[str, Recipe], options: Options, commands: Mapping[str, str]
) -> tuple[Path | None, dict[str, str]]:
    """Run the members, and return the page that compares all experiments and what ended members before their time.

    A member that fails leaves the others; `commands` are those that run each alone, for its report.
    """
    failed: dict[str, str] = {}
    for number, (name, recipe) in enumerate(members.items(), start=1):
        _LOG.info("%s (%d of %d)", name, number, len(members))
        try:
            folds.run(name, recipe, options, commands[name])
        except AffectError as error:
            failed[name] = f"{name}: {error}"
            _LOG.warning("%s; the other experiments go on", failed[name])
    engine = folds.join(next(iter(members.values())))
    return (engine.on_main(lambda: report.compare_all(options.runs)) if options.report else None), failed


def dry_run(members: Mapping[str, Recipe], options: Options) -> str:
    """Return where each member's runs go and how many are finished, and its resolved recipe, as text."""
    lines = []
    for name, recipe in members.items():
        top = run_dir.experiment_folder(options.runs, name, options.name)
        done = sum(run_dir.finished(folder) for folder in top.glob("seed*/fold*"))
        lines.append(f"{name}: {top}, seeds {' '.join(map(str, recipe.seeds(options.seeds)))}, {done} runs finished")
    return "\n".join(lines)
