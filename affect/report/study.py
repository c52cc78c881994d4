"""An experiment's runs with their scores: what every part of the report, and a task's own, is made of.

An evaluation is a part that was predicted (test) or a part under a condition (test@snr=10). Where the folds of a seed
predict different rows (cross validation) each fold is scored and the mean taken; where all predict the same ones, the
mean of the models is scored once a seed. The ids decide.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from affect.errors import AffectError
from affect.report import asking
from affect.report.rows import Record, Rows
from affect.report.runs import TRAIN, VALID, Run
from affect.report.systems import ROW, Estimate, Floats, Groups, Sampled, Scored, System, score
from affect.tables import counted, inside, text
from affect.task import Measure

if TYPE_CHECKING:
    from affect.task import Task

T = TypeVar("T")
P = ParamSpec("P")
NETWORK = "network"


def _kept(method: Callable[Concatenate[Study, P], T]) -> Callable[Concatenate[Study, P], T]:
    """Keep what a method of a study returns, by its arguments; measures and runs are known by their names."""

    @wraps(method)
    def once(study: Study, /, *arguments: P.args, **named: P.kwargs) -> T:
        names = (getattr(argument, "name", argument) for argument in (*arguments, *named.values()))
        key = (method.__name__, *(name for name in names if name != NETWORK))
        return study.remember(key, lambda: method(study, *arguments, **named))

    return once


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs under one name, the folder that their report goes to, and the experiment they are compared with."""

    runs: Sequence[Run]
    name: str = ""
    folder: Path = Path()
    other: Study | None = None
    given: Task | None = None
    """The task, where it is known without a recipe."""
    before: Callable[[], Study | None] = lambda: None
    """Reads the experiment from whose weights it started, None where it started from no experiment's."""
    _held: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def reported(self) -> bool:
        """Whether the numbers are a paper's, so that there are no predictions."""
        return bool(self.runs) and all(run.reported for run in self.runs)

    @cached_property
    def measured(self) -> list[Run]:
        """The runs that are no paper's: of those there is nothing to read but their scores."""
        return [run for run in self.runs if not run.reported]

    @cached_property
    def recipe(self) -> Record:
        """The first recipe that can be read."""
        return next((run.recipe for run in self.runs if run.recipe), {})

    @cached_property
    def environment(self) -> Record:
        """The first environment that can be read."""
        return next((run.environment for run in self.runs if run.environment), {})

    @cached_property
    def _asked(self) -> tuple[Task | None, str]:
        return (self.given, "") if self.given is not None else asking.task_of({} if self.reported else self.recipe)

    @property
    def task(self) -> Task | None:
        """The task that the recipe names; None where there is no such task."""
        return self._asked[0]

    @property
    def problem(self) -> str:
        """Why there is no task ("": there is one, or no recipe)."""
        return self._asked[1]

    @cached_property
    def measures(self) -> list[Measure]:
        """The task's measures; of numbers from elsewhere, or without a task, those that were recorded."""
        measures = list(self.task.measures) if self.task is not None else []
        if measures and not self.reported:
            return measures
        names = {name for run in self.runs for part in inside(run.end, "scores").values() for name in part}
        unknown = sorted(names - {measure.name for measure in measures})
        own = [measure for measure in measures if measure.name in names]
        return own + [Measure(name=name, score=lambda rows: math.nan) for name in unknown]

    @cached_property
    def headline(self) -> list[Measure]:
        """The measures of the main tables, those first that are not made of others; one at least."""
        measures = [measure for measure in self.measures if measure.headline] or self.measures[:1]
        return sorted(measures, key=lambda measure: bool(measure.parts))

    @cached_property
    def main(self) -> Measure | None:
        """The measure that is spoken of where one is: the first headline one."""
        return next((measure for measure in self.measures if measure.headline), next(iter(self.measures), None))

    @cached_property
    def finished(self) -> list[Run]:
        """The finished runs of those seeds that have the most folds: a seed of fewer would weigh as much."""
        done = [run for run in self.runs if run.finished]
        counts = Counter(run.seed for run in done)
        return [run for run in done if counts[run.seed] == max(counts.values())]

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that count."""
        return sorted({run.seed for run in self.finished})

    @cached_property
    def folds(self) -> list[int]:
        """The folds that some seed of those that count has; 0, a mean whose folds are unknown, is none."""
        return sorted({run.fold for run in self.finished} - {0})

    @cached_property
    def corpus(self) -> str:
        """The corpus's name, "" where nobody says it."""
        return str(self.environment.get("corpus") or inside(self.recipe, "data").get("corpus") or "")

    @cached_property
    def classes(self) -> list[str]:
        """The names of the data's classes in their order; [] where nobody says them."""
        told = self.environment.get("classes")
        return list(map(str, told)) if isinstance(told, list) else []

    @cached_property
    def names(self) -> list[str]:
        """All evaluations that were predicted or (in a paper) scored, without the training part; plain ones first."""
        names = {name for run in self.finished for name in run.predictions}
        if self.reported or not names or self.task is None:
            names |= {name for run in self.finished for name in inside(run.end, "scores")}
        return sorted(names - {TRAIN}, key=_order)

    @cached_property
    def evaluations(self) -> list[str]:
        """The parts as they are: tests, then validation."""
        return [name for name in self.names if "@" not in name]

    @cached_property
    def summaries(self) -> dict[str, list[str]]:
        """Means of evaluations that the task tells as one, by name: those whose members are all there."""
        if self.task is None or self.reported:
            return {}
        summaries = self.task.summaries(self.names)
        return {name: members for name, members in summaries.items() if members and set(members) <= set(self.names)}

    @cached_property
    def tests(self) -> list[str]:
        """The parts but validation."""
        return [name for name in self.evaluations if name != VALID]

    @cached_property
    def earlier(self) -> list[Study]:
        """The experiments that it goes back to by the weights that they started from, the first one first."""
        chain: list[Study] = [self]
        while (before := chain[0].before()) is not None:
            # Two that were started from each other, one of them anew.
            if before.folder.resolve() in [study.folder.resolve() for study in chain]:
                break
            chain.insert(0, before)
        return chain[:-1]

    def conditions(self, part: str) -> list[str]:
        """Return the conditions that a part was predicted under, without its name (snr=10)."""
        return [name.partition("@")[2] for name in self.names if name.startswith(f"{part}@")]

    @cached_property
    def baselines(self) -> list[str]:
        """The trivial models that some finished run has rows of, by name."""
        return sorted({name for run in self.finished for name in run.baselines})

    @cached_property
    def trivial(self) -> list[str]:
        """The trivial models that are told nothing of the answer, as an oracle is."""
        return [name for name in self.baselines if not name.startswith("oracle")]

    def remember(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """Return what was made under a key before, else make it."""
        if key not in self._held:
            self._held[key] = make()
        value: T = self._held[key]
        return value

    def advice(self, kind: str, otherwise: str) -> str:
        """Return what to try about a flag: the task's advice, else the report's."""
        return self.task.advice().get(kind, otherwise) if self.task is not None else otherwise

    # Rows.

    def system(self, evaluation: str, model: str = NETWORK) -> System:
        """Return what the models (or a trivial one) say of an evaluation; rows under conditions are read anew."""
        if "@" not in evaluation:
            return self._system(evaluation, model)
        # Those of another condition are not asked for again, and are many.
        for old in [key for key in self._held if key[0] == "_system" and "@" in str(key[1]) and key[1] != evaluation]:
            del self._held[old]
        system = self._system(evaluation, model)
        if ("taken", evaluation) not in self._held:
            # All that is asked of rows that will not stay, while they are there.
            self._held["taken", evaluation] = True
            for measure in self.headline:
                self.scored(evaluation, measure)
            self.size(evaluation)
            self.signature(evaluation)
            if self.main is not None and any(evaluation in members for members in self.summaries.values()):
                self.sampled(evaluation, self.main)
        return system

    @_kept
    def _system(self, evaluation: str, model: str) -> System:
        """Return the rows of each fold; where all folds of the seeds predict the same ones, the mean of them."""
        # Each taken once: rows under a condition are read at each taking.
        taken = [((run.seed, run.fold), _source(run, model).get(evaluation)) for run in self.finished]
        single = System(units={cell: rows for cell, rows in taken if rows})
        models: dict[int, list[Rows]] = {}
        for (seed, _), rows in single.units.items():
            models.setdefault(seed, []).append(rows)
        several = [rows for folds in models.values() if len(folds) > 1 for rows in folds]
        if self.task is None or len(set(map(frozenset, several))) != 1:
            return single
        ids, most = sorted(several[0]), max(map(len, models.values()))
        try:
            # A seed that lacks a fold's rows has fewer models in the mean.
            means = {
                seed: self.task.average([[rows[i] for i in ids] for rows in folds])
                for seed, folds in models.items() if len(folds) == most
            }  # fmt: skip
        except AffectError:
            # What has no mean (the names of a trivial model's classes) is scored fold by fold.
            return single
        units = {(seed, 0): dict(zip(ids, mean, strict=True)) for seed, mean in means.items()}
        return System(units=units, shared=True)

    @_kept
    def size(self, evaluation: str) -> int:
        """Return how many rows one seed has of an evaluation."""
        return self.system(evaluation).size

    @_kept
    def signature(self, evaluation: str) -> str:
        """Return what is equal where two experiments predict the same rows in the same folds with the same labels."""
        system = self.system(evaluation)
        kinds = sorted({kind for measure in self.measures for kind in measure.groups})
        keyed, keys = system.keyed(system.repeated), system.keys(system.repeated)
        labels = sorted((k, sorted(r["target"].items()), [r.get(kind) for kind in kinds]) for k, r in keys.items())
        # Where all seeds have all rows, it does not matter which seeds there are.
        whole = all(len(rows) == len(keys) for rows in keyed.values())
        places = {(0 if whole else seed, fold, i) for (seed, fold), rows in system.units.items() for i in rows}
        content = repr((labels, system.shared, sorted(places)))
        return hashlib.sha256(content.encode("utf-8", errors="replace")).hexdigest()

    # Scores.

    @_kept
    def scored(self, evaluation: str, measure: Measure, model: str = NETWORK) -> Scored:
        """Return a score of each seed and fold: of the rows, else as it was recorded; of a summary, of each seed."""
        if evaluation in self.summaries:
            return Scored.together([self.scored(name, measure, model) for name in self.summaries[evaluation]])
        if self.task is not None and (model != NETWORK or any(evaluation in run.predictions for run in self.finished)):
            return self.system(evaluation, model).scored(measure)
        recorded = {(r.seed, r.fold): r.recorded(evaluation, measure.name) for r in self.finished}
        return Scored({cell: value for cell, value in recorded.items() if not math.isnan(value)})

    @_kept
    def pooled(self, evaluation: str, measure: Measure) -> bool:
        """Tell whether intervals and differences are of all folds' rows together, not of the mean over folds.

        They are where folds hold out groups of rows (speakers, sessions); folds of single rows, drawn at random, are
        like one another, and their mean has the interval.
        """
        return not self.system(evaluation).shared and self.groups(evaluation, measure).unit != ROW

    def groups(self, evaluation: str, measure: Measure) -> Groups:
        """Return what a bootstrap of an evaluation draws."""
        return self._groups(evaluation, measure.groups)

    @_kept
    def _groups(self, evaluation: str, kinds: tuple[str, ...]) -> Groups:
        system = self.system(evaluation)
        return Groups.of(system.keys(system.repeated), kinds, system.repeated)

    @_kept
    def sampled(self, evaluation: str, measure: Measure, model: str = NETWORK) -> Sampled:
        """Return a score of all rows together, or the mean over folds (see `pooled`), with what its interval is of."""
        if evaluation in self.summaries:
            return Sampled.together([self.sampled(name, measure, model) for name in self.summaries[evaluation]])
        system = self.system(evaluation, model)
        if self.task is None or not system.units:
            scored = self.scored(evaluation, measure, model)
            return Sampled(scored.mean, scored, {})
        return system.sampled(measure, self.groups(evaluation, measure), self.pooled(evaluation, measure))

    def estimate(self, evaluation: str, measure: Measure, model: str = NETWORK) -> Estimate:
        """Return a score with its interval."""
        return self.sampled(evaluation, measure, model).estimate

    def best_trivial(self, name: str, measure: Measure) -> tuple[str | None, float]:
        """Return the trivial model of the best score and that score; None and NaN where none has one."""
        values = {model: self.estimate(name, measure, model).value for model in self.trivial}
        values = {model: value for model, value in values.items() if not math.isnan(value)}
        best = max(values, key=lambda model: measure.sign * values[model], default=None)
        return best, math.nan if best is None else values[best]

    def above(self, evaluation: str, measure: Measure, model: str) -> tuple[Estimate, Floats]:
        """Return a score minus a trivial model's on the rows of both, and the differences of folds (or seeds)."""
        whole = {name: self.system(evaluation, name) for name in (NETWORK, model)}
        ours, theirs = whole[NETWORK], whole[model]
        if not ours.units or not theirs.units:
            return Estimate(math.nan), np.zeros(0)
        if ours.shared == theirs.shared:
            ours, theirs = ours.within(theirs), theirs.within(ours)
        pooled, groups = self.pooled(evaluation, measure), self.groups(evaluation, measure)
        # Of whole systems the resamples are there already.
        here, there = (
            self.sampled(evaluation, measure, name)
            if system is whole[name]
            else system.sampled(measure, groups, pooled)
            for name, system in ((NETWORK, ours), (model, theirs))
        )
        difference, pairs = here.minus(there, pooled)
        return difference, np.array(list(pairs.values()), np.float64)

    # Runs.

    @_kept
    def validated(self, run: Run, measure: Measure) -> float:
        """Return a run's score of its validation part; NaN where that was trained on, too, and so is no evaluation."""
        return self.of_run(run, VALID, measure) if VALID in self.evaluations else math.nan

    def of_run(self, run: Run, evaluation: str, measure: Measure) -> float:
        """Return a run's own score of an evaluation: of its rows, else as it was recorded (NaN: unknown)."""
        rows = run.predictions.get(evaluation) if self.task is not None else None
        return score(measure, list(rows.values())) if rows else run.recorded(evaluation, measure.name)

    def runs_with(self, evaluation: str, model: str = NETWORK) -> list[int]:
        """Return the folds in which a model predicted an evaluation."""
        return sorted({run.fold for run in self.finished if evaluation in _source(run, model)})

    def held_out(self, run: Run, evaluation: str) -> str:
        """Return which session or speaker a run's part holds, as the recipe's split has it."""
        rows = run.predictions.get(evaluation) or {}
        split = str(inside(run.recipe, "data").get("split", ""))
        keys = ("speaker", "session") if "speaker" in split else ("session", "speaker")
        named = [sorted({str(row[k]) for row in rows.values() if row.get(k) not in (None, "")}) for k in keys]
        few = next((" ".join(names) for names in named if 0 < len(names) <= 2), "")
        return few or (counted(len(named[1]), keys[1]) if named[1] else "")

    @cached_property
    def crossed(self) -> list[str]:
        """The evaluations whose rows are each fold's own."""
        return [name for name in self.evaluations if not self.system(name).shared]

    @cached_property
    def categorical(self) -> list[str]:
        """The targets whose labels are names of classes."""
        return sorted({target for target, label in self._labels() if isinstance(label, str)})

    @cached_property
    def numeric(self) -> list[str]:
        """The targets whose labels are numbers, in the order of the rows."""
        numbers = (target for target, label in self._labels() if isinstance(label, float) and not math.isnan(label))
        return list(dict.fromkeys(numbers))

    def _labels(self) -> Iterator[tuple[str, object]]:
        return (item for name in self.evaluations for row in self.system(name).rows() for item in row["target"].items())


def identities(study: Study) -> dict[str, str]:
    """Return what makes scores comparable: the corpus and the scale of its labels, as far as they are known.

    A corpus is its name and what tells its data from others' of this name: NAME@FINGERPRINT. Of labels that have a
    scale each, all of these.
    """
    scale, data, corpus = study.environment.get("scale"), study.environment.get("fingerprint"), study.corpus
    if corpus and data and "@" not in corpus:
        corpus = f"{corpus}@{str(data)[:8]}"
    if scale is not None:
        return {"corpus": corpus, "scale": text(scale)}
    scales = inside(study.environment, "scales")
    return {"corpus": corpus} | ({"scale": ", ".join(f"{k} {text(v)}" for k, v in scales.items())} if scales else {})


def called(study: Study) -> set[str]:
    """Return the names that a corpus goes by: a paper knows no fingerprint, and calls a public one as recipes do."""
    data = inside(study.recipe, "data")
    layout = data.get("corpus") if not data.get("name") else None
    return {study.corpus, study.corpus.partition("@")[0], str(layout or "")} - {""}


def _source(run: Run, model: str) -> Mapping[str, Rows]:
    return run.predictions if model == NETWORK else run.baselines.get(model, {})


def _order(name: str) -> tuple[bool, bool, list[str], str, float, int, str]:
    """Order names: plain ones first, tests before validation, conditions by kind and then by number or length.

    Numbers in names of parts count as numbers: test2 comes before test10.
    """
    part, _, condition = name.partition("@")
    kind, _, value = condition.partition("=")
    number = float(value) if re.fullmatch(r"-?\d+(\.\d+)?", value) else math.inf
    digits = [word.zfill(9) if word.isdigit() else word for word in re.split(r"(\d+)", part)]
    return bool(condition), part == VALID, digits, kind, number, len(value), value
