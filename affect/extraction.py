"""What to extract from media, and by which encoder. Importing it loads no tensor library."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from affect.recipe import hold, require

GENERATED = "generated"
"""The source that needs no files: a few sentences of nonsense, spoken by a small synthesiser."""

_COLUMNS = ("name", "audio", "text", "video", "path", "boxes", "start", "end", "duration")
_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "layers": (lambda value: 0 < value <= 1_000, "be positive, and 1,000 at most"),
    "rate": (lambda value: 0 < value <= 1_000, "be positive, and 1,000 at most"),
    "margin": (lambda value: 0 <= value <= 1_000, "not be negative, nor over 1,000"),
    "budget": (lambda value: 1 <= value < math.inf, "be at least 1"),
}
"""What the numbers of the kinds that have them may be, in words, too."""


class IncompleteError(Exception):
    """Some media could not be read: their features are absent, all others are there; the process ends with 1."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Features of media, a file an utterance, in MER2023's layout: OUTPUT/features/NAME/<utterance>.npy."""

    modality: ClassVar[str]
    """audio, text or video."""

    encoder: str
    """A name on the Hub (owner/model), a folder of transformers, or tiny (random weights)."""
    source: str
    """A CSV (columns name, audio, video, text, boxes, and start and end (s) of parts, those that it has), a folder of
    media, or a `datasets` source."""
    columns: tuple[str, ...] = ()
    """The source's names of those columns, where they are others: OURS=THEIRS."""
    root: Path | None = None
    """Folder that the files of a CSV are relative to; the CSV's own by default."""
    output: Path = Path("data/extracted")
    """Root of the corpus that the features are of."""
    name: str | None = None
    """Folder of the features; by default the last part of the encoder's name with -UTT or -FRA."""
    revision: str | None = None
    """Version of an encoder on the Hub."""
    level: Literal["utterance", "frame"] = "utterance"
    """utterance: one vector [D], the mean. frame: all of them [T, D]."""
    precision: Literal["float32", "float16"] = "float32"
    """Of the numbers in the files."""
    store: bool = False
    """Put all of them into one file, features.arrow, in place of a file an utterance: what a score_table's frames are
    read from (`data.frames_of`)."""
    budget: float
    """What goes through the encoder at once; decides speed and memory."""
    overwrite: bool = False
    """Delete the features of this name and extract all anew."""
    dry_run: bool = False
    """Print the settings and how much there is to do, and stop."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self)
        require(bool(self.encoder), "encoder", "be a name on the Hub, a folder or tiny", self.encoder)
        require(bool(self.source), "source", "be a CSV, a folder or a datasets source", self.source)
        plain = self.name is None or (Path(self.name).name == self.name and not self.name.startswith("."))
        require(plain, "name", "be a plain name", self.name)
        for text in self.columns:
            ours, equals, theirs = text.partition("=")
            fits = ours in _COLUMNS and bool(equals) and bool(theirs)
            require(fits, "columns", f"be OURS=THEIRS with OURS of {', '.join(_COLUMNS)}", text)
        for field, (allowed, words) in _NUMBERS.items():
            number = getattr(self, field, 1)
            require(allowed(number), field, words, number)

    @property
    def feature(self) -> str:
        """The name of the features' folder."""
        last = self.encoder.rstrip("/").rpartition("/")[2]
        if last.startswith("tiny"):
            # The one name that encoders of all modalities have.
            last = f"{last}-{self.modality}"
        return self.name or f"{last}-{'UTT' if self.level == 'utterance' else 'FRA'}"

    @property
    def folder(self) -> Path:
        """The folder of the features."""
        return self.output / "features" / self.feature


@dataclass(frozen=True, kw_only=True)
class AudioExtraction(Extraction):
    """Features of speech by any encoder of recipes/finetune_wavlm.py, a frame each 20 ms."""

    modality: ClassVar[str] = "audio"

    layers: int = 4
    """How many of the last hidden layers are summed."""
    budget: float = 60.0
    """Padded seconds that go through the encoder at once; decides speed and memory."""


@dataclass(frozen=True, kw_only=True)
class TextExtraction(Extraction):
    """Features of texts by any encoder or causal language model of transformers, a frame each token."""

    modality: ClassVar[str] = "text"

    layers: int = 4
    """How many of the last hidden layers are summed."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the encoder's weights: half of the memory, and numbers that depend on the batch by as much as they are
    rounded."""
    trust_remote_code: bool = False
    """Run the program that the encoder's folder brings along, which some language models need. Read it first."""
    budget: float = 4096.0
    """Padded tokens that go through the encoder at once; decides speed and memory."""


@dataclass(frozen=True, kw_only=True)
class VideoExtraction(Extraction):
    """Features of videos by any image encoder of transformers, a frame each 1 / rate seconds."""

    modality: ClassVar[str] = "video"

    rate: float = 5.0
    """Images a second."""
    boxes: bool = False
    """Crop every image to the face that the video's table (column boxes, of py-feat or OpenFace) tells of."""
    margin: float = 0.3
    """How much more than the box is cut out, as a share of its longer side."""
    budget: float = 32.0
    """Images that go through the encoder at once; decides speed and memory."""
