"""Experiments of one run and of several: what they are, and what runs them. Loads no tensor library."""

from affect.experiments.definitions import Ensemble, Search, Sequence, Suite

__all__ = ["Ensemble", "Search", "Sequence", "Suite"]
