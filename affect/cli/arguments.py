"""What command lines name: the experiments of a recipe file, and the fields of what they return."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_origin

from affect.errors import AffectError, first_line, nearest, no_file, with_article
from affect.experiments.definitions import Workflow
from affect.extraction import Extraction
from affect.options import Options
from affect.recipe import Recipe, field_names, types_in

Experiment = Callable[[], Recipe | Workflow | Extraction]
T = TypeVar("T")
W = TypeVar("W", bound=Workflow)
E = TypeVar("E", bound=Extraction)


def experiments_of(namespace: Mapping[str, Any], module: str) -> dict[str, Experiment]:
    """Return the experiments of a recipe file: its public functions, by name, in the order of the file."""
    return {
        name: value
        for name, value in namespace.items()
        if inspect.isfunction(value) and value.__module__ == module and not name.startswith("_")
    }


def experiments_in(path: Path) -> dict[str, Experiment]:
    """Return the experiments of the recipe file at `path`. Raises AffectError when it can't be read."""
    if not path.is_file():
        raise no_file("recipe file", path)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise AffectError(f"{path} is not a recipe file: its name must end with .py")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except AffectError:
        raise
    except Exception as error:
        # It is the user's own file: whatever it raises is a fault of that file.
        raise AffectError(f"{path} can't be read: {type(error).__name__}: {first_line(error)}") from error
    experiments = experiments_of(vars(module), path.stem)
    if not experiments:
        raise AffectError(f"{path} holds no experiments (public functions that return a recipe)")
    return experiments


def named(name: str, experiments: Mapping[str, Experiment]) -> Experiment:
    """Return the experiment `name`. Raises AffectError with the nearest name."""
    if name not in experiments:
        raise AffectError(f"unknown experiment {name!r}; {nearest(name, experiments)}")
    return experiments[name]


def recipe_of(name: str, experiments: Mapping[str, Experiment]) -> Callable[[], Recipe]:
    """Return the experiment `name`, which must be one of a single recipe. Raises AffectError."""
    experiment = named(name, experiments)
    made = experiment()
    if not isinstance(made, Recipe):
        kind = with_article(type(made).__name__.lower())
        raise AffectError(f"{name} is {kind}: name an experiment with a recipe")
    return cast(Callable[[], Recipe], experiment)


def parse(
    name: str, experiment: Callable[[], Recipe], arguments: Sequence[str], *, also: Sequence[str] = ()
) -> tuple[Recipe, Options]:
    """Return the experiment's recipe with the overrides of `arguments`, and how to run it.

    Raises AffectError naming an unknown field and the nearest one; `also` are fields that went elsewhere.
    """
    recipe = experiment()
    _check([*field_names(type(recipe)), *field_names(Options)], arguments, also)
    recipe, options = _overridden(name, inspect.getdoc(experiment) or "", arguments, recipe, Options())
    return recipe, options


def parse_workflow(name: str, made: W, arguments: Sequence[str], *, description: str) -> tuple[W, Options, list[str]]:
    """Return an experiment of several runs with its overrides, how to run it, and the arguments of its members."""
    own, rest = split(arguments, own_fields(made))
    first = [] if not rest or rest[0].startswith("-") else rest[:1]
    # A word that no field stands before is an error for the parser to name.
    workflow, options = _overridden(name, description, [*first, *own], made, Options())
    return workflow, options, rest


def parse_extraction(name: str, made: E, arguments: Sequence[str], *, description: str) -> E:
    """Return an extraction with the overrides of `arguments`. Raises AffectError naming an unknown field."""
    _check(field_names(type(made)), arguments)
    (extraction,) = _overridden(name, description, arguments, made)
    return cast(E, extraction)


def _overridden(name: str, description: str, arguments: Sequence[str], *parts: Any) -> tuple[Any, ...]:
    """Return dataclasses with the overrides of `arguments` for their fields, whose names differ."""
    import tyro

    fields = [(f"part{k}", Annotated[type(part), tyro.conf.arg(name="")], part) for k, part in enumerate(parts)]
    command = dataclasses.make_dataclass("Command", fields, frozen=True)
    parser = functools.partial(tyro.cli, command, config=(tyro.conf.AvoidSubcommands,))
    parsed = read(parser, arguments, prog=f"RECIPE.py {name}", description=description)
    return tuple(getattr(parsed, field) for field, *_ in fields)


