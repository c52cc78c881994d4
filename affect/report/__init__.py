"""Reads run folders and writes the analysis: a pure function of what the folders hold."""

from affect.report.experiment import Experiment, load
from affect.report.goals import parse as parse_goals
from affect.report.page import compare_all, expand, publish, write
from affect.report.runs import Run, read
from affect.report.tables import table

__all__ = ["Experiment", "Run", "compare_all", "expand", "load", "parse_goals", "publish", "read", "table", "write"]
