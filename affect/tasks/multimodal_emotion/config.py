"""The recipe of multimodal emotion recognition: data, model and protocol. Imports no tensor library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from affect.config import (
    DECIBELS,
    LARGEST_SEED,
    MOST_WEIGHT,
    WIDEST,
    default_values,
    hold,
    require,
    require_each,
    require_most,
)  # fmt: skip
from affect.data import corpora
from affect.recipe import Recipe

MODALITIES = ("audio", "text", "video")
"""The modalities, in the order in which streams, masks and weights name them."""

WEIGHING = ("attention", "attention_robust", "topn")
"""The models that weigh their streams by attention."""

_PATTERNS = ("A", "T", "V", "AT", "AV", "TV", "ATV")
"""What may be there of audio, text and video."""

MOST_STREAMS = 18
"""Streams that `topn` takes at most: six a modality, as the public toolkit ranks them."""

Target = Literal["emotion", "valence"]
Stream = tuple[str, str, int]
"""One feature set: (modality, name of the features, width)."""

if TYPE_CHECKING:
    CorpusName = str
else:
    # Help and errors list what there is.
    CorpusName = Literal[corpora.names(corpora.FEATURES)]

_FIRST = corpora.layout(corpora.names(corpora.FEATURES)[0])
SCALE = _FIRST.scale or (-5.0, 5.0)
"""Lowest and highest valence, where a model does not say it."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The corpus of utterance features, and the folds of its training part."""

    corpus: CorpusName = _FIRST.name
    """generated: a small corpus of the same layout, made at `root` where it is not there yet."""
    root: str = _FIRST.folder
    """Folder with the label files and features/<name>/."""
    name: str | None = None
    """What reports and cards call the corpus, in place of its layout's name."""
    audio: tuple[str, ...] = (_FIRST.usual["audio"],)
    text: tuple[str, ...] = (_FIRST.usual["text"],)
    video: tuple[str, ...] = (_FIRST.usual["video"],)
    """Names of features; several a modality with model.name=topn, none (audio=()) leaves a modality out."""
    widths: tuple[int, ...] | None = None
    """Width that each of the features has to have, in the order audio, text, video; as found when not given."""
    labels: str = "auto"
    """Where the labels are: npz (label-6way.npz) or csv (train-label.csv and its like); of your own data the CSV file
    below root."""
    columns: tuple[str, ...] = ()
    """Of your own data: OURS=THEIRS for each column that has another name there (name=id emotion=label part=split)."""
    scale: tuple[float, float] | None = None
    """Of your own data: lowest and highest valence, inferred from the labels when not given."""
    decimal: Literal[".", ","] = "."
    """Of your own data: the sign before decimals."""
    classes: tuple[str, ...] = ()
    """Of your own data: the classes, each an emotion or several joined (happy+glad); other emotions count as missing.
    All emotions of the training part when not given."""
    folds: int = 5
    """Random folds of the training part, drawn by the seed; what is left over goes to the last. A corpus with a
    validation part of its own has none."""
    fold: int | None = None
    """Run this fold alone, from 1."""
    allow_shared: bool = False
    """Accept utterances that training or validation has under another name than a test: to the number the same."""
    train: int = 600
    """Training utterances of the generated corpus."""
    test: int = 150
    """Utterances of each of its three test parts."""
    noise: float = 1.0
    """How noisy its features are and how much of them is missing: .5 is mild, 2 harsh."""
    generator_seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "data")
        require_most(self, "data", 10, "noise")
        require_most(self, "data", LARGEST_SEED, "generator_seed")
        require_most(self, "data", 10_000_000, "train", "test", "folds")
        require(bool(self.root), "data.root", "name a folder", self.root)
        require(self.name != "", "data.name", "be a name", self.name)
        corpora.check_options(self.corpus, vars(self), default_values(self))
        require(self.scale is None or self.scale[0] < self.scale[1], "data.scale", "be low then high", self.scale)
        require(bool(self.labels), "data.labels", "name a kind or a file", self.labels)
        corpora.check_pairs(self.corpus, self.columns)
        members = [emotion for spelt in self.classes for emotion in spelt.split("+")]
        sound = len(self.classes) != 1 and all(members) and len({*members}) == len(members)
        require(sound, "data.classes", "be at least two that name each emotion once", self.classes)
        names = (*self.audio, *self.text, *self.video)
        require(bool(names), "data.audio, data.text or data.video", "name features", ())
        require_each(self, "data", "name each feature once", lambda v: all(v) and len(set(v)) == len(v), *MODALITIES)
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, "data.audio, data.text and data.video", "name each feature once", twice[:1])
        if self.widths is not None:
            fits = len(self.widths) == len(names) and all(width > 0 for width in self.widths)
            require(fits, "data.widths", f"give one width a feature ({', '.join(names)})", self.widths)
        require(self.folds >= 2, "data.folds", "be at least 2", self.folds)
        named = self.fold is None or 1 <= self.fold <= self.folds
        require(named, "data.fold", f"be from 1 to {self.folds}", self.fold)
        sizes = self.train, self.test
        require(sizes[0] >= 60 and sizes[1] >= 20, "data.train and data.test", "be at least 60 and 20", sizes)
        require(self.noise > 0, "data.noise", "be positive", self.noise)
        require(self.generator_seed >= 0, "data.generator_seed", "not be negative", self.generator_seed)

    @property
    def letters(self) -> str:
        """The modalities by their letters: ATV."""
        return "".join(name[0].upper() for name in MODALITIES if getattr(self, name))

    @property
    def own(self) -> bool:
        """Whether it is the user's own, whose valence may be on any scale."""
        return corpora.layout(self.corpus).scale is None


