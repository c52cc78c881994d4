"""What a diarization is shown beside: recordings as models that know nothing, or not who speaks, diarize them.

Importing it loads no tensor library: reports ask it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from affect.baselines import turns as trivial
from affect.data.rttm import Turn
from affect.metrics.diarization import Segment
from affect.task import Row
from affect.tasks.diarization.measures import TURNS, spans_of, turns_in

if TYPE_CHECKING:
    from affect.tasks.diarization.blocks import Blocks

Spans = Sequence[tuple[float, float]]
SILENCE, ONE_SPEAKER, ALL_SPEAKERS, ORACLE_SPEECH = "silence", "one_speaker", "all_speakers", "oracle_speech"
_WAYS: dict[str, Callable[[Sequence[Turn], Spans], Iterable[Segment]]] = {
    SILENCE: lambda turns, uem: trivial.silence(turns),
    ONE_SPEAKER: lambda turns, uem: trivial.one_speaker(turns, uem),
    ALL_SPEAKERS: lambda turns, uem: trivial.all_speakers(turns, uem),
    ORACLE_SPEECH: lambda turns, uem: trivial.oracle_speech(turns),
}
"""Nobody ever; one speaker always; all always; one speaker whenever somebody speaks: the hard one."""
NAMES = tuple(_WAYS)


def predicted(blocks: Blocks, part: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of a part as each of them predicts it, by name."""
    from affect.tasks.diarization.blocks import reference

    references = [reference(row["id"], *blocks.recording(row)) for row in part]
    return {name: [trivially(row, name) for row in references] for name in NAMES}


def trivially(row: Row, name: str) -> Row:
    """Return a row as one of `NAMES` predicts it, by its target and what of it is annotated."""
    return instead(row, _WAYS[name](turns_in(row, "target"), spans_of(row)))


def instead(row: Row, turns: Iterable[Segment]) -> Row:
    """Return a row with other turns as its prediction."""
    given = [[float(start), float(end), str(speaker)] for start, end, speaker in turns]
    return {**row, "prediction": {TURNS: given}}
