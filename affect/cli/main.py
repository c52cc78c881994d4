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
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from affect.cli.arguments import (
    Experiment,
    W,
    named,
    own_fields,
    parse,
    parse_extraction,
    parse_workflow,
    read,
    recipe_of,
    without,
)  # fmt: skip
from affect.cli.terminal import first, guarded, show_log
from affect.errors import AffectError, nearest
from affect.experiments.definitions import Ensemble, Search, Suite, Workflow, resolve
from affect.experiments.definitions import Sequence as Stages
from affect.extraction import Extraction
from affect.options import Options
from affect.process import launched_as
from affect.recipe import Recipe, field_names


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
    made = named(name, experiments)()
    call = _Call(name, experiments, given)
    if isinstance(made, Search):
        _search(call, made)
    elif isinstance(made, Ensemble):
        _ensemble(call, made)
    elif isinstance(made, Suite):
        _suite(call, made)
    elif isinstance(made, Stages):
        _sequence(call, made)
    elif isinstance(made, Extraction):
        settings = parse_extraction(name, made, given, description=call.about)
        show_log()
        from affect.experiments import extraction

        extraction.launch(settings, call.command)
    else:
        _run(call)


@dataclass(frozen=True)
class _Call:
    """A call of a recipe file: the experiment that it names, all of the file, and what else it gives."""

    name: str
    experiments: dict[str, Experiment]
    given: list[str]

    @property
    def about(self) -> str:
        return inspect.getdoc(self.experiments[self.name]) or ""

    @property
    def script(self) -> list[str]:
        path = Path(sys.argv[0]).resolve()
        return [*launched_as(), str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)]

    @property
    def command(self) -> str:
        # What was given to the command that started this one counts for who reads the report.
        return os.environ.get("AFFECT_COMMAND") or shlex.join([*self.script, self.name, *self.given])

    def workflow(self, made: W, goes_to: str) -> tuple[W, Options, list[str]]:
        """Return an experiment of several runs with its overrides, and what is given of other fields."""
        about = f"{self.about}\n\nEvery other --field goes to {goes_to}, whose --help lists them."
        return parse_workflow(self.name, made, self.given, description=about)

    def recipe(self, name: str, fields: list[str], of: Workflow) -> Recipe:
        """Return the recipe of another experiment of the file, which a workflow runs, with its overrides."""
        return parse(name, recipe_of(name, self.experiments), fields, also=own_fields(of))[0]


def _run(call: _Call) -> None:
    recipe, options = parse(call.name, recipe_of(call.name, call.experiments), call.given)
    show_log()
    from affect.experiments import folds

    if options.dry_run:
        print(folds.dry_run(recipe, options))
        return
    top = folds.run(call.name, recipe, options, call.command)
    if options.report and first():
        from affect.report import read, table

        print(f"{table(read(top))}\n\nreport: {top / 'report.md'}")


def _search(call: _Call, made: Search) -> None:
    search, options, rest = call.workflow(made, f"the experiment {made.of}")
    base = call.recipe(search.of, rest, search)
    for searched in resolve(search, base):
        if without(rest, searched.name) != rest:
            raise AffectError(f"{searched.name} is one of the ranges: leave it out, or give other --ranges")
    show_log()
    from affect.experiments import search as searching

    if options.dry_run:
        print(searching.dry_run(search, base))
        return
    top = searching.run(call.name, search, base, options, call.command, again=[*call.script, search.of, *rest])
    if first():
        print(f"{(top / 'report.md').read_text(encoding='utf-8')}\nreport: {top / 'report.md'}")


def _ensemble(call: _Call, made: Ensemble) -> None:
    ensemble, options, rest = call.workflow(made, f"all members that are experiments ({', '.join(made.members)})")
    members: dict[str, Recipe | Path] = {}
    for member in ensemble.members:
        if member in call.experiments:
            members[member] = call.recipe(member, rest, ensemble)
        elif Path(member).is_dir():
            members[member] = Path(member)
        else:
            hint = nearest(member, call.experiments)
            raise AffectError(f"{member!r} is no experiment of this file and no folder; {hint}")
    if rest and all(isinstance(member, Path) for member in members.values()):
        raise AffectError(f"{rest[0]} changes nothing: all members are folders of finished runs")
    show_log()
    from affect.experiments import ensemble as ensembles

    if options.dry_run:
        print(ensembles.dry_run(members, options))
        return
    top = ensembles.run(call.name, members, options, call.command)
    if options.report and first():
        print(f"{ensembles.table(top)}\n\nreport: {top / 'report.md'}")


