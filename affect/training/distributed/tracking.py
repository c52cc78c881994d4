"""Accelerate's trackers under names that say what they follow: the experiment is the project, seed and fold the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import LoggerType


class Board(TensorBoardTracker):  # type: ignore[misc]
    """TensorBoard's events in the run's own folder, so that a run is one there, called by its place below the logs."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Write the settings beside the scalars; Accelerate makes a run of their own of them, named by the time."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(values, {}):  # type: ignore[no-untyped-call]
            self.writer.file_writer.add_summary(summary)
        self.writer.flush()


def names_of(folder: Path) -> tuple[str, str]:
    """Return the project and the name of the run in a folder: its experiment (or search), and what it is there."""
    *_, above, experiment, seed, fold = ("", "", "", *folder.resolve().parts)
    if re.fullmatch(r"trial\d+", experiment):
        return above, f"{experiment}-{seed}-{fold}"
    return experiment, f"{seed}-{fold}"


def start(accelerator: Accelerator, folder: Path, settings: dict[str, Any], done: int) -> None:
    """Start the trackers of a run that has taken `done` steps already: they go on where they can."""
    project, name = names_of(folder)
    # What an earlier session wrote past the step that is gone on from comes again.
    board = Board("", folder, **({"purge_step": done + 1} if done else {}))
    accelerator.log_with = [
        board if str(kind) == str(LoggerType.TENSORBOARD) else kind for kind in accelerator.log_with
    ]
    accelerator.init_trackers(project, config=settings, init_kwargs={
        "wandb": {"name": name, "group": project}, "trackio": {"name": name, "resume": "allow" if done else "never"},
        "mlflow": {"run_name": name}, "swanlab": {"experiment_name": name}, "clearml": {"task_name": name},
    })  # fmt: skip
