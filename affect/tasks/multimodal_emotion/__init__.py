"""Emotion and valence of an utterance from features of its audio, text and video (MER2023)."""
