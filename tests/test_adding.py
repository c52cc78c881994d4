"""The lists of docs/adding.md: what an addition touches, held against all that has been added so far."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from affect import cli
from affect.data import corpora
from affect.tasks import TASKS

ROOT = Path(__file__).parents[1]
CODE = [path for room in ("affect", "recipes", "tests") for path in sorted((ROOT / room).rglob("*.py"))]


def listed(title: str) -> list[str]:
    """Return the files that a section of docs/adding.md lists, as patterns; a folder has all that is in it."""
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {title}\n\nFiles: (.+)$", text, re.MULTILINE)
    patterns = [re.sub(r"<\w+>", "*", name) for name in re.findall(r"`([^`]+)`", section)]
    return [pattern + "*" if pattern.endswith("/") else pattern for pattern in patterns]


@cache
def names_in(path: Path) -> set[str]:
    """Return the functions and the strings of a file that are a name of their own."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return functions | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def that_name(names: Iterable[str], *rooms: str) -> set[str]:
    """Return the files of some rooms in which one of these is a name."""
    wanted = set(names)
    return {where(path) for path in CODE if where(path).startswith(rooms) and names_in(path) & wanted}


def that_say(pattern: str, *rooms: str) -> set[str]:
    """Return the files of some rooms whose text has a pattern."""
    paths = [path for path in CODE if where(path).startswith(rooms)]
    return {where(path) for path in paths if re.search(pattern, path.read_text(encoding="utf-8"))}


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def experiments() -> set[str]:
    """Where the experiments are whose names have an underscore: others (demo, temporal) are words, too."""
    files = sorted((ROOT / "recipes").glob("*.py"))
    names = {name for path in files for name in cli.experiments_in(path) if "_" in name} - {*corpora.ALL}
    table = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    told = {"recipes/README.md"} if any(f"`{name}`" in table for name in names) else set()
    return that_name(names, "affect", "recipes", "tests/recipes") | told


def readers() -> set[str]:
    """Where the corpora are; generated, synthetic and hub are words, too."""
    names = {*corpora.ALL} - {"generated", "synthetic", "hub"}
    return that_name(names, "affect") | that_say("affect.data.corpora", "tests/data/corpora/test_")


def terms() -> set[str]:
    makers = [path.stem for path in (ROOT / "affect/losses").glob("*.py") if "-> Term" in path.read_text("utf-8")]
    one = rf"\b({'|'.join(makers)})\b"
    users = that_say(rf"affect\.losses(\.{one}| import .*{one})", "affect", "tests/losses", "tests/training/toy")
    return users | {f"affect/losses/{name}.py" for name in makers}


def measures() -> set[str]:
    users = that_say(r"affect\.metrics(\.measures\b| import .*\bmeasures\b)", "affect")
    return users | {"affect/metrics/measures.py"} | that_say(r"affect\.metrics", "tests/metrics/test_")


def tasks() -> set[str]:
    """Where the tasks are: their packages, and the names of those that are no label's name, too."""
    package = rf"affect\.tasks\.({'|'.join(TASKS)})\b"
    return that_say(package, "affect", "recipes", "tests/tasks", "tests/recipes") | that_name(
        set(TASKS) - {"emotion"}, "affect"
    )


KINDS: dict[str, Callable[[], set[str]]] = {
    "An experiment": experiments, "A corpus": readers, "A term of the loss": terms, "A measure": measures,
    "A task": tasks,
}  # fmt: skip


@pytest.mark.parametrize("title", KINDS)
def test_an_addition_touches_what_is_listed(title):
    patterns, touched = listed(title), KINDS[title]()
    assert sorted(path for path in touched if not any(fnmatch(path, pattern) for pattern in patterns)) == []
    assert [pattern for pattern in patterns if not any(fnmatch(path, pattern) for path in touched)] == []
