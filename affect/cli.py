"""The command line: `main` is the `affect` command, `launch` runs the experiments of a recipe file.

Tensor libraries are imported only once it is known what to run: help and mistakes answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from affect import recipe as recipes
from affect.errors import AffectError, nearest
from affect.options import Options
from affect.recipe import Recipe

Experiment = Callable[[], Recipe]
_LOG = logging.getLogger("affect")
_INTERRUPTED = 130


def launch(experiments: Mapping[str, Experiment], arguments: Sequence[str] | None = None) -> None:
    """Run the experiment that the command line names (`demo` when it names none), with its overrides.

    Ends the process with 2 and one line for a mistake of the user's.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    guarded(lambda: _launch(dict(experiments), given))


def experiments_of(namespace: Mapping[str, Any], module: str) -> dict[str, Experiment]:
    """Return the experiments of a recipe file: its public functions, by name, in the order of the file."""
    return {
        name: value
        for name, value in namespace.items()
        if inspect.isfunction(value) and value.__module__ == module and not name.startswith("_")
    }


def guarded(work: Callable[[], object]) -> None:
    """Run `work`; an AffectError ends the process with 2 and its one line, an interruption with 130."""
    try:
        work()
    except AffectError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted; the run goes on from its last checkpoint when the command is given again", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left (affect predict ... | head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        if "affect.train.engine" in sys.modules:
            sys.modules["affect.train.engine"].Engine.close()


def _launch(experiments: dict[str, Experiment], given: list[str]) -> None:
    if given and given[0] in ("-h", "--help"):
        print(overview(experiments))
        return
    name = given.pop(0) if given and not given[0].startswith("-") else "demo"
    if name not in experiments:
        raise AffectError(f"unknown experiment {name!r}; {nearest(name, experiments)}")
    recipe, options = parse(name, experiments[name], given)
    _show_log()
    if options.dry_run:
        from affect.workflows import folds

        print(folds.dry_run(recipe))
        return
    command = shlex.join(["accelerate", "launch", *_relative(sys.argv[0]), name, *given])
    from affect.report import read, table
    from affect.workflows import folds

    top = folds.run(name, recipe, options, command)
    if os.environ.get("RANK", "0") == "0":
        print(table(read(top)))
        print(f"\nreport: {top / 'report.md'}")


def overview(experiments: Mapping[str, Experiment]) -> str:
    """Return the help of a recipe file: its experiments, each with the first line of its docstring."""
    width = max(map(len, experiments))
    lines = ["usage: [accelerate launch] RECIPE.py [EXPERIMENT] [--field value ...]", "", "experiments:"]
    for name, function in experiments.items():
        lines.append(f"  {name:{width}}  {(inspect.getdoc(function) or '').splitlines()[0]}")
    lines += ["", "no name runs demo; RECIPE.py EXPERIMENT --help lists every field with its value there"]
    return "\n".join(lines)


def parse(name: str, experiment: Experiment, arguments: list[str]) -> tuple[Recipe, Options]:
    """Return the experiment's recipe with the overrides of `arguments`, and how to run it.

    Raises AffectError naming an unknown field and the nearest one.
    """
    import tyro

    recipe = experiment()
    known = [*recipes.field_names(type(recipe)), *recipes.field_names(Options)]
    spelt = {field.replace("_", "-") for field in known} | set(known) | {"help"}
    for argument in arguments:
        field = argument[2:].split("=")[0]
        if argument.startswith("--") and field not in spelt and not _negated(field, spelt):
            raise AffectError(f"unknown field {argument}; {nearest(field, {f'--{f}' for f in known})}")
    command = dataclasses.make_dataclass(
        "Command",
        [
            ("recipe", Annotated[type(recipe), tyro.conf.arg(name="")], recipe),
            ("options", Annotated[Options, tyro.conf.arg(name="")], Options()),
        ],
        frozen=True,
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed: Any = tyro.cli(
                command, args=arguments, prog=f"RECIPE.py {name}", description=inspect.getdoc(experiment) or "",
                config=(tyro.conf.AvoidSubcommands,),
            )  # fmt: skip
    except SystemExit as error:
        if error.code in (None, 0):
            raise
        raise AffectError(_first_said(said.getvalue())) from None
    return parsed.recipe, parsed.options


def _first_said(box: str) -> str:
    """Return the message of the box that tyro draws around an error, as one line.

    The title is in the box's border or, where the output's encoding is not told to be UTF-8, above a rule.
    """
    message: list[str] = []
    for line in box.splitlines()[1:]:
        inside = line.strip("│ ")
        if inside.strip("─-╭╮╰╯"):
            message.append(inside)
        elif inside and message:
            break
    return " ".join(message) or box.strip()


def _negated(field: str, spelt: set[str]) -> bool:
    """Tell whether `field` is the --no- form of a switch (model.no-sigmoid)."""
    head, _, last = field.rpartition(".")
    return last.startswith("no-") and (f"{head}.{last[3:]}" if head else last[3:]) in spelt


class _AboveBar(logging.Handler):
    """Writes log lines above the progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def _show_log() -> None:
    # Set up anew for each command: one that ran before in this process has left its own.
    _LOG.handlers = [handler for handler in _LOG.handlers if not isinstance(handler, _AboveBar)]
    handler = _AboveBar()
    handler.setFormatter(logging.Formatter("%(message)s"))
    # Every rank has something to warn of; only the first tells how things go.
    handler.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    # A log line that a full disk refuses must not bury the error that follows it.
    logging.raiseExceptions = False


def _relative(script: str) -> list[str]:
    path = Path(script)
    try:
        return [str(path.resolve().relative_to(Path.cwd()))]
    except ValueError:
        return [path.name]


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """Run the `affect` command: report, predict or inspect; a mistake ends the process with 2 and one line."""
    import tyro

    from affect import commands

    named: dict[str, Callable[..., None]] = {
        function.__name__: function for function in (commands.report, commands.predict, commands.inspect)
    }

    def chosen(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
        @functools.wraps(function)
        def later(*args: Any, **options: Any) -> Callable[[], None]:
            return functools.partial(function, *args, **options)

        return later

    def work() -> None:
        given = sys.argv[1:2]
        if given and not given[0].startswith("-") and given[0] not in named:
            raise AffectError(f"unknown command {given[0]!r}; {nearest(given[0], named)}")
        app = tyro.extras.SubcommandApp()
        for function in named.values():
            app.command(chosen(function))
        said = io.StringIO()
        try:
            # Only parsed here: what the command itself writes goes where it always goes.
            with contextlib.redirect_stderr(said):
                run = app.cli(prog="affect", description="Read what runs left: reports, predictions, corpora.")
        except SystemExit as error:
            if error.code in (None, 0):
                raise
            raise AffectError(_first_said(said.getvalue())) from None
        run()

    guarded(work)
