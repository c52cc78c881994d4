"""Trivial and ideal diarizations of a recording, pure functions of its turns: what any system is shown beside.

Legend: a segment is (start, end, speaker) in seconds, as the metrics take them. `silence` and `one_speaker` know
nothing of the recording; `all_speakers` knows who speaks in it, `oracle_speech` when somebody does. `perfect_activity`
and `perfect_assignment` take one kind of error out of a hypothesis: what is left is what the other kind costs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from itertools import pairwise

from affect.metrics.diarization import Segment, Span, by_speaker, speaker_map, united

ONE = "one"
"""The name of the only speaker."""


def silence(reference: Iterable[Segment]) -> list[Segment]:
    """Return no turn: all speech is missed."""
    return []


def one_speaker(reference: Iterable[Segment], uem: Iterable[Span] | None = None) -> list[Segment]:
    """Return one speaker who speaks all of the time that is scored; without a UEM from the first start to the last end.

    Raises ValueError for times that are not finite, or an end before its start.
    """
    if uem is None:
        spans = [span for turns in by_speaker(reference).values() for span in turns]
        uem = [(min(start for start, _ in spans), max(end for _, end in spans))] if spans else []
    return [(start, end, ONE) for start, end in united(uem)]


def all_speakers(reference: Iterable[Segment], uem: Iterable[Span] | None = None) -> list[Segment]:
    """Return all of the reference's speakers, each of whom speaks as long as the one of `one_speaker`.

    Raises ValueError as `one_speaker` does.
    """
    turns = list(reference)
    always = one_speaker(turns, uem)
    return [(start, end, speaker) for speaker in sorted(by_speaker(turns), key=str) for start, end, _ in always]


def oracle_speech(reference: Iterable[Segment]) -> list[Segment]:
    """Return one speaker who speaks whenever anybody does: perfect activity, nobody told from another.

    Raises ValueError as `one_speaker` does.
    """
    spans = united(span for turns in by_speaker(reference).values() for span in turns)
    return [(start, end, ONE) for start, end in spans]


def perfect_activity(
    hypothesis: Iterable[Segment], reference: Iterable[Segment], uem: Iterable[Span] | None = None
) -> list[Segment]:
    """Return the hypothesis with as many speakers at each moment as the reference has: confusion alone is left.

    Where it has more, those are kept who are right, then by name. Where it has fewer, those of its speakers are added
    who spoke last, then those who speak next, and at last new ones. `uem`: on what time speakers are mapped.
    Raises ValueError as `one_speaker` does.
    """
    segments, truth = list(hypothesis), list(reference)
    right = speaker_map(segments, truth, uem=uem)
    stretches = list(_stretches(segments, truth))
    nearest = _by_nearness([predicted for _, _, predicted, _ in stretches])
    active: list[Segment] = []
    for (start, end, predicted, spoken), others in zip(stretches, nearest, strict=True):
        first = sorted(predicted, key=lambda speaker: (right.get(speaker) not in spoken, str(speaker)))
        nobody = [f"nobody {number}" for number in range(1, len(spoken) + 1)]
        active += [(start, end, speaker) for speaker in [*first, *others, *nobody][: len(spoken)]]
    return _whole(active)


def perfect_assignment(
    hypothesis: Iterable[Segment], reference: Iterable[Segment], uem: Iterable[Span] | None = None
) -> list[Segment]:
    """Return the hypothesis with its speakers named as in the reference: missed speech and false alarms are left.

    At each moment as many speak as in the hypothesis: of the reference those who are right, then by name, and beyond
    them speakers of nobody. `uem`: on what time speakers are mapped. Raises ValueError as `one_speaker` does.
    """
    segments, truth = list(hypothesis), list(reference)
    right = speaker_map(segments, truth, uem=uem)
    named: list[Segment] = []
    for start, end, predicted, spoken in _stretches(segments, truth):
        here = {right.get(speaker) for speaker in predicted}
        first = sorted(spoken, key=lambda speaker: (speaker not in here, str(speaker)))
        nobody = [f"nobody {number}" for number in range(1, len(predicted) + 1)]
        named += [(start, end, speaker) for speaker in [*first, *nobody][: len(predicted)]]
    return _whole(named)


Stretch = tuple[float, float, frozenset[Hashable], frozenset[Hashable]]


def _stretches(hypothesis: Iterable[Segment], reference: Iterable[Segment]) -> Iterator[Stretch]:
    """Yield the stretches in which nothing changes: start, end, and who speaks on either side."""
    sides = [by_speaker(hypothesis), by_speaker(reference)]
    begin: dict[float, list[tuple[int, Hashable]]] = defaultdict(list)
    stop: dict[float, list[tuple[int, Hashable]]] = defaultdict(list)
    for side, speakers in enumerate(sides):
        for speaker, turns in speakers.items():
            # Turns that only touch are one: nobody ends where they begin.
            for start, end in united(turns):
                begin[start].append((side, speaker))
                stop[end].append((side, speaker))
    speaking: tuple[set[Hashable], set[Hashable]] = (set(), set())
    for start, end in pairwise(sorted({*begin, *stop})):
        for side, speaker in stop[start]:
            speaking[side].discard(speaker)
        for side, speaker in begin[start]:
            speaking[side].add(speaker)
        yield start, end, frozenset(speaking[0]), frozenset(speaking[1])


def _by_nearness(stretches: list[frozenset[Hashable]]) -> list[list[Hashable]]:
    """Return for each stretch who does not speak in it: those who spoke last, then those who speak next."""

    def passed(order: Iterable[frozenset[Hashable]]) -> Iterator[list[Hashable]]:
        latest: dict[Hashable, None] = {}
        for speakers in order:
            yield [speaker for speaker in latest if speaker not in speakers]
            latest = dict.fromkeys([*sorted(speakers, key=str), *latest])

    before, after = list(passed(stretches)), [*passed(reversed(stretches))][::-1]
    return [list(dict.fromkeys([*past, *future])) for past, future in zip(before, after, strict=True)]


def _whole(segments: Iterable[Segment]) -> list[Segment]:
    """Return segments in order, those of one speaker that touch made one."""
    turns: dict[Hashable, list[Span]] = defaultdict(list)
    for start, end, speaker in segments:
        turns[speaker].append((start, end))
    whole = [(start, end, speaker) for speaker, spans in turns.items() for start, end in united(spans)]
    return sorted(whole, key=lambda segment: (segment[0], segment[1], str(segment[2])))
