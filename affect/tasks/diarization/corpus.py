"""What is trained on and tested: voices of which conversations are simulated, and recordings with turns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data import copies, corpora, voices
from affect.data.corpus import Exclusion
from affect.data.recordings import Partners, RecordingCorpus, windows
from affect.data.synthetic_voices import MARK, VoiceSettings, generate
from affect.data.voices import Voices
from affect.errors import AffectError, first_few
from affect.task import TRAIN, VALID
from affect.tasks.diarization.config import Data, Diarization
from affect.tasks.diarization.measures import REAL

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

EXAMPLE, WINDOW, CONVERSATION, RECORDING = "example", "window", "conversation", "recording"
PLAIN = "plain"
"""Kinds of rows: two blocks of a conversation, two windows of a recording; a whole conversation, a whole recording; a
conversation without distances, rooms and noise."""
_KEPT = 5
"""One voice of so many is kept for tests, where they have no folder of their own."""


@dataclass(frozen=True, eq=False)
class DiarizationCorpus:
    """Voices to train with, of validation and of tests, and recordings, None where there are none."""

    training: Voices
    validation: Voices
    test: Voices
    recordings: RecordingCorpus | None
    name: str

    @property
    def fingerprint(self) -> str:
        """Another one where a voice or a recording is."""
        each = (self.training, self.validation, self.test, self.recordings)
        told = [part.fingerprint for part in each if part is not None]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    @property
    def identity(self) -> str:
        """What reports and comparisons call it: its name, and the beginning of its fingerprint."""
        return f"{self.name}@{self.fingerprint[:8]}"

    @property
    def exclusions(self) -> list[Exclusion]:
        """All that is left out."""
        each = (self.training, self.test, self.recordings)
        # Voices of one folder are of one list.
        return list(dict.fromkeys(exclusion for part in each if part is not None for exclusion in part.exclusions))


def read(data: Data) -> DiarizationCorpus:
    """Return the corpus of a section `data`. Raises AffectError for what can't be used, or is too little."""
    if data.generates:
        count, unseen = data.generated
        settings = VoiceSettings(
            voices=count, unseen=unseen, seconds=data.voice_seconds, seed=data.generator_seed
        )  # fmt: skip
        every, test = (voices.read(folder) for folder in generate(Path(data.root), settings))
    else:
        if (Path(data.root) / MARK).is_file():
            raise AffectError(f"{data.root} holds generated voices: --data.voices generated takes them")
        told: dict[str, Any] = {
            "speaker": data.speaker, "separator": data.separator, "corpus": data.voices_layout,
            "seconds": data.most_seconds,
        }  # fmt: skip
        every = voices.read(data.root, table=data.table, columns=data.columns, **told)
        if data.test_root is None:
            if len(every) < 2:
                raise AffectError(f"{data.root} has one voice alone: some are to be trained with, some for tests")
            every, test = every.hold_out(-(-len(every) // _KEPT), data.test_seed)
        else:
            test = voices.read(data.test_root, **told)
            both = sorted({*every.speakers} & {*test.speakers})
            if both:
                raise AffectError(f"{len(both)} speakers are in data.root and in data.test_root: {first_few(both)}")
    training, validation = (every, every) if not data.held_out else every.hold_out(data.held_out, data.test_seed)
    heard = {"train": training, "valid": validation if data.held_out else None, "test": test}
    contents = {part: _contents(own) for part, own in heard.items() if own is not None}
    copies.say(data.root, contents, "recordings of voices")
    copies.check(data.root, contents, "recordings of voices", refuse="remove one of each")
    training = voices.at_speeds(training, data.speeds)
    name = data.name or ("generated" if data.generates else Path(data.root).name)
    recordings = None
    if data.recordings is not None:
        layout = data.layout or corpora.detect(data.recordings)
        recordings = corpora.read(corpora.RECORDINGS, layout, data.recordings)
    return DiarizationCorpus(training, validation, test, recordings, name)


def _contents(own: Voices) -> list[tuple[str, str]]:
    """Return speakers and hashes of what they say; a recording that a speaker has twice is one."""
    return [(who, each) for who in own.speakers for each in dict.fromkeys(own.contents.get(who, ()))]


def parts_of(corpus: DiarizationCorpus, recipe: Diarization) -> DatasetDict:
    """Return the parts: training examples, conversations of validation and tests, and recordings.

    Rows have id, length and seconds, kind, the `place` of a window or recording, and the number of speakers. Raises
    AffectError where there are too few voices.
    """
    from datasets import DatasetDict

    data = recipe.data
    # The report's models take no second block.
    seconds = data.block * (2 if recipe.model.name == "ours" else 1)
    examples = [_row(f"{EXAMPLE}{k}", seconds, EXAMPLE, k) for k in range(data.examples)]
    real = round(data.examples * data.real / (1 - data.real))
    examples += [_row(f"{WINDOW}{k}", seconds, WINDOW, k) for k in range(real)]
    low, high = recipe.simulation.speakers
    counts = [low + k % (high - low + 1) for k in range(data.valid)]
    kinds = {"trained": CONVERSATION, "plain": PLAIN}
    parts = {TRAIN: _part(examples)}
    parts[VALID] = _conversations(VALID, data.valid_seconds, counts, kinds[data.test_sound[0]])
    for kind, own in (("training", corpus.training), ("validation", corpus.validation)):
        if high > len(own):
            raise AffectError(f"simulation.speakers asks for {high} speakers of {len(own)} {kind} voices")
    for number in data.test_speakers:
        if number > len(corpus.test):
            raise AffectError(f"data.test_speakers asks for {number} speakers of {len(corpus.test)} test voices")
        for seconds, sound in product(data.test_seconds, data.test_sound):
            name = f"test_{number}_speakers_{seconds:g}s{'' if sound == 'trained' else f'_{sound}'}"
            parts[name] = _conversations(name, seconds, [number] * data.test, kinds[sound])
    if corpus.recordings is not None:
        table = corpus.recordings.recordings
        places: dict[str, list[int]] = {}
        for place, part in enumerate(table["part"][:]):
            places.setdefault(part or "test", []).append(place)
        names, lengths, digests = table["id"][:], table["seconds"][:], table["digest"][:]
        used = [part for part in (TRAIN, VALID, "test") if part in places and (part != TRAIN or data.real)]
        contents = {part: [(names[k], digests[k]) for k in places[part]] for part in used}
        copies.say(f"data.recordings, {data.recordings}", contents, "recordings")
        copies.check(f"data.recordings, {data.recordings},", contents, "recordings", refuse="remove one of each")
        for part in (VALID, "test"):
            if part in places:
                rows = [_row(names[k], lengths[k], RECORDING, k) for k in places[part]]
                parts[f"{REAL}{part}"] = _part(rows)
    return DatasetDict(parts)


def windows_of(corpus: DiarizationCorpus, data: Data) -> tuple[Dataset, Partners]:
    """Return the windows of the recordings' training part, and what finds another one of the same recording."""
    assert corpus.recordings is not None
    made = windows(corpus.recordings.part(TRAIN), data.block, data.shift)
    return made, Partners(made)


def _conversations(name: str, seconds: float, speakers: Sequence[int], kind: str) -> Dataset:
    return _part(_row(f"{name}_{k}", seconds, kind, k, count) for k, count in enumerate(speakers))


def _row(name: str, seconds: float, kind: str, place: int, speakers: int = 0) -> dict[str, object]:
    return {"id": name, "length": float(seconds), "kind": kind, "place": place, "speakers": speakers}


def _part(rows: Iterable[dict[str, object]]) -> Dataset:
    from datasets import Dataset

    return Dataset.from_list(list(rows))
