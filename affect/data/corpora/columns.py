"""Which column of a user's table is which of ours: by its name in any case, by another word for it, by proposal."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from affect.errors import AffectError

C = TypeVar("C")

SAME = {"path": ("file",), "start": ("begin",)}
"""Names that are taken for ours without a word: those of audformat, and the other word for a start."""

_ALIASES = {
    "path": ("file", "filename", "filepath", "audio", "audiofile", "audiopath", "wav", "wavfile", "wavpath",
             "recording", "clip", "sound"),
    "audio": ("audio", "path", "file", "filename", "filepath", "audiofile", "audiopath", "wav", "wavfile", "wavpath"),
    "speaker": ("speaker", "speakerid", "spk", "spkid", "spkrid", "spkr", "subject", "subjectid", "actor", "actorid",
                "participant", "participantid", "talker", "person"),
    "valence": ("valence", "val", "v", "emoval", "valencemean", "meanvalence", "avgvalence", "valencescore"),
    "arousal": ("arousal", "aro", "act", "activation", "a", "emoact", "arousalmean", "meanarousal", "avgarousal",
                "arousalscore"),
    "dominance": ("dominance", "dom", "d", "emodom", "dominancemean", "meandominance", "avgdominance"),
    "emotion": ("emotion", "emo", "emoclass", "emotionlabel", "label", "class", "category", "majorityemo"),
    "split": ("split", "splitset", "part", "partition", "set", "subset"),
    "transcript": ("transcript", "transcription", "text", "sentence", "words", "utterancetext"),
    "gender": ("gender", "sex"),
    "session": ("session", "sessionid"),
    "dialogue": ("dialogue", "dialog", "dialogueid", "dialogid", "conversation", "conversationid"),
    "id": ("id", "utt", "uttid", "utterance", "utteranceid", "segmentid"),
    "start": ("start", "starttime", "begin", "begintime", "onset", "startsec", "starts"),
    "name": ("name", "id", "utt", "uttid", "utterance", "utteranceid", "segmentid", "file", "filename", "clip",
             "clipid", "clipname", "video", "videoid", "videoname", "sample", "sampleid"),
    "part": ("part", "split", "splitset", "partition", "set", "subset"),
    "score": ("score", "rating", "meanrating", "opinion", "meanopinion", "meanopinionscore", "dmos", "mosmean",
              "meanmos", "quality", "label"),
    "end": ("end", "endtime", "stop", "stoptime", "endsec", "ends"),
}  # fmt: skip
"""Names that may mean ours, letters and digits alone, the likelier first: they are proposed, never taken."""


class ColumnsError(AffectError):
    """A table lacks columns that others of it may stand for: `proposed` are theirs by ours."""

    def __init__(self, message: str, proposed: Mapping[str, str]):
        """Add to the message what would map them."""
        super().__init__(f"{message}; perhaps {told(proposed)}" if proposed else message)
        self.proposed = dict(proposed)


def told(columns: Mapping[str, str]) -> str:
    """Return a mapping as the command line takes it."""
    return "--data.columns " + shlex.join(f"{ours}={theirs}" for ours, theirs in columns.items())


def read_as_proposed(read: Callable[[dict[str, Any]], C], options: Mapping[str, Any]) -> tuple[C, list[str]]:
    """Return what a reader makes of its options, and lines on the columns that it proposed for what its table lacks.

    Raises as the reader does where it proposes none.
    """
    try:
        return read({**options}), []
    except ColumnsError as error:
        if not error.proposed:
            raise
        columns = {**options.get("columns", {}), **error.proposed}
        return read({**options, "columns": columns}), [f"columns: read as with {told(columns)}, which training needs"]


def matched(present: Sequence[str], ours: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the table's column of each of ours that it has: as `given`, by our name, in other case, or by `SAME`."""
    taken: dict[str, str] = {}
    for name in ours:
        wanted = [given[name]] if name in given else [name, *SAME.get(name, ())]
        alike = [column for want in wanted for column in (*_exact(present, want), *_alike(present, want))]
        free = [column for column in alike if column not in taken.values()]
        if free:
            taken[name] = free[0]
    return taken


def proposed(present: Collection[str], lacking: Iterable[str]) -> dict[str, str]:
    """Return a column of the table for each of ours that is `lacking`, where a name may mean it."""
    plain = {"".join(filter(str.isalnum, column)).casefold(): column for column in reversed([*present])}
    pairs: dict[str, str] = {}
    for name in lacking:
        close = [plain[alias] for alias in _ALIASES.get(name, ()) if alias in plain]
        free = [column for column in close if column not in pairs.values()]
        if free:
            pairs[name] = free[0]
    return pairs


def _exact(present: Sequence[str], name: str) -> list[str]:
    return [name] if name in present else []


def _alike(present: Sequence[str], name: str) -> list[str]:
    """Return the only column of that name in another case."""
    others = [column for column in present if column.casefold() == name.casefold()]
    return others if len(others) == 1 else []
