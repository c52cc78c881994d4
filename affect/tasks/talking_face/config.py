"""The recipe of talking-face quality: data, model, loss and augmentation. Imports no tensor library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from affect.config import (
    DECIBELS,
    DEEPEST,
    MOST_WEIGHT,
    WIDEST,
    Need,
    hold,
    refuse_unused,
    require,
    require_each,
    require_most,
)
from affect.data import corpora
from affect.recipe import Recipe
from affect.tasks.talking_face.data import SCORES as SCORES
from affect.tasks.talking_face.data import Data as Data  # recipes take them from here
from affect.tasks.talking_face.media import Media

FRAMES, HIDDEN = "_frames", "_h"
"""After a feature's name: how many frames of it there are, its vector for alignment."""
WORSE, MARGIN = "worse_", "margin"
"""Before a feature's name: the same of the clip made worse; and by how much the clip is better than that."""
SOUND = "audio"
"""What the name of a feature of sound has in it."""
OFFSET, DELAY = "offset", "delay"
"""Kinds of condition: sound so many of its frames late, and so many seconds."""
LATE: dict[str, tuple[float, ...]] = {OFFSET: (2, 4, 8, 16), DELAY: (0.04, 0.08, 0.16, 0.32, 0.64)}
"""How late sound is in the evaluations that ask whether scores fall: of features, whose seconds nobody tells, in
frames; of clips in seconds."""

