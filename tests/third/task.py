"""A third task: frame-level outputs, predictions that are lists, a measure where lower is better, one fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affect.findings import Flag, Section
from affect.losses.weighting import DynamicWeightAverage
from affect.task import TRAIN, VALID, Batch, Evaluation, Key, Measure, Row, Task, Term, Weighting
from tests.third.config import Activity

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from torch import nn

    from affect.inference.opening import Opened
    from affect.report.study import Study
    from affect.usage import UserInputs

BLOCK = 4
"""Frames that `predict` takes at once of a recording."""


def error(rows: Sequence[Row]) -> float:
    """Return the share of frames that are taken for the other kind; NaN without any."""
    pairs = [
        (p > 0.5, t > 0.5) for row in rows
        for p, t in zip(row["prediction"]["active"], row["target"]["active"], strict=True)
    ]  # fmt: skip
    return float(np.mean([p != t for p, t in pairs])) if pairs else float("nan")


def missed(rows: Sequence[Row]) -> float:
    """Return the share of active frames that are missed; NaN without any."""
    found = [
        p <= 0.5 for row in rows
        for p, t in zip(row["prediction"]["active"], row["target"]["active"], strict=True) if t > 0.5
    ]  # fmt: skip
    return float(np.mean(found)) if found else float("nan")


def recording(name: str, frames: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features [T, D] and activity [T] of a recording, a function of its id and the seed."""
    random = np.random.default_rng((seed, sum(map(ord, name)), frames))
    active = (np.sin(np.arange(frames) * random.uniform(0.3, 0.9) + random.uniform(0, 6)) > 0).astype(np.float32)
    x = random.normal(size=(frames, width)).astype(np.float32)
    x[:, 0] += 2 * active - 1
    return x, active


class ActivityTask(Task):
    """Recordings of 6 to 20 frames, drawn anew in each epoch."""

    recipe_class = Activity
    recipe: Activity
    unit = "frames"
    measures = (
        Measure(name="error", title="error rate", score=error, better="lower", chance=0.5, groups=("room",)),
        Measure(name="missed", title="missed", score=missed, better="lower", headline=False),
    )

    def datasets(self) -> DatasetDict:
        from datasets import DatasetDict

        data = self.recipe.data
        sizes = {TRAIN: data.train, VALID: data.others, "test": data.others}
        return DatasetDict({name: self._part(name, size, data.seed) for name, size in sizes.items()})

    def _part(self, name: str, size: int, seed: int) -> Dataset:
        from datasets import Dataset

        random = np.random.default_rng((seed, len(name)))
        frames = random.integers(6, 20, size).tolist()
        return Dataset.from_dict(
            {"id": [f"{name}{k}" for k in range(size)], "length": [float(n) for n in frames], "seed": [seed] * size}
        )

    def rows_of_epoch(self, train: Dataset, epoch: int) -> Dataset:
        return self._part(TRAIN, len(train), self.recipe.data.seed + 1000 * (epoch + 1))

    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        import torch

        width = self.recipe.data.width
        made = [recording(row["id"], int(row["length"]), width, row["seed"]) for row in rows]
        longest = max(len(active) for _, active in made)
        x = torch.zeros(len(rows), longest, width)
        active = torch.full((len(rows), longest), float("nan"))
        for k, (features, truth) in enumerate(made):
            if rows[k].get("condition") == "loud":
                features = features + 0.5
            x[k, : len(truth)], active[k, : len(truth)] = torch.from_numpy(features), torch.from_numpy(truth)
        share = torch.nanmean(active, dim=1)
        return Batch(
            ids=tuple(row["id"] for row in rows), inputs={"x": x}, targets={"active": active, "share": share},
            rows=[{"room": f"room{k % 3}", "frames": len(truth)} for k, (_, truth) in enumerate(made)],
        )  # fmt: skip

    def build_model(self) -> nn.Module:
        from tests.third.model import FrameModel

        return FrameModel(self.recipe.data.width, self.recipe.model.hidden)

    def terms(self) -> Sequence[Term]:
        from affect.losses.masked import binary_cross_entropy, squared_error

        return [binary_cross_entropy("active"), squared_error("share", weight=0.5)]

    def weighting(self) -> Weighting:
        return DynamicWeightAverage()

    def evaluations(self) -> Sequence[Evaluation]:
        return [
            Evaluation(name=TRAIN, part=TRAIN, kept=False),
            Evaluation(name=VALID, part=VALID, when="epoch", selects=True),
            Evaluation(name="test", part="test"),
            Evaluation(name="test@loud", part="test", condition="loud"),
        ]

    def predict(self, model: Callable[..., Any], batch: Batch) -> list[Row]:
        """Return a row a recording, whose frames are taken some at a time."""
        import torch

        x = batch.inputs["x"]
        blocks = [model(x[:, k : k + BLOCK])["active"].sigmoid() for k in range(0, x.shape[1], BLOCK)]
        whole = torch.cat(blocks, dim=1).cpu()
        found = []
        for k, name in enumerate(batch.ids):
            frames = batch.rows[k]["frames"]
            found.append(
                {
                    "id": name, "prediction": {"active": whole[k, :frames].tolist()},
                    "target": {"active": batch.targets["active"][k, :frames].cpu().tolist()},
                    "room": batch.rows[k]["room"],
                }
            )  # fmt: skip
        return found

    def diagnostics(self, outputs: Any, batch: Batch) -> dict[str, Any]:
        valid = batch.targets["active"].isfinite()
        return {"positive_rate": (batch.targets["active"].nansum(), valid.sum()), "frames": valid.sum()}

    takes = ("FILES",)
    helps = {"predict": "A model of frames takes FILES, recordings in .npy."}
    exporters = {"npz": "tests.third.use:export_npz"}
    commands = ("tests.third.commands:rooms",)

    @classmethod
    def pushed_config(cls, config: dict[str, Any], run: Path) -> dict[str, Any]:
        return {**config, "run": run.name}

    @classmethod
    def infer(cls, opened: Opened, inputs: UserInputs, *, progress: bool, threshold: float = 0.5) -> Iterator[Row]:
        """Yield a line a recording (.npy of features [T, D]): the frames above a threshold, some at a time."""
        from tests.third.use import active_frames

        for file in inputs.files:
            active = active_frames(opened.folders[0], file, BLOCK)
            yield {"file": str(file), "active": active, "count": sum(value > threshold for value in active)}

    def sections(self, study: Study) -> Sequence[Section]:
        frames = sum(len(row["target"]["active"]) for row in study.system("test").rows()) if study.finished else 0
        return [Section(title="Frames", markdown=f"{frames} frames were tested.")]

    def flags(self, study: Study) -> Iterable[Flag]:
        if len(study.runs) == 1:
            yield Flag("one recording room", "test", "all of it is made up", "record something")

    def describe(self) -> dict[str, Any]:
        return {"corpus": "made-up recordings", "fingerprint": str(self.recipe.data.seed)}
