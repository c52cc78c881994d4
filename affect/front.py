"""The front door in Python: a trained model as a function, a recipe as a call.

Legend: S samples, T frames, D numbers of a feature, N inputs.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError, nearest, writing
from affect.inference import opening
from affect.inference.given import TABLES
from affect.options import Options
from affect.recipe import Recipe
from affect.usage import UserInputs

Line = dict[str, Any]
Values = Any
"""A file's name, an array, or (of text) words; None or "" is what is missing. A list of them is as many inputs."""
_OPTIONS = ("runs", "seeds", "folds", "resume", "overwrite", "report")


def load(
    name: str | Path, *, revision: str | None = None, subfolder: str | None = None, trust_remote_code: bool = False
) -> Model:
    """Return a trained model as a function: see `affect.load`."""
    place = Path(name)
    if revision is not None or subfolder is not None:
        from affect.hub import load as hub

        place = hub.folder_of(place, revision=revision, subfolder=subfolder)
    return Model(opening.find(place), trust=trust_remote_code)


class Model:
    """A trained model, or the mean of several, as a function of files, samples and words. Its weights are read once.

    What it takes is the task's: recordings, texts, clips, or features and media of audio, text and video, any subset.
    """

    def __init__(self, opened: opening.Opened, *, trust: bool = False) -> None:
        """Take what was opened; `trust` lets a program run that made features of texts."""
        self._opened = opened
        self._trust = trust

    @property
    def task(self) -> str:
        """The name of its task."""
        return self._opened.task.recipe_class.task

    @property
    def takes(self) -> str:
        """What it takes and gives, in words: of the command line's options those of a call have the same names."""
        return self._opened.task.helps.get("predict", "")

    def __call__(
        self, source: Values = None, rate: int | None = None, *, text: Values = None, audio: Values = None,
        video: Values = None, window: float | None = None, hop: float | None = None,
        features: str | Path | None = None, columns: Mapping[str, str] | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Return what the model says of an input, a dictionary; of a list, a folder or a CSV a list of them.

        `source` is a file, samples [S] at `rate` Hz, or of models of clips their frames [T, D] by feature; `text`,
        `audio` and `video` are what the command line calls so, arrays [D] or [T, D] too. A dictionary has `prediction`,
        on the scale of the labels, and `scale`; of a recording longer than a window it is the mean over its `windows`,
        by their lengths. `columns` maps our names to a CSV's, whose rows may be parts of recordings (columns start and
        end). `options` are the task's own. Raises AffectError for what one input can't be read by; in a
        list that input's dictionary has `error` in place of a prediction.
        """
        named = {"source": source, "text": text, "audio": audio, "video": video}
        several = any(_is_several(value) for value in named.values())
        self._check(options)
        with tempfile.TemporaryDirectory(prefix="affect-") as made:
            given = _Given(Path(made), rate, trust=self._trust)
            inputs = given.inputs(named, window=window, hop=hop, features=features, columns=columns)
            lines = opening.lines(self._opened, inputs, **options)
            results = [_whole(list(each), made) for each in _by_input(lines)]
        if several:
            return results
        if not results:
            raise AffectError(f"nothing is given: {self.takes}")
        (result,) = results
        if "error" in result:
            raise AffectError(result["error"])
        return result

    def embed(
        self, source: Values = None, rate: int | None = None, *, text: Values = None, audio: Values = None,
        video: Values = None, window: float | None = None, features: str | Path | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> list[Line]:  # fmt: skip
        """Return a line for each window, text, utterance or clip, with its pooled state as `embedding` [D].

        As `affect embed` writes them; what can't be read has `error`. Raises AffectError where there are none.
        """
        named = {"source": source, "text": text, "audio": audio, "video": video}
        with tempfile.TemporaryDirectory(prefix="affect-") as made:
            given = _Given(Path(made), rate, trust=self._trust)
            inputs = given.inputs(named, window=window, hop=None, features=features, columns=columns)
            return [_named(line, made) for line in opening.embedded(self._opened, inputs)]

    def _check(self, options: Mapping[str, Any]) -> None:
        """Raise AffectError for an option that the task does not have."""
        parameters = inspect.signature(self._opened.task.infer).parameters.values()
        own = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.name != "progress"]
        for option in options:
            if option not in own:
                hint = nearest(option, own) if own else "it has none"
                raise AffectError(f"a model of {self.task} has no option {option!r}; {hint}")


class _Given:
    """What is given to a model as the command line would name it: arrays become files in a folder."""

    def __init__(self, folder: Path, rate: int | None, *, trust: bool) -> None:
        self.folder, self.rate, self.trust, self.count = folder, rate, trust, 0

    def inputs(
        self, named: Mapping[str, Values], *, window: float | None, hop: float | None, features: str | Path | None,
        columns: Mapping[str, str] | None,
    ) -> UserInputs:  # fmt: skip
        """Return the inputs. Raises AffectError for arrays that are no samples or features, and a rate without any."""
        each = {name: tuple(self._file(name, value) for value in _listed(value)) for name, value in named.items()}
        if self.rate is not None and not self.count:
            raise AffectError("rate is of an array of samples: a file says its own")
        return UserInputs(
            files=tuple(map(Path, each["source"])), text=each["text"], audio=each["audio"], video=each["video"],
            window=window, hop=hop, features=None if features is None else Path(features), columns=dict(columns or {}),
            trust_remote_code=self.trust,
        )  # fmt: skip

    def _file(self, name: str, value: Any) -> str:
        if value is None or isinstance(value, (str, os.PathLike)):
            return "" if value is None else os.fspath(value)
        self.count += 1
        # Named by its number among the arrays: what is said of it names it so.
        place = self.folder / f"array {self.count}"
        if isinstance(value, Mapping):
            frames: dict[str, Any] = {key: _array(each) for key, each in value.items()}
            np.savez(place.with_suffix(".npz"), **frames)
            return str(place.with_suffix(".npz"))
        array = _array(value)
        if name == "source" or (name == "audio" and self.rate is not None):
            return str(self._sound(place.with_suffix(".wav"), array))
        np.save(place.with_suffix(".npy"), array)
        return str(place.with_suffix(".npy"))

    def _sound(self, path: Path, samples: np.ndarray) -> Path:
        import soundfile

        from affect.data import audio

        if self.rate is None:
            raise AffectError("an array of samples needs its rate: model(samples, rate)")
        audio.check_rate(self.rate, path.stem)
        if samples.ndim != 1 or not len(samples):
            raise AffectError(
                f"samples are one channel [S], not of shape {list(samples.shape)}: give the channels' mean"
            )
        if samples.dtype.kind == "i":
            samples = samples / -float(np.iinfo(samples.dtype).min)
        elif samples.dtype.kind != "f":
            raise AffectError(f"samples are floats from -1 to 1 or signed integers, not {samples.dtype}")
        if np.isfinite(samples).all() and (peak := float(np.abs(samples).max())) > _LOUDEST:
            raise AffectError(f"samples go up to {peak:.4g}: floats are from -1 to 1, divide them by full scale")
        soundfile.write(path, samples.astype(np.float32), self.rate, subtype="FLOAT")
        return path


_LOUDEST = 16.0
"""Samples beyond which floats were not scaled; resampling and mixing overshoot by less."""


def _array(value: Any) -> np.ndarray:
    """Return an array or a tensor as NumPy has it. Raises AffectError for anything else."""
    if not hasattr(value, "__array__"):
        raise AffectError(f"{type(value).__name__} is no input: give a file's name, an array or a list of them")
    # A tensor that is trained, or on a card, has to be told to come.
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "fiu":
        raise AffectError(f"an array of {array.dtype} is no input: give floats or integers")
    return array


def _is_several(value: Values) -> bool:
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        return path.suffix.lower() in TABLES or path.is_dir()
    return isinstance(value, (list, tuple))


def _listed(value: Values) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    return () if value is None else (value,)


def _by_input(lines: Iterator[Line]) -> Iterator[Iterator[Line]]:
    """Yield the lines of each input: those of a recording's windows follow the first of its name, and start later."""
    number = 0
    before: tuple[Any, float] = ((), 0.0)

    def numbered(line: Line) -> int:
        nonlocal number, before
        name, start = tuple(line.get(key) for key in ("id", "path", "text")), line.get("start") or 0.0
        number += name != before[0] or start <= before[1]
        before = name, start
        return number

    return (each for _, each in groupby(lines, numbered))


