"""Timelines: who speaks when in a recording, and beside a reference who should, and where the two differ.

Legend: T frames of 10 ms.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from affect.data.activity import activity, in_samples, runs
from affect.data.rttm import Turn
from affect.findings import Plot
from affect.metrics.diarization import speaker_map
from affect.task import Row
from affect.tasks.diarization.measures import KINDS, spans_of, turns_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FRAME = 160
_RATE = 100
MOST = 120.0
"""Seconds that are drawn beside a reference at most: more can't be told apart."""
_STRETCH, _MOST = 120.0, 12
"""Seconds side by side, and how many stretches there are at most: those of longer recordings are longer."""

Lane = tuple[str, str, Sequence[tuple[float, float]]]
"""A name, its colour, and spans as begin and length in seconds."""


def timeline(name: str, turns: Sequence[Turn], seconds: float) -> Plot:
    """Return the timeline of a recording of `seconds`; the legend tells for how long each speaks.

    A line is a speaker's, in stretches one below the other where the recording is long.
    """
    return Plot(name=name, caption="", draw=lambda: _stretches(name, turns, seconds))


def _stretches(name: str, turns: Sequence[Turn], seconds: float) -> Figure:
    from matplotlib.figure import Figure

    from affect.figures import COLOURS, plain

    speakers = list(dict.fromkeys(turn.speaker for turn in sorted(turns)))
    size = max(_STRETCH, seconds / _MOST)
    count = max(1, -int(-seconds // size))
    size = min(size, seconds)
    height = 0.5 + 0.22 * max(1, len(speakers))
    figure = Figure(figsize=(10, 0.4 + count * height), layout="constrained")
    figure.suptitle(plain(name), fontsize=10)
    spans = {speaker: _spans(turns, speaker) for speaker in speakers}
    words = {who: f"speaker {who}, {sum(long for _, long in own):.0f} s" for who, own in spans.items()}
    for k in range(count):
        axes = figure.add_subplot(count, 1, k + 1)
        lanes = [
            (words[who] if not k else who, COLOURS[row % len(COLOURS)], spans[who]) for row, who in enumerate(speakers)
        ]
        _draw(axes, lanes, k * size, (k + 1) * size)
    axes.set_xlabel("seconds")
    return figure


def beside_reference(row: Row) -> Figure:
    """Return the speakers of the reference of a recording above those of its prediction, and the errors below.

    A predicted speaker has the colour of the one who is meant; who is nobody's is grey.
    """
    from affect.figures import lay_out

    lanes = [*_speakers(row), *_errors(row)]
    figure, (axes,) = lay_out(1, 9.0, 0.5 + 0.22 * len(lanes))
    _draw(axes, lanes, 0, min(row["seconds"], MOST))
    _separate(axes, [name.partition(" ")[0] for name, *_ in lanes])
    axes.set_xlabel("seconds")
    return figure


def _draw(axes: Axes, lanes: Sequence[Lane], begin: float, end: float) -> None:
    """Draw lanes one below the other, from `begin` to `end`."""
    from affect.figures import plain

    for place, (_, colour, spans) in enumerate(lanes):
        axes.broken_barh(spans, (place - 0.4, 0.8), facecolors=colour, lw=0)
    axes.set_yticks(range(len(lanes)), [plain(name) for name, *_ in lanes])
    axes.set(xlim=(begin, end), ylim=(max(1, len(lanes)) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _speakers(row: Row) -> Iterator[Lane]:
    from affect.figures import COLOURS, GREY

    truth, told = turns_in(row, "target"), turns_in(row, "prediction")
    meant = speaker_map(told, truth, uem=spans_of(row))
    names = list(dict.fromkeys(turn.speaker for turn in truth))
    colours: dict[Hashable, str] = {name: COLOURS[place % 6] for place, name in enumerate(names)}
    for name in names:
        yield f"reference {name}", colours[name], _spans(truth, name)
    found_by = sorted({turn.speaker for turn in told}, key=lambda name: _place(names, meant.get(name)))
    for name in found_by:
        yield f"hypothesis {name}", colours.get(meant.get(name), GREY), _spans(told, name)
    if not found_by:
        yield "hypothesis nobody", GREY, []


def _place(names: Sequence[str], name: Hashable) -> int:
    return names.index(str(name)) if name in names else len(names)


def _spans(turns: Sequence[Turn], speaker: str) -> list[tuple[float, float]]:
    return [(turn.start, turn.end - turn.start) for turn in turns if turn.speaker == speaker]


def _errors(row: Row) -> Iterator[Lane]:
    """Yield when speech is missed, falsely told, or another's."""
    truth, told = turns_in(row, "target"), turns_in(row, "prediction")
    meant = speaker_map(told, truth, uem=spans_of(row))
    named = [Turn(start, end, str(meant.get(speaker, f"nobody {speaker}"))) for start, end, speaker in told]
    names = sorted({turn.speaker for turn in (*truth, *named)})
    frames = max(1, round(row["seconds"] * _RATE))
    spoken, heard = (activity(in_samples(turns), names, frames, _FRAME).astype(int) for turns in (truth, named))
    annotated = [Turn(start, end, "") for start, end in spans_of(row)]
    scored = activity(in_samples(annotated), [""], frames, _FRAME)[0]
    right = (spoken * heard).sum(0)
    many, few = np.maximum(spoken.sum(0), heard.sum(0)), np.minimum(spoken.sum(0), heard.sum(0))
    wrong = {"missed": many - heard.sum(0), "false_alarm": many - spoken.sum(0), "confusion": few - right}
    for kind in KINDS:
        spans = runs(wrong[kind] * scored > 0).tolist()
        yield f"error {kind.replace('_', ' ')}", "#000000", [(a / _RATE, (b - a) / _RATE) for a, b in spans]


def _separate(axes: Axes, kinds: Sequence[str]) -> None:
    """Draw a line where lanes of another kind begin."""
    from affect.figures import GREY

    for place in range(1, len(kinds)):
        if kinds[place] != kinds[place - 1]:
            axes.axhline(place - 0.5, color=GREY, lw=0.8)
