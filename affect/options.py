"""How to run a recipe: the options of a command that are not part of what it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from affect.recipe import LARGEST_SEED, hold, require


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a recipe, beside what is in it."""

    runs: Path = Path("runs")
    """Folder of all runs."""
    name: str | None = None
    """Added to the experiment's name, to keep a variant apart."""
    seeds: tuple[int, ...] | None = None
    """Run each of these seeds instead of the recipe's own."""
    folds: tuple[int, ...] | None = None
    """Run these folds alone, of those that the recipe has."""
    resume: str = "auto"
    """auto goes on from the newest checkpoint, never drops them and starts anew, a PATH takes that one of this run's
    checkpoints and drops those after it."""
    overwrite: bool = False
    """Delete a run of another recipe (or a finished one) that stands where this one goes."""
    report: bool = True
    """Write the report at the end and let runs/latest point at it. The runs that `affect folds` starts leave that to
    it."""
    dry_run: bool = False
    """Print the resolved recipe and the plan's figures, and stop."""

    def __post_init__(self) -> None:
        """Check seeds and folds before the first of them has run."""
        hold(self)
        plain = self.name is None or (Path(self.name).name == self.name and self.name.isprintable())
        require(
            plain and len((self.name or "").encode()) <= 200, "name", "be a plain name of 200 bytes at most", self.name
        )
        for name, numbers in (("seeds", self.seeds), ("folds", self.folds)):
            require(numbers != (), name, "name at least one", numbers)
            require(len(set(numbers or ())) == len(numbers or ()), name, "name each once", numbers)
        for seed in self.seeds or ():
            require(seed >= 0, "seeds", "not be negative", seed)
            require(seed <= LARGEST_SEED, "seeds", f"be {LARGEST_SEED:,} at most", seed)
