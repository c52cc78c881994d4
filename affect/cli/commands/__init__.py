"""The subcommands of `affect`, by name."""

from __future__ import annotations

from affect.cli.commands.launching import launch, launch_words
from affect.cli.commands.models import export, predict
from affect.cli.commands.reading import inspect, report
from affect.cli.commands.running import folds, own_words
from affect.cli.commands.sharing import push

__all__ = ["export", "folds", "inspect", "launch", "launch_words", "own_words", "predict", "push", "report"]
