"""Frozen dataclasses as configuration: checked where they are made, to JSON types and back. Loads no tensor library.

A recipe and its sections are such dataclasses; a section that describes a model is saved beside its weights as well. A
wrong value is an AffectError that names its field.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING
from operator import attrgetter
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from affect.errors import AffectError, nearest, with_article

T = TypeVar("T")
WIDEST, DEEPEST = 65_536, 1_000
"""The most numbers of a layer and the most layers: more is a slip of the hand that ends in want of memory."""
DAY = 86_400
"""Seconds of a day, more than any recording or conversation has."""
MOST_WEIGHT = 1_000_000
"""Of a term of the loss beside another, and of what multiplies or divides numbers of a network."""
LARGEST_SEED = 2**32 - 1
"""What every library's generator takes."""
DECIBELS = 200
"""The largest ratio of two powers in dB, either way: beyond it one of them is nothing to float32."""
_PLAIN = (str, int, float, bool)
_LARGEST, _INTEGERS = 1e15, 2**63
_LONGEST = 200
"""Characters of a value that an error shows."""
_TEXT = 4096
"""Characters of a text, which is a name or a path."""
_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)


def _shown(value: object) -> str:
    """Return a value as an error names it, on one line and no longer than that."""
    try:
        shown = repr(value)
    except ValueError:
        shown = "a number of thousands of digits"
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def require(holds: bool, name: str, must: str, value: object) -> None:
    """Raise an AffectError that names the field `name` unless `holds`."""
    if not holds:
        raise AffectError(f"{name} must {must}, not {_shown(value)}")


def require_each(part: Any, section: str, must: str, holds: Callable[[Any], bool], *names: str) -> None:
    """Raise an AffectError that names the first field of a section for whose value, None apart, `holds` is false."""
    for name in names:
        value = getattr(part, name)
        require(value is None or holds(value), f"{section}.{name}", must, value)


def default_values(section: Any) -> dict[str, Any]:
    """Return the default of each field of a dataclass (MISSING where it has none)."""
    return {item.name: item.default for item in dataclasses.fields(section)}


Need = tuple[str, Callable[[Any], object], tuple[str, ...]]
"""What an error says that fields must do, whether they do anything in a configuration, and their dotted names."""


def refuse_unused(config: Any, needs: Iterable[Need]) -> None:
    """Raise an AffectError for the first field that does nothing and is not at its default."""
    for must, act, names in needs:
        for name in () if act(config) else names:
            head, _, last = name.rpartition(".")
            section = attrgetter(head)(config)
            value = getattr(section, last)
            require(value == default_values(section)[last], name, must, value)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as JSON types."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_dict(cls: type[T], data: Any, name: str = "") -> T:
    """Return the dataclass that `to_dict` wrote, checked against its annotations.

    `name` stands before the fields of a section. Raises AffectError naming an unknown field, one that is missing or a
    wrong type.
    """
    made: T = _build(cls, data, name)
    return made


