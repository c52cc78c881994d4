"""The command line: `main` is the `affect` command, `launch` runs the experiments of a recipe file.

Tensor libraries are imported only once it is known what to run: help and mistakes answer at once.
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affect.cli.arguments import (
    Experiment,
    experiments_in,
    experiments_of,
    named,
    own_fields,
    parse,
    parse_extraction,
    parse_workflow,
    read,
    recipe_of,
    without,
)
from affect.cli.terminal import first, guarded, show_log
from affect.errors import AffectError, nearest
from affect.experiments.definitions import Ensemble, Search, Suite, resolve
from affect.experiments.definitions import Sequence as Stages
from affect.extraction import Extraction
from affect.options import Options
from affect.recipe import Recipe

__all__ = ["Experiment", "experiments_in", "experiments_of", "guarded", "launch", "main", "overview", "parse"]


def launch(experiments: Mapping[str, Experiment], arguments: Sequence[str] | None = None) -> None:
    """Run the experiment that the command line names (`demo` when it names none), with its overrides.

    Ends the process with 2 and one line for a mistake of the user's.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    guarded(lambda: _launch(dict(experiments), given))


def _launch(experiments: dict[str, Experiment], given: list[str]) -> None:
    if given and given[0] in ("-h", "--help"):
        print(overview(experiments))
        return
    name = given.pop(0) if given and not given[0].startswith("-") else "demo"
    experiment = named(name, experiments)
    made = experiment()
    script = ["accelerate", "launch", *_relative(sys.argv[0])]
    # What was given to the command that started this one counts for who reads the report.
    command = os.environ.get("AFFECT_COMMAND") or shlex.join([*script, name, *given])
    if isinstance(made, Search):
        _search(name, made, experiments, given, script, command)
        return
    if isinstance(made, Ensemble):
        _ensemble(name, made, experiments, given, command)
        return
    if isinstance(made, Suite):
        _suite(name, made, experiments, given, script)
        return
    if isinstance(made, Stages):
        _sequence(name, made, experiments, given, script)
        return
    if isinstance(made, Extraction):
        settings = parse_extraction(name, made, given, description=inspect.getdoc(experiment) or "")
        show_log()
        from affect.experiments import extraction

        extraction.launch(settings, command)
        return
    recipe, options = parse(name, recipe_of(name, experiments), given)
    show_log()
    from affect.experiments import folds

    if options.dry_run:
        print(folds.dry_run(recipe, options))
        return
    top = folds.run(name, recipe, options, command)
    if options.report and first():
        from affect.report import read, table

        print(table(read(top)))
        print(f"\nreport: {top / 'report.md'}")


def _search(
    name: str, made: Search, experiments: dict[str, Experiment], given: list[str], script: list[str], command: str
) -> None:
    words = (
        f"{inspect.getdoc(experiments[name]) or ''}\n\nEvery other --field goes to the experiment {made.of}, whose "
        f"--help lists them (RECIPE.py {made.of} --help)."
    )
    search, options, rest = parse_workflow(name, made, given, description=words)
    base, _ = parse(search.of, recipe_of(search.of, experiments), rest, also=own_fields(search))
    searched = [found.name for found in resolve(search, base)]
    for field in searched:
        if without(rest, field) != rest:
            raise AffectError(f"{field} is one of the ranges: leave it out, or give other --ranges")
    show_log()
    from affect.experiments import search as searching

    if options.dry_run:
        print(searching.dry_run(search, base))
        return
    top = searching.run(name, search, base, options, command, again=[*script, search.of, *rest])
    if first():
        print((top / "report.md").read_text(encoding="utf-8"))
        print(f"report: {top / 'report.md'}")


def _ensemble(name: str, made: Ensemble, experiments: dict[str, Experiment], given: list[str], command: str) -> None:
    words = (
        f"{inspect.getdoc(experiments[name]) or ''}\n\nEvery other --field goes to all members that are experiments "
        f"({', '.join(made.members)}), whose --help lists them."
    )
    ensemble, options, rest = parse_workflow(name, made, given, description=words)
    members: dict[str, Recipe | Path] = {}
    for member in ensemble.members:
        if member not in experiments and Path(member).is_dir():
            members[member] = Path(member)
        elif member not in experiments:
            raise AffectError(f"{member!r} is no experiment of this file and no folder; {nearest(member, experiments)}")
        else:
            members[member] = parse(member, recipe_of(member, experiments), rest, also=own_fields(ensemble))[0]
    if rest and all(isinstance(member, Path) for member in members.values()):
        raise AffectError(f"{rest[0]} changes nothing: all members are folders of finished runs")
    show_log()
    from affect.experiments import ensemble as ensembles

    if options.dry_run:
        print(ensembles.dry_run(members, options))
        return
    top = ensembles.run(name, members, options, command)
    if options.report and first():
        print(ensembles.table(top))
        print(f"\nreport: {top / 'report.md'}")


