"""Terms of losses: each is additive (sum and count) or of the batch (a statistic of all its examples)."""
