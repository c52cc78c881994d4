"""The recipe of talking-face quality: data, model, loss and augmentation. Imports no tensor library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from affect.config import default_values, require, require_each
from affect.data import corpora
from affect.recipe import Recipe
from affect.tasks.talking_face.media import Media

SCORES = ("lip_sync_score", "expression_score", "audio_quality_score", "cross_modal_score", "overall_score")
"""The scores of report 003's data."""

FRAMES, HIDDEN, SPREAD = "_frames", "_h", "_spread"
"""After a feature's name: how many frames of it there are, its vector for alignment; after a score's: its deviation."""
WORSE, MARGIN = "worse_", "margin"
"""Before a feature's name: the same of the clip made worse; and by how much the clip is better than that."""
SOUND = "audio"
"""What the name of a feature of sound has in it."""
OFFSETS = (2, 4, 8, 16)
"""Frames by which sound is late in the evaluations that ask whether scores fall."""

Feature = tuple[str, int]
"""(name, numbers a frame)."""
Scale = tuple[str, float, float]
"""(score, lowest, highest)."""

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
    scale: tuple[float, float] | None = None
    """Lowest and highest value of every score; of each as its training labels have it when not given."""
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
    clips: int = 400
    """Clips of the generated corpus."""
    frames: tuple[int, int] = (15, 60)
    """Frames of its shortest and longest clip."""
    generated_widths: tuple[int, int, int, int] = (512, 192, 351, 17)
    """Numbers a frame of its features visual, audio, keypoint and au: 2048 768 1404 17 in the report's file."""
    clip_seconds: tuple[float, float] = (1.0, 2.0)
    """Shortest and longest of the generated clips that are videos."""
    noise: float = 1.0
    """How noisy its features and ratings are."""
    generator_seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        require(bool(self.root), "data.root", "name a folder", self.root)
        require_each(self, "data", "be a name", bool, *_NAMES)
        corpora.check_options(self.corpus, vars(self), default_values(self))
        for name, given in (("features", [*self.widths]), ("scores", self.scores)):
            require(len(set(given)) == len(getattr(self, name)), f"data.{name}", "name each once", getattr(self, name))
        require(bool(self.scores), "data.scores", "name one at least", self.scores)
        sound = all(width is None or width > 0 for width in self.widths.values())
        require(sound, "data.features", "be NAME or NAME=WIDTH", self.features)
        scale = self.scale
        require(scale is None or scale[0] < scale[1], "data.scale", "go from low to high", scale)
        require(self.folds is None or self.folds > 1, "data.folds", "be at least 2", self.folds)
        require(self.fold is None or self.fold > 0, "data.fold", "count from 1", self.fold)

    @property
    def widths(self) -> dict[str, int | None]:
        """The width that each named feature has to have, None where any will do."""
        pairs = (text.partition("=") for text in self.features)
        return {name: None if not equals else int(width) if width.isdecimal() else 0 for name, equals, width in pairs}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is learned of each score, and how the scores are weighed."""

    kind: Literal["mse", "mae", "huber", "corruption"] = "mse"
    """corruption needs no labels: a clip has to be better than itself made worse (sound moved, frames frozen, blurred,
    noisy)."""
    plcc: float = 0.0
    """Weight of (1 - PLCC) / 2 of each score over the global batch; 0 has none."""
    rank: float = 0.0
    """Weight of the pairwise rank loss of each score over the global batch; 0 has none."""
    smoothing: Literal["none", "inverse", "sqrt"] = "none"
    """Weigh labels by how rare their neighbourhood is (label-distribution smoothing): label smoothing has no meaning
    for numbers."""
    consistency: float = 0.0
    """Weight of what pulls a clip's scores together; it may erase what they tell apart."""
    weights: Literal["equal", "fixed", "uncertainty", "dwa", "rlw", "famo", "upgrad", "pcgrad", "cagrad"] = "equal"
    """fixed: by `fixed`; uncertainty: learned with the model; dwa, rlw, famo: by the scores' earlier losses; upgrad,
    pcgrad, cagrad combine the scores' gradients (one process, the extra `aggregation`)."""
    fixed: tuple[float, ...] = ()
    """A weight a score, in the order of `data.scores`."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_each(self, "loss", "not be negative", lambda value: value >= 0, "plcc", "rank", "consistency")
        given = bool(self.fixed)
        require(given == (self.weights == "fixed"), "loss.fixed", "be given with weights=fixed alone", self.fixed)
        require(all(weight > 0 for weight in self.fixed), "loss.fixed", "be positive", self.fixed)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is changed about training clips, a function of the epoch and the clip; all off by default."""

    mask: float = 0.0
    """Largest share of a clip's frames, in one stretch of each feature, that are replaced by their mean."""
    mixup: float = 0.0
    """Alpha of the Beta distribution by which two clips, and the scores that both have, are mixed."""
    gain: float = 0.0
    """Largest change of the sound's level, in dB; this and what follows is of clips (`model.media`)."""
    noise: tuple[float, float] | None = None
    """Lowest and highest ratio of sound to added noise, in dB."""
    speed: float = 0.0
    """Largest change of speed, of images and sound alike: .1 is up to a tenth faster or slower."""
    crop: float = 0.0
    """Largest share of the images' side that is cut away."""
    flip: bool = False
    """Turn left and right in every other clip."""
    drop: float = 0.0
    """Largest share of a clip's images in whose place the one before is shown."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_each(self, "augment", "lie in [0, 1)", lambda value: 0 <= value < 1, "speed", "crop", "drop")
        require(0 <= self.gain < 60, "augment.gain", "lie in [0, 60)", self.gain)
        range_ = self.noise
        require(range_ is None or range_[0] <= range_[1], "augment.noise", "go from low to high", range_)
        require(0 <= self.mask < 1, "augment.mask", "lie in [0, 1)", self.mask)
        require(self.mixup >= 0, "augment.mixup", "not be negative", self.mixup)


@dataclass(frozen=True, kw_only=True)
class Continual:
    """Labelled batches that arrive one after another, a stage each; off by default."""

    by: str | None = None
    """The group column whose values arrive (generator), in their order by name."""
    batches: int = 3
    """Batches that the values are put into."""
    arrived: int | None = None
    """The newest batch that has arrived, from 1: this stage's. All when not given."""
    replay: float = 0.0
    """Share of the training clips of earlier batches that are trained on again."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.by != "", "continual.by", "be a name", self.by)
        require(self.batches > 1, "continual.batches", "be at least 2", self.batches)
        among = self.arrived is None or 0 < self.arrived <= self.batches
        require(among, "continual.arrived", f"lie in 1 to {self.batches} (continual.batches)", self.arrived)
        require(0 <= self.replay <= 1, "continual.replay", "lie in [0, 1]", self.replay)
        unused = self.by is not None or (self.arrived is None and self.replay == 0)
        require(unused, "continual.by", "name the column that arrives", self.by)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Encoders of frames, a transformer over all of them, pooling and a head a score."""

    encoder_dim: int = 512
    """Width of encoded frames, of the transformer and of what is fused."""
    encoder_layers: int = 3
    residual: bool = True
    """Add a linear projection of each frame to what its encoder makes of it."""
    norm: bool = True
    """LayerNorm after each linear layer of encoders and fusion."""
    layers: int = 4
    """Blocks of the transformer over the frames of all features."""
    heads: int = 8
    head_width: int | None = None
    """Numbers of a head; encoder_dim / heads when not given."""
    hidden: int | None = None
    """Numbers between the two layers of a block; twice encoder_dim when not given."""
    encoder_hidden: int | None = None
    """Numbers between the layers of a feature's encoder; encoder_dim when not given."""
    fused: int | None = None
    """Numbers that features are fused to, before the heads; encoder_dim when not given."""
    temporal_attention: bool = True
    """Self-attention over the frames of each feature before they are pooled."""
    pooling: tuple[Literal["mean", "max"], ...] = ("mean", "max")
    """What is taken over time, side by side."""
    dropout: float = 0.3
    modality_dropout: float = 0.0
    """Probability that a clip loses each of its features in a training step; one always stays."""
    alignment: float = 0.0
    """Weight of the contrastive loss that aligns the features of a clip; 0 has none."""
    temperature: float = 0.1
    """Of the contrastive loss."""
    output: Literal["sigmoid", "affine"] = "sigmoid"
    """sigmoid keeps scores inside their scale, affine leaves them free around its middle."""
    linear: bool = False
    """Add to each score what is linear in the mean standardised frames of all features, from 0; with output=affine."""
    heteroscedastic: bool = False
    """Predict a deviation beside each score, learned by the Gaussian likelihood in place of `loss.kind`."""
    normalise: bool = True
    """Standardise features by the frames of the training part."""
    media: Media = field(default_factory=Media)
    """Encoders of the clip itself, which make a model end to end."""

    def __post_init__(self) -> None:
        """Check every field."""
        positive = ("encoder_dim", "encoder_layers", "heads", "head_width", "hidden", "encoder_hidden", "temperature")
        require_each(self, "model", "be positive", lambda value: value > 0, *positive)
        require_each(self, "model", "not be negative", lambda value: value >= 0, "layers", "alignment")
        require(self.fused is None or self.fused > 1, "model.fused", "be at least 2", self.fused)
        require_each(self, "model", "lie in [0, 1)", lambda value: 0 <= value < 1, "dropout", "modality_dropout")
        divides = self.head_width is not None or self.encoder_dim % self.heads == 0
        fits = divides and self.encoder_dim % 2 == 0
        require(fits, "model.encoder_dim", f"be even and a multiple of model.heads ({self.heads})", self.encoder_dim)
        free = not self.linear or self.output == "affine"
        require(free, "model.linear", "be left out with model.output=sigmoid, which it would leave", self.linear)
        kinds = self.pooling
        require(bool(kinds) and len(set(kinds)) == len(kinds), "model.pooling", "name each kind once", kinds)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model has to know of the data it is for; it is saved with the model's section."""

    features: tuple[Feature, ...]
    scores: tuple[Scale, ...]
    log_variances: int = 0
    """Learned log variances of the terms of the loss."""
    made_by: tuple[tuple[str, str], ...] = ()
    """(feature, manifest): what made a feature of clips, by which it is made of others, as JSON."""

    def __post_init__(self) -> None:
        """Check every field."""
        names = [name for name, _ in self.features]
        require(bool(names) and len(set(names)) == len(names), "features", "name each feature once", names)
        require(all(width > 0 for _, width in self.features), "features", "have positive widths", self.features)
        names = [name for name, _, _ in self.scores]
        require(bool(names) and len(set(names)) == len(names), "scores", "name each score once", names)
        require(all(low < high for _, low, high in self.scores), "scores", "go from low to high", self.scores)
        require(self.log_variances >= 0, "log_variances", "not be negative", self.log_variances)


