"""affect: distributed training scripts for affective computing and speaker diarization."""
