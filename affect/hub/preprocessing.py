"""What has to be done to a recording, a text or a feature before the model takes it, for preprocessor_config.json."""

from __future__ import annotations

from typing import Any

from affect.report.rows import Record

_RATE = 16_000
"""Hz of the waveform that functionals are of where there is no encoder."""


def facts(config: Record) -> Record:
    """Return the inputs, outputs and label scale of the model that a config.json describes."""
    return _fusion(config["multimodal"]) if "multimodal" in config else _utterance(config)


def _utterance(config: Record) -> Record:
    model: dict[str, Any] = config["model"]
    encoder = config.get("encoder")
    found: Record = {"task": "valence_arousal"}
    hears = encoder is not None or model["prosody_width"] > 0
    if hears:
        rate = encoder["preprocessing"]["sampling_rate"] if encoder and "preprocessing" in encoder else _RATE
        found |= {"sampling_rate": rate, "channels": 1, "mixing": "mean of the channels", "samples": "float32, -1 to 1"}
    if encoder is not None:
        found["waveform"] = encoder.get("preprocessing", {})
    if model["prosody_width"] > 0:
        found["prosody"] = {"kind": model["prosody"], "functionals": model["prosody_features"], "values": "raw"}
    if model.get("text") is not None:
        found["text"] = {"tokenizer": "tokenizer", "encoder": model["text"]["name"]}
    if model.get("speaker", "none") != "none":
        found["speaker"] = {"kind": model["speaker"], "channels": model["speaker_features"]}
    found |= {
        "targets": model["targets"],
        "label_scale": model["scale"],
        "outputs": "0 to 1 stand for the label scale",
    }
    return found | ({"classes": model["classes"]} if model.get("classes") else {})


def _fusion(model: Record) -> Record:
    streams = [
        {"modality": modality, "feature": feature, "width": width,
         "of_frames": "their mean over time, float32", "missing": "zeros, and 0 in present"}
        for modality, feature, width in model["streams"]
    ]  # fmt: skip
    scaling = "in the model, by statistics of training" if model.get("normalise") else "none"
    return {"task": "multimodal_emotion", "streams": streams, "scaling": scaling,
            "targets": ["emotion", "valence"], "classes": model["classes"],
            "label_scale": [-5.0, 5.0], "outputs": "logits of emotion; valence on the label scale"}  # fmt: skip
