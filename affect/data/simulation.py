"""How conversations are simulated: a section of a recipe. Loads no array library."""

from __future__ import annotations

from dataclasses import dataclass

from affect.config import require, require_each

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Who speaks when in a simulated conversation, and how it sounds."""

    speakers: tuple[int, int] = (2, 4)
    """Fewest and most speakers of a conversation, each number as often."""
    turn: Range = (0.5, 4.0)
    """Shortest and longest turn in seconds, evenly distributed. This and the next two are for conversations whose turn
    taking is not fitted to real ones (`fitted`)."""
    gap: float = 4.0
    """Longest pause between two turns of the main speaker in seconds, evenly distributed from 0."""
    overlap: float = 0.2
    """Share of the time with speech in which several speak: the others' turns are put where they bring it about."""
    fitted: str | None = None
    """An RTTM file, or a folder of them, whose pauses, overlaps, lengths and order of turns are taken instead."""
    distance: Range = (0.5, 3.0)
    """Nearest and farthest speaker from the microphone in metres; at 1 m all voices are equally loud."""
    moves: float = 0.2
    """Probability that a speaker has another distance from one turn to the next."""
    reverberation: float = 0.8
    """Probability that a conversation takes place in a room, and not in the open."""
    decay: Range = (0.2, 0.7)
    """Shortest and longest reverberation time of a room (-60 dB) in seconds."""
    noise: float = 0.8
    """Probability that a conversation has noise."""
    snr: Range = (5.0, 25.0)
    """Lowest and highest ratio of speech, where somebody speaks, to noise, in dB."""
    noise_files: str | None = None
    """Folder of recordings of noise, in place of generated noise."""

    def __post_init__(self) -> None:
        """Check every field."""
        fewest, most = self.speakers
        require(1 <= fewest <= most, "simulation.speakers", "go from 1 at least to more", self.speakers)
        for name in ("turn", "distance", "decay"):
            low, high = getattr(self, name)
            require(0 < low <= high, f"simulation.{name}", "go from more than 0 to more", (low, high))
        require(self.turn[0] >= 0.05, "simulation.turn", "be 0.05 s at least", self.turn)
        require(self.decay[1] <= 5, "simulation.decay", "be 5 s at most", self.decay)
        require(self.snr[0] <= self.snr[1], "simulation.snr", "go from low to high", self.snr)
        shares = ("moves", "reverberation", "noise")
        require_each(self, "simulation", "be a probability", lambda value: 0 <= value <= 1, *shares)
        require(self.gap >= 0, "simulation.gap", "not be negative", self.gap)
        require(0 <= self.overlap < 1, "simulation.overlap", "lie in [0, 1)", self.overlap)
