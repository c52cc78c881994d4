"""Options that a format, a corpus or a task adds: NAME=VALUE, in the types that their function says."""

from collections.abc import Mapping, Sequence
from typing import Literal

import pytest

from affect.cli.arguments import named_values
from affect.errors import AffectError


def use(
    root: str, *, table: str | None = None, scale: tuple[float, float] | None = None, groups: Sequence[str] = (),
    widths: Mapping[str, int] | None = None, kind: Literal["wav", "mp3"] = "wav", limit: int = 3, progress: bool = True,
) -> None:  # fmt: skip
    """Take options of every kind."""


def written(*, pattern: "str | None" = None, scores: "Sequence[str]" = ()) -> None:
    """Take options whose types are texts, as modules with late annotations have them."""


def test_values_have_the_types_of_the_function():
    given = ["table=3", "scale=1,5.5", "groups=7,b", "widths=visual:163,audio:5", "kind=mp3", "limit=4"]
    assert named_values(given, use, "x") == {
        "table": "3", "scale": (1.0, 5.5), "groups": ["7", "b"], "widths": {"visual": 163, "audio": 5}, "kind": "mp3",
        "limit": 4,
    }  # fmt: skip
    found = named_values([r"pattern=(?P<a>\d{1,2})=x", "scores=mos"], written, "x")
    assert found == {"pattern": r"(?P<a>\d{1,2})=x", "scores": ["mos"]}
    assert named_values([], use, "x") == {}


@pytest.mark.parametrize(
    "option", ["limit=many", "scale=1", "scale=1,2,3", "kind=ogg", "widths=visual", "widths=visual:wide", "limit="]
)
def test_what_is_of_another_type_is_refused(option):
    with pytest.raises(AffectError, match=f"^--options {option}: {option.partition('=')[0]} must be .*, not '"):
        named_values([option], use, "x")


@pytest.mark.parametrize("option", ["tables=x", "table", "progress=False", "root=."])
def test_an_unknown_name_lists_what_there_is(option):
    with pytest.raises(AffectError, match="a has no option .*: table=None, scale=None, groups=.*limit=3$"):
        named_values([option], use, "a", but=("progress",))
