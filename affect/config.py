"""Frozen dataclasses as configuration: checked where they are made, to JSON types and back. Loads no tensor library.

A recipe and its sections are such dataclasses; a section that describes a model is saved beside its weights as well. A
wrong value is an AffectError that names its field.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable, Iterable
from dataclasses import MISSING
from operator import attrgetter
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from affect.errors import AffectError, nearest

T = TypeVar("T")


def require(holds: bool, name: str, must: str, value: object) -> None:
    """Raise an AffectError that names the field `name` unless `holds`."""
    if not holds:
        raise AffectError(f"{name} must {must}, not {value!r}")


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


def field_names(cls: type, prefix: str = "") -> list[str]:
    """Return the dotted names of all fields of a dataclass."""
    names = []
    hints = get_type_hints(cls)
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


def refuse_unfinite(part: Any, name: str = "") -> None:
    """Raise AffectError for the first number in a dataclass that is NaN or infinite."""
    if dataclasses.is_dataclass(part):
        for item in dataclasses.fields(part):
            refuse_unfinite(getattr(part, item.name), _dotted(name, item.name))
    elif isinstance(part, tuple):
        for value in part:
            refuse_unfinite(value, name)
    elif isinstance(part, float):
        require(math.isfinite(part), name, "be finite", part)


def _build(kind: Any, value: Any, name: str) -> Any:
    """Return `value` (JSON types) as the annotated type `kind`."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _section(kind, value, name)
    arms = types_in(kind)
    fits = [arm for arm in arms if _fits(arm, value)]
    if not fits:
        kinds = " or ".join(str(getattr(arm, "__name__", arm)).replace("typing.", "") for arm in arms)
        raise AffectError(f"{name} must be {kinds}, not {value!r}")
    # Of several tuples the one that the items fit, too.
    fitting = next((arm for arm in fits if all(_fits(each, item) for each, item in _items(arm, value))), fits[0])
    if get_origin(fitting) is tuple:
        return tuple(_build(arm, item, name) for arm, item in _items(fitting, value))
    return float(value) if fitting is float else value


def _items(kind: Any, value: Any) -> list[tuple[Any, Any]]:
    """Return the type of each item of a tuple beside the item; of anything else nothing."""
    if get_origin(kind) is not tuple:
        return []
    inner = get_args(kind)
    each = [inner[0]] * len(value) if inner[1:] == (Ellipsis,) else inner
    return list(zip(each, value, strict=True))


def _section(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise AffectError(f"{name or 'the configuration'} must be an object, not {value!r}")
    hints = get_type_hints(kind)
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
        return value in args
    if origin is tuple:
        return isinstance(value, (list, tuple)) and (Ellipsis in args or len(value) == len(args))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _dotted(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
