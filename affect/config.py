"""Frozen dataclasses as configuration: checked where they are made, to JSON types and back. Loads no tensor library.

A recipe and its sections are such dataclasses; a section that describes a model is saved beside its weights as well. A
wrong value is an AffectError that names its field.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable
from dataclasses import MISSING
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from affect.errors import AffectError, nearest

T = TypeVar("T")


def require(holds: bool, name: str, must: str, value: object) -> None:
    """Raise an AffectError that names the field `name` unless `holds`."""
    if not holds:
        raise AffectError(f"{name} must {must}, not {value!r}")


def check(section: Any, prefix: str, must: str, holds: Callable[[Any], bool], *names: str) -> None:
    """Raise an AffectError that names the first of a section's fields `names` that neither is None nor `holds`."""
    for name in names:
        value = getattr(section, name)
        require(value is None or holds(value), f"{prefix}{name}", must, value)


def default_values(section: Any) -> dict[str, Any]:
    """Return the default of each field of a dataclass (MISSING where it has none)."""
    return {item.name: item.default for item in dataclasses.fields(section)}


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
    found = []
    for key in dict.fromkeys((*left, *right)):
        a, b = left.get(key), right.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found


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
        if not isinstance(value, dict):
            raise AffectError(f"{name or 'the configuration'} must be an object, not {value!r}")
        hints = get_type_hints(kind)
        known = [item.name for item in dataclasses.fields(kind)]
        for key in value:
            if key not in known:
                raise AffectError(f"unknown field {_dotted(name, key)}; {nearest(key, known)}")
        for item in dataclasses.fields(kind):
            given = item.name in value or item.default is not MISSING or item.default_factory is not MISSING
            if not given:
                raise AffectError(f"{_dotted(name, item.name)} is missing")
        return kind(**{key: _build(hints[key], part, _dotted(name, key)) for key, part in value.items()})
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        for arm in args:
            if _fits(arm, value):
                return _build(arm, value, name)
    if origin in (Union, types.UnionType) or not _fits(kind, value):
        spelt = " or ".join(_spell(arm) for arm in (args if origin in (Union, types.UnionType) else (kind,)))
        raise AffectError(f"{name} must be {spelt}, not {value!r}")
    if origin is tuple:
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
        return tuple(_build(arm, item, name) for arm, item in zip(inner, value, strict=True))
    return float(value) if kind is float else value


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


def _spell(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind)).replace("typing.", "")


def _dotted(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
