"""The section `data` of the recipe of talking-face quality. Imports no tensor library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from affect.config import DAY, LARGEST_SEED, WIDEST, default_values, hold, require, require_each, require_most
from affect.data import corpora
from affect.errors import AffectError, nearest

SCORES = ("lip_sync_score", "expression_score", "audio_quality_score", "cross_modal_score", "overall_score")
"""The scores of report 003's data."""
_NAMES = ("name", "table", "clip", "pattern", "frames_of", "videos", "boxes")

if TYPE_CHECKING:
    CorpusName = str
else:
    # Help and errors list what there is.
    CorpusName = Literal[corpora.names(corpora.SCORES)]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The clips, what of them is read and predicted, and what is held out."""

    corpus: CorpusName = corpora.names(corpora.SCORES)[0]
    """score_folder: what `affect convert` wrote; score_table: CSV files of your own; generated_scores and
    generated_clips: a small corpus of features, or of videos, made at `root` where it is not there yet."""
    root: str = "data/ac"
    """Folder of the clips."""
    table: str | None = None
    """Of a score_table the file with the scores, below `root`; found by its columns when not given."""
    decimal: Literal[".", ","] = "."
    """Of a score_table the sign before decimals."""
    columns: tuple[str, ...] = ()
    """Of a score_table its columns of name, part and score where they are called otherwise, OURS=THEIRS."""
    clip: str | None = None
    """Of a score_table the column of the clips' names; the first one when not given."""
    groups: tuple[str, ...] = ()
    """Of a score_table columns of numbers that name groups."""
    pattern: str | None = None
    """Of a score_table a regular expression whose named groups are those of a clip's name."""
    frames_of: str | None = None
    """Of a score_table the CSV, or the folder of one a clip (py-feat, OpenFace), with frames, below `root`; or the
    folder `features` of what recipes/extract_features.py made with --store."""
    videos: str | None = None
    """Of a score_table the folder of the clips themselves, below `root`, for a model that sees them (`model.media`)."""
    boxes: str | None = None
    """Of a score_table the folder of a CSV a clip with the boxes of its faces (py-feat, OpenFace), below `root`."""
    name: str | None = None
    """What reports and cards call the corpus, in place of its layout's name."""
    features: tuple[str, ...] = ()
    """Features that are read, NAME or NAME=WIDTH, which has to be its numbers a frame; all where none are named."""
    scores: tuple[str, ...] = SCORES
    """Scores that are predicted."""
    sync: str | None = None
    """The score of lip sync, which late sound has to lower; those with sync in their names when not given."""
    scale: tuple[float, float] | tuple[str, ...] | None = None
    """LOW HIGH of every score, or NAME=LOW,HIGH of each that is named; of others as their training labels have it."""
    split: str = "auto"
    """own: the parts that the data names; a column (generator): its groups are held out. auto: own where the data names
    parts, else identity, else source."""
    folds: int | None = None
    """Folds of a split by groups, each of which is tested once: 5 of auto, of a named column one a group, unless given.
    """
    fold: int | None = None
    """Run this fold alone, from 1."""
    train_all: bool = False
    """Train on the validation clips, too, where there are too few to give some away: settings and epochs are fixed
    before, and what validation then says is of training."""
    allow_shared: bool = False
    """Accept clips that two parts have under two names: of the same features to the number, or the same video."""
    clips: int = 400
    """Clips of the generated corpus."""
    frames: tuple[int, int] = (15, 60)
    """Frames of its shortest and longest clip."""
    generated_widths: tuple[int, int, int, int] = (512, 192, 351, 17)
    """Numbers a frame of its features visual, audio, keypoint and au: 2048 768 1404 17 in the report's file."""
    generated_syncnet: int = 0
    """Of generated_scores, as all named so: numbers a frame of a fifth feature, syncnet; 0 has none."""
    generated_form: Literal["rows", "columns", "flat"] = "rows"
    """How its file, ac.pkl in `root`, holds the clips: a list a split, columns and masks a split, or one list."""
    generated_missing: float = 0.15
    """Share of its labels that are -1."""
    generated_absent: float = 0.03
    """Share of its features that a clip lacks."""
    generated_sources: int = 20
    """Its sources, two of an identity, a fifth of which validates and a fifth tests: even, 10 at least."""
    generated_generators: int = 8
    """Its generators, 2 at least."""
    clip_seconds: tuple[float, float] = (1.0, 2.0)
    """Shortest and longest of the generated clips that are videos."""
    noise: float = 1.0
    """How noisy its features and ratings are."""
    generator_seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "data")
        require_most(self, "data", 10, "noise")
        require_most(self, "data", LARGEST_SEED, "generator_seed")
        require(self.generator_seed >= 0, "data.generator_seed", "not be negative", self.generator_seed)
        require_most(self, "data", 10_000_000, "clips", "folds")
        require_most(self, "data", WIDEST, "frames", "generated_widths", "generated_syncnet")
        require_most(self, "data", 10_000, "generated_sources", "generated_generators")
        shares = ("generated_missing", "generated_absent")
        require_each(self, "data", "lie in [0, .9)", lambda value: 0 <= value < 0.9, *shares)
        least = (("generated_sources", 10), ("generated_generators", 2))
        for name, fewest in least:
            require(getattr(self, name) >= fewest, f"data.{name}", f"be at least {fewest}", getattr(self, name))
        require(self.generated_sources % 2 == 0, "data.generated_sources", "be even", self.generated_sources)
        syncnet = self.generated_syncnet
        require(syncnet == 0 or syncnet >= 8, "data.generated_syncnet", "be 0 or at least 8", syncnet)
        require_most(self, "data", DAY, "clip_seconds")
        for name in ("frames", "clip_seconds"):
            short, long = getattr(self, name)
            require(0 < short <= long, f"data.{name}", "go from more than 0 to more", (short, long))
        require(min(self.generated_widths) > 0, "data.generated_widths", "be positive", self.generated_widths)
        require(self.clips > 0, "data.clips", "be positive", self.clips)
        require(self.noise >= 0, "data.noise", "not be negative", self.noise)
        require(bool(self.root), "data.root", "name a folder", self.root)
        require_each(self, "data", "be a name", bool, *_NAMES)
        corpora.check_options(self.corpus, vars(self), default_values(self))
        corpora.check_pairs(self.corpus, self.columns)
        for name, given in (("features", [*self.widths]), ("scores", self.scores)):
            require(len(set(given)) == len(getattr(self, name)), f"data.{name}", "name each once", getattr(self, name))
        require(bool(self.scores), "data.scores", "name one at least", self.scores)
        require(self.sync in (None, *self.scores), "data.sync", "be one of data.scores", self.sync)
        sound = all(width is None or width > 0 for width in self.widths.values())
        require(sound, "data.features", "be NAME or NAME=WIDTH", self.features)
        named = sum(isinstance(part, str) for part in self.scale or ())
        require(named in (0, len(self.scales)), "data.scale", "name each score once", self.scale)
        for name, scale in self.scales.items():
            if name not in self.scores:
                raise AffectError(f"data.scale names no score of data.scores: {name!r}; {nearest(name, self.scores)}")
            sound = -math.inf < scale[0] < scale[1] < math.inf
            require(sound, "data.scale", "go from low to high, LOW HIGH or NAME=LOW,HIGH each", self.scale)
        require(self.folds is None or self.folds > 1, "data.folds", "be at least 2", self.folds)
        require(self.fold is None or self.fold > 0, "data.fold", "count from 1", self.fold)

    @property
    def widths(self) -> dict[str, int | None]:
        """The width that each named feature has to have, None where any will do."""
        pairs = (text.partition("=") for text in self.features)
        return {name: None if not equals else int(width) if width.isdecimal() else 0 for name, equals, width in pairs}

    @property
    def synced(self) -> tuple[str, ...]:
        """The scores of lip sync: the one that is given, else those whose names have sync in them."""
        return (self.sync,) if self.sync else tuple(name for name in self.scores if "sync" in name.lower())

    @property
    def scales(self) -> dict[str, tuple[float, float]]:
        """The scale of each score that is given one."""
        given = self.scale or ()
        if any(isinstance(part, str) for part in given):
            return dict(_scale_of(str(text)) for text in given)
        return dict.fromkeys(self.scores, cast(tuple[float, float], given)) if given else {}

    @property
    def generated(self) -> bool:
        """Whether the corpus is made at `root`."""
        return corpora.layout(self.corpus).generated


def _scale_of(text: str) -> tuple[str, tuple[float, float]]:
    name, _, numbers = text.partition("=")
    try:
        low, high = map(float, numbers.split(","))
    except ValueError:
        raise AffectError(f"data.scale must be LOW HIGH or NAME=LOW,HIGH each, not {text!r}") from None
    return name, (low, high)
