"""The recipe of valence/arousal regression: its data, model and loss. Imports no tensor library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from affect.recipe import Recipe, require
from affect.tasks.valence_arousal.sections import EMOTION, Augment, Data, Model

__all__ = ["EMOTION", "Augment", "Data", "Model", "ValenceArousal"]


@dataclass(frozen=True, kw_only=True)
class ValenceArousal(Recipe):
    """Valence and arousal of an utterance."""

    task: ClassVar[str] = "valence_arousal"

    data: Data = field(default_factory=lambda: Data(root="data/IEMOCAP_full_release"))
    model: Model = field(default_factory=Model)
    augment: Augment = field(default_factory=Augment)
    targets: tuple[Literal["valence", "arousal", "dominance", "emotion"], ...] = ("valence", "arousal")
    """What is predicted; emotion is a class (data.classes), the others are numbers."""
    loss: Literal["ccc", "weighted", "mse", "ccc_mse"] = "ccc"
    """1 - CCC of the global batch, the same with `weights`, squared error, or the sum of both; emotion has its cross
    entropy added."""
    weights: tuple[float, ...] | None = None
    """Weight of each target's loss, for loss=weighted; report 000 used 1.5 1.0."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require(bool(self.targets), "targets", "name at least one", self.targets)
        self._check_data()
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

    @property
    def numbers(self) -> tuple[str, ...]:
        """The targets that are numbers."""
        return tuple(target for target in self.targets if target != EMOTION)

    def _check_data(self) -> None:
        """Refuse sections that contradict one another."""
        data, model, augment = self.data, self.model, self.augment
        asked = EMOTION in self.targets
        require(asked or not data.classes, "data.classes", "be left out unless targets name emotion", data.classes)
        embedded = model.speaker == "embedding"
        given = data.embeddings is not None
        require(embedded == given, "data.embeddings", "be given with model.speaker=embedding alone", data.embeddings)
        if not data.layout.has_audio:
            heard = "be none" if model.encoder != "none" else "be 0"
            name, value = ("encoder", model.encoder) if model.encoder != "none" else ("prosody_dim", model.prosody_dim)
            silent = model.encoder == "none" and not model.prosody_dim
            require(silent, f"model.{name}", f"{heard} with {data.corpus}, which has no audio", value)
        for name in ("stretch", "shift", "noise", "gain"):
            value = getattr(augment, name)
            require(not value or model.encoder != "none", f"augment.{name}", "be off with encoder=none", value)
        require(
            not augment.any or model.cache == "none", "model.cache", "be none with augment: states differ", model.cache
        )
        mixable = not augment.mixup or model.text == "none"
        require(mixable, "augment.mixup", "be 0 with text, which can't be mixed", augment.mixup)
        mse_alone = self.loss == "ccc" or bool(self.numbers)
        require(mse_alone or self.loss == "weighted", "loss", "be left out with targets=emotion alone", self.loss)
