"""Accelerate's trackers under names that say what they follow: the experiment is the project, seed and fold the run."""

from __future__ import annotations

import contextlib
import netrc
import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import LoggerType

from affect.errors import AffectError


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
    named: dict[str, dict[str, Any]] = {
        "wandb": {"name": name, "group": project}, "trackio": {"name": name, "resume": "allow" if done else "never"},
        "mlflow": {"run_name": name}, "swanlab": {"experiment_name": name}, "clearml": {"task_name": name},
        # Accelerate calls its run by the project.
        "aim": {"experiment": f"{project}/{name}"},
        # It has no names but its folder's, which it empties where it does not resume.
        "dvclive": {"dir": str(folder / "dvclive"), "resume": done > 0},
    }  # fmt: skip
    if str(LoggerType.COMETML) in map(str, accelerator.log_with):
        named["comet_ml"] = {"experiment_config": import_module("comet_ml").ExperimentConfig(name=name)}
    accelerator.init_trackers(project, config=settings, init_kwargs=named)


def check_login(names: Sequence[str]) -> None:
    """Raise AffectError where wandb would ask on the terminal who one is."""
    given, mode = os.environ, os.environ.get("WANDB_MODE", "online")
    if "wandb" not in names or mode != "online" or {"WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"} & set(given):
        return
    host = urlsplit(given.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    files = [Path(given["NETRC"])] if "NETRC" in given else [Path.home() / name for name in (".netrc", "_netrc")]
    for path in files:
        with contextlib.suppress(OSError, ValueError, netrc.NetrcParseError):
            if netrc.netrc(path).authenticators(host) is not None:
                return
    raise AffectError(
        f"train.trackers: wandb has no login for {host} and would ask for one: run `wandb login`, or set WANDB_API_KEY "
        "or WANDB_MODE=offline"
    )
