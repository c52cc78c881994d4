"""Predicting with what a name is: a run's weights, all of an experiment's, a model on the Hub, an exported file."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError
from affect.hub import load as hub
from affect.inference.given import expanded
from affect.inference.output import lines_to
from affect.models import saving
from affect.usage import UserInputs

if TYPE_CHECKING:
    from affect.inference.onnx import Session
    from affect.task import Row, Task

_LOG = logging.getLogger("affect")
_BEST = Path("checkpoints", "best")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Models of one task and of the same data: folders of weights, or one exported file."""

    task: type[Task]
    folders: tuple[Path, ...] = ()
    exported: Session | None = None
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What a task has read of them, for the next call."""

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` makes, made once: weights are not read again for a second question."""
        if name not in self.kept:
            self.kept[name] = make()
        kept: T = self.kept[name]
        return kept


def lines(opened: Opened, inputs: UserInputs, *, progress: bool = False, **own: Any) -> Iterator[Row]:
    """Yield a line for each prediction; `own` are the task's options. Folders and tables among the files are opened.

    Of an experiment or a seed the predictions of its runs are averaged, as the task does. What can't be read gives a
    line with `error` and the others go on. Raises AffectError where the model takes something else.
    """
    yield from opened.task.infer(opened, _taken(opened, inputs), progress=progress, **own)


def embedded(opened: Opened, inputs: UserInputs, *, progress: bool = False) -> Iterator[Row]:
    """Yield a line for each pooled state, `embedding` [D]: as `lines` does, of one model under torch.

    Raises AffectError as that does, and for an exported file and several runs.
    """
    if opened.exported is not None:
        raise AffectError(f"{opened.exported.path}: has no pooled states: name the run that it was exported from")
    if len(opened.folders) != 1:
        raise AffectError(
            f"states of several models have no mean: name one run, such as {opened.folders[0].parents[1]}"
        )
    yield from opened.task.embed(opened, _taken(opened, inputs), progress=progress)


def _taken(opened: Opened, inputs: UserInputs) -> UserInputs:
    """Return inputs with what folders and tables hold; raises AffectError for an option of other models."""
    inputs = expanded(opened.task, inputs, partial(opened.task.takes_table, opened))
    takes = opened.task.takes
    for option in inputs.given:
        if takes and option not in takes:
            raise AffectError(f"{option} is for other models: this one takes {', '.join(takes)}")
    return inputs


def predict(opened: Opened, inputs: UserInputs, output: TextIO | Path, **own: Any) -> int:
    """Write what `lines` yields, as JSON or to a file as `output.lines_to` does; return how many have an error."""
    to_screen = not isinstance(output, Path) and output.isatty()
    made = lines(opened, inputs, progress=sys.stderr.isatty() and not to_screen, **own)
    # What can't be asked at all is refused before a file is written.
    begun = [*islice(made, 1)]
    bad = 0
    with lines_to(output) if isinstance(output, Path) else nullcontext(partial(_print, output)) as write:
        for line in chain(begun, made):
            bad += "error" in line
            write(line)
    return bad


def _print(output: TextIO, line: Row) -> None:
    output.write(json.dumps(line) + "\n")
    output.flush()


def find(name: Path) -> Opened:
    """Return what is named: an exported file or its folder, or what `folders_of` finds.

    Raises AffectError as that does, and where models of an experiment differ in what they know of the data.
    """
    file = _exported(name)
    if file is not None:
        from affect.inference.onnx import Session

        session = Session(file)
        return Opened(task=tasks.task_class(session.task), exported=session)
    folders = folders_of(name)
    first, *others = (saving.read_config(folder) for folder in folders)
    for folder, other in zip(folders[1:], others, strict=True):
        if (other["task"], other.get("data")) != (first["task"], first.get("data")):
            raise AffectError(f"{folder} and {folders[0]} are models of other features or classes: name one run")
    return Opened(task=tasks.task_class(first["task"]), folders=folders)


def folders_of(name: Path) -> tuple[Path, ...]:
    """Return the folder of a run's best weights, of `name` itself or of a model on the Hub; else of all runs below.

    Those are of a seed or of an experiment; an ensemble's are those of its members. Raises AffectError naming the runs
    there are where it is none of them.
    """
    folder = hub.folder_of(name)
    if (folder / saving.WEIGHTS).is_file():
        return (folder,)
    if members := _members(folder):
        return tuple(dict.fromkeys(weights for run in members for weights in folders_of(run)))
    for pattern in ("fold*", "seed*/fold*"):
        weights = tuple(sorted(path.parent for path in folder.glob(str(pattern / _BEST / saving.WEIGHTS))))
        if weights:
            for best in weights:
                recipes.check_own(best.parents[1])
            from affect.training.run_dir import finished

            unfinished = [best.parents[1] for best in weights if not finished(best.parents[1])]
            if unfinished:
                _LOG.warning(
                    "%s: %d of %d runs have not come to their end (%s ...): their best weights so far count as well",
                    *(folder, len(unfinished), len(weights), unfinished[0]),
                )
            return weights
    below = sorted(str(path.parents[2]) for path in folder.glob(str("**" / _BEST / saving.WEIGHTS)))
    if below:
        raise AffectError(f"{folder} holds several runs: name one, such as {below[0]}")
    raise AffectError(f"{folder} holds no weights: a run's folder is runs/<experiment>/seed<S>/fold<F>")


def _members(folder: Path) -> list[Path]:
    """Return the runs of which an ensemble's (of one fold, a seed or all) are the mean; none of any other folder."""
    runs = []
    names = ("recipe.json", "fold*/recipe.json", "seed*/fold*/recipe.json")
    for path in sorted(path for name in names for path in folder.glob(name)):
        members = recipes.read(path).get("members") or {}
        if not isinstance(members, dict) or not all(isinstance(place, str) for place in members.values()):
            raise AffectError(f"{path} is damaged: its members are no folders")
        own = path.absolute().parent
        runs += [Path(place, own.parent.name, own.name) for place in members.values()]
    return runs


def one_of(name: Path) -> Path:
    """Return the folder of a run's best weights, or of `name` itself. Raises AffectError for several."""
    first, *others = folders_of(name)
    if others:
        raise AffectError(f"{name} holds several runs: name one, such as {first.parents[1]}")
    return first


def _exported(name: Path) -> Path | None:
    if name.suffix == ".onnx":
        return name
    files = sorted(name.glob("*.onnx")) if name.is_dir() and not (name / saving.WEIGHTS).is_file() else []
    if len(files) > 1:
        raise AffectError(f"{name} holds several exported models: name one, such as {files[0]}")
    return files[0] if files else None
