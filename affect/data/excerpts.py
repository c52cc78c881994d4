"""What the lines of a table call their recordings, and the part of each that they ask for: cut as training cuts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora.labels import UnusableError
from affect.data.corpora.segments import CUT, name_of, segment_of

if TYPE_CHECKING:
    from affect.data.corpora.verification import Verdict

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """What a line of a table says of its recording: what it calls it, and the part of it."""

    id: str = ""
    span: Span | None = None
    """Start and end in seconds (infinite: the recording's); None is all of it."""
    fault: str = ""
    """Why there is no such part."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is said of it beside its path: id, start and end, those that it has."""
        times = zip(("start", "end"), self.span or (), strict=False)
        own = {name: round(time, 3) for name, time in times if time != float("inf")}
        return {**({"id": self.id} if self.id else {}), **own}


def excerpts(rows: Iterable[Mapping[str, object]]) -> list[Excerpt]:
    """Return the excerpt of each row, of its `id`, `path` and `segments.TIMES`, those that a table has.

    A part without a name, or with one that other rows have, is called by its recording and its times.
    """
    made = [_excerpt(row) for row in rows]
    counts = Counter(each.id for each, _ in made)
    return [
        replace(each, id=name_of(each.id or recording, each.span))
        if each.span is not None and (counts[each.id] > 1 if each.id else recording)
        else each
        for each, recording in made
    ]


def _excerpt(row: Mapping[str, object]) -> tuple[Excerpt, str]:
    """Return an excerpt and what its recording is called."""
    id = str(row.get("id", ""))
    recording = Path(str(row["path"]).replace("\\", "/")).as_posix() if "path" in row else ""
    try:
        return Excerpt(id=id, span=segment_of(row)), recording
    except UnusableError as error:
        return Excerpt(id=id, fault=str(error)), recording


def settled(asked: Sequence[Excerpt], judge: Callable[[Sequence[int]], Sequence[Verdict]]) -> list[Excerpt]:
    """Return excerpts with the ends that their recordings have, or the fault, by training's rule.

    `judge` returns the verdicts on the recordings of some of them, by their places. Where nearly all files are as long
    as their times say they are cut already, and are taken whole.
    """
    from affect.data.corpora.utterances import with_verdicts

    places = [place for place, each in enumerate(asked) if each.span is not None and not each.fault]
    if not places:
        return list(asked)
    rows = [{"id": str(place), CUT: asked[place].span} for place in places]
    kept, left_out = with_verdicts(rows, judge(places))
    made = list(asked)
    for row in kept:
        span = (row["offset"], row["offset"] + row["duration"]) if "offset" in row else None
        made[int(row["id"])] = replace(asked[int(row["id"])], span=span)
    for each in left_out:
        made[int(each.what)] = replace(asked[int(each.what)], fault=each.reason)
    return made


def of_recordings(files: Sequence[Path], asked: Sequence[Excerpt]) -> list[Excerpt]:
    """Return the excerpts of sound files, `settled`; all of each where nothing is `asked` for."""
    # Imported here: it loads a decoder, which a table of texts has no use for.
    from affect.data.corpora.verification import verify

    asked = (files and asked) or [Excerpt()] * len(files)
    return settled(asked, lambda places: verify([files[place] for place in places], "excerpts"))
