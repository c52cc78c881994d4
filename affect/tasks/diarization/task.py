"""The task of speaker diarization."""

from __future__ import annotations

from affect.task import Task


class DiarizationTask(Task):
    """Who speaks when."""

    commands = ("affect.tasks.diarization.commands:score",)
