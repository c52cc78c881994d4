"""The recipe of speaker diarization: model and loss. Imports no tensor library.

The report's model comes as `before` and `improved`, with the causes of its failure as options of their own, so that
each can be changed alone; `ours` has none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from affect.config import (
    DAY,
    DEEPEST,
    LARGEST_SEED,
    MOST_WEIGHT,
    WIDEST,
    Need,
    hold,
    refuse_unused,
    require,
    require_each,
    require_most,
)  # fmt: skip
from affect.data.simulation import Simulation as Simulation  # recipes take it from here
from affect.recipe import Recipe

SAMPLING_RATE = 16_000
GENERATED_ROOT = "data/ssnd-voices"
"""Where generated voices are made, when nothing is said."""
EMPTY, NON_SPEAKER, PSEUDO = -1, -2, -3
"""What a slot holds, where it is no speaker by number (from 0): nothing; the embedding of nobody; the pseudo-speaker,
who stands for those whom nobody enrolled (further ones are -4, -5 ...)."""
ACTIVITY, EMBEDDING, REFERENCE = "activity", "embedding", "reference"
"""Outputs: logits of the slots' activity [B, N, T], a target too (labels, NaN where there are none); each speaker's
embedding from the block [B, K, D], and from another block of the same conversation."""
CANDIDATES, SPEAKER, VOICES = "candidates", "speaker", "voices"
"""Targets: the activity of those without a slot [B, K, T], NaN for others; which row of the table of training speakers
an embedding is to be near [B, N] (of ours [B, K]), -100 for none, an output too (cosines with all rows); and a number a
voice [B, K], -100 where an embedding is missing in either block."""

TINY: dict[str, Any] = {
    "channels": (4, 4, 8, 8), "blocks": (1, 1, 1, 1), "width": 16, "heads": 2, "hidden": 32, "kernel": 5,
    "encoder_layers": 1, "decoder_layers": 1,
}  # fmt: skip
"""Widths for tests."""
SMALL: dict[str, Any] = {
    "channels": (32, 64, 128, 256), "blocks": (3, 4, 6, 3), "width": 256, "heads": 8, "hidden": 512, "kernel": 15,
    "encoder_layers": 4, "decoder_layers": 4,
}  # fmt: skip
"""About S2SND-Small's, 16 million: with extractor=resnet before and improved have 17 million parameters and ours 14,
which pools embeddings over frames and has no second decoder for them (3.2 million), nor a table (.1)."""
MEDIUM: dict[str, Any] = {
    "channels": (64, 128, 256, 512), "blocks": (3, 4, 6, 3), "width": 320, "heads": 8, "hidden": 640, "kernel": 15,
    "encoder_layers": 6, "decoder_layers": 5,
}  # fmt: skip
"""About S2SND-Medium's, 46 million: 47 million and, without that decoder (6.2 million), 41 million."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A front end, a Conformer over frames, and decoders that tell of each slot when it speaks and who it is."""

    name: Literal["before", "improved", "ours"] = "ours"
    """before: the decoders' inputs are zeros; improved: learned ones, N(0, 1), another for each slot. Both look
    speakers up in a table and give a block's activity by one linear layer. ours: dot products of slots and frames, and
    speakers by their embeddings from another block."""
    extractor: str = "convolution"
    """resnet: a ResNet and statistics of segments; convolution: some strided convolutions, for a CPU; else the name of
    a speech encoder (a hub name, a folder, tiny)."""
    train_encoder: Literal["all", "transformer", "none"] = "none"
    """Which part of a speech encoder learns."""
    encoder_layer: Literal["last", "weighted"] | int = "weighted"
    """The layer of a speech encoder that is read, or a learned weighted sum of all."""
    norm: Literal["frame", "block"] = "frame"
    """frame: the extractor's frames are normalised each by itself, so that they may be kept between windows; block:
    each channel over the valid frames of the block (GroupNorm)."""
    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Of the ResNet's four stages; the last one is the width of the convolutions, too."""
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks of the ResNet's stages."""
    frame: Literal[640, 1280] = 1280
    """Samples of a frame at 16 kHz: 640 are 25 frames a second, 1280 are 12.5."""
    width: int = 128
    """Numbers of a frame, of a slot and of a speaker's embedding."""
    heads: int = 4
    hidden: int = 256
    """Numbers between the two layers of a block."""
    kernel: int = 15
    """Frames that a Conformer's convolution sees."""
    encoder_layers: int = 4
    decoder_layers: int = 2
    dropout: float = 0.1
    slots: int = 6
    """Slots of a training block: the pseudo-speakers', enrolled speakers', and what `padding` makes of the rest."""
    pseudo: int = 1
    """Slots of pseudo-speakers, each with an embedding of its own."""
    padding: Literal["mask", "non", "pseudo"] = "mask"
    """What slots are that nobody needs. mask: empty, they take no part; non: the non-speaker, and half of them absent
    speakers where there is a table of them, all taught silence; pseudo: the pseudo-speaker's, taught silence: as in
    the report."""
    embedding_divisor: float = 1.0
    """Of before and improved: what speaker embeddings are divided by on their way into a slot (16 in the report)."""
    activity_query: Literal["whole", "mean"] = "whole"
    """Of before and improved: what of a slot's activity asks for its embedding. mean, the report's, can't tell when."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "model")
        require_most(self, "model", MOST_WEIGHT, "embedding_divisor")
        wide = ("channels", "width", "heads", "hidden", "kernel", "slots", "pseudo")
        require_most(self, "model", WIDEST, *wide)
        require_most(self, "model", DEEPEST, "blocks", "encoder_layer", "encoder_layers", "decoder_layers")
        positive = ("width", "heads", "hidden", "slots", "pseudo", "embedding_divisor", "decoder_layers")
        require_each(self, "model", "be positive", lambda value: value > 0, *positive)
        require_each(self, "model", "lie in [0, 1)", lambda value: 0 <= value < 1, "dropout")
        require_each(self, "model", "not be negative", lambda value: value >= 0, "encoder_layers")
        require(bool(self.extractor), "model.extractor", "be a name", self.extractor)
        require(self.width % self.heads == 0, "model.width", f"be a multiple of model.heads ({self.heads})", self.width)
        require(self.kernel > 0 and self.kernel % 2 == 1, "model.kernel", "be odd and positive", self.kernel)
        for name in ("channels", "blocks"):
            sizes = getattr(self, name)
            four = len(sizes) == 4 and all(size > 0 for size in sizes)
            require(four, f"model.{name}", "be four positive numbers", sizes)
        require(self.pseudo < self.slots, "model.pseudo", f"be less than model.slots ({self.slots})", self.pseudo)
        built_in, plain = self.extractor in ("resnet", "convolution"), Model.__dataclass_fields__
        for name in ("train_encoder", "encoder_layer") if built_in else ("norm",):
            value = getattr(self, name)
            why = f"be left out with model.extractor={self.extractor}"
            require(value == plain[name].default, f"model.{name}", why, value)
        if self.name == "ours":
            for name in ("embedding_divisor", "activity_query"):
                value = getattr(self, name)
                require(value == plain[name].default, f"model.{name}", "be left out with model.name=ours", value)
        else:
            require(self.pseudo == 1, "model.pseudo", f"be 1 with model.name={self.name}", self.pseudo)

    @property
    def frames_per_second(self) -> float:
        """Frames of activity a second."""
        return SAMPLING_RATE / self.frame


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What activity and embeddings are learned by, how they are weighed, and whom the pseudo-speaker stands for."""

    activity: Literal["bce", "focal"] = "bce"
    alpha: float = 0.25
    """Of the focal loss the weight of activity; silence has 1 - alpha."""
    gamma: float = 2.0
    """Of the focal loss: how much less counts what is predicted well already."""
    divide_by: Literal["frames", "slots"] = "frames"
    """slots: the sum over slots and frames is divided by the slots alone, so that it is as many times larger as a block
    has frames."""
    labelled: Literal["all", "speakers"] = "all"
    """speakers: slots that hold no training speaker are left out, and so the non-speaker is never taught."""
    arcface: bool = False
    """Tell the training speakers apart, by a table."""
    margin: float = 0.2
    scale: float = 32.0
    contrastive: float = 1.0
    """Weight of the contrastive loss between the embeddings of a speaker from two blocks; 0 has none."""
    temperature: float = 0.1
    """Of the contrastive loss."""
    log_s_bce: float = 0.0
    """Activity's loss is weighed by exp(-s): s, or where it begins."""
    log_s_arcface: float = 2.3026
    """As `log_s_bce` for ArcFace: .1; 4.6052 is .01."""
    learned: bool = False
    """Learn both s: exp(-s) * loss + s."""
    weights_lr: float | None = 1e-2
    """The learning rate of both s, without decay; None is optim.lr, at which they barely move."""
    mask_prob: float = 0.5
    """Probability that the pseudo-speaker stands for one of a block's speakers, who is not enrolled."""
    masked: Literal["one", "some"] = "one"
    """How many are not enrolled with `mask_prob`: one, or any number from one to all, each as often."""
    empty: float = 0.25
    """Probability that nobody is enrolled, as at the start of a recording; it comes before `mask_prob`."""
    reference: Literal["other", "same"] = "other"
    """Which block of the conversation enrolled speakers' embeddings are from. same: the one that they are asked for in,
    so that what was said, and not who speaks, may tell."""
    reference_seconds: float = 0.5
    """Seconds that a speaker has to speak in the other block to be enrolled from it, and in both to be compared."""
    pseudo_weight: float = 2.0
    """How much the pseudo-speakers' slots count."""
    arrival: float = 0.0
    """Share of the loss in which the k-th pseudo-speaker is taught the k-th new speaker to begin; in the rest they are
    taught those that fit best together."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "loss")
        weights = ("contrastive", "pseudo_weight", "temperature", "margin", "scale", "gamma")
        require_most(self, "loss", MOST_WEIGHT, *weights)
        require_each(self, "loss", "lie in [-50, 50]", lambda value: -50 <= value <= 50, "log_s_bce", "log_s_arcface")
        require_most(self, "loss", DAY, "reference_seconds")
        require_most(self, "loss", 1_000, "weights_lr")
        require(0 < self.alpha < 1, "loss.alpha", "lie in (0, 1)", self.alpha)
        require_each(self, "loss", "be positive", lambda value: value > 0, "scale", "temperature", "weights_lr")
        require_each(self, "loss", "be positive", lambda value: value > 0, "pseudo_weight")
        require_each(
            self,
            "loss",
            "not be negative",
            lambda value: value >= 0,
            "gamma",
            "margin",
            "contrastive",
            "reference_seconds",
        )
        shares = ("mask_prob", "empty", "arrival")
        require_each(self, "loss", "lie in [0, 1]", lambda value: 0 <= value <= 1, *shares)
        unused = self.learned or self.weights_lr in (None, Loss.weights_lr)
        require(unused, "loss.weights_lr", "be left out without loss.learned", self.weights_lr)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model has to know of the data and the loss it is for; it is saved with the model's section."""

    frames: int = 0
    """Frames of a block, which before and improved are for."""
    speakers: int = 0
    """Training speakers that have a row of the table; 0 has none."""
    log_s: tuple[float, ...] = ()
    """Where the learned weights of activity and ArcFace begin; none where they are fixed."""
    focal: tuple[float, ...] = ()
    """Alpha and gamma of the focal loss, by which logits are calibrated; none of another loss."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_each(self, "data", "not be negative", lambda value: value >= 0, "frames", "speakers")
        for name in ("log_s", "focal"):
            value = getattr(self, name)
            require(len(value) in (0, 2), f"data.{name}", "be two numbers or none", value)


def signature(model: Model, loss: Loss, *, frames: int, speakers: int) -> Signature:
    """Return the signature of a model for blocks of `frames` frames of so many training speakers."""
    report = model.name != "ours"
    return Signature(
        frames=frames if report else 0,
        speakers=speakers if report or loss.arcface else 0,
        log_s=(loss.log_s_bce, loss.log_s_arcface) if loss.learned else (),
        focal=(loss.alpha, loss.gamma) if loss.activity == "focal" else (),
    )


def check_together(model: Model, loss: Loss) -> None:
    """Refuse a loss that the model has nothing for, by the field's name."""
    if model.name != "ours":
        must = f"be 0 with model.name={model.name}, which has one pseudo-speaker and embeddings from one block"
        require_each(loss, "loss", must, lambda value: not value, "contrastive", "arrival")
        require(loss.reference == "other", "loss.reference", f"be left out with model.name={model.name}", "same")
        require(loss.arcface, "loss.arcface", f"be on with model.name={model.name}, whose speakers have a table", False)
    if loss.labelled == "speakers":
        must = "be all where no speaker has a name (loss.arcface)"
        require(model.name != "ours" or loss.arcface, "loss.labelled", must, loss.labelled)


