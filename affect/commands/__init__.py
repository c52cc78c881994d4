"""The subcommands of `affect`, by name."""

from __future__ import annotations

from affect.commands.launching import launch, launch_words
from affect.commands.models import export, predict
from affect.commands.reading import inspect, report
from affect.commands.running import folds, own_words
from affect.commands.sharing import push

__all__ = ["export", "folds", "inspect", "launch", "launch_words", "own_words", "predict", "push", "report"]