def differences(left: dict[str, Any], right: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of fields in which two configurations (as dictionaries) differ."""
    names = []
    for key in dict.fromkeys((*left, *right)):
        a, b = left.get(key), right.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(f"{prefix}{key}")
    return names


def without(data: dict[str, Any], names: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Return a configuration (as a dictionary) without the fields of these dotted names."""
    left = {key: value for key, value in data.items() if f"{prefix}{key}" not in names}
    return {
        key: without(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in left.items()
    }


def field_names(cls: type, prefix: str = "") -> list[str]:
    """Return the dotted names of all fields of a dataclass."""
    names = []
    hints = _hints(cls)
    for item in dataclasses.fields(cls):
        kind = hints[item.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            names += field_names(kind, f"{prefix}{item.name}.")
        else:
            names.append(f"{prefix}{item.name}")
    return names


def types_in(annotation: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows: those of a union, else itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def hold(part: Any, name: str = "") -> None:
    """Hold the fields of a dataclass that is being made to their types, and their numbers to what can be reckoned with.

    To stand first in `__post_init__`, before values are compared; `name` stands before the fields. A list becomes the
    tuple that is meant, a whole number a float. Raises AffectError naming the field.
    """
    for item in dataclasses.fields(part):
        kind, value, field = _hints(type(part))[item.name], getattr(part, item.name), _dotted(name, item.name)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            require(isinstance(value, kind), field, f"be {with_article(kind.__name__)}", value)
        else:
            value = _build(kind, value, field)
            _hold_value(value, field)
            object.__setattr__(part, item.name, value)


def _hold_value(value: Any, name: str) -> None:
    """Raise AffectError for a number that no array or float32 holds, and for what is no text of a file or a path."""
    if isinstance(value, tuple):
        for each in value:
            _hold_value(each, name)
    elif isinstance(value, float):
        require(math.isfinite(value), name, "be finite", value)
        require(abs(value) <= _LARGEST, name, f"be {_LARGEST:g} at most in size", value)
    elif isinstance(value, int):
        require(abs(value) < _INTEGERS, name, "be a number of 64 bits", value)
    elif isinstance(value, str):
        require(len(value) <= _TEXT, name, f"be {_TEXT:,} characters at most", value)
        # What a shell could not decode is a lone surrogate, which no file in UTF-8 takes.
        plain = "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
        require(plain, name, "be text in UTF-8", value)


def refuse_empty(part: Any, name: str = "") -> None:
    """Raise AffectError for the first text in a dataclass that is empty: as a path it would be the working folder."""
    if dataclasses.is_dataclass(part):
        for item in dataclasses.fields(part):
            refuse_empty(getattr(part, item.name), _dotted(name, item.name))
    elif isinstance(part, tuple):
        for each in part:
            refuse_empty(each, name)
    else:
        require(part != "", name, "be left out or have letters", part)


def require_most(part: Any, section: str, most: float, *names: str) -> None:
    """Raise AffectError for the first field of a section that is over `most`, or has a number that is."""
    for name in names:
        value = getattr(part, name)
        numbers = value if isinstance(value, tuple) else (value,)
        fits = all(number <= most for number in numbers if isinstance(number, int | float))
        require(fits, f"{section}.{name}", f"be {most:,} at most", value)


def _build(kind: Any, value: Any, name: str) -> Any:
    """Return `value` (JSON types) as the annotated type `kind`."""
    if type(value) is kind and kind in _PLAIN:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _section(kind, value, name)
    arms = types_in(kind)
    fits = [arm for arm in arms if _fits(arm, value)]
    if not fits:
        names = (str(getattr(arm, "__name__", arm)).replace("typing.", "") for arm in arms)
        kinds = " or ".join("None" if name == "NoneType" else name for name in names)
        raise AffectError(f"{name} must be {kinds}, not {_shown(value)}")
    # Of several tuples the one that the items fit, too.
    fitting = next((arm for arm in fits if all(_fits(each, item) for each, item in _items(arm, value))), fits[0])
    if get_origin(fitting) is tuple:
        return tuple(_build(arm, item, name) for arm, item in _items(fitting, value))
    if fitting is not float:
        return value
    try:
        return float(value)
    except OverflowError:
        raise AffectError(f"{name} must be {_LARGEST:g} at most in size, not {_shown(value)}") from None


def _items(kind: Any, value: Any) -> list[tuple[Any, Any]]:
    """Return the type of each item of a tuple beside the item; of anything else nothing."""
    if get_origin(kind) is not tuple:
        return []
    inner = get_args(kind)
    each = [inner[0]] * len(value) if inner[1:] == (Ellipsis,) else inner
    return list(zip(each, value, strict=True))


def _section(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise AffectError(f"{name or 'the configuration'} must be an object, not {_shown(value)}")
    hints = _hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise AffectError(f"unknown field {_dotted(name, key)}; {nearest(key, fields)}")
    for key, item in fields.items():
        if key not in value and item.default is MISSING and item.default_factory is MISSING:
            raise AffectError(f"{_dotted(name, key)} is missing")
    return kind(**{key: _build(hints[key], part, _dotted(name, key)) for key, part in value.items()})


def _fits(kind: Any, value: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and (Ellipsis in args or len(value) == len(args))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _dotted(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