def are_generated(voices: object, root: object) -> bool:
    """Return whether fields of a section `data` ask for generated voices."""
    return voices == "generated" or (voices == "auto" and root == GENERATED_ROOT)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Voices of which conversations are simulated, recordings with turns, and what is tested."""

    voices: Literal["auto", "generated", "folder"] = "auto"
    """folder: recordings of one speaker each, below `root`; generated: drawn ones, which are made there; auto: a folder
    wherever `root` is given."""
    root: str = GENERATED_ROOT
    test_root: str | None = None
    """Folder of the voices of tests. Generated voices have unseen ones of their own; of others a fifth of those of
    `root` are kept for tests where there is no such folder."""
    name: str | None = None
    """What reports call the voices."""
    speaker: Literal["auto", "folder", "name"] = "auto"
    """What tells who speaks: the first folder below the root, what a file's name begins with, or the one that there
    is."""
    separator: str = "-"
    """Behind what a file's name begins with."""
    table: str | None = None
    """A CSV below the root that tells who speaks, in place of names."""
    columns: tuple[str, str] = ("path", "speaker")
    """What the table calls a recording's path (from the table's folder) and its speaker."""
    voices_layout: str | None = None
    """A layout of utterances that affect reads (`affect inspect` names them), whose rows tell who speaks, of `root` and
    `test_root`, in place of names."""
    most_seconds: float | None = None
    """Seconds of speech that are taken of each voice at most; all when not given."""
    generated: tuple[int, int] = (48, 12)
    """Generated voices to train with, and unseen ones."""
    voice_seconds: float = 20.0
    """Seconds of each generated voice."""
    generator_seed: int = 0
    held_out: int = 0
    """Training voices that validation's conversations are of; 0 takes the training voices themselves, by which nothing
    should be chosen."""
    speeds: tuple[float, ...] = ()
    """Speeds at which each training voice is heard, too, higher or lower with them, as a speaker of its own: .9 1.1
    makes three voices of one."""
    block: float = 8.0
    """Seconds of a block, of which an example has two of one conversation."""
    examples: int = 1000
    """Simulated examples of an epoch."""
    valid: int = 20
    """Conversations of the validation part."""
    valid_seconds: float = 24.0
    test: int = 40
    """Conversations of each test part: one for each number of speakers and each length."""
    test_speakers: tuple[int, ...] = (2, 3)
    test_seconds: tuple[float, ...] = (8.0, 64.0)
    test_sound: tuple[Literal["trained", "plain"], ...] = ("trained",)
    """How tests' conversations sound. trained: as training's; plain: all speakers at 1 m, without a room or noise, in
    parts whose names end so. The first is validation's, too."""
    test_seed: int = 1
    """Of the conversations of validation and tests, which are the same for every seed of the recipe."""
    recordings: str | None = None
    """Folder of real recordings with turns, in a layout that affect reads. Its validation and test parts are tested."""
    layout: str | None = None
    """The layout, where it can't be told from the folder."""
    real: float = 0.0
    """Share of an epoch's examples that are windows of the recordings' training part."""
    shift: float = 2.0
    """Seconds from one window's start to the next."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "data")
        require_most(self, "data", LARGEST_SEED, "generator_seed", "test_seed")
        require_each(self, "data", "not be negative", lambda value: value >= 0, "generator_seed", "test_seed")
        require_most(self, "data", 10_000_000, "generated", "examples", "valid", "test", "held_out")
        require_most(
            self, "data", DAY, "voice_seconds", "block", "valid_seconds", "test_seconds", "shift", "most_seconds"
        )
        require_most(self, "data", 1_000, "test_speakers")
        require(bool(self.root), "data.root", "be a folder", self.root)
        for name in ("block", "examples", "valid", "valid_seconds", "test", "voice_seconds", "shift"):
            require(getattr(self, name) > 0, f"data.{name}", "be positive", getattr(self, name))
        require(min(self.generated) > 0, "data.generated", "be two numbers of voices", self.generated)
        others = len({*self.speeds}) == len(self.speeds) and all(0.5 <= s <= 2 and s != 1 for s in self.speeds)
        require(others, "data.speeds", "be from .5 to 2 and not 1, each once", self.speeds)
        require(self.held_out >= 0, "data.held_out", "not be negative", self.held_out)
        require(0 <= self.real < 1, "data.real", "lie in [0, 1)", self.real)
        counts = bool(self.test_speakers) and min(self.test_speakers) > 0
        require(counts, "data.test_speakers", "be numbers of speakers", self.test_speakers)
        lengths = bool(self.test_seconds) and min(self.test_seconds) > 0
        require(lengths, "data.test_seconds", "be seconds", self.test_seconds)
        sounds = 0 < len(self.test_sound) == len({*self.test_sound})
        require(sounds, "data.test_sound", "be trained, plain or both", self.test_sound)
        if self.recordings is None:
            must = "be left out without data.recordings"
            require(self.real == 0, "data.real", must, self.real)
            require(self.layout is None, "data.layout", must, self.layout)
        # A voice needs a second of speech.
        require_each(self, "data", "be 1 or more", lambda value: value >= 1, "most_seconds")
        require(all(self.columns), "data.columns", "be the names of two columns", self.columns)
        if self.generates:
            for name in ("test_root", "table", "voices_layout", "most_seconds"):
                must = "be left out with generated voices: data.root names a folder of others"
                require(getattr(self, name) is None, f"data.{name}", must, getattr(self, name))
        either = self.table is None or self.voices_layout is None
        require(either, "data.table", "be left out with data.voices_layout", self.table)

    @property
    def generates(self) -> bool:
        """Whether the voices are generated."""
        return are_generated(self.voices, self.root)


@dataclass(frozen=True, kw_only=True)
class Online:
    """How a recording is diarized: a hop at a time, from a window with a little look-ahead. All times are seconds."""

    window: float = 8.0
    """Of which the newest part is told; as long as a block of training."""
    hop: float = 0.64
    """What is told at once."""
    ahead: float = 0.16
    """Heard beyond it: with the hop it is the latency."""
    start: float | None = None
    """Heard before anything is told; a window when not given."""
    counting: float | None = 0.5
    """In each frame as many speak as the slots' probabilities add up to, those who are surest; from this fraction on
    one more. None: each slot whose probability is over `threshold`, whatever the others' are."""
    threshold: float = 0.4
    """Probability over which a slot is held to speak in frames that a speaker is enrolled or remembered by."""
    enrol: float = 0.96
    """Of clean speech, of which nobody enrolled is known to be the speaker, that enrols somebody."""
    least: float = 0.32
    """The same at a recording's end, and in a recording that is no longer than a window."""
    merge: float = 0.6
    """Cosine over which a newcomer is one who is enrolled already."""
    memory: float = 8.0
    """Of a speaker's surest speech that the embedding is made of."""
    rounds: int = 6
    """Newcomers that are looked for in one window."""
    shortest: float = 0.3
    """Of a turn, and of a pause inside one."""
    offline: bool = False
    """Decode once more when all is heard, with the speakers as they are known then, and as much before as behind."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "online")
        require_most(self, "online", DAY, "window", "hop", "ahead", "start", "enrol", "least", "memory", "shortest")
        require_most(self, "online", 1_000, "rounds")
        positive = ("window", "hop", "enrol", "least", "memory", "rounds")
        require_each(self, "online", "be positive", lambda value: value > 0, *positive)
        require_each(self, "online", "not be negative", lambda value: value >= 0, "ahead", "shortest")
        require_each(self, "online", "lie in (0, 1)", lambda value: 0 < value < 1, "threshold", "counting")
        require_each(self, "online", "lie in [-1, 1]", lambda value: -1 <= value <= 1, "merge")
        fits = self.hop + self.ahead <= self.window
        require(fits, "online.hop", f"be no longer with online.ahead than online.window ({self.window:g})", self.hop)
        fits = self.start is None or self.hop + self.ahead <= self.start <= self.window
        must = f"lie between online.hop with online.ahead and online.window ({self.window:g})"
        require(fits, "online.start", must, self.start)

    @property
    def latency(self) -> float:
        """Seconds from when something is said until it is decided who speaks, of speakers that are known."""
        return self.hop + self.ahead


def _encoder(recipe: Diarization) -> bool:
    return recipe.model.extractor not in ("resnet", "convolution")


NEEDS: tuple[Need, ...] = (
    ("be left out without model.extractor=resnet", lambda r: r.model.extractor == "resnet", ("model.blocks",)),
    ("be left out with the encoder of model.extractor", lambda r: not _encoder(r), ("model.channels",)),
    ("be left out without model.encoder_layers", lambda r: r.model.encoder_layers, ("model.kernel",)),
    ("be left out without an encoder that learns (model.extractor, model.train_encoder)",
     lambda r: _encoder(r) and r.model.train_encoder != "none", ("optim.encoder_lr",)),
    ("be left out without loss.activity=focal", lambda r: r.loss.activity == "focal", ("loss.alpha", "loss.gamma")),
    ("be left out without loss.arcface", lambda r: r.loss.arcface,
     ("loss.margin", "loss.scale", "loss.log_s_arcface", "loss.learned")),
    ("be left out without loss.contrastive", lambda r: r.loss.contrastive, ("loss.temperature",)),
    ("be left out without model.name=ours", lambda r: r.model.name == "ours", ("loss.reference_seconds",)),
    ("be left out with loss.empty=1, which enrols nobody", lambda r: r.loss.empty < 1, ("loss.mask_prob",)),
    ("be left out where nobody is enrolled (loss.empty), or all are (loss.mask_prob)",
     lambda r: r.loss.empty < 1 and r.loss.mask_prob, ("loss.masked",)),
    ("be left out where voices are read from data.root (data.voices)", lambda r: r.data.generates,
     ("data.generated", "data.voice_seconds", "data.generator_seed")),
    ("be left out with generated voices, and with data.table or data.voices_layout", lambda r: _by_name(r.data),
     ("data.speaker", "data.separator")),
    ("be left out without data.table", lambda r: r.data.table is not None, ("data.columns",)),
    ("be left out with data.speaker=folder", lambda r: r.data.speaker != "folder", ("data.separator",)),
    ("be left out without data.real", lambda r: r.data.real, ("data.shift",)),
    ("be left out with simulation.fitted", lambda r: r.simulation.fitted is None,
     ("simulation.turn", "simulation.gap", "simulation.overlap")),
    ("be left out without simulation.reverberation", lambda r: r.simulation.reverberation, ("simulation.decay",)),
    ("be left out without simulation.noise", lambda r: r.simulation.noise,
     ("simulation.snr", "simulation.noise_files")),
)  # fmt: skip
"""Fields that do nothing without another, or beside it."""


def _by_name(data: Data) -> bool:
    """Whether names tell who speaks in some folder of voices."""
    told = data.voices_layout is not None or (data.table is not None and data.test_root is None)
    return not data.generates and not told


@dataclass(frozen=True, kw_only=True)
class Diarization(Recipe):
    """Who speaks when in a recording."""

    task: ClassVar[str] = "diarization"

    data: Data = field(default_factory=Data)
    simulation: Simulation = field(default_factory=Simulation)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    online: Online = field(default_factory=Online)

    def __post_init__(self) -> None:
        """Check what sections say together."""
        super().__post_init__()
        check_together(self.model, self.loss)
        refuse_unused(self, NEEDS)
        frame = self.model.frame / SAMPLING_RATE
        for name, seconds in (
            ("data.block", self.data.block), ("online.window", self.online.window), ("online.hop", self.online.hop),
            ("online.ahead", self.online.ahead), ("online.start", self.online.start or 0.0),
        ):  # fmt: skip
            whole = abs(seconds / frame - round(seconds / frame)) < 1e-6
            require(whole, name, f"be a multiple of a frame, {frame:g} s (model.frame)", seconds)
        if self.model.name != "ours":
            longest = self.online.window <= self.data.block
            must = f"be no longer than data.block ({self.data.block:g}), for which model.name={self.model.name} is made"
            require(longest, "online.window", must, self.online.window)
