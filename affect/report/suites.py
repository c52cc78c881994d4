"""What suites of experiments compare their members with, beside the experiments' folders."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from affect.errors import AffectError
from affect.recipe import hold
from affect.report.experiment import replace_file

FILE = "suites.json"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The folders of a suite's members, and of the one that all others are compared with.

    `takes_back`: each of them takes a change of the reference's back, which helps where they are worse.
    """

    reference: str
    members: tuple[str, ...]
    takes_back: bool = False

    def __post_init__(self) -> None:
        hold(self, "suite")


def keep(folder: Path, name: str, suite: Compared) -> None:
    """Write down a suite in a folder of experiments, in place of an earlier one of its name; raises AffectError."""
    suites = {**read(folder), name: suite}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, json.dumps({name: asdict(each) for name, each in suites.items()}, indent=1))
    except OSError as error:
        raise AffectError(f"{str(folder / FILE)!r} can't be written: {error.strerror or error}") from error


def read(folder: Path) -> dict[str, Compared]:
    """Return the suites of a folder of experiments by name, {} where none is written down; raises AffectError."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        given = json.loads(path.read_bytes())
        return {name: Compared(**facts) for name, facts in given.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise AffectError(f"{str(path)!r} can't be read: remove it, and run the suite again") from error
