"""How a pushed model is installed, loaded and fed: the card's example, made from the model's configuration."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from affect.hub import preprocessing
from affect.report.rows import Record

_LOADED = "# in evaluation mode, on the CPU"


def section(config: Record, repo: str, last: bool) -> str:
    """Return the card's section on using the model of a config.json; `last` tells whether last/ is there.

    The example runs as it is beside the files that it names.
    """
    model = config.get("model", {})
    egemaps = model.get("prosody_width") and model.get("prosody") == "egemaps"
    what = '".[egemaps]"' if egemaps else "."
    parts = [
        "## How to use it",
        "It needs affect, the code that trained it: clone its repository (a package of that name on PyPI may be "
        "another one) and give, in the clone:",
        f"```\npip install {what}\n```",
        "Then, in a shell:",
        f"```\n{_command(config, repo)}\n```",
        "Or in Python:",
        f"```python\n{python(config, repo)}\n```",
    ]
    if last:
        parts.append(f'The newest weights are `from_pretrained("{repo}", subfolder="last")`.')
    return "\n\n".join(parts)


def python(config: Record, repo: str) -> str:
    """Return a program that loads the model of a config.json from `repo`, feeds it and reads what it says."""
    lines = _fusion(config["multimodal"], repo) if "multimodal" in config else _utterance(config, repo)
    return "\n".join(lines)


def keys(streams: list[Any]) -> list[str]:
    """Return the input that holds each stream of a fusion model: audio, for a second one audio_2 and so on."""
    seen: Counter[str] = Counter()
    found = []
    for modality, *_ in streams:
        seen[modality] += 1
        found.append(modality if seen[modality] == 1 else f"{modality}_{seen[modality]}")
    return found


def _command(config: Record, repo: str) -> str:
    if "multimodal" in config:
        streams = config["multimodal"]["streams"]
        several = Counter(modality for modality, *_ in streams)
        given: dict[str, list[str]] = {}
        for key, (modality, feature, _) in zip(keys(streams), streams, strict=True):
            name = f"{feature}=" if several[modality] > 1 else ""
            given.setdefault(modality, []).append(f"{name}{key}.npy")
        return f"affect predict {repo} " + " ".join(f"--{name} {' '.join(files)}" for name, files in given.items())
    heard = " recording.wav" if "sampling_rate" in preprocessing.facts(config) else ""
    read = ' --text "what was said"' if config["model"].get("text") is not None else ""
    return f"affect predict {repo}{heard}{read}"


def _utterance(config: Record, repo: str) -> list[str]:
    facts, model = preprocessing.facts(config), config["model"]
    rate, prosody = facts.get("sampling_rate"), facts.get("prosody")
    of_data = [name for name, used in (("audio", rate), ("prosody", prosody)) if used]
    of_hub = ["from_pretrained", *(["tokenizer"] if "text" in facts else [])]
    lines = ["import torch", ""]
    lines += [f"from affect.data import {', '.join(of_data)}"] if of_data else []
    lines += [f"from affect.hub import {', '.join(of_hub)}", "", f'model = from_pretrained("{repo}")  {_LOADED}']
    if rate:
        lines.append(f'wave = audio.load("recording.wav", {rate})  # [S] float32 from -1 to 1, one channel, {rate} Hz')
    lines.append("inputs = {")
    if "waveform" in facts:
        lines.append('    "waveform": torch.from_numpy(wave)[None],  # [B, S], zeros behind those that are shorter')
        lines.append('    "samples": torch.tensor([len(wave)]),  # [B], how many samples of each are its own')
    if prosody:
        made = f'torch.from_numpy(prosody.compute(wave, "{prosody["kind"]}", {rate}))[None]'
        lines.append(f'    "prosody": {made},  # [B, {prosody["functionals"]}], raw')
    if model.get("speaker") == "embedding":
        width = model["speaker_features"]
        lines.append(f'    "speaker": torch.zeros(1, {width}),  # [B, {width}]: put the speaker\'s embedding here')
    if model.get("dialogue", "none") != "none":
        lines.append('    "turns": torch.tensor([1]),  # [dialogues], how many utterances each has, in their order')
    lines.append("}")
    if "text" in facts:
        read = f'inputs["tokens"], inputs["token_mask"] = tokenizer("{repo}")(["what was said"])'
        lines.append(f"{read}  # [B, W] each")
    return [*lines, "with torch.inference_mode():", "    outputs = model(**inputs)", *_said(model)]


def _said(model: Record) -> list[str]:
    """Return the lines that read the outputs of a model of utterances."""
    numbers = [target for target in model["targets"] if target != "emotion"]
    lines = []
    if numbers:
        low, high = model["scale"]
        lines.append(f"low, high = {low:g}, {high:g}  # the label scale: the outputs' 0 and 1 stand for its ends")
        lines.append(f"for target in {json.dumps(numbers)}:")
        lines.append("    print(target, (low + (high - low) * outputs[target]).tolist())  # [B]")
    if "emotion" in model["targets"]:
        lines.append('for row in outputs["emotion"].softmax(-1).tolist():  # of logits [B, classes]')
        lines.append("    print(dict(zip(model.config.classes, row)))")
    return lines


def _fusion(model: Record, repo: str) -> list[str]:
    streams, classes = model["streams"], model["classes"]
    named = [
        f'    "{key}": "{key}.npy",  # {feature}: [{width}], or of its frames [T, {width}]'
        for key, (_, feature, width) in zip(keys(streams), streams, strict=True)
    ]
    order = ", ".join(keys(streams))
    return [
        "import numpy as np", "import torch", "", "from affect.hub import from_pretrained", "",
        f'model = from_pretrained("{repo}")  {_LOADED}',
        "files = {", *named, "}",
        "inputs = {}  # [B, width] each, the mean over time",
        "for name, file in files.items():",
        "    values = torch.from_numpy(np.load(file)).float()",
        "    inputs[name] = values.reshape(-1, values.shape[-1]).mean(0, keepdim=True)",
        f"# [B, {len(streams)}] for {order}: 0, and zeros as input, for what is missing.",
        f"present = torch.ones(1, {len(streams)})",
        "with torch.inference_mode():",
        "    outputs = model(present, **inputs)",
        f'for row in outputs["emotion"].softmax(-1).tolist():  # of logits [B, {len(classes)}]',
        "    print(dict(zip(model.config.classes, row)))",
        'print("valence", outputs["valence"].tolist())  # [B], -5 to 5',
    ]  # fmt: skip
