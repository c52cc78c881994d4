"""That every field of a recipe does something, or is refused in a line that names what it needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from affect.config import Need
from affect.errors import AffectError
from affect.experiments.definitions import changed
from affect.recipe import Recipe, field_names

Case = tuple[str, Any, Mapping[str, Any], Mapping[str, Any] | None]
"""A field, a value, with what it does nothing, and with what it does (None: with nothing)."""


def hold_refused(recipe: type[Recipe], case: Case, must: str) -> None:
    """Hold that a field that does nothing is refused in one line that matches `must`, and its default never."""
    field, value, still, acts = case
    plain = changed(recipe(), still)
    with pytest.raises(AffectError, match=rf"^{field} must {must} ") as error:
        changed(plain, {field: value})
    assert "\n" not in str(error.value)
    if acts is not None:
        assert changed(recipe(), acts | {field: value}) != changed(recipe(), acts)


def hold_complete(
    recipe: type[Recipe], sections: Collection[str], cases: Collection[Case], needs: Collection[Need], others: set[str]
) -> None:
    """Hold that every field of the sections is of a case or among the others, and each of `needs` is of a case."""
    own = {name for name in field_names(recipe) if name.split(".")[0] in sections}
    named = {field for field, *_ in cases}
    assert {name for *_, names in needs for name in names} <= named
    assert own | {"optim.encoder_lr"} == named | others
    assert not others & named
