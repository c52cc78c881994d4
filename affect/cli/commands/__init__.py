"""The subcommands of `affect`."""

from __future__ import annotations

from affect.cli.commands.models import embed, export, predict, push
from affect.cli.commands.reading import inspect, report
from affect.cli.commands.running import folds, launch, launch_words, own_words

ALL = (folds, report, predict, embed, export, push, inspect, launch)
__all__ = [
    "ALL",
    "embed",
    "export",
    "folds",
    "inspect",
    "launch",
    "launch_words",
    "own_words",
    "predict",
    "push",
    "report",
]
