"""Reads run folders and writes the analysis: a pure function of what the folders hold."""

from collections.abc import Sequence

from affect.report.comparison import write as compare_all
from affect.report.experiment import expand, load
from affect.report.goals import parse as parse_goals
from affect.report.page import publish, write
from affect.report.result import scores
from affect.report.result import table as _table
from affect.report.runs import Run, read
from affect.report.study import Study

__all__ = [
    "Run", "Study", "baselines", "compare_all", "expand", "load", "parse_goals", "publish", "read", "table", "write",
]  # fmt: skip


def table(runs: Sequence[Run]) -> str:
    """Return the fold table and the scores beside the trivial models, as printed at the end of a run."""
    return _table(Study(runs=runs))


def baselines(runs: Sequence[Run]) -> str:
    """Return the scores of all runs together beside those of the trivial models ("": there are none)."""
    return scores(Study(runs=runs)) if any(run.finished for run in runs) else ""
