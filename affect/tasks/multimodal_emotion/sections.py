"""The sections of a multimodal emotion recipe: its data and its model. Imports no tensor library."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from affect.data import corpora
from affect.recipe import require

if TYPE_CHECKING:
    CorpusName = str
else:
    # Help and errors list what there is.
    CorpusName = Literal[tuple(corpora.FEATURES)]

_FIRST = corpora.layout(next(iter(corpora.FEATURES)))


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
    labels: Literal["auto", "npz", "csv"] = "auto"
    """Where the labels are: label-6way.npz, or train-label.csv and its like."""
    folds: int = 5
    """Random folds of the training part, drawn by the seed; what is left over goes to the last."""
    fold: int | None = None
    """Run this fold alone, from 1."""
    train: int = 600
    """Training utterances of the generated corpus."""
    test: int = 150
    """Utterances of each of its three test parts."""
    noise: float = 1.0
    """How noisy its features are and how much of them is missing: .5 is mild, 2 harsh."""
    generator_seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        require(bool(self.root), "data.root", "name a folder", self.root)
        require(self.name != "", "data.name", "be a name", self.name)
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        corpora.check_options(self.corpus, given, {item.name: item.default for item in fields(self)})
        names = (*self.audio, *self.text, *self.video)
        require(bool(names), "data.audio, data.text or data.video", "name features", ())
        for modality in ("audio", "text", "video"):
            mine = getattr(self, modality)
            require(all(mine) and len(set(mine)) == len(mine), f"data.{modality}", "name each feature once", mine)
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, "data.audio, data.text and data.video", "name each feature once", twice[:1])
        if self.widths is not None:
            fits = len(self.widths) == len(names) and all(width > 0 for width in self.widths)
            require(fits, "data.widths", f"give one width a feature ({', '.join(names)})", self.widths)
        require(self.folds >= 2, "data.folds", "be at least 2", self.folds)
        named = self.fold is None or 1 <= self.fold <= self.folds
        require(named, "data.fold", f"be from 1 to {self.folds}", self.fold)
        require(self.train >= 60 and self.test >= 20, "data.train and data.test", "be at least 60 and 20",
                (self.train, self.test))  # fmt: skip
        require(self.noise > 0, "data.noise", "be positive", self.noise)
        require(self.generator_seed >= 0, "data.generator_seed", "not be negative", self.generator_seed)


@dataclass(frozen=True, kw_only=True)
class Model:
    """The fusion model, and what makes it take any subset of the modalities."""

    name: Literal["attention", "attention_robust", "lf_dnn", "lmf", "tfn", "misa", "mmim", "topn"] = "attention"
    """topn is attention over up to 18 features; attention_robust is report 001's."""
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
        require(self.hidden > 0, "model.hidden", "be positive", self.hidden)
        for name in ("dropout", "modality_dropout"):
            require(0 <= getattr(self, name) < 1, f"model.{name}", "lie in [0, 1)", getattr(self, name))
        require(self.warmup >= 0, "model.warmup", "not be negative", self.warmup)
        idle = self.warmup == 0 or self.modality_dropout > 0
        require(idle, "model.warmup", "be 0 without model.modality_dropout", self.warmup)
        idle = self.views == 0 or self.modality_dropout > 0
        require(idle, "model.views", "be 0 without model.modality_dropout", self.views)
        for name in ("imputation", "contrastive", "views"):
            require(getattr(self, name) >= 0, f"model.{name}", "not be negative", getattr(self, name))
        require(self.temperature > 0, "model.temperature", "be positive", self.temperature)
        require(self.rank > 0, "model.rank", "be positive", self.rank)
