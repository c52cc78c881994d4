"""What is asked of a trained model, and what its task tells of it: prediction, a card on the Hub, an exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from affect.data.excerpts import Excerpt


@dataclass(frozen=True, kw_only=True)
class UserInputs:
    """What `affect predict` is given beside a model; which of it a model takes, its task says."""

    files: tuple[Path, ...] = ()
    window: float | None = None
    """Longest stretch of a recording predicted at once, in seconds; that of training where not given."""
    hop: float | None = None
    """Seconds from one window's start to the next; the window where not given."""
    rate: int | None = None
    """Hz of raw samples on standard input."""
    raw: Literal["s16", "f32"] = "s16"
    text: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    video: tuple[str, ...] = ()
    features: Path | None = None
    trust_remote_code: bool = False
    """Run the program of an encoder's folder that made features of texts."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """A table's names of our columns, where they are others."""
    listed: tuple[Excerpt, ...] = ()
    """Where a table lists them, which may have more than a model takes: what each line calls its recording, and the
    part of it that it asks for."""

    @property
    def given(self) -> list[str]:
        """The options that were given, as the command line has them."""
        named = (item for item in fields(self) if item.name not in ("columns", "listed"))
        names = [item.name for item in named if getattr(self, item.name) != item.default]
        return ["FILES" if name == "files" else f"--{name.replace('_', '-')}" for name in names]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model's card on the Hub says beside scores, data and how to install."""

    title: str
    """What the model gives, as a sentence begins: The valence of an utterance."""
    task_type: str
    """The task as a word of the Hub's metadata: speech-emotion-recognition."""
    task_name: str
    command: str = ""
    """What stands behind `affect predict REPO`, for files as a reader may have them; "" where it can't predict."""
    program: str
    """A program that loads the model from the repository, feeds it and prints what it says."""
    use: str = ""
    """Sections on intended use, limits and what it must not be used for."""
    licence: str = "other"
    """As the Hub names it; other where it is not known."""
    licence_note: str = "What licence the weights have is for whoever made them to say."
    extras: tuple[str, ...] = ()
    """Extras of affect that the model needs."""
    pipeline_tag: str | None = None
    base_models: tuple[str, ...] = ()
    """Pretrained models on the Hub that are inside."""
    language: str | None = None
    metric_args: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """By what measures are computed, by a measure's name."""
    tags: tuple[str, ...] = ("affect",)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that a model was exported to: its size in bytes with its weights, its largest difference from torch."""

    path: Path
    size: int
    difference: float
    lines: tuple[str, ...] = ()
    """What else was measured of it, for the user to read."""
