"""An experiment's runs with what they predict: by part, seed and fold, as they are and under the test conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from affect.metrics.regression import Floats
from affect.report.experiment import Experiment
from affect.report.multimodal import conditions
from affect.report.multimodal.conditions import Conditions
from affect.report.multimodal.measures import MEASURES, System, by_seed, over_seeds
from affect.report.multimodal.names import CLASSES, INCOMPLETE, PARTS, TESTS, WHOLE
from affect.report.multimodal.resampling import Resamples
from affect.report.multimodal.rows import Rows, mean, rows_from, same_labels, strangers
from affect.report.runs import Record, Run, rows_of
from affect.report.scores import Estimate, section

_BASELINE = "majority"


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that is read of an experiment's runs; finished runs alone have scores."""

    runs: Sequence[Run]
    name: str = ""
    _units: dict[tuple[str, str], System] = field(default_factory=dict, repr=False)
    _estimates: dict[tuple[str, str], Estimate] = field(default_factory=dict, repr=False)

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

    @property
    def corpus(self) -> str:
        """The corpus's name, "" where nobody says it."""
        return str(section(self.recipe, "data").get("corpus") or "")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        named = self.environment.get("classes")
        return tuple(map(str, named)) if isinstance(named, list) and named else CLASSES

    @property
    def strict(self) -> bool:
        """Whether the protocol is the strict one: nothing may rest on fewer than six seeds."""
        return self.recipe.get("protocol") == "strict"

    @cached_property
    def expected(self) -> int:
        """How many folds a seed has."""
        told = section(self.recipe, "data").get("folds")
        return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 5

    @cached_property
    def finished(self) -> list[Run]:
        """The finished runs of those seeds that have the most folds: the folds of a test's mean must be as many."""
        done = [run for run in self.runs if run.finished and not run.reported]
        counts = {seed: sum(run.seed == seed for run in done) for seed in {run.seed for run in done}}
        return [run for run in done if counts[run.seed] == max(counts.values())]

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that count."""
        return sorted({run.seed for run in self.finished})

    @cached_property
    def folds(self) -> list[int]:
        """The folds that some seed of those that count has."""
        return sorted({run.fold for run in self.finished})

    @cached_property
    def _problems(self) -> dict[str, list[str]]:
        return {run.name: list(run.problems) for run in self.runs}

    @property
    def problems(self) -> dict[str, list[str]]:
        """What can't be read, by run; asking for it reads everything."""
        for part in self.parts:
            self.baseline(part)
            self.under("", part)
        return {name: list(dict.fromkeys(found)) for name, found in self._problems.items()}

    @cached_property
    def predicted(self) -> dict[tuple[str, str], Rows]:
        """What each finished run predicts, by its name and the part; parts without rows are left out."""
        found = {}
        for run in self.finished:
            for part in PARTS:
                problems: list[str] = []
                records = self._records(run, part, problems)
                unknown = strangers(records, self.classes)
                if unknown:
                    problems.append(f"predictions-{part}.jsonl: no class is called {', '.join(unknown[:3])}")
                self._problems[run.name] += problems
                if records:
                    found[run.name, part] = rows_from(records, self.classes)
        return found

    @cached_property
    def conditions(self) -> dict[str, Conditions]:
        """The predictions under conditions of each finished run, by its name."""
        return {
            run.name: conditions.read(run.folder, len(self.classes), self._problems[run.name])
            for run in self.finished
            if run.folder is not None
        }

    @cached_property
    def parts(self) -> list[str]:
        """The parts that some run predicts, or a paper reports."""
        if self.reported:
            told = section(self.runs[0].end, "scores")
            return [part for part in PARTS if part in told]
        held = {part for _, part in self.predicted}
        return [part for part in PARTS if part in held]

    def system(self, part: str) -> System:
        """Return what the models say of a part."""
        return self._gathered(part, "", lambda run: self.predicted.get((run.name, part)))

    def baseline(self, part: str) -> System:
        """Return what the training part's commonest class and its mean valence give on a part."""

        def rows(run: Run) -> Rows | None:
            if run.folder is None:
                return None
            name = f"baseline-{_BASELINE}-{part}.jsonl"
            records = rows_of(run.folder / name, self._problems[run.name])
            return rows_from(records, self.classes, votes=True) if records else None

        return self._gathered(part, _BASELINE, rows)

    def under(self, condition: str, part: str) -> System:
        """Return what the models say of a part under a condition; empty where a run lacks it."""

        def rows(run: Run) -> Rows | None:
            known, held = self.predicted.get((run.name, part)), self.conditions.get(run.name)
            return held.rows(part, condition, known) if known is not None and held is not None else None

        return self._gathered(part, condition, rows)

    def incomplete(self, part: str) -> list[System]:
        """Return what the models say of a part under each of the six incomplete subsets; none where one lacks."""
        found = [self.under(f"subset={subset}", part) for subset in INCOMPLETE]
        return found if all(found) else []

    def scored(self, part: str, score: str) -> tuple[float, float]:
        """Return a score's mean and deviation over seeds, or what a paper says (NaN: unknown)."""
        if self.reported:
            value = section(section(self.runs[0].end, "scores"), part).get(score)
            return (float(value) if isinstance(value, int | float) else float("nan")), float("nan")
        return over_seeds(self.system(part), MEASURES[score])

    def incomplete_by_seed(self, part: str, measure: str = "f1") -> dict[int, float]:
        """Return the mean of a score over the six incomplete subsets by seed."""
        found = [by_seed(system, MEASURES[measure]) for system in self.incomplete(part)]
        seeds = set.intersection(*(set(values) for values in found)) if found else set()
        return {seed: float(np.mean([values[seed] for values in found])) for seed in sorted(seeds)}

    def attention(self, part: str, condition: str = f"subset={WHOLE}") -> Floats | None:
        """Return the mean weight of each modality [M] over runs and a part's utterances; None without attention."""
        found = []
        for run in self.finished:
            held = self.conditions.get(run.name, Conditions())
            inside = held.parts.get(part)
            if inside is None or inside.attention is None or condition not in held.names:
                return None
            found.append(inside.attention[held.names.index(condition)].mean(0, dtype=np.float64))
        return np.mean(found, axis=0) if found else None

    def resamples(self, part: str, *others: Study) -> Resamples:
        """Return resamples of a part's utterances, the same for this experiment and for others with the same ids."""
        units = [rows for study in (self, *others) for rows in _all(study.system(part))]
        return Resamples.of(units)

    def estimate(self, part: str, measure: str) -> Estimate:
        """Return a score's mean over seeds with its bootstrap interval over utterances."""
        if (part, measure) not in self._estimates:
            value = self.scored(part, measure)[0]
            self._estimates[part, measure] = self.resamples(part).estimate(self.system(part), measure, value)
        return self._estimates[part, measure]

    def unlike(self, part: str) -> bool:
        """Tell whether runs of the same part bear different labels."""
        known = [rows for (_, found), rows in self.predicted.items() if found == part]
        return any(not same_labels(known[0], rows) for rows in known[1:])

    def _records(self, run: Run, part: str, problems: list[str]) -> dict[str, Record]:
        held = run.predictions.get(part)
        if held or run.folder is None:
            return held or {}
        return rows_of(run.folder / f"predictions-{part}.jsonl", problems)

    def _gathered(self, part: str, kind: str, rows: Callable[[Run], Rows | None]) -> System:
        """Return by seed the folds' rows of cv, or the mean of a test's folds; seeds that lack one are left out."""
        if (part, kind) not in self._units:
            found: dict[int, Sequence[Rows]] = {}
            for seed in self.seeds:
                units = [rows(run) for run in self.finished if run.seed == seed]
                whole = [unit for unit in units if unit is not None and len(unit)]
                if whole and len(whole) == len(units):
                    found[seed] = [mean(whole)] if part in TESTS else whole
            self._units[part, kind] = found
        return self._units[part, kind]


def study_of(experiment: Experiment) -> Study:
    """Return what is read of an experiment's runs."""
    return Study(runs=experiment.runs, name=experiment.name)


def _all(system: System) -> list[Rows]:
    return [rows for units in system.values() for rows in units]
