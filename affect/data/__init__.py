"""Corpora read from disk, audio, prosody, splits and the generated corpus."""
