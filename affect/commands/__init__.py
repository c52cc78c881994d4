"""The subcommands of `affect`, by name."""

from __future__ import annotations

from affect.commands.models import export, predict
from affect.commands.reading import inspect, report
from affect.commands.running import folds, own_words

__all__ = ["export", "folds", "inspect", "own_words", "predict", "report"]
