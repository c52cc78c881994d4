"""What a pushed model says of itself: its inputs and outputs, and a program that feeds it. Loads no tensor library."""

from __future__ import annotations

import json
from typing import Any

from affect.config import from_dict
from affect.task import Task
from affect.tasks import card_texts
from affect.tasks.emotion.config import EMOTION, PROBABILITY, UNIT, Model, Signature
from affect.usage import Card

_RATE = 16_000
"""Hz of the waveform that functionals are of where there is no encoder."""
_MADE_HERE = ("none", "mel", "ngrams", "small", "embedding")
"""Names of encoders that nothing was pretrained in; so are those that begin with tiny."""


class EmotionCard(Task):
    """The part of the task that the Hub asks."""

    @classmethod
    def preprocessing(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return what recordings, functionals and texts have to be, and what the outputs mean."""
        model, data = _read(config)
        encoder = config.get("encoder")
        facts: dict[str, Any] = {"task": config["task"]}
        if encoder is not None or model.prosody_dim:
            rate = encoder["preprocessing"]["sampling_rate"] if encoder is not None else _RATE
            facts |= {"sampling_rate": rate, "channels": 1, "mixing": "mean of the channels"}
            facts["samples"] = "float32, -1 to 1"
        if encoder is not None:
            facts["waveform"] = encoder["preprocessing"]
        if model.prosody_dim:
            own = {"kind": data.prosody, "version": data.prosody_version}
            facts["prosody"] = {**own, "functionals": data.prosody_features, "values": "raw"}
        if model.text != "none":
            facts["text"] = {"tokenizer": "tokenizer", "encoder": model.text}
        if model.speaker != "none":
            facts["speaker"] = {"kind": model.speaker, "channels": data.speaker_features}
        facts |= {"targets": list(data.targets), "scales": {name: list(data.scale) for name in data.numbers}}
        if config.get("lengths"):
            facts["trained_on"] = {"shortest": config["lengths"][0], "longest": config["lengths"][1],
                                   "unit": "seconds" if "sampling_rate" in facts else "words"}  # fmt: skip
        numbers = [f"each number on its scale, as NAME{UNIT} from 0 to 1"] if data.numbers else []
        classes = [f"logits of {EMOTION}, as {EMOTION}{PROBABILITY} from 0 to 1"] if data.classes else []
        facts["outputs"] = "; ".join(numbers + classes)
        return facts | ({"classes": list(data.classes)} if data.classes else {})

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the model's card on the Hub."""
        model, data = _read(config)
        names = (model.encoder, model.text, model.speaker)
        pretrained = [name for name in names if name not in _MADE_HERE and not name.startswith("tiny")]
        sound = "recording.wav" if model.encoder != "none" or model.prosody_dim else ""
        words = ' --text "what was said"' if model.text != "none" else ""
        return Card(
            title=f"The {' and '.join(data.targets)} of an utterance",
            task_type="speech-emotion-recognition",
            task_name="valence and arousal of utterances",
            command=sound + words,
            program="\n".join(_program(cls.preprocessing(config), model, data, repo)),
            extras=("egemaps",) if model.prosody_dim and data.prosody == "egemaps" else (),
            pipeline_tag="audio-classification" if model.encoder != "none" else None,
            base_models=tuple(name for name in pretrained if name.count("/") == 1),
            **card_texts.of_corpus(recipe, pretrained, inside=True),
        )


def _read(config: dict[str, Any]) -> tuple[Model, Signature]:
    return from_dict(Model, config["model"], "model"), from_dict(Signature, config["data"], "data")


def _program(facts: dict[str, Any], model: Model, data: Signature, repo: str) -> list[str]:
    """Return the lines of a program that feeds the model and prints what it says."""
    rate = facts.get("sampling_rate")
    of_data = [name for name, used in (("audio", rate), ("prosody", model.prosody_dim)) if used]
    of_hub = ["from_pretrained", *(["tokenizer"] if model.text != "none" else [])]
    lines = ["import torch", ""]
    lines += [f"from affect.data import {', '.join(of_data)}"] if of_data else []
    lines += [f"from affect.hub import {', '.join(of_hub)}", "", card_texts.loaded(repo)]
    if rate:
        lines.append(f'wave = audio.load("recording.wav", {rate})  # [S] float32 from -1 to 1, one channel, {rate} Hz')
    lines.append("inputs = {")
    if "waveform" in facts:
        lines.append('    "waveform": torch.from_numpy(wave)[None],  # [B, S], zeros behind those that are shorter')
        lines.append('    "samples": torch.tensor([len(wave)]),  # [B], how many samples of each are its own')
    if model.prosody_dim:
        made = f"torch.from_numpy(prosody.compute(wave, {json.dumps(data.prosody)}, {rate}))[None]"
        lines.append(f'    "prosody": {made},  # [B, {data.prosody_features}], raw')
    if model.speaker == "embedding":
        width = data.speaker_features
        lines.append(f'    "speaker": torch.zeros(1, {width}),  # [B, {width}]: put the speaker\'s embedding here')
    if model.dialogue != "none":
        lines.append('    "turns": torch.tensor([1]),  # [dialogues], how many utterances each has, in their order')
    lines.append("}")
    if model.text != "none":
        read = f'inputs["tokens"], inputs["token_mask"] = tokenizer("{repo}")(["what was said"])'
        lines.append(f"{read}  # [B, W] each")
    lines += ["with torch.inference_mode():", "    outputs = model(**inputs)"]
    if data.numbers:
        low, high = data.scale
        lines.append(f"for target in {json.dumps(data.numbers)}:")
        lines.append(f"    print(target, outputs[target].tolist())  # [B], {low:g} to {high:g}: the labels' scale")
    if EMOTION in data.targets:
        lines.append(f'for row in outputs["{EMOTION}{PROBABILITY}"].tolist():  # [B, classes]')
        lines.append("    print(dict(zip(model.data.classes, row)))")
    return lines
