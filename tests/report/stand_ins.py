"""Tasks as the report asks them, made of the tasks' own torch-free modules: reporting needs no model and no data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from affect.findings import Flag, Section
from affect.metrics.emotion import softmax
from affect.recipe import Recipe
from affect.task import Measure, Row, Task
from affect.tasks.multimodal_emotion import report as multimodal_report
from affect.tasks.multimodal_emotion.measures import MEASURES
from affect.tasks.multimodal_emotion.recipe import MultimodalEmotion
from affect.tasks.valence_arousal import report as valence_report
from affect.tasks.valence_arousal.measures import measures_of
from affect.tasks.valence_arousal.recipe import ValenceArousal


class StandIn(Task):
    def datasets(self) -> Any:
        raise AssertionError("the report reads no data")

    def collate(self, rows: Any, key: Any) -> Any:
        raise AssertionError

    def build_model(self) -> Any:
        raise AssertionError

    def terms(self) -> Any:
        raise AssertionError


class Valence(StandIn):
    recipe: ValenceArousal

    @property
    def measures(self) -> Sequence[Measure]:
        return measures_of(self.recipe.targets)

    def sections(self, study: Any) -> Sequence[Section]:
        return valence_report.sections(study)

    def flags(self, study: Any) -> Iterable[Flag]:
        return valence_report.flags(self.recipe, study)

    def advice(self) -> dict[str, str]:
        return valence_report.advice_of(self.recipe)


class Multimodal(StandIn):
    recipe: MultimodalEmotion

    @property
    def measures(self) -> Sequence[Measure]:
        return MEASURES

    def average(self, models: Sequence[Sequence[Row]]) -> list[Row]:
        found = []
        for same in zip(*models, strict=True):
            if "logits" not in same[0]:
                # What a trivial model says: the class that most of them say.
                names = [row["prediction"]["emotion"] for row in same]
                valence = float(np.mean([row["prediction"]["valence"] for row in same]))
                found.append({**same[0], "prediction": {"emotion": max(names, key=names.count), "valence": valence}})
                continue
            logits = np.mean([row["logits"] for row in same], axis=0)
            classes = list(same[0]["probability"]["emotion"])
            row = {**same[0], "logits": logits.tolist()}
            row["probability"] = {"emotion": dict(zip(classes, softmax(logits).tolist(), strict=True))}
            emotion = classes[int(logits.argmax())] if np.isfinite(logits).all() else None
            valence = float(np.mean([one["prediction"]["valence"] for one in same]))
            row["prediction"] = {"emotion": emotion, "valence": valence}
            if "attention" in row:
                row["attention"] = {m: float(np.mean([one["attention"][m] for one in same])) for m in row["attention"]}
            found.append(row)
        return found

    def sections(self, study: Any) -> Sequence[Section]:
        return multimodal_report.sections(study)

    def flags(self, study: Any) -> Iterable[Flag]:
        return multimodal_report.flags(study)

    def summaries(self, evaluations: Sequence[str]) -> dict[str, list[str]]:
        return multimodal_report.summaries(evaluations)

    def advice(self) -> dict[str, str]:
        return multimodal_report.advice_of()


def make(recipe: Recipe) -> Task:
    """Return the stand-in of a recipe's task."""
    return {ValenceArousal: Valence, MultimodalEmotion: Multimodal}[type(recipe)](recipe)  # type: ignore[index]
