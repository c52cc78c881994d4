"""Every field of every recipe with every kind of wrong value: taken, or refused in one line that names the field.

Nothing is trained or read: recipes are made, and that is all. `make soak` goes through every experiment.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from operator import attrgetter
from typing import Any, get_type_hints

import pytest

from affect import tasks
from affect.config import field_names, from_dict, to_dict, types_in
from affect.errors import AffectError
from affect.experiments.definitions import Ensemble, Search, Sequence, Suite
from affect.extraction import AudioExtraction, TextExtraction, VideoExtraction
from affect.options import Options
from affect.recipe import Recipe
from tests.launching import ROOT, assert_one_line, experiments, launch

HUGE = (1e20, 10**12, 10**30, 10**400)
WRONG: tuple[Any, ...] = (
    None, True, "x", "", "=", "x" * 5000, "\ud800", "a\0b", "a\nb", -1, -0.5, 0, 0.5, 1, math.nan, math.inf, -math.inf,
    *HUGE, -1e20, [], ["x"], ["x", "x"], [-1, -1], [2, 1], [math.nan] * 2, [1e20] * 2, [10**12] * 4, [[]], {}, {"a": 1},
)  # fmt: skip

ENDLESS = {
    "of all": {
        "train.batch", "train.epochs", "train.steps", "train.budget", "train.patience", "train.min_delta",
        "train.evaluate_every", "train.average_best", "train.diagnostics_every", "train.keep",
        "train.checkpoint_every", "optim.plateau_patience", "optim.plateau_delta", "optim.clip", "optim.clip_value",
    },
    # Which folds there are is told by the corpus.
    "emotion": {"data.fold"},
    "talking_face": {"data.fold"},
    "multimodal_emotion": {"together"},
    "diarization": set(),
}  # fmt: skip
"""Numbers of which any is meant, as all, never or until it is stopped: what is made of them costs nothing more."""


@cache
def recipes() -> dict[str, Recipe]:
    """Return all experiments of all recipe files that are single recipes."""
    made = {
        f"{path.stem}:{name}": experiment()
        for path in sorted((ROOT / "recipes").glob("*.py"))
        for name, experiment in experiments(path).items()
    }
    return {name: recipe for name, recipe in made.items() if isinstance(recipe, Recipe)}


def bases() -> dict[str, Recipe]:
    """Return a recipe a task as it comes."""
    return {name: tasks.task_class(name).recipe_class() for name in tasks.TASKS}


def replaced(part: Any, path: list[str], value: Any) -> Any:
    """Return a recipe, written in Python, with another value of a field."""
    name, *below = path
    return dataclasses.replace(part, **{name: replaced(getattr(part, name), below, value) if below else value})


def refused(make: Callable[[], Any], field: str, names: list[str]) -> Any:
    """Return what is made with a value; None where it is refused, in a line that is held to name the field."""
    try:
        made = make()
    except AffectError as error:
        said = str(error)
        assert "\n" not in said and len(said) < 700, said
        section, _, last = field.rpartition(".")
        first = max((name for name in names if said.startswith(name)), key=len, default="")
        assert first, f"{said!r} begins with no field"
        # A part of a model is named as a whole: model.media.
        named = last in said or ("." in section and section in said)
        assert first == field or named, f"{said!r} does not name {field}"
        return None
    return made


def hold(recipe: Any, name: str = "") -> None:
    """Hold that a field takes each value or refuses it, from a recipe.json and from Python; what is taken is kept."""
    fields = field_names(type(recipe))
    for field in fields:
        *above, last = field.split(".")
        part = attrgetter(".".join(above))(recipe) if above else recipe
        document, section = to_dict(part), ".".join(above)
        kept = False
        for value in WRONG:
            ways: dict[str, Callable[[], Any]] = {
                "recipe.json": partial(from_dict, type(part), document | {last: value}, section),
                "Python": partial(replaced, recipe, [*above, last], value),
            }
            for way, make in ways.items():
                try:
                    made = refused(make, field, fields)
                except AssertionError:
                    raise
                except Exception as error:
                    raise AssertionError(f"{name} {field}={value!r:.60} of {way}: {error!r}") from error
                if isinstance(made, Recipe) and not kept:
                    kept = type(made).from_dict(made.to_dict()) == made
                    assert kept, f"{name} {field}={value!r:.60} is another once it is written"
                    json.dumps(made.to_dict(), allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("task", sorted(tasks.TASKS))
def test_every_field_takes_a_value_or_refuses_it_in_one_line(task):
    hold(bases()[task], task)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_field_of_every_experiment(name):
    hold(recipes()[name], name)


MORE = (
    AudioExtraction(encoder="tiny", source="s"), TextExtraction(encoder="tiny", source="s"),
    VideoExtraction(encoder="tiny", source="s"), Search(of="a", ranges=("b=1..2",)), Ensemble(members=("a", "b")),
    Suite(members=("a", "b")), Sequence(stages=("a", "b")), Options(),
)  # fmt: skip


@pytest.mark.parametrize("made", MORE, ids=lambda made: type(made).__name__)
def test_what_else_a_command_line_takes(made):
    fields = field_names(type(made))
    for field in fields:
        for value in WRONG:
            refused(lambda field=field, value=value: dataclasses.replace(made, **{field: value}), field, fields)


def numbers(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a recipe that take a number, and a value of their kind that nobody means."""
    for field in field_names(type(recipe)):
        kind: Any = type(recipe)
        for part in field.split("."):
            kind = get_type_hints(kind)[part]
        kinds = {*types_in(kind)}
        if int in kinds:
            yield field, 10**12
        elif float in kinds:
            yield field, 1e14


@pytest.mark.parametrize("task", sorted(tasks.TASKS))
def test_a_number_that_nobody_means_is_refused(task):
    """What it would take of memory and time is known before anything is begun."""
    recipe = bases()[task]
    fields = field_names(type(recipe))
    taken = {
        field for field, value in numbers(recipe)
        if refused(lambda field=field, value=value: replaced(recipe, field.split("."), value), field, fields)
    }  # fmt: skip
    assert taken == ENDLESS["of all"] | ENDLESS[task]


SAMPLE = {
    "finetune_wavlm.py": (
        ["--optim.lr", "1e20"], ["--optim.lr", "nan"], ["--optim.lr", "inf"], ["--train.workers", "100000"],
        ["--train.world", "10000000"], ["--model.hidden", "1000000000"], ["--model.hidden", "-1"],
        ["--augment.gain", "1e4"], ["--data.root", ""], ["--train.epochs", "1.5"], ["--seed", str(10**30)],
        ["--data.scale", "nan", "nan"], ["--train.timeout", "1e300"], ["--name", "x" * 300], ["--seeds", str(2**40)],
    ),
    "mer2023.py": (["--model.hidden", "1000000000"], ["--data.folds", "0"], ["--noise", "-1e9", "0"]),
    "talking_face.py": (["--model.layers", "100000"], ["--loss.delta", "inf"], ["--model.media.side", "1000000"]),
    "ssnd.py": (["--online.window", "inf"], ["--simulation.snr", "-1e9", "0"], ["--data.block", "nan"]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "given"), [(file, given) for file, several in SAMPLE.items() for given in several], ids=str
)
def test_a_sample_through_the_command_line(capsys, tmp_path, monkeypatch, file, given):
    monkeypatch.chdir(tmp_path)
    code, out, err = launch(capsys, "demo", *given, recipe=ROOT / "recipes" / file)
    assert_one_line(code, err, given[0].removeprefix("--").rpartition(".")[2])
    assert out == "" and not list(tmp_path.iterdir()) and not re.search("Traceback", err)
