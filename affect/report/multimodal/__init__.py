"""The report of multimodal emotion experiments (MER2023): the same commands, another page."""
