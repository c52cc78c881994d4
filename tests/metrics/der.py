"""The metric of diarization as Python calls it, without what `evaluate` does with columns and files."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import affect.metrics

FOLDER = Path(affect.metrics.__file__).parent / "evaluate_modules" / "der"
Segment = tuple[float, float, Any]

_specification = importlib.util.spec_from_file_location("der", FOLDER / "der.py")
assert _specification is not None and _specification.loader is not None
_module = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_module)
_METRIC = _module.DiarizationErrorRate()


def rows(segments: Sequence[Segment]) -> list[dict[str, object]]:
    return [{"start": start, "end": end, "speaker": name} for start, end, name in segments]


def score(
    predictions: Sequence[list[Segment]], references: Sequence[list[Segment]], **options: Any
) -> dict[str, float]:
    """Return what the metric says of recordings."""
    found: dict[str, float] = _METRIC._compute(list(map(rows, predictions)), list(map(rows, references)), **options)
    return found
