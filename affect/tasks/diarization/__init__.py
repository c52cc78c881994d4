"""Speaker diarization: who speaks when, by sequence-to-sequence neural diarization (SSND)."""