def _several(
    name: str, made: Suite | Stages, field: str, experiments: dict[str, Experiment], given: list[str],
    script: list[str],
) -> tuple[dict[str, Recipe], Options, dict[str, str]]:  # fmt: skip
    """Return the recipes of the experiments that `field` of a suite or sequence names, and each one's own command."""
    words = (
        f"{inspect.getdoc(experiments[name]) or ''}\n\nEvery other --field goes to all {field} "
        f"({', '.join(getattr(made, field))}), whose --help lists them."
    )
    parsed, options, rest = parse_workflow(name, made, given, description=words)
    # All of them before the first has run: a mistake is known now.
    own = own_fields(parsed)
    recipes = {one: parse(one, recipe_of(one, experiments), rest, also=own)[0] for one in getattr(parsed, field)}
    commands = {one: shlex.join([*script, one, *without(given, field)]) for one in recipes}
    show_log()
    return recipes, options, commands


def _suite(name: str, made: Suite, experiments: dict[str, Experiment], given: list[str], script: list[str]) -> None:
    recipes, options, commands = _several(name, made, "members", experiments, given, script)
    from affect.experiments import several

    if options.dry_run:
        print(several.dry_run(recipes, options))
        return
    page, failed = several.run_suite(recipes, options, commands)
    if first() and page is not None:
        print(f"{page.read_text(encoding='utf-8')}\ncomparison: {page}")
    if failed:
        raise AffectError(f"{len(failed)} of {len(recipes)} did not come to their end: {'; '.join(failed.values())}")


def _sequence(name: str, made: Stages, experiments: dict[str, Experiment], given: list[str], script: list[str]) -> None:
    recipes, options, commands = _several(name, made, "stages", experiments, given, script)
    from affect.experiments import several

    if options.dry_run:
        print(several.dry_run(several.chained(recipes, options), options))
        return
    top = several.run_sequence(recipes, options, commands)
    if options.report and first():
        print(f"\nreport: {top / 'report.md'}")


def overview(experiments: Mapping[str, Experiment]) -> str:
    """Return the help of a recipe file: its experiments, each with the first line of its docstring."""
    width = max(map(len, experiments))
    lines = ["usage: [accelerate launch] RECIPE.py [EXPERIMENT] [--field value ...]", "", "experiments:"]
    for name, function in experiments.items():
        lines.append(f"  {name:{width}}  {(inspect.getdoc(function) or '').splitlines()[0]}")
    lines += ["", "no name runs demo; RECIPE.py EXPERIMENT --help lists every field with its value there"]
    return "\n".join(lines)


def _relative(script: str) -> list[str]:
    path = Path(script)
    try:
        return [str(path.resolve().relative_to(Path.cwd()))]
    except ValueError:
        return [path.name]


def main() -> None:
    """Run the `affect` command: folds, report, predict or inspect; a mistake ends the process with 2 and one line."""
    import tyro

    from affect import tasks
    from affect.cli import commands

    functions: dict[str, Callable[..., None]] = {
        function.__name__: function
        for function in (
            commands.folds,
            commands.report,
            commands.predict,
            commands.export,
            commands.push,
            commands.inspect,
            commands.launch,
        )
    }

    def chosen(function: Callable[..., None]) -> Callable[..., Callable[..., None]]:
        @functools.wraps(function)
        def later(*args: Any, **options: Any) -> Callable[..., None]:
            return functools.partial(function, *args, **options)

        return later

    def app(**options: Any) -> Callable[..., None]:
        application = tyro.extras.SubcommandApp()
        for function in functions.values():
            application.command(chosen(function))
        run: Callable[..., None] = application.cli(**options)
        return run

    def work() -> None:
        words: list[str] = sys.argv[1:]
        rest: list[str] = []
        if not words or words[0] not in functions:
            # Commands of affect itself need not wait for what tasks add.
            functions.update(tasks.commands())
        # What follows their own words is for the recipe file.
        splits = {"folds": commands.own_words, "launch": commands.launch_words}
        if words and not words[0].startswith("-") and words[0] not in functions:
            raise AffectError(f"unknown command {words[0]!r}; {nearest(words[0], functions)}")
        split = splits.get(words[0]) if words else None
        if split is not None:
            words, rest = split(words)
        about = "Folds side by side, ranks under Slurm, reports, predictions, exports, the Hub."
        run = read(app, words, prog="affect", description=about)
        if split is not None:
            run = functools.partial(run, arguments=tuple(rest))
        if words[:1] == ["folds"]:
            show_log()
        run()

    guarded(work)
