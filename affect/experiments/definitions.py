"""Experiments of more than one run: a search over ranges, an ensemble, a suite, a sequence. No tensor library."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from affect.errors import AffectError, nearest
from affect.recipe import Recipe, field_names, hold, require, types_in

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_SPAN = re.compile(rf"({_NUMBER})\.\.({_NUMBER})( +log)?")
_WORDS = {"None": None, "True": True, "False": False}
_EVALUATED = ("seed", "fold")
"""Fields that say what is evaluated: trials that differ in them can't be compared."""

Choice = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values that a search may give to a field of the recipe: a span of numbers, or choices."""

    text: str
    name: str
    kind: type[int] | type[float] = float
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Search:
    """Trials of an experiment over ranges of its fields, judged by validation scores alone."""

    of: str
    """The experiment of this file that is tried; every other --field of the command line goes to it."""
    ranges: tuple[str, ...]
    """What is searched: FIELD=LOW..HIGH, FIELD='LOW..HIGH log' (rates), or FIELD=A|B|C."""
    trials: int = 30
    """Trials in all, those of earlier sessions counted, and of other processes: the same command given several times at
    once shares them."""
    seed: int = 0
    """Of what the search draws. The trials train with the experiment's own seed, or with each of --seeds."""
    prune: bool = True
    """Stop a trial whose validation score on its first fold (of small models: on the runs that train together) is under
    the median of the trials before it."""

    def __post_init__(self) -> None:
        """Check every field; the ranges against the experiment's fields only `resolve` can."""
        hold(self)
        require(bool(self.of), "of", "name an experiment", self.of)
        require(self.trials > 0, "trials", "be positive", self.trials)
        require(self.seed >= 0, "seed", "not be negative", self.seed)
        require(bool(self.ranges), "ranges", "name at least one field", self.ranges)
        names = [parse(text).name for text in self.ranges]
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, "ranges", "name each field once", twice[:1])


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The mean of several experiments' predictions: same folds, same seeds."""

    members: tuple[str, ...]
    """Experiments of this file, or folders of finished ones (runs/<experiment>). Those that are not finished are run;
    every other --field of the command line goes to all of them."""

    def __post_init__(self) -> None:
        hold(self)
        _check_several("members", self.members)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Several experiments, one after another, and a page that compares them; of equal recipes the first is run."""

    members: tuple[str, ...]
    """Experiments of this file; every other --field of the command line goes to all of them."""
    reference: str | None = None
    """The experiment of this file that comparison.md compares the members with, in a table that says which help."""
    takes_back: bool = False
    """Each member takes a change of the reference back: where it is worse than that, the change helps."""

    def __post_init__(self) -> None:
        hold(self)
        _check_several("members", self.members)
        named = self.reference is not None or not self.takes_back
        require(named, "takes_back", "be left out without reference", self.takes_back)


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Experiments one after another, each from the weights of the one before: pretraining and fine-tuning, or more.

    A seed and fold starts from the same seed and fold, whose weights have not seen its test part.
    """

    stages: tuple[str, ...]
    """Experiments of this file, in their order; every other --field of the command line goes to all of them."""

    def __post_init__(self) -> None:
        hold(self)
        _check_several("stages", self.stages)


Workflow = Search | Ensemble | Suite | Sequence
"""An experiment of more than one run."""


def _check_several(field: str, names: tuple[str, ...]) -> None:
    require(len(names) > 1, field, "name at least two", names)
    require(len(set(names)) == len(names), field, "name each once", names)


def parse(text: str) -> Range:
    """Return the range that `text` spells; whether its field takes it is `resolve`'s to say."""
    name, equals, body = text.partition("=")
    name, body = name.strip().replace("-", "_"), body.strip()
    shape = "be FIELD=LOW..HIGH, FIELD=LOW..HIGH log or FIELD=A|B|C"
    require(bool(equals and re.fullmatch(r"[a-z_]\w*(\.\w+)*", name) and body), "ranges", shape, text)
    if "|" in body:
        choices = tuple(_value(word.strip()) for word in body.split("|"))
        distinct = {(type(choice), choice) for choice in choices}
        require(len(distinct) == len(choices) and "" not in choices, "ranges", "list different choices", text)
        return Range(text=text, name=name, choices=choices)
    match = _SPAN.fullmatch(body)
    require(match is not None, "ranges", shape, text)
    assert match is not None
    low, high, log = float(match[1]), float(match[2]), bool(match[3])
    require(low < high, "ranges", "go from low to high", text)
    require(not log or low > 0, "ranges", "begin above 0 with log", text)
    return Range(text=text, name=name, low=low, high=high, log=log)


def resolve(search: Search, recipe: Recipe) -> tuple[Range, ...]:
    """Return the ranges in the types of the recipe's fields; AffectError for what these don't take."""
    return tuple(_resolve(parse(text), recipe) for text in search.ranges)


def changed(recipe: Recipe, values: dict[str, Choice]) -> Recipe:
    """Return the recipe with values of fields, by dotted name. Raises AffectError for what a field does not take."""
    data = recipe.to_dict()
    for name, value in values.items():
        *sections, last = name.split(".")
        part = data
        for section in sections:
            part = part[section]
        part[last] = value
    return type(recipe).from_dict(data)


def _resolve(field: Range, recipe: Recipe) -> Range:
    names = field_names(type(recipe))
    if field.name not in names:
        raise AffectError(f"ranges: unknown field {field.name}; {nearest(field.name, names)}")
    if field.name.split(".")[-1] in _EVALUATED:
        raise AffectError(f"ranges: {field.name} says what is evaluated: trials that differ in it can't be compared")
    if not field.choices:
        kinds = _kinds(type(recipe), field.name)
        if not {int, float} & {*kinds}:
            raise AffectError(f"ranges: {field.name} takes no numbers: list its choices, as {field.name}=a|b")
        kind: type[int] | type[float] = float if float in kinds else int
        if kind is int and not (field.low.is_integer() and field.high.is_integer()):
            raise AffectError(f"ranges: {field.name} takes whole numbers alone, not {field.text!r}")
        field = replace(field, kind=kind, low=kind(field.low), high=kind(field.high))
    for value in field.choices or (field.low, field.high):
        try:
            changed(recipe, {field.name: value})
        except AffectError as error:
            raise AffectError(f"ranges: {field.text!r}: {error}") from None
    return field


def _kinds(cls: type, name: str) -> tuple[Any, ...]:
    """Return the types that a field takes, by its dotted name."""
    kind: Any = cls
    for part in name.split("."):
        kind = get_type_hints(kind)[part]
    return types_in(kind)


def _value(word: str) -> Choice:
    """Return a choice as it would be read on a command line: None, a truth value, a number or a word."""
    if word in _WORDS:
        return _WORDS[word]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
