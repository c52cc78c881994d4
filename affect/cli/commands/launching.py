"""The subcommand that starts a rank under Slurm."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from affect.errors import AffectError

_ANEW = ("overwrite", "resume")


def launch(
    script: Annotated[Path, tyro.conf.Positional],
    /,
    config_file: Path | None = None,
    engine: str | None = None,
    arguments: tyro.conf.Suppress[tuple[str, ...]] = (),
) -> None:
    """Run a recipe file as one rank of a Slurm step: srun affect launch [--engine zero2] RECIPE.py EXPERIMENT ...

    Each task of srun becomes a rank: one task a GPU. Processes and nodes are those of the step, whatever the launch
    file says of them; all else is read from it as `accelerate launch` would. What follows the recipe file goes to it.

    Args:
        script: A recipe file (recipes/finetune_wavlm.py).
        config_file: A launch file of Accelerate's.
        engine: A launch file by its name: zero2 is accelerate_configs/zero2.yaml; ddp when neither is given.
        arguments: The experiment and its fields.
    """
    from affect import launcher
    from affect.cli.arguments import without

    if config_file is not None and engine is not None:
        raise AffectError(f"--config-file {config_file} and --engine {engine} are one or the other")
    words = [word for word in arguments if word not in ("-h", "--help")]
    for field in _ANEW:
        if without(words, field) != words:
            raise AffectError(
                f"--{field} is not for a job: requeued, it would begin anew each time; remove the run's folder first, "
                "or give --name"
            )
    path = launcher.configuration(engine or "ddp") if config_file is None else config_file
    launcher.start(path, script, arguments, shlex.join(["srun", "affect", *sys.argv[1:]]))


def launch_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of `affect launch ...` up to the recipe file, and those that go to it."""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        # An option's value is the word after it, unless it brings it along or has none.
        at += 1 if "=" in words[at] or words[at] in ("-h", "--help") else 2
    return words[: at + 1], words[at + 1 :]
