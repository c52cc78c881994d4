"""Experiments of a recipe file, one after another: a suite, compared on a page, or a sequence, each from the last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from affect import report
from affect.errors import AffectError
from affect.experiments import folds
from affect.experiments.definitions import Suite
from affect.options import Options
from affect.recipe import Recipe
from affect.report import suites
from affect.report.suites import Compared
from affect.tables import counted
from affect.training import run_dir, signals

_LOG = logging.getLogger("affect")


def distinct(members: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """Return a suite's members without those whose recipe an earlier one has, too, which one line names."""
    first: dict[str, Recipe] = {}
    same: dict[str, str] = {}
    for name, recipe in members.items():
        twin = next((other for other, earlier in first.items() if earlier == recipe), None)
        if twin is None:
            first[name] = recipe
        else:
            same[name] = twin
    if same:
        words = ", ".join(f"{name} is {twin}" for name, twin in same.items())
        _LOG.warning("not run, since the fields given make their recipes equal: %s", words)
    return first


@signals.stoppable
def run_suite(
    name: str, suite: Suite, members: Mapping[str, Recipe], options: Options, commands: Mapping[str, str]
) -> tuple[Path | None, dict[str, str]]:
    """Run the members, of which one may fail; return the page that compares all and why members failed, by name."""
    failed: dict[str, str] = {}
    engine = folds.join(next(iter(members.values())))
    if suite.reference is not None:
        folders = [run_dir.experiment_folder(options.runs, each, options.name).name for each in members]
        reference = run_dir.experiment_folder(options.runs, suite.reference, options.name).name
        compared = Compared(reference=reference, members=tuple(folders), takes_back=suite.takes_back)
        engine.on_main(lambda: suites.keep(options.runs, name, compared))
    for number, (member, recipe) in enumerate(members.items(), start=1):
        _LOG.info("%s (%d of %d)", member, number, len(members))
        try:
            folds.run(member, recipe, options, commands[member])
        except AffectError as error:
            failed[member] = f"{member}: {error}"
            _LOG.warning("%s; the other experiments go on", failed[member])
    return (engine.on_main(lambda: report.compare_all(options.runs)) if options.report else None), failed


@signals.stoppable
def run_sequence(stages: Mapping[str, Recipe], options: Options, commands: Mapping[str, str]) -> Path:
    """Run the unfinished stages and return the last one's folder; AffectError where a stage comes to nothing."""
    top = Path()
    for number, (name, recipe) in enumerate(chained(stages, options).items(), start=1):
        _LOG.info("%s (stage %d of %d)", name, number, len(stages))
        top = folds.run(name, recipe, options, commands[name])
    return top


def chained(stages: Mapping[str, Recipe], options: Options) -> dict[str, Recipe]:
    """Return the recipes of a sequence's stages, each of which starts from the experiment before it."""
    recipes: dict[str, Recipe] = {}
    before: str | None = None
    for name, recipe in stages.items():
        train = replace(recipe.train, init_from=before or recipe.train.init_from)
        recipes[name] = replace(recipe, train=train)
        before = str(run_dir.experiment_folder(options.runs, name, options.name))
    return recipes


def dry_run(recipes: Mapping[str, Recipe], options: Options) -> str:
    """Return where each experiment's runs go, how many are finished and what they start from, as text."""
    lines = []
    for name, recipe in recipes.items():
        top = run_dir.experiment_folder(options.runs, name, options.name)
        done = counted(sum(run_dir.finished(folder) for folder in top.glob("seed*/fold*")), "run")
        lines.append(f"{name}: {top}, seeds {' '.join(map(str, recipe.seeds(options.seeds)))}, {done} finished")
    starts = {name: recipe.train.init_from for name, recipe in recipes.items()}
    return "\n".join([*lines, *(f"{name} starts from {start}" for name, start in starts.items() if start)])
