"""A sequence: experiments one after another, each seed and fold from the weights of the one before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from affect.experiments import folds, suite
from affect.options import Options
from affect.recipe import Recipe
from affect.training import run_dir, signals

_LOG = logging.getLogger("affect")


@signals.stoppable
def run(stages: Mapping[str, Recipe], options: Options, commands: Mapping[str, str]) -> Path:
    """Run the stages that are not finished and return the last one's folder; `commands` are those of each alone.

    Raises AffectError where a stage can't be run, or has no run that the next one could start from.
    """
    top = Path()
    for number, (name, recipe) in enumerate(chained(stages, options).items(), start=1):
        _LOG.info("%s (stage %d of %d)", name, number, len(stages))
        top = folds.run(name, recipe, options, commands[name])
    return top


def dry_run(stages: Mapping[str, Recipe], options: Options) -> str:
    """Return where each stage's runs go, how many are finished and what they start from, as text."""
    made = chained(stages, options)
    starts = [f"{name} starts from {recipe.train.init_from}" for name, recipe in made.items() if recipe.train.init_from]
    return "\n".join([suite.dry_run(made, options), *starts])


def chained(stages: Mapping[str, Recipe], options: Options) -> dict[str, Recipe]:
    """Return the stages' recipes, each of which starts from the experiment before it."""
    found: dict[str, Recipe] = {}
    before: str | None = None
    for name, recipe in stages.items():
        start = before if before is not None else recipe.train.init_from
        found[name] = replace(recipe, train=replace(recipe.train, init_from=start))
        before = str(run_dir.experiment_folder(options.runs, name, options.name))
    return found
