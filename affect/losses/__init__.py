"""Losses: each is additive (sums and counts) or gathered (a statistic of the whole batch)."""
