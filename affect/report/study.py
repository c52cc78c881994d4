"""An experiment's runs with their scores: what every part of the report, and a task's own, is made of.

An evaluation is a part that was predicted (test) or a part under a condition (test@snr=10). Where the folds of a seed
predict different rows (cross validation) each fold is scored and the mean taken; where all predict the same ones, the
mean of the models is scored once a seed. The ids decide.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from affect.errors import AffectError
from affect.report import asking
from affect.report.rows import Record, Rows
from affect.report.runs import TRAIN, VALID, Run
from affect.report.systems import ROW, Estimate, Floats, Groups, Samples, Scored, System, estimate, interval, score
from affect.tables import inside, text
from affect.task import Measure

if TYPE_CHECKING:
    from affect.task import Task

T = TypeVar("T")
NETWORK = "network"


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs under one name, the folder that their report goes to, and the experiment they are compared with."""

    runs: Sequence[Run]
    name: str = ""
    folder: Path = Path()
    other: Study | None = None
    given: Task | None = None
    """The task, where it is known without a recipe."""
    _held: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def reported(self) -> bool:
        """Whether the numbers are a paper's, so that there are no predictions."""
        return bool(self.runs) and all(run.reported for run in self.runs)

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
        """The task's measures, and those that numbers from elsewhere bear beside them."""
        found = list(self.task.measures) if self.task is not None else []
        if self.reported or not found:
            told = {name for run in self.runs for part in inside(run.end, "scores").values() for name in part}
            found = [measure for measure in found if measure.name in told] if self.reported else []
            found += [asking.unknown(name) for name in sorted(told - {measure.name for measure in found})]
        return found

    @cached_property
    def headline(self) -> list[Measure]:
        """The measures of the main tables, those first that are not made of others; one at least."""
        found = [measure for measure in self.measures if measure.headline] or self.measures[:1]
        return sorted(found, key=lambda measure: bool(measure.parts))

    @cached_property
    def main(self) -> Measure | None:
        """The measure that is spoken of where one is: the first headline one."""
        return next((measure for measure in self.measures if measure.headline), next(iter(self.measures), None))

    @cached_property
    def finished(self) -> list[Run]:
        """The finished runs of those seeds that have the most folds: a seed of fewer would weigh as much."""
        done = [run for run in self.runs if run.finished]
        counts = {seed: sum(run.seed == seed for run in done) for seed in {run.seed for run in done}}
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
    def names(self) -> list[str]:
        """All evaluations that were predicted or (in a paper) scored, without the training part; plain ones first."""
        found = {name for run in self.finished for name in run.predictions}
        told = {name for run in self.finished for name in inside(run.end, "scores")}
        if self.reported or not found or self.task is None:
            found |= told
        return sorted(found - {TRAIN}, key=_order)

    @cached_property
    def evaluations(self) -> list[str]:
        """The parts as they are: tests, then validation."""
        return [name for name in self.names if "@" not in name]

    @cached_property
    def summaries(self) -> dict[str, list[str]]:
        """Means of evaluations that the task tells as one, by name: those whose members are all there."""
        if self.task is None or self.reported:
            return {}
        found = self.task.summaries(self.names)
        return {name: members for name, members in found.items() if members and set(members) <= set(self.names)}

    def conditions(self, part: str) -> list[str]:
        """Return the conditions that a part was predicted under, without its name (snr=10)."""
        return [name.partition("@")[2] for name in self.names if name.startswith(f"{part}@")]

    @cached_property
    def baselines(self) -> list[str]:
        """The trivial models that some finished run has rows of, by name."""
        return sorted({name for run in self.finished for name in run.baselines})

    def remember(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """Return what was made under a key before, else make it."""
        if key not in self._held:
            self._held[key] = make()
        found: T = self._held[key]
        return found

    def advice(self, kind: str, otherwise: str) -> str:
        """Return what to try about a flag: the task's advice, else the report's."""
        return self._advice.get(kind, otherwise)

    @cached_property
    def _advice(self) -> dict[str, str]:
        return self.task.advice() if self.task is not None else {}

    # Rows.

    def system(self, evaluation: str, model: str = NETWORK) -> System:
        """Return what the models (or a trivial one) say of an evaluation; rows under conditions are read anew."""

        def make() -> System:
            if "@" in evaluation:
                # Those of another condition are not asked for again, and are many.
                for old in [k for k in self._held if k[0] == "system" and "@" in str(k[1])]:
                    del self._held[old]
            rows = self._rows(evaluation, model)
            return self._shared(rows) or System(units=rows)

        found = self.remember(("system", evaluation, model), make)
        if "@" in evaluation and ("taken", evaluation) not in self._held:
            # All that is asked of rows that will not stay, while they are there.
            self._held["taken", evaluation] = True
            for measure in self.headline:
                self._held["scored", evaluation, measure.name, NETWORK] = found.scored(measure)
            self._held["size", evaluation] = found.size
            self.signature(evaluation)
            if self.main is not None and any(evaluation in members for members in self.summaries.values()):
                self.samples(evaluation, self.main)
        return found

    def size(self, evaluation: str) -> int:
        """Return how many rows one seed has of an evaluation."""
        return self.remember(("size", evaluation), lambda: self.system(evaluation).size)

    def signature(self, evaluation: str) -> str:
        """Return what is equal where two experiments predict the same rows in the same folds with the same labels."""

        def make() -> str:
            system = self.system(evaluation)
            kinds = sorted({kind for measure in self.measures for kind in measure.groups})
            keys = system.keys(system.repeated)
            told = sorted((k, sorted(r["target"].items()), [r.get(kind) for kind in kinds]) for k, r in keys.items())
            places = {(seed, f, i) for seed, folds in system.units.items() for f, rows in folds.items() for i in rows}
            if all(len(system.keyed(seed, system.repeated)) == len(keys) for seed in system.units):
                # Where all seeds have all rows, it does not matter which seeds there are.
                places = {(0, fold, i) for _, fold, i in places}
            content = repr((told, system.shared, sorted(places)))
            return hashlib.sha256(content.encode("utf-8", errors="replace")).hexdigest()

        return self.remember(("signature", evaluation), make)

    def _rows(self, evaluation: str, model: str) -> dict[int, dict[int, Rows]]:
        """Return the rows of an evaluation by seed and fold."""
        rows: dict[int, dict[int, Rows]] = {}
        for run in self.finished:
            source = run.predictions if model == NETWORK else run.baselines.get(model, {})
            # Taken once: rows under a condition are read at each taking.
            if found := source.get(evaluation):
                rows.setdefault(run.seed, {})[run.fold] = found
        return rows

    def _shared(self, rows: Mapping[int, Mapping[int, Rows]]) -> System | None:
        """Return the mean of the folds' rows where all folds predict the same; None where they don't."""
        several = [folds for folds in rows.values() if len(folds) > 1]
        if self.task is None or not several or len({frozenset(r) for folds in several for r in folds.values()}) > 1:
            return None
        found = {}
        for seed, folds in rows.items():
            # A seed that lacks a fold's rows has fewer models in the mean.
            if len(folds) < max(map(len, rows.values())):
                continue
            ids = sorted(next(iter(folds.values())))
            try:
                mean = self.task.average([[one[i] for i in ids] for one in folds.values()])
            except AffectError:
                # What has no mean (the names of a trivial model's classes) is scored fold by fold.
                return None
            found[seed] = {0: dict(zip(ids, mean, strict=True))}
        return System(units=found, shared=True)

    # Scores.

    def scored(self, evaluation: str, measure: Measure, model: str = NETWORK) -> Scored:
        """Return a score of each seed and fold: of the rows, else as it was recorded; of a summary, of each seed."""
        key = ("scored", evaluation, measure.name, model)
        return self.remember(key, lambda: self._score(evaluation, measure, model))

    def _score(self, evaluation: str, measure: Measure, model: str) -> Scored:
        if evaluation in self.summaries:
            each = [self.scored(name, measure, model).by_seed for name in self.summaries[evaluation]]
            seeds = sorted(set.intersection(*(set(values) for values in each)))
            return Scored({(seed, 0): float(np.mean([values[seed] for values in each])) for seed in seeds})
        if self.task is not None and (model != NETWORK or any(evaluation in run.predictions for run in self.finished)):
            return self.system(evaluation, model).scored(measure)
        known = {(r.seed, r.fold): r.recorded(evaluation, measure.name) for r in self.finished}
        return Scored({cell: value for cell, value in known.items() if not math.isnan(value)})

    def pooled(self, evaluation: str, measure: Measure) -> bool:
        """Tell whether intervals and differences are of all folds' rows together, not of the mean over folds.

        They are where folds hold out groups of rows (speakers, sessions); folds of single rows, drawn at random, are
        like one another, and their mean has the interval.
        """
        return not self.system(evaluation).shared and self.groups(evaluation, measure).unit != ROW

    def groups(self, evaluation: str, measure: Measure) -> Groups:
        """Return what a bootstrap of an evaluation draws."""

        def make() -> Groups:
            system = self.system(evaluation)
            return Groups.of(system.keys(system.repeated), measure.groups, system.repeated)

        return self.remember(("groups", evaluation, measure.groups), make)

    def samples(self, evaluation: str, measure: Measure, model: str = NETWORK) -> Samples:
        """Return the replicates of a score by seed; of a summary their means."""

        def make() -> Samples:
            if evaluation in self.summaries:
                each = [self.samples(name, measure, model) for name in self.summaries[evaluation]]
                seeds = set.intersection(*(set(one) for one in each))
                return {seed: np.mean([one[seed] for one in each], axis=0) for seed in sorted(seeds)}
            groups, pooled = self.groups(evaluation, measure), self.pooled(evaluation, measure)
            return groups.samples(self.system(evaluation, model), measure, pooled)

        return self.remember(("samples", evaluation, measure.name, model), make)

    def estimate(self, evaluation: str, measure: Measure, model: str = NETWORK) -> Estimate:
        """Return a score with its interval: of all rows together, or the mean over folds (see `pooled`)."""
        if evaluation in self.summaries:
            return estimate(self.scored(evaluation, measure, model).mean, self.samples(evaluation, measure, model))
        system = self.system(evaluation, model)
        if self.task is None or not system.units:
            return Estimate(self.scored(evaluation, measure, model).mean)
        pooled = self.pooled(evaluation, measure)
        value = system.pooled(measure) if pooled else self.scored(evaluation, measure, model).mean
        return estimate(value, self.samples(evaluation, measure, model))

    def above(self, evaluation: str, measure: Measure, model: str) -> tuple[Estimate, Floats]:
        """Return a score minus a trivial model's on the rows of both, and the differences of folds (or seeds)."""
        ours, theirs = self.system(evaluation), self.system(evaluation, model)
        if not ours.units or not theirs.units:
            return Estimate(math.nan), np.zeros(0)
        if ours.shared == theirs.shared:
            first = ours.cut(lambda seed, fold, i: i in theirs.units.get(seed, {}).get(fold, {}))
            second = theirs.cut(lambda seed, fold, i: i in ours.units.get(seed, {}).get(fold, {}))
        else:
            first, second = ours, theirs
        pooled, groups = self.pooled(evaluation, measure), self.groups(evaluation, measure)
        a, b = groups.samples(first, measure, pooled), groups.samples(second, measure, pooled)
        here, there = first.scored(measure), second.scored(measure)
        value = first.pooled(measure) - second.pooled(measure) if pooled else here.mean - there.mean
        pairs = [(here.by_fold, there.by_fold), (here.by_seed, there.by_seed)][not pooled]
        each = np.array([pairs[0][k] - pairs[1][k] for k in pairs[0] if k in pairs[1]], np.float64)
        samples = np.mean(list(a.values()), axis=0) - np.mean(list(b.values()), axis=0) if a and b else None
        return interval(value, samples), each[~np.isnan(each)]

    # Runs.

    def of_run(self, run: Run, evaluation: str, measure: Measure) -> float:
        """Return a run's own score of an evaluation: of its rows, else as it was recorded (NaN: unknown)."""

        def make() -> float:
            rows = run.predictions.get(evaluation) if self.task is not None else None
            told = run.recorded(evaluation, measure.name)
            return score(measure, list(rows.values())) if rows else told

        return self.remember(("run", run.name, evaluation, measure.name), make)

    def runs_with(self, evaluation: str, model: str = NETWORK) -> list[int]:
        """Return the folds in which a model predicted an evaluation."""
        sources = [
            (run.fold, run.predictions if model == NETWORK else run.baselines.get(model, {})) for run in self.finished
        ]
        return sorted({fold for fold, source in sources if evaluation in source})

    def held_out(self, run: Run, evaluation: str) -> str:
        """Return which session or speaker a run's part holds, as the recipe's split has it."""
        rows = run.predictions.get(evaluation) or {}
        split = str(inside(run.recipe, "data").get("split", ""))
        keys = ("speaker", "session") if "speaker" in split else ("session", "speaker")
        for key in keys:
            names = sorted({str(row[key]) for row in rows.values() if row.get(key) not in (None, "")})
            if 0 < len(names) <= 2:
                return " ".join(names)
            if names and key == keys[-1]:
                return f"{len(names)} {key}s"
        return ""

    @cached_property
    def crossed(self) -> list[str]:
        """The evaluations whose rows are each fold's own."""
        return [name for name in self.evaluations if not self.system(name).shared]

    def categorical(self) -> list[str]:
        """Return the targets whose labels are names of classes."""
        rows = [row for name in self.evaluations for row in self.system(name).rows()]
        return sorted({target for row in rows for target, value in row["target"].items() if isinstance(value, str)})

    def numeric(self) -> list[str]:
        """Return the targets whose labels are numbers, in the order of the rows."""
        rows = [row for name in self.evaluations for row in self.system(name).rows()]
        known = {
            t: None for row in rows for t, v in row["target"].items() if isinstance(v, float) and not math.isnan(v)
        }
        return list(known)


def identities(study: Study) -> dict[str, str]:
    """Return what makes scores comparable: the corpus and the scale of its labels, as far as they are known."""
    scale = study.environment.get("scale")
    return {"corpus": study.corpus} | ({"scale": text(scale)} if scale is not None else {})


def _order(name: str) -> tuple[bool, bool, str, str, float, int, str]:
    """Order names: plain ones first, tests before validation, conditions by kind and then by number or length."""
    part, _, condition = name.partition("@")
    kind, _, value = condition.partition("=")
    number = float(value) if re.fullmatch(r"-?\d+(\.\d+)?", value) else math.inf
    return bool(condition), part == VALID, part, kind, number, len(value), value
