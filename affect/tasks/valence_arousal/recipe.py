"""The recipe of valence/arousal regression: its data, model and loss. Imports no tensor library."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from affect.recipe import Recipe, require

OPTIONS = {
    "csv_folder": ("columns", "scale", "labels", "audio"),
    "hub": ("columns", "scale", "subset", "revision", "limit", "streaming"),
}
"""The fields of `Data` that say how to read your own data, by corpus; the other corpora take none of them."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The corpus, what is held out, and the features."""

    corpus: Literal["synthetic", "iemocap", "emodb", "csv_folder", "hub"] = "iemocap"
    """Layout of the corpus; synthetic generates one, csv_folder and hub read your own data."""
    root: str
    """Folder of the corpus (for hub also a name); synthetic writes its corpus there, in IEMOCAP's layout."""
    split: Literal["session", "speaker", "script", "column"] = "session"
    """What is held out together: leave one session (or speaker) out, disjoint scripts, or what the column `split`
    of your own data says (columns=split=THEIRS where it has another name)."""
    fold: int | None = None
    """The fold to run, from 1; None runs all of them, one after another."""
    allow_shared: bool = False
    """Accept a split that shares speakers or dialogues between its parts, which makes scores look better."""
    prosody: Literal["default", "egemaps"] = "default"
    """Functionals of pitch, energy and voice quality; egemaps needs the extra of that name."""
    columns: tuple[str, ...] = ()
    """For csv_folder and hub: OURS=THEIRS for each column that has another name there (valence=EmoVal ...)."""
    scale: tuple[float, float] | None = None
    """Lowest and highest label of your own data; the corpora know theirs (csv_folder and hub assume 1 to 5)."""
    labels: str | None = None
    """For csv_folder: the CSV file below root; labels.csv, or the only one there, when not given."""
    audio: str | None = None
    """For csv_folder: the folder of recordings below root; beside the CSV file when not given."""
    subset: str | None = None
    """For hub: the configuration to read, of a source that has several."""
    revision: str | None = None
    """For hub: branch, tag or commit of a source on the Hub."""
    limit: int | None = None
    """For hub: read this many rows at most."""
    streaming: bool = False
    """For hub: fetch row by row, no more than limit asks for, and hold the rows in memory."""
    dialogues: int = 4
    """For synthetic: dialogues a session."""
    utterances: int = 12
    """For synthetic: utterances a dialogue."""
    seconds: tuple[float, float] = (1.0, 3.0)
    """For synthetic: shortest and longest utterance."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.fold is None or self.fold > 0, "data.fold", "be counted from 1 (or None for all)", self.fold)
        require(bool(self.root), "data.root", "name the corpus's folder", self.root)
        require(self.scale is None or self.scale[0] < self.scale[1], "data.scale", "be low then high", self.scale)
        require(self.limit is None or self.limit > 0, "data.limit", "be positive (or None)", self.limit)
        for item in fields(self):
            owners = [corpus for corpus, names in OPTIONS.items() if item.name in names]
            value = getattr(self, item.name)
            taken = not owners or self.corpus in owners or value == item.default
            require(taken, f"data.{item.name}", f"be left out unless corpus is {' or '.join(owners)}", value)
        bad = [pair for pair in self.columns if pair.count("=") != 1 or not all(pair.split("="))]
        require(not bad, "data.columns", "be OURS=THEIRS", bad)
        ours = [pair.split("=")[0] for pair in self.columns]
        require(len(set(ours)) == len(ours), "data.columns", "name each of ours once", self.columns)
        for name in ("dialogues", "utterances"):
            require(getattr(self, name) > 0, f"data.{name}", "be positive", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Model:
    """Speech encoder, pooling, prosody branch and heads."""

    encoder: str = "microsoft/wavlm-large"
    """A name on the Hub or a local folder (WavLM, HuBERT, wav2vec2, XLSR, Whisper); tiny or small are random ones;
    none uses the prosody branch alone."""
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

    def __post_init__(self) -> None:
        """Check every field."""
        require(bool(self.encoder), "model.encoder", "name an encoder", self.encoder)
        require(
            self.encoder != "none" or self.prosody_dim > 0, "model.prosody_dim", "be positive without an encoder", 0
        )
        require(self.prosody_dim >= 0, "model.prosody_dim", "not be negative", self.prosody_dim)
        require(self.hidden > 0, "model.hidden", "be positive", self.hidden)
        require(0 <= self.dropout < 1, "model.dropout", "lie in [0, 1)", self.dropout)
        rate = self.encoder_dropout
        require(rate is None or 0 <= rate < 1, "model.encoder_dropout", "lie in [0, 1) (or be None)", rate)
        require(0 <= self.layerdrop < 1, "model.layerdrop", "lie in [0, 1)", self.layerdrop)
        require(not isinstance(self.layers, int) or self.layers > 0, "model.layers", "be counted from 1", self.layers)
        unused = {"layers": "last", "checkpointing": False, "layerdrop": 0.0, "spec_augment": False}
        for name, default in unused.items():
            value = getattr(self, name)
            taken = self.encoder != "none" or value == default
            require(taken, f"model.{name}", "be left out with encoder=none, which has nothing it could change", value)


@dataclass(frozen=True, kw_only=True)
class ValenceArousal(Recipe):
    """Valence and arousal of an utterance."""

    task: ClassVar[str] = "valence_arousal"

    data: Data = field(default_factory=lambda: Data(root="data/IEMOCAP_full_release"))
    model: Model = field(default_factory=Model)
    targets: tuple[Literal["valence", "arousal", "dominance"], ...] = ("valence", "arousal")
    loss: Literal["ccc", "weighted", "mse", "ccc_mse"] = "ccc"
    """1 - CCC of the global batch, the same with `weights`, squared error, or the sum of both."""
    weights: tuple[float, ...] | None = None
    """Weight of each target's loss, for loss=weighted; report 000 used 1.5 1.0."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require(bool(self.targets), "targets", "name at least one", self.targets)
        require(len(set(self.targets)) == len(self.targets), "targets", "name each once", self.targets)
        both = self.model.uncertainty and self.loss == "ccc_mse"
        require(not both, "model.uncertainty", "be off with loss=ccc_mse: it weighs one term a target", True)
        if self.loss == "weighted":
            given = self.weights is not None and len(self.weights) == len(self.targets)
            require(
                given,
                "weights",
                f"give one number a target ({', '.join(self.targets)}) with loss=weighted",
                self.weights,
            )
            require(all(w > 0 for w in self.weights or ()), "weights", "be positive", self.weights)
        else:
            require(self.weights is None, "weights", "be left out unless loss=weighted", self.weights)
