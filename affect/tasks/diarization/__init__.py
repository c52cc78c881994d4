"""Speaker diarization: who speaks when in a recording, however many they are."""
