"""Scores and their intervals: pure functions on NumPy arrays."""
