"""Reads run folders and writes the analysis: a pure function of what the folders hold."""

from affect.report.page import write
from affect.report.runs import Run, read
from affect.report.tables import table

__all__ = ["Run", "read", "table", "write"]
