"""The recipe of multimodal emotion recognition: its data, model and protocol. Imports no tensor library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from affect.recipe import Recipe, require
from affect.tasks.multimodal_emotion.sections import MODALITIES, Data, Model

__all__ = ["SEEDS", "Data", "Model", "MultimodalEmotion"]

SEEDS = 6
"""Seeds that the strict protocol asks for: with fewer no sign-flip test can reach p = .05."""


@dataclass(frozen=True, kw_only=True)
class MultimodalEmotion(Recipe):
    """Six emotions and the valence of an utterance, from features of its audio, text and video."""

    task: ClassVar[str] = "multimodal_emotion"

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    protocol: Literal["toolkit", "strict"] = "strict"
    """toolkit: one seed, as the public toolkit's runs; strict: six seeds from `seed` on, or those of --seeds. In both
    the epoch is chosen on the fold (by `choose`) and the test parts are predicted once."""
    choose: Literal["emoval", "subsets"] = "emoval"
    """Score by which the epoch is kept: emoval on the fold, as in the public toolkit, or its mean over the seven
    subsets of the modalities."""
    noise: tuple[float, float] | None = None
    """Lowest and highest signal-to-noise ratio in dB of noise on training features, drawn anew in each epoch."""
    together: int | None = None
    """Runs whose steps are taken as one stack; None decides by the model's size. Decides speed, never the result."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require(self.together is None or self.together > 0, "together", "be positive (or None)", self.together)
        low_high = self.noise is None or self.noise[0] <= self.noise[1]
        require(low_high, "noise", "be low then high, in dB", self.noise)
        self.model.check_streams(tuple(m for m in MODALITIES for _ in getattr(self.data, m)))

    def seeds(self, given: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the seeds of the protocol. Raises AffectError for fewer than the strict one asks for."""
        if self.protocol == "toolkit":
            return given or (self.seed,)
        chosen = given or tuple(range(self.seed, self.seed + SEEDS))
        require(
            len(chosen) >= SEEDS, "seeds", f"be at least {SEEDS} with protocol=strict (or --protocol toolkit)", chosen
        )
        return chosen
