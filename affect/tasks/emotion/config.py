"""The recipe of emotion in speech and words: data, model, augmentation and loss. Imports no tensor library."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from affect.config import DAY, DECIBELS, DEEPEST, WIDEST, default_values, hold, require, require_each, require_most
from affect.data import corpora
from affect.data.corpora.layout import Layout
from affect.recipe import Recipe

EMOTION = "emotion"
"""The target that is a class; all others are numbers."""
UNIT, PROBABILITY = "_unit", "_probability"
"""What follows a number's name in the output that tells it from 0 to 1, and the class's in its probabilities'."""


def numbers_of(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of a recipe's or a model's targets that are numbers."""
    return tuple(target for target in targets if target != EMOTION)


if TYPE_CHECKING:
    CorpusName = str
else:
    # Help and errors list what there is.
    CorpusName = Literal[corpora.names(corpora.UTTERANCES)]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The corpus, what is held out, and the features."""

    corpus: CorpusName = corpora.names(corpora.UTTERANCES)[0]
    """Layout of the corpus, or of your own data."""
    root: str
    """Folder of the corpus, or a source's name on the Hub; a generated corpus is written there."""
    name: str | None = None
    """What reports and cards call the corpus, in place of its layout's name."""
    split: str = "session"
    """What is held out together: session, speaker (of a dyad the other one validates), script (disjoint scripts),
    column (what the column `split` says: train, valid, and tests, all of which one training predicts), or any column,
    whose groups are held out in turn."""
    fold: int | None = None
    """The fold to run, from 1; None runs all of them, one after another."""
    allow_shared: bool = False
    """Accept a split that shares speakers or dialogues between its parts, which makes scores look better."""
    prosody: Literal["default", "egemaps"] = "default"
    """Functionals of pitch, energy and voice quality; egemaps needs the extra of that name."""
    classes: tuple[str, ...] = ()
    """For targets=emotion: the classes, each an emotion of the corpus or several joined (hap+exc); those usual for
    the corpus when not given, or all of its emotions. Other emotions count as missing."""
    embeddings: str | None = None
    """For model.speaker=embedding: a table (parquet, jsonl) with the columns id and embedding, or a folder of
    <id>.npy."""
    columns: tuple[str, ...] = ()
    """Of your own data: OURS=THEIRS for each column that has another name there (valence=EmoVal ...). Columns that
    are none of ours stay as they are called."""
    scale: tuple[float, float] | None = None
    """Lowest and highest label of your own data, inferred from the labels when not given; the corpora know theirs."""
    raters: Literal["mean"] | None = None
    """Of your own data with a row a rater: mean averages them (the emotion is the one that most gave); such rows are
    refused when not given."""
    decimal: Literal[".", ","] = "."
    """Of your own data: the sign before decimals."""
    labels: str | None = None
    """Of a folder with a table: the CSV file below root; labels.csv, or the only one there, when not given."""
    audio: str | None = None
    """Of a folder with a table: the folder of recordings below root; beside the CSV file when not given."""
    subset: str | None = None
    """Of a source on the Hub: the configuration to read, where it has several."""
    revision: str | None = None
    """Of a source on the Hub: branch, tag or commit."""
    limit: int | None = None
    """Of a source on the Hub: read this many rows at most."""
    streaming: bool = False
    """Of a source on the Hub: fetch row by row, no more than limit asks for, and hold the rows in memory."""
    dialogues: int = 4
    """Of a generated corpus: dialogues a session."""
    utterances: int = 12
    """Of a generated corpus: utterances a dialogue."""
    seconds: tuple[float, float] = (1.0, 3.0)
    """Of a generated corpus: shortest and longest utterance."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "data")
        require_most(self, "data", 100_000, "dialogues", "utterances")
        short, long = self.seconds
        require(0 < short <= long <= DAY, "data.seconds", "go from more than 0 to more", self.seconds)
        require(self.fold is None or self.fold > 0, "data.fold", "be counted from 1 (or None for all)", self.fold)
        require(bool(self.root), "data.root", "name the corpus's folder", self.root)
        sound = self.scale is None or -math.inf < self.scale[0] < self.scale[1] < math.inf
        require(sound, "data.scale", "be low then high, both finite", self.scale)
        require(self.name != "", "data.name", "be a name", self.name)
        require(bool(self.split), "data.split", "be a kind of split or a column", self.split)
        corpora.check_options(self.corpus, vars(self), default_values(self))
        corpora.check_pairs(self.corpus, self.columns)
        require_each(self, "data", "be positive", lambda value: value > 0, "limit", "dialogues", "utterances")

    @property
    def layout(self) -> Layout:
        """What the corpus says of itself."""
        return corpora.layout(self.corpus)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Speech encoder, pooling, prosody branch and heads."""

    encoder: str = "microsoft/wavlm-large"
    """A name on the Hub or a local folder (WavLM, HuBERT, wav2vec2, XLSR, Whisper); tiny or small are random ones;
    mel is a log-mel spectrogram, nothing pretrained; none leaves speech out."""
    train_encoder: Literal["all", "transformer", "none"] = "transformer"
    """Train all of the encoder, all but its convolutions, or nothing."""
    layers: Literal["last", "weighted"] | int = "last"
    """The encoder's layer to use, counted from 1, the last one, or a learned weighted sum of all."""
    pooling: Literal["mean", "attention", "attentive_statistics"] = "mean"
    prosody_dim: int = 64
    """Width of the prosody branch; 0 switches it off."""
    hidden: int = 256
    """Width of the heads."""
    dropout: float = 0.3
    """Of the heads and the prosody branch."""
    encoder_dropout: float | None = None
    """Replaces the encoder's own dropout rates; None leaves them."""
    attention_dropout: float | None = None
    """Replaces the encoder's rate inside attention alone; with 0 a GPU takes its fused attention."""
    sigmoid: bool = True
    """Bound the outputs to the label scale."""
    uncertainty: bool = False
    """Weigh the loss's terms by learned log variances."""
    checkpointing: bool = False
    """Recompute the encoder's activations in the backward pass: less memory, a third more compute."""
    layerdrop: float = 0.0
    """Share of encoder layers skipped at random in training."""
    spec_augment: bool = False
    """Mask stretches of the encoder's input in training."""
    lora: int = 0
    """Rank of low-rank adapters, which then learn in place of the encoder's own weights, at optim.encoder_lr (1e-4 is
    usual for them); 0 has none."""
    temporal: Literal["none", "mamba"] = "none"
    """Mamba layers over the encoder's frames before they are pooled."""
    prosody_attention: int = 0
    """Heads with which the prosody attends to the speech frames (4 is usual); 0 leaves it out."""
    dialogue: Literal["none", "mamba"] = "none"
    """Mamba layers over the utterances of a dialogue, and a state that remembers them."""
    segment: int = 4
    """With dialogue: consecutive utterances of a dialogue that train together, one example of train.batch.
    Evaluation runs whole dialogues."""
    state_dim: int = 64
    """With dialogue: width of the state."""
    state_decay: float = 0.8
    """With dialogue: what the state keeps from one utterance to the next."""
    mamba_dim: int = 256
    """Width of the Mamba layers."""
    mamba_layers: int = 2
    """Mamba layers of temporal and of dialogue, each."""
    gates: bool = False
    """A softmax gate a target over prosody and everything else."""
    speaker: str = "none"
    """Modulate the speech by the speaker: embedding (data.embeddings), or an x-vector model of transformers by its
    name on the Hub or its folder (microsoft/wavlm-base-plus-sv; tiny-xvector is a random one)."""
    text: str = "none"
    """Text encoder of the transcripts, by name or folder; ngrams is a small one trained from scratch, tiny-text a
    random one."""
    train_text: Literal["all", "none"] = "all"
    """Train the text encoder, or keep it as it is."""
    text_dropout: float | None = None
    """Replaces the text encoder's own dropout rates; of ngrams the share that is left out (.6). None leaves them."""
    cache: Literal["none", "float16", "float32"] = "none"
    """Compute a frozen encoder's states once, in this precision, and read them from disk afterwards."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "model")
        # A head's second layer is half as wide.
        require(self.hidden != 1, "model.hidden", "be at least 2", self.hidden)
        require_most(self, "model", DEEPEST, "layers", "mamba_layers")
        require_most(self, "model", WIDEST, "prosody_dim", "hidden", "lora", "state_dim", "mamba_dim", "segment")
        require(bool(self.encoder), "model.encoder", "name an encoder", self.encoder)
        any_input = self.encoder != "none" or self.prosody_dim > 0 or self.text != "none"
        require(any_input, "model.prosody_dim", "be positive without an encoder or text", self.prosody_dim)
        require(not isinstance(self.layers, int) or self.layers > 0, "model.layers", "be counted from 1", self.layers)
        require_each(
            self, "model", "not be negative", lambda value: value >= 0, "prosody_dim", "lora", "prosody_attention"
        )
        require_each(self, "model", "be positive", lambda value: value > 0, "hidden", "segment", "state_dim",
                     "mamba_dim", "mamba_layers")  # fmt: skip
        require_each(self, "model", "lie in [0, 1)", lambda value: 0 <= value < 1, "dropout", "encoder_dropout",
                     "attention_dropout", "text_dropout", "layerdrop", "state_decay")  # fmt: skip
        # What would change nothing, or contradicts another field.
        mamba = self.dialogue != "none" or self.temporal != "none"
        frozen = self.train_encoder == "none"
        still = ("lora", "layerdrop") if self.encoder == "mel" else ("lora", "layerdrop", "spec_augment")
        unused = (
            (self.encoder == "none", _OF_ENCODERS, "be left out with encoder=none: nothing it could change"),
            (self.encoder == "mel", _OF_PRETRAINED, "be left out with encoder=mel, which learns nothing"),
            (self.dialogue == "none", _OF_DIALOGUES, "be left out unless dialogue=mamba"),
            (self.text == "none", ("train_text", "text_dropout"), "be left out without text"),
            (not mamba, ("mamba_layers",), "be left out without model.temporal or model.dialogue"),
            (
                not mamba and not self.prosody_attention,
                ("mamba_dim",),
                "be left out without model.temporal, model.dialogue or model.prosody_attention",
            ),
            (frozen, still, "be off with train_encoder=none, which trains nothing"),
            (not frozen, ("cache",), "be none unless train_encoder=none: states would go stale"),
            (self.text == "ngrams", ("train_text",), "be all with text=ngrams, which knows nothing yet"),
            (not self.prosody_dim, ("prosody_attention", "gates"), "be left out without model.prosody_dim"),
            (self.encoder == self.text == "none", ("gates",), "be off where prosody is all there is"),
        )
        defaults = default_values(self)
        for useless, names, must in unused:
            for name in names if useless else ():
                require(getattr(self, name) == defaults[name], f"model.{name}", must, getattr(self, name))
        heads = self.prosody_attention
        fits = not heads or self.mamba_dim % heads == 0
        require(fits, "model.prosody_attention", f"divide model.mamba_dim ({self.mamba_dim})", heads)


_OF_PRETRAINED = ("layers", "checkpointing", "layerdrop", "encoder_dropout", "attention_dropout", "lora")
_OF_ENCODERS = ("layers", "checkpointing", "layerdrop", "spec_augment", "lora", "temporal", "prosody_attention",
                "speaker", "cache")  # fmt: skip
_OF_DIALOGUES = ("segment", "state_dim", "state_decay")
"""Fields of `Model` that need a pretrained encoder, some encoder, a dialogue state."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is changed about training recordings; each a function of (seed, epoch, utterance), none in evaluation.

    Prosody functionals stay those of the recording as it is, but Mixup mixes them too. SpecAugment is
    model.spec_augment.
    """

    stretch: float = 0.0
    """Largest change of tempo (0.1: up to a tenth faster or slower, pitch kept)."""
    shift: float = 0.0
    """Longest shift in time, in seconds."""
    noise: tuple[float, float] | None = None
    """Lowest and highest signal-to-noise ratio in dB of added noise."""
    noise_files: str | None = None
    """Folder of noise recordings; noise is generated when not given."""
    gain: float = 0.0
    """Largest change of level, in dB."""
    mixup: float = 0.0
    """Alpha of the Beta distribution by which two utterances and their labels are mixed."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "augment")
        require_most(self, "augment", 1_000, "mixup")
        require_most(self, "augment", DAY, "shift")
        require(0 <= self.stretch < 1, "augment.stretch", "lie in [0, 1)", self.stretch)
        require_each(self, "augment", "not be negative", lambda value: value >= 0, "shift", "mixup")
        require(0 <= self.gain < 60, "augment.gain", "lie in [0, 60)", self.gain)
        low_high = self.noise is None or -DECIBELS <= self.noise[0] <= self.noise[1] <= DECIBELS
        require(low_high, "augment.noise", f"be low then high, in dB within {DECIBELS:g}", self.noise)
        alone = self.noise_files is None or self.noise is not None
        require(alone, "augment.noise_files", "be left out unless augment.noise says how loud", self.noise_files)

    @property
    def any(self) -> bool:
        """Whether anything is changed."""
        return bool(self.stretch or self.shift or self.noise or self.gain or self.mixup)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model has to know of the data it is for; it is saved with the model's section."""

    targets: tuple[str, ...] = ("valence", "arousal")
    classes: tuple[str, ...] = ()
    """Those of the target `emotion`, in the order of its logits."""
    scale: tuple[float, float] = (1.0, 5.0)
    """Lowest and highest raw label: what 0 and 1 of a number stand for."""
    prosody: str = "default"
    """The kind of functionals."""
    prosody_version: int = 1
    """Of the functionals that it was trained on: `affect.data.prosody.VERSION`."""
    prosody_features: int = 88
    speaker_features: int = 0
    """Channels of the speaker embeddings that are an input, 0 where there are none."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(bool(self.targets), "targets", "name at least one", self.targets)
        require(len(set(self.targets)) == len(self.targets), "targets", "name each once", self.targets)
        several = EMOTION not in self.targets or len(self.classes) > 1
        require(several, "classes", "be at least two with the target emotion", self.classes)
        require(self.prosody_features > 0, "prosody_features", "be positive", self.prosody_features)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The targets that are numbers."""
        return numbers_of(self.targets)


@dataclass(frozen=True, kw_only=True)
class Emotion(Recipe):
    """Valence and arousal of an utterance."""

    task: ClassVar[str] = "emotion"

    data: Data = field(default_factory=lambda: Data(root="data/IEMOCAP_full_release"))
    model: Model = field(default_factory=Model)
    augment: Augment = field(default_factory=Augment)
    targets: tuple[Literal["valence", "arousal", "dominance", "emotion"], ...] = ("valence", "arousal")
    """What is predicted; emotion is a class (data.classes), the others are numbers."""
    loss: Literal["ccc", "weighted", "mse", "ccc_mse"] = "ccc"
    """1 - CCC of the global batch, the same with `weights`, squared error, or the sum of both; emotion has its cross
    entropy added."""
    weights: tuple[float, ...] | None = None
    """Weight of each target's loss, for loss=weighted: 1.5 1.0 lets valence count more."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require(bool(self.targets), "targets", "name at least one", self.targets)
        require(len(set(self.targets)) == len(self.targets), "targets", "name each once", self.targets)
        both = self.model.uncertainty and self.loss == "ccc_mse"
        require(not both, "model.uncertainty", "be off with loss=ccc_mse: it weighs one term a target", True)
        weights = self.weights
        if self.loss == "weighted":
            must = f"give one number a target ({', '.join(self.targets)}) with loss=weighted"
            require(len(weights or ()) == len(self.targets), "weights", must, weights)
            require(all(w > 0 for w in weights or ()), "weights", "be positive", weights)
        else:
            require(weights is None, "weights", "be left out unless loss=weighted", weights)
        data, model, augment = self.data, self.model, self.augment
        named = EMOTION in self.targets or not data.classes
        require(named, "data.classes", "be left out unless targets name emotion", data.classes)
        given = (model.speaker == "embedding") == (data.embeddings is not None)
        require(given, "data.embeddings", "be given with model.speaker=embedding alone", data.embeddings)
        if not data.layout.has_audio:
            silence = f"with {data.corpus}, which has no audio"
            require(model.encoder == "none", "model.encoder", f"be none {silence}", model.encoder)
            require(not model.prosody_dim, "model.prosody_dim", f"be 0 {silence}", model.prosody_dim)
        if model.encoder == "none":
            require_each(
                augment, "augment", "be off with encoder=none", lambda v: not v, "stretch", "shift", "noise", "gain"
            )
        on = [f"augment.{name}" for name in ("stretch", "shift", "noise", "gain", "mixup") if getattr(augment, name)]
        same = not on or model.cache == "none"
        require(same, "model.cache", f"be none with {', '.join(on)}: states differ", model.cache)
        mixable = not augment.mixup or model.text == "none"
        require(mixable, "augment.mixup", "be 0 with text, which can't be mixed", augment.mixup)
        counts = self.loss in ("ccc", "weighted") or bool(self.numbers)
        require(counts, "loss", "be left out with targets=emotion alone", self.loss)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The targets that are numbers."""
        return numbers_of(self.targets)