def own_fields(made: Workflow) -> list[str]:
    """Return the fields of an experiment of several runs itself, and those that say how to run it."""
    return [*field_names(type(made)), *field_names(Options)]


def split(arguments: Sequence[str], names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that give one of the fields `names`, with their values, and the other arguments."""
    fields = {*names, "help"}
    own: list[str] = []
    rest: list[str] = []
    part = rest
    for argument in arguments:
        if argument.startswith("--"):
            part = own if _gives(argument, fields) else rest
        elif argument == "-h":
            part = own
        part.append(argument)
    return own, rest


def without(arguments: Sequence[str], *names: str) -> list[str]:
    """Return the arguments without those that give the fields `names`."""
    return split(arguments, names)[1]


def named_values(
    given: Sequence[str], function: Callable[..., Any], of: str, but: Iterable[str] = ()
) -> dict[str, Any]:
    """Return NAME=VALUE, each `given`, as keyword-only arguments of a function of `of`, all `but` some.

    A sequence is a,b and a mapping a:1,b:2. Raises AffectError naming what there is, and for what is not of its type.
    """
    import tyro

    parameters = inspect.signature(function).parameters.values()
    options = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in but}
    values = {}
    for option in given:
        name, equals, value = option.partition("=")
        if name not in options or not equals:
            there = ", ".join(f"{each.name}={each.default}" for each in options.values()) or "none"
            raise AffectError(f"{of} has no option {option!r}; its options and their defaults, NAME=VALUE: {there}")
        kind = options[name].annotation
        # Written as text where annotations are not evaluated; what it names is in the function's module.
        kind = eval(kind, inspect.unwrap(function).__globals__) if isinstance(kind, str) else kind
        several = any(get_origin(arm) in (tuple, Sequence, Mapping) for arm in types_in(kind))
        parser = functools.partial(tyro.cli, Annotated[kind, tyro.conf.Positional, tyro.conf.arg(name=name)])
        try:
            values[name] = read(parser, re.split("[,:]", value) if several else [value], prog="", description="")
        except AffectError:
            asked = inspect.formatannotation(options[name].annotation).strip("'")
            raise AffectError(f"--options {option}: {name} must be {asked}, not {value!r}") from None
    return values


def read(parser: Callable[..., T], arguments: Sequence[str], *, prog: str, description: str) -> T:
    """Return what a parser of tyro's makes of `arguments`. Raises AffectError with the first thing wrong."""
    written = io.StringIO()
    try:
        # Only parsed here: what a command itself writes goes where it always goes.
        with contextlib.redirect_stderr(written):
            return parser(args=list(arguments), prog=prog, description=description)
    except SystemExit as error:
        if error.code in (None, 0):
            raise
        raise AffectError(_first_message(written.getvalue())) from None


def _first_message(box: str) -> str:
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
    words = " ".join(message) or box.strip()
    if several := re.match(
        r"Error parsing --(\S+): no type matching (.+?) could be instantiated from \[(.*?)\]\.", words
    ):
        # What follows is why each of the field's types refused it.
        field, kinds, given = several.groups()
        # A choice of one word stands in braces.
        kinds = re.sub(r"\{(\w+)\}", r"\1", kinds).replace("|", " or ")
        return f"--{field} must be {kinds}, not {given}"
    return words


def _check(fields: list[str], arguments: Sequence[str], also: Sequence[str] = ()) -> None:
    """Raise AffectError for an argument that gives none of `fields`; the nearest of `also` may be what it meant."""
    for argument in arguments:
        if argument.startswith("--") and not _gives(argument, {*fields, "help"}):
            hint = nearest(argument[2:].split("=")[0], {f"--{field}" for field in (*fields, *also)})
            raise AffectError(f"unknown field {argument}; {hint}")


def _gives(argument: str, fields: set[str]) -> bool:
    """Tell whether an argument gives one of `fields`, or takes a switch back (--model.no-sigmoid)."""
    field = argument[2:].split("=")[0].replace("-", "_")
    head, dot, last = field.rpartition(".")
    return bool({field, head + dot + last.removeprefix("no_")} & fields)
