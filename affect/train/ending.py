"""The end of a run: its parts predicted by the best weights, the test parts for the first and only time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict

from affect.task import Predict, Task
from affect.train import folder as folders

_TRAIN_ROWS = 2000
"""Training rows that are predicted: the report shows their gap to validation."""


def parts_of(task: Task) -> tuple[str, ...]:
    """Return the parts that a whole run of a task predicts at its end."""
    return ("train", "valid", *task.tests)


def finish(
    task: Task,
    parts: DatasetDict,
    ends: Sequence[str],
    predict: Predict,
    folder: Path,
    on_main: Callable[[Callable[[], None]], None],
) -> dict[str, dict[str, float]]:
    """Predict the parts `ends`, write all that comes of it to `folder`, and return the scores by part.

    Reached by every rank, of which `on_main` lets one write. Other conditions are examined with the test parts alone.
    """
    rows = {part: predict(_spread(parts[part], _TRAIN_ROWS) if part == "train" else parts[part]) for part in ends}
    scores = {part: task.metrics(mine) for part, mine in rows.items()}
    if "valid" in scores and task.score not in scores["valid"]:
        # Chosen by more than the part as it is (a mean over subsets): what chose is told at the end, too.
        scores["valid"] |= task.validate(predict)
    whole = set(task.tests) <= set(ends)
    arrays = task.examine(predict) if whole else {}

    def write() -> None:
        for part, mine in rows.items():
            # Of training not all are predicted, and the scores say enough.
            if part != "train":
                folders.write_lines(folder / f"predictions-{part}.jsonl", mine)
        known = task.baselines() if whole else {}
        for part, baselines in known.items():
            for name, lines in baselines.items():
                folders.write_lines(folder / f"baseline-{name}-{part}.jsonl", lines)
        if arrays:
            folders.write_arrays(folder / "conditions.npz", arrays)

    on_main(write)
    return scores


def _spread(part: Dataset, most: int) -> Dataset:
    """Return at most `most` rows of a part, evenly spread over it."""
    return part.select(np.linspace(0, len(part) - 1, min(len(part), most)).astype(int))