@dataclass(frozen=True, kw_only=True)
class TalkingFace(Recipe):
    """The quality of talking-face clips: several scores, any of which may be missing."""

    task: ClassVar[str] = "talking_face"

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    augment: Augment = field(default_factory=Augment)
    continual: Continual = field(default_factory=Continual)

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        fixed, scores = self.loss.fixed, self.data.scores
        choose = self.train.choose
        last = not self.data.train_all or choose == "last"
        require(last, "train.choose", "be last with data.train_all, which leaves nothing to choose by", choose)
        if self.loss.kind == "corruption":
            must = "be left out with loss.kind=corruption, which learns no score"
            off = {"plcc": 0, "rank": 0, "smoothing": "none", "consistency": 0, "weights": "equal"}
            for name, value in off.items():
                require(getattr(self.loss, name) == value, f"loss.{name}", must, getattr(self.loss, name))
            require(not self.model.heteroscedastic, "model.heteroscedastic", must, True)
        if self.model.heteroscedastic:
            must = "be left out with model.heteroscedastic, whose likelihood"
            require(self.loss.kind == "mse", "loss.kind", f"{must} takes its place", self.loss.kind)
            smoothing, weights = self.loss.smoothing, self.loss.weights
            require(smoothing == "none", "loss.smoothing", f"{must} takes no weights of labels", smoothing)
            negative = weights in ("uncertainty", "dwa", "famo")
            require(not negative, "loss.weights", f"not be {weights} {must[12:]} may be negative", weights)
        require(len(fixed) in (0, len(scores)), "loss.fixed", f"give one weight a score ({', '.join(scores)})", fixed)
        media, of_clips = self.model.media, ("gain", "noise", "speed", "crop", "flip", "drop")
        for name in () if media.taken else of_clips:
            given = getattr(self.augment, name)
            require(not given, f"augment.{name}", "be left out without model.media, which takes clips", given)
        faces = media.faces and self.data.boxes is None
        require(not faces, "model.media.faces", "be left out without data.boxes, which tells where they are", True)
        if media.taken:
            must = "be left out with model.media, which takes clips"
            require(self.loss.kind != "corruption", "loss.kind", must, self.loss.kind)
            require(not self.augment.mixup, "augment.mixup", must, self.augment.mixup)
            require(media.features or not self.augment.mask, "augment.mask", must, self.augment.mask)
        streams = self.data.features if not media.taken else () if media.features else media.taken
        if len(streams) == 1:
            must = "be 0 with one feature"
            require_each(self.model, "model", must, lambda value: not value, "alignment", "modality_dropout")