def _several(call: _Call, made: W, field: str) -> tuple[W, dict[str, Recipe], Options, dict[str, str]]:
    """Return a suite or sequence, the recipes of the experiments that `field` names, and each one's own command."""
    parsed, options, rest = call.workflow(made, f"all {field} ({', '.join(getattr(made, field))})")
    # All of them before the first has run: a mistake is known now.
    recipes = {name: call.recipe(name, rest, parsed) for name in getattr(parsed, field)}
    show_log()
    given = without(call.given, *field_names(type(made)))
    return parsed, recipes, options, {name: shlex.join([*call.script, name, *given]) for name in recipes}


def _suite(call: _Call, made: Suite) -> None:
    suite, recipes, options, commands = _several(call, made, "members")
    if suite.reference is not None:
        named(suite.reference, call.experiments)
    from affect.experiments import several

    recipes = several.distinct(recipes)
    if options.dry_run:
        print(several.dry_run(recipes, options))
        return
    page, failed = several.run_suite(call.name, suite, recipes, options, commands)
    if first() and page is not None:
        print(f"{page.read_text(encoding='utf-8')}\ncomparison: {page}")
    if failed:
        raise AffectError(f"{len(failed)} of {len(recipes)} did not come to their end: {'; '.join(failed.values())}")


def _sequence(call: _Call, made: Stages) -> None:
    _, recipes, options, commands = _several(call, made, "stages")
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
    listed = [f"  {name:{width}}  {(inspect.getdoc(made) or '').splitlines()[0]}" for name, made in experiments.items()]
    return "\n".join([
        "usage: affect launch RECIPE.py [EXPERIMENT] [--field value ...]", "", "experiments:", *listed, "",
        "no name runs demo; RECIPE.py EXPERIMENT --help lists every field with its value there",
    ])  # fmt: skip


def main() -> None:
    """Run the `affect` command (launch, report, predict ...); a mistake ends the process with 2 and one line."""
    guarded(_main)


def _main() -> None:
    import tyro

    from affect import tasks
    from affect.cli import commands

    words = sys.argv[1:]
    if words and words[0] in ("--version", "-V"):
        print(f"affect {version('affect')}")
        return
    named_command = words[0] if words and not words[0].startswith("-") else ""
    functions: dict[str, Callable[..., None]] = {function.__name__: function for function in commands.ALL}
    if named_command not in functions:
        # Commands of affect itself need not wait for what tasks add.
        functions.update(tasks.commands())
    if named_command and named_command not in functions:
        raise AffectError(f"unknown command {named_command!r}; {nearest(named_command, functions)}")
    # What follows their own words is for the recipe file.
    split = {"folds": commands.own_words, "launch": commands.launch_words}.get(named_command)
    words, rest = (words, []) if split is None else split(words)
    later = {name: _later(function) for name, function in functions.items()}
    if named_command and {"-h", "--help"} & {*words}:
        text, arguments, described = (inspect.getdoc(functions[named_command]) or "").partition("Args:")
        paragraphs = [text.rstrip(), *tasks.helps(named_command), arguments + described]
        later[named_command].__doc__ = "\n\n".join(paragraphs)
    parser = functools.partial(tyro.extras.subcommand_cli_from_dict, later)
    about = "Runs on one machine or under Slurm, folds side by side, reports, predictions, exports, the Hub."
    run = read(parser, words, prog="affect", description=about)
    if named_command == "folds":
        show_log()
    run() if split is None else run(arguments=tuple(rest))


def _later(function: Callable[..., None]) -> Callable[..., Callable[..., None]]:
    """Return a function with the signature of `function` that gives it with its arguments, for a later call."""

    @functools.wraps(function)
    def bound(*args: Any, **options: Any) -> Callable[..., None]:
        return functools.partial(function, *args, **options)

    return bound