Feature = tuple[str, int]
"""(name, numbers a frame)."""
Scale = tuple[str, float, float]
"""(score, lowest, highest)."""


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
    pcgrad, cagrad combine the scores' gradients (one process, the extra `aggregation`). What is not exact: famo takes
    the values of successive batches where its paper takes the same batch twice. Of upgrad, pcgrad and cagrad heads and
    log variances keep the plain gradient, and scores that a batch has no label of are left out."""
    fixed: tuple[float, ...] = ()
    """A weight a score, in the order of `data.scores`."""
    delta: float = 1.0
    """Of huber: errors beyond it, in the scores' unit, count by their size, not their square."""
    smoothing_bins: int = 50
    """Of `smoothing`: parts of a scale in which labels are counted."""
    smoothing_sigma: float = 2.0
    """Of `smoothing`: deviation, in bins, of the Gaussian that says how near a neighbour is."""
    dwa_temperature: float = 2.0
    """Of dwa: the larger, the more alike the weights."""
    cagrad_c: float = 0.5
    """Of cagrad: how far from the mean gradient it may go, as a share of that one's length; 0 is the mean."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "loss")
        require_most(self, "loss", MOST_WEIGHT, "plcc", "rank", "consistency", "fixed", "delta", "dwa_temperature")
        require_most(self, "loss", MOST_WEIGHT, "cagrad_c")
        require_most(self, "loss", WIDEST, "smoothing_bins", "smoothing_sigma")
        weights = ("plcc", "rank", "consistency", "cagrad_c")
        require_each(self, "loss", "not be negative", lambda value: value >= 0, *weights)
        positive = ("delta", "smoothing_bins", "smoothing_sigma", "dwa_temperature")
        require_each(self, "loss", "be positive", lambda value: value > 0, *positive)
        given, fixed = bool(self.fixed), self.weights == "fixed"
        require(given or not fixed, "loss.fixed", "be a weight for each score with weights=fixed", self.fixed)
        require(fixed or not given, "loss.fixed", "be left out but with weights=fixed", self.fixed)
        require(all(weight > 0 for weight in self.fixed), "loss.fixed", "be positive", self.fixed)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is changed about training clips, a function of the epoch and the clip; all off by default."""

    mask: float = 0.0
    """Largest share of a clip's frames, in one stretch of each feature, that are replaced by their mean."""
    mixup: float = 0.0
    """Alpha of the Beta distribution by which two clips, and the scores that both have, are mixed."""
    gain: float = 0.0
    """Largest change of the sound's level, in dB; this and what follows is of clips (`model.media`).

    An encoder whose sound is brought to one level, as the preprocessing of most says, hears nothing of it.
    """
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
        hold(self, "augment")
        require_most(self, "augment", 1_000, "mixup")
        require_each(self, "augment", "lie in [0, 1)", lambda value: 0 <= value < 1, "speed", "crop", "drop")
        require(0 <= self.gain < 60, "augment.gain", "lie in [0, 60)", self.gain)
        range_ = self.noise
        sound = range_ is None or -DECIBELS <= range_[0] <= range_[1] <= DECIBELS
        require(sound, "augment.noise", f"go from low to high within {DECIBELS:g} dB", range_)
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
        hold(self, "continual")
        require_most(self, "continual", WIDEST, "batches")
        require(self.by != "", "continual.by", "be a name", self.by)
        require(self.batches > 1, "continual.batches", "be at least 2", self.batches)
        among = self.arrived is None or 0 < self.arrived <= self.batches
        require(among, "continual.arrived", f"lie in 1 to {self.batches} (continual.batches)", self.arrived)
        require(0 <= self.replay <= 1, "continual.replay", "lie in [0, 1]", self.replay)


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
    """sigmoid keeps scores inside their scale; affine learns them freely, and cuts them off at its ends."""
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
        hold(self, "model")
        require_most(self, "model", MOST_WEIGHT, "alignment", "temperature")
        wide = ("encoder_dim", "heads", "head_width", "hidden", "encoder_hidden", "fused")
        require_most(self, "model", WIDEST, *wide)
        require_most(self, "model", DEEPEST, "encoder_layers", "layers")
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
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(feature, names): what its numbers are called, in their order, where the corpus says it."""

    def __post_init__(self) -> None:
        """Check every field."""
        names = [name for name, _ in self.features]
        require(bool(names) and len(set(names)) == len(names), "features", "name each feature once", names)
        require(all(width > 0 for _, width in self.features), "features", "have positive widths", self.features)
        names = [name for name, _, _ in self.scores]
        require(bool(names) and len(set(names)) == len(names), "scores", "name each score once", names)
        require(all(low < high for _, low, high in self.scores), "scores", "go from low to high", self.scores)
        require(self.log_variances >= 0, "log_variances", "not be negative", self.log_variances)
        widths = dict(self.features)
        named = all(len({*names}) == len(names) == widths.get(name) for name, names in self.columns)
        require(named, "columns", "name each number of a feature once", self.columns)


def _streams(recipe: TalkingFace) -> int:
    """Return how many features are fused, 0 where the corpus tells."""
    media = recipe.model.media
    return len(recipe.data.features if not media.taken else () if media.features else media.taken)


def _weighs(recipe: TalkingFace) -> bool:
    """Tell whether there are terms to weigh against each other, where weights are for that alone."""
    loss = recipe.loss
    terms = len(recipe.data.scores) * (1 + (loss.plcc > 0) + (loss.rank > 0))
    terms += loss.weights in ("upgrad", "pcgrad", "cagrad") and recipe.model.alignment > 0
    return terms > 1 or loss.weights in ("fixed", "uncertainty")


NEEDS: tuple[Need, ...] = (
    ("be 0 with one feature (data.features)", lambda r: _streams(r) != 1,
     ("model.alignment", "model.modality_dropout")),
    ("be left out with model.media, which takes clips", lambda r: not r.model.media.taken, ("augment.mixup",)),
    ("be left out with model.media, which takes clips, unless model.media.features takes features, too",
     lambda r: r.model.media.features or not r.model.media.taken,
     ("augment.mask", "data.features", "data.frames_of", "model.normalise")),
    ("be left out without data.boxes, which tells where they are", lambda r: r.data.boxes, ("model.media.faces",)),
    ("be left out without data.videos", lambda r: r.data.videos or r.data.generated, ("data.boxes",)),
    ("be left out without model.media.audio", lambda r: r.model.media.audio, ("augment.gain", "augment.noise")),
    ("be left out without model.media.video", lambda r: r.model.media.video,
     ("augment.crop", "augment.flip", "augment.drop", "model.media.rate", "model.media.side", "model.media.faces",
      "model.media.fit")),
    ("be left out with model.media.faces, which are squares", lambda r: not r.model.media.faces, ("model.media.fit",)),
    ("be left out without model.media.faces", lambda r: r.model.media.faces, ("model.media.margin",)),
    ("be left out without model.media, which takes clips", lambda r: r.model.media.taken,
     ("augment.speed", "data.videos", "model.media.seconds", "model.media.features")),
    ("be left out unless model.media.video is owner/model", lambda r: "/" in (r.model.media.video or ""),
     ("model.media.video_revision",)),
    ("be left out unless model.media.audio is owner/model", lambda r: "/" in (r.model.media.audio or ""),
     ("model.media.audio_revision",)),
    ("be left out here: encoders of clips have model.media.lr", lambda r: False, ("optim.encoder_lr",)),
    ("be left out where data.corpus has no generated features",
     lambda r: "generated_form" in corpora.layout(r.data.corpus).options,
     ("data.generated_syncnet", "data.generated_form", "data.generated_missing", "data.generated_absent",
      "data.generated_sources", "data.generated_generators")),
    ("be left out with data.split=own", lambda r: r.data.split != "own", ("data.folds",)),
    ("be left out with loss.kind=corruption, which learns no score", lambda r: r.loss.kind != "corruption",
     ("loss.plcc", "loss.rank", "loss.smoothing", "loss.consistency", "loss.weights", "model.heteroscedastic")),
    ("be left out with model.heteroscedastic, whose likelihood takes its place", lambda r: not r.model.heteroscedastic,
     ("loss.kind",)),
    ("be left out with model.heteroscedastic, whose likelihood takes no weights of labels",
     lambda r: not r.model.heteroscedastic, ("loss.smoothing",)),
    ("be left out with one score (data.scores)", lambda r: len(r.data.scores) > 1, ("loss.consistency",)),
    ("be left out where one score has one term", _weighs, ("loss.weights",)),
    ("be left out without loss.kind=huber", lambda r: r.loss.kind == "huber", ("loss.delta",)),
    ("be left out without loss.smoothing", lambda r: r.loss.smoothing != "none",
     ("loss.smoothing_bins", "loss.smoothing_sigma")),
    ("be left out without loss.weights=dwa", lambda r: r.loss.weights == "dwa", ("loss.dwa_temperature",)),
    ("be left out without loss.weights=cagrad", lambda r: r.loss.weights == "cagrad", ("loss.cagrad_c",)),
    ("be left out without model.layers or model.temporal_attention",
     lambda r: r.model.layers or r.model.temporal_attention, ("model.heads", "model.head_width")),
    ("be left out without model.layers", lambda r: r.model.layers, ("model.hidden",)),
    ("be left out without a second layer (model.encoder_layers)", lambda r: r.model.encoder_layers > 1,
     ("model.encoder_hidden",)),
    ("be left out without model.alignment", lambda r: r.model.alignment, ("model.temperature",)),
    ("be left out without continual.by, the column that arrives", lambda r: r.continual.by,
     ("continual.batches", "continual.arrived", "continual.replay")),
)  # fmt: skip
"""Fields that do nothing without another, or beside it."""


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
        refuse_unused(self, NEEDS)
        weights = self.loss.weights
        negative = self.model.heteroscedastic and weights in ("uncertainty", "dwa", "famo")
        must = f"not be {weights} with model.heteroscedastic, whose likelihood may be negative"
        require(not negative, "loss.weights", must, weights)
        require(len(fixed) in (0, len(scores)), "loss.fixed", f"give one weight a score ({', '.join(scores)})", fixed)
        features = not self.model.media.taken or self.loss.kind != "corruption"
        require(features, "loss.kind", "be left out with model.media, which takes clips", self.loss.kind)
