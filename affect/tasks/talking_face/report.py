"""What the report shows of talking-face quality beyond its core. Imports no tensor library."""

from __future__ import annotations

from affect.task import Task


class TalkingFaceReport(Task):
    """The part of the task that reports ask."""
