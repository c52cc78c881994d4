"""Valence and arousal (and dominance) of an utterance from its audio."""
