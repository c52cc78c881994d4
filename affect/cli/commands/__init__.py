"""The subcommands of `affect`."""

from __future__ import annotations

from affect.cli.commands.info import info
from affect.cli.commands.models import embed, export, predict, push
from affect.cli.commands.reading import inspect, report
from affect.cli.commands.running import folds, launch, launch_words, own_words

ALL = (launch, folds, report, predict, embed, export, push, inspect, info)
__all__ = [
    "ALL", "embed", "export", "folds", "info", "inspect", "launch", "launch_words", "own_words", "predict", "push",
    "report",
]  # fmt: skip
