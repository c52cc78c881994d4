"""What a diarization is shown beside: recordings as models that know nothing, or not who speaks, diarize them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from affect.baselines import turns as trivial
from affect.data.rttm import Turn
from affect.metrics.diarization import Segment
from affect.task import Row
from affect.tasks.diarization.blocks import Blocks, facts
from affect.tasks.diarization.measures import TURNS

Ways = dict[str, Callable[[Sequence[Turn], Sequence[tuple[float, float]]], Iterable[Segment]]]
_WAYS: Ways = {
    "silence": lambda turns, uem: trivial.silence(turns),
    "one_speaker": lambda turns, uem: trivial.one_speaker(turns, uem),
    "oracle_speech": lambda turns, uem: trivial.oracle_speech(turns),
}
"""Nobody ever; one speaker always; one speaker whenever somebody speaks: the hard one."""


def predicted(blocks: Blocks, part: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of a part as each of them predicts it, by name."""
    rows: dict[str, list[Row]] = {name: [] for name in _WAYS}
    for row in part:
        samples, turns, uem = blocks.recording(row)
        known = facts(turns, uem, len(samples))
        for name, way in _WAYS.items():
            rows[name].append(_row(row["id"], known, way(turns, [(a, b) for a, b in known["uem"]])))
    return rows


def _row(name: str, known: dict[str, Any], turns: Iterable[Segment]) -> Row:
    own = {field: value for field, value in known.items() if field != TURNS}
    given = [[float(start), float(end), str(speaker)] for start, end, speaker in turns]
    return {"id": name, "prediction": {TURNS: given}, "target": {TURNS: known[TURNS]}, "recording": name, **own}
