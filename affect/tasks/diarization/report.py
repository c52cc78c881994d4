"""What a report shows of diarization."""

from __future__ import annotations

from affect.task import Task


class DiarizationReport(Task):
    """The part of the task that reports ask."""