def _whole(lines: list[Line], made: str) -> Line:
    """Return one line of an input: of several windows the mean by their lengths, and the windows."""
    lines = [_named(line, made) for line in lines]
    first, last = lines[0], lines[-1]
    if len(lines) == 1:
        return first
    own = {name: value for name, value in first.items() if name not in ("start", "end", "prediction", "probability")}
    if "error" in last:
        return {**own, "error": last["error"], "windows": lines}
    weights = [line["end"] - line["start"] for line in lines]
    whole: Line = {**own, "start": first["start"], "end": last["end"], "prediction": {}}
    for name, values in first.get("probability", {}).items():
        each = [line["probability"][name] for line in lines]
        shares = {value: _mean([one[value] for one in each], weights) for value in values}
        whole.setdefault("probability", {})[name] = shares
    for name in first["prediction"]:
        classes = whole.get("probability", {}).get(name)
        numbers = [line["prediction"][name] for line in lines]
        whole["prediction"][name] = max(classes, key=classes.get) if classes else _mean(numbers, weights)
    return {**whole, "windows": lines}


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return float(np.average(values, weights=weights))


def _named(line: Line, made: str) -> Line:
    """Return a line that calls an array by its number, and not by the folder that it was written to."""
    return {
        name: value.replace(f"{made}{os.sep}", "") if isinstance(value, str) else value for name, value in line.items()
    }