@dataclass(frozen=True, kw_only=True)
class Model:
    """The fusion model, and what makes it take any subset of the modalities."""

    name: Literal["attention", "attention_robust", "lf_dnn", "lmf", "tfn", "misa", "mmim", "topn"] = "attention"
    """topn is attention over up to 18 features; attention_robust, attention with a plain softmax and dropout on what is
    fused."""
    hidden: int = 128
    """Width of the hidden vectors; tfn grows with its cube, so 32 to 64 there."""
    dropout: float = 0.35
    """Of each encoder's input, of the fusion's input, and of what is fused."""
    modality_dropout: float = 0.0
    """Probability that an utterance loses one or two modalities in a training step."""
    warmup: int = 0
    """Epochs without modality dropout; over as many more it rises to its full probability."""
    dropout_kind: Literal["pattern", "balanced"] = "pattern"
    """pattern zeroes what the encoders say; balanced takes modalities away as if they were missing, each as often."""
    patterns: tuple[str, ...] = ()
    """What modality dropout leaves, and how often: ATV=.7 AT=.2 T=.1, as `affect inspect` prints it of a part; each
    incomplete subset as often where none are given."""
    softmax: Literal["none", "plain", "masked"] | None = None
    """Of the attention's weights; masked leaves out what is missing. None: as the model was published."""
    rescale: bool = False
    """Multiply the attention's weights by the number of features that are there: what is fused grows with it."""
    fused_dropout: bool | None = None
    """Drop values of what is fused, too. None: as the model was published."""
    views: float = 0.0
    """Weight of a second look at each utterance: the first then is at all it has, the second at what modality dropout
    leaves; 0: one look."""
    missing: Literal["zeros", "token"] = "zeros"
    """What stands for a missing modality: its encoder's answer to zeros, or a learned vector."""
    imputation: float = 0.0
    """Weight of the loss of a part that guesses a missing modality's hidden vector from the others; 0 has none."""
    contrastive: float = 0.0
    """Weight of the contrastive loss that aligns the modalities of an utterance; 0 has none."""
    temperature: float = 0.1
    """Of the contrastive loss."""
    normalise: bool = False
    """Standardise features by the training part."""
    rank: int = 4
    """Of lmf's factors."""

    def __post_init__(self) -> None:
        """Check every field; what depends on the features the model itself refuses."""
        hold(self, "model")
        require_most(self, "model", MOST_WEIGHT, "views", "imputation", "contrastive", "temperature")
        require(self.hidden != 1, "model.hidden", "be at least 2", self.hidden)
        require_most(self, "model", WIDEST, "hidden", "rank")
        require_each(self, "model", "be positive", lambda value: value > 0, "hidden", "temperature", "rank")
        require_each(self, "model", "not be negative", lambda v: v >= 0, "warmup", "imputation", "contrastive", "views")
        require(0 <= self.dropout < 1, "model.dropout", "lie in [0, 1)", self.dropout)
        p = self.modality_dropout
        require(
            0 <= p < 1 or (p == 1 and bool(self.patterns)),
            "model.modality_dropout",
            "lie in [0, 1), or be 1 with model.patterns",
            p,
        )
        given = self.patterns
        require(not given or self.modality_dropout > 0, "model.patterns", "be left out without modality_dropout", given)
        shares = self.pattern_shares
        sound = len(shares) == len(given) and all(share > 0 for share in shares.values())
        must = "be LETTERS=FREQUENCY, each of A, T, V once at most and each pattern once (ATV=.7 AT=.3)"
        require(sound, "model.patterns", must, given)
        if not p:
            require_each(
                self, "model", "be 0 without model.modality_dropout", lambda value: value == 0, "warmup", "views"
            )
        require(self.rank == 4 or self.name == "lmf", "model.rank", f"be left out: {self.name} has none", self.rank)
        if self.name not in WEIGHING:
            must = f"be left out: {self.name} has no attention"
            require_each(self, "model", must, lambda v: not v or v == "none", "softmax", "fused_dropout", "rescale")
        fills = self.imputation == 0 or self.missing == "zeros"
        require(fills, "model.missing", "be zeros with model.imputation, which fills in itself", self.missing)

    @property
    def pattern_shares(self) -> dict[str, float]:
        """The frequency of each pattern of `patterns` that is spelt as it should be."""
        spelt = [re.fullmatch(rf"({'|'.join(_PATTERNS)})=([0-9]*\.?[0-9]+)", text) for text in self.patterns]
        return {match[1]: float(match[2]) for match in spelt if match}

    @property
    def score_softmax(self) -> Literal["none", "plain", "masked"]:
        """`softmax`, the named model's own where it is None."""
        return self.softmax or ("plain" if self.name == "attention_robust" else "none")

    @property
    def drops_fused(self) -> bool:
        """`fused_dropout`, the named model's own where it is None."""
        return self.name == "attention_robust" if self.fused_dropout is None else self.fused_dropout

    def check_streams(self, modalities: tuple[str, ...]) -> None:
        """Raise AffectError where the model can't be of these streams' modalities."""
        if len(set(modalities)) < len(modalities):
            require(self.name == "topn", "model.name", "be topn with several features of a modality", self.name)
        if len(set(modalities)) < 2:
            must = "be 0 with one modality: it would drop all there is"
            require(not self.modality_dropout, "model.modality_dropout", must, self.modality_dropout)
        if len(modalities) < 2:
            must = "be 0 with one feature: it is predicted from the others"
            require(not self.imputation, "model.imputation", must, self.imputation)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model has to know of the data it is for; it is saved with the model's section."""

    streams: tuple[Stream, ...]
    """Modalities in the order of `MODALITIES`; one feature each, of `topn` several."""
    classes: tuple[str, ...] = ()
    """Those of the target `emotion`, in the order of its logits."""
    targets: tuple[Target, ...] = ("emotion", "valence")
    scale: tuple[float, float] = SCALE
    """Lowest and highest valence."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(0 < len(self.streams) <= MOST_STREAMS, "streams", f"be 1 to {MOST_STREAMS}", self.streams)
        order = tuple(name for name in MODALITIES for _ in range(self.modalities.count(name)))
        require(order == self.modalities, "streams", f"be of {', '.join(MODALITIES)}, in this order", self.modalities)
        different = len({stream[:2] for stream in self.streams}) == len(self.streams)
        require(different, "streams", "name each feature once", self.streams)
        require(all(width > 0 for width in self.widths), "streams", "have positive widths", self.widths)
        require(bool(self.targets), "targets", "name at least one", self.targets)
        different = len(self.classes) > 1 and len(set(self.classes)) == len(self.classes)
        if "emotion" in self.targets:
            require(different, "classes", "be at least two different names", self.classes)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modality of each stream."""
        return tuple(modality for modality, _, _ in self.streams)

    @property
    def keys(self) -> tuple[str, ...]:
        """The input that holds each stream."""
        return corpora.stream_keys(self.modalities)

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each stream."""
        return tuple(width for _, _, width in self.streams)


SEEDS = 6
"""Seeds that the strict protocol asks for: with fewer no sign-flip test can reach p = .05."""


@dataclass(frozen=True, kw_only=True)
class MultimodalEmotion(Recipe):
    """The emotion of an utterance, its valence or both, from features of its audio, text and video."""

    task: ClassVar[str] = "multimodal_emotion"

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    targets: tuple[Target, ...] = ("emotion", "valence")
    """What is predicted: emotion is a class, valence a number; valence alone is regression."""
    protocol: Literal["toolkit", "strict"] = "strict"
    """toolkit: one seed, as the public toolkit's runs; strict: six seeds from `seed` on, or those of --seeds. In both
    the epoch is chosen on the fold (by `choose`) and the test parts are predicted once."""
    choose: Literal["emoval", "subsets"] = "emoval"
    """Score by which the epoch is kept: emoval on the fold, as in the public toolkit (of your own data the first of the
    report's measures), or its mean over all subsets of the modalities."""
    noise: tuple[float, float] | None = None
    """Lowest and highest signal-to-noise ratio in dB of noise on training features, drawn anew in each epoch."""
    together: int | None = None
    """Runs whose steps are taken as one stack; None decides by the model's size. Decides speed, never the result."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require(self.together is None or self.together > 0, "together", "be positive (or None)", self.together)
        require(bool(self.targets), "targets", "name at least one", self.targets)
        require(len(set(self.targets)) == len(self.targets), "targets", "name each once", self.targets)
        of_classes = "emotion" in self.targets or not self.data.classes
        require(of_classes, "data.classes", "be left out unless targets name emotion", self.data.classes)
        of_numbers = "valence" in self.targets or self.data.scale is None
        require(of_numbers, "data.scale", "be left out unless targets name valence", self.data.scale)
        low_high = self.noise is None or -DECIBELS <= self.noise[0] <= self.noise[1] <= DECIBELS
        require(low_high, "noise", f"be low then high, in dB within {DECIBELS:g}", self.noise)
        self.model.check_streams(tuple(m for m in MODALITIES for _ in getattr(self.data, m)))

    def seeds(self, given: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the seeds of the protocol. Raises AffectError for fewer than the strict one asks for."""
        if self.protocol == "toolkit":
            return given or (self.seed,)
        chosen = given or tuple(range(self.seed, self.seed + SEEDS))
        must = f"be at least {SEEDS} with protocol=strict (or --protocol toolkit)"
        require(len(chosen) >= SEEDS, "seeds", must, chosen)
        return chosen