def run(recipe: Recipe | str | Path, name: str | None = None, **options: Any) -> Path:
    """Run a recipe: see `affect.run`."""
    if isinstance(recipe, (str, Path)):
        written = recipes.read(Path(recipe))
        name = name or written.get("experiment")
        recipe = tasks.read_recipe(written)
    if not isinstance(recipe, Recipe):
        raise AffectError(f"affect.run takes a recipe, not {type(recipe).__name__}: run others by their recipe file")
    if unknown := next((option for option in options if option not in _OPTIONS), None):
        raise AffectError(f"affect.run has no option {unknown!r}; {nearest(unknown, _OPTIONS)}")
    name = name or recipe.task
    if Path(name).name != name:
        raise AffectError(f"name must be a plain name, not {name!r}: give runs=FOLDER beside it")
    for option in {"seeds", "folds"} & {*options}:
        numbers = options[option]
        options[option] = (numbers,) if isinstance(numbers, int) else numbers and tuple(numbers)
    chosen = Options(**{**options, "runs": Path(options.get("runs", Options.runs))})
    # Imported here: predicting does without the trainer.
    from affect.experiments import folds

    return folds.run(name, recipe, chosen, _command(recipe, name, chosen.runs, options))


def _command(recipe: Recipe, name: str, runs: Path, options: Mapping[str, Any]) -> str:
    """Write the recipe to its experiment's folder, and return the command that runs it again as it was run."""
    text = json.dumps({"experiment": name, **recipe.to_dict()}, indent=2) + "\n"
    # By its content: another recipe of this name, which may be refused, leaves it alone.
    file = runs / name / f"recipe-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    if os.environ.get("RANK", "0") == "0":
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    # With double quotes, since those of a shell are single.
    given = {
        option: value if isinstance(value, (bool, int, tuple)) else json.dumps(str(value))
        for option, value in options.items()
        if value is not None
    }
    call = [json.dumps(str(file)), json.dumps(name), *(f"{option}={value}" for option, value in given.items())]
    return os.environ.get("AFFECT_COMMAND") or shlex.join(
        ["python", "-c", f"import affect; affect.run({', '.join(call)})"]
    )
