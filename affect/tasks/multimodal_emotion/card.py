"""What a pushed model says of itself: its inputs and outputs, and a program that feeds it. Loads no tensor library."""

from __future__ import annotations

import shlex
from typing import Any

from affect.config import from_dict
from affect.task import Task
from affect.tasks import card_texts
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.usage import Card


class FusionCard(Task):
    """The part of the task that the Hub asks."""

    @classmethod
    def preprocessing(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return the streams of features that the model takes, and what its outputs mean."""
        model, data = from_dict(Model, config["model"], "model"), from_dict(Signature, config["data"], "data")
        streams = [
            {"modality": modality, "feature": feature, "width": width,
             "of_frames": "their mean over time, float32", "missing": "zeros, and 0 in present"}
            for modality, feature, width in data.streams
        ]  # fmt: skip
        scaling = "in the model, by statistics of training" if model.normalise else "none"
        outputs = {"emotion": "logits of emotion", "valence": "valence on its scale"}
        numbers = {"scales": {"valence": [*data.scale]}} if "valence" in data.targets else {}
        return {"task": config["task"], "streams": streams, "scaling": scaling,
                "targets": list(data.targets), "classes": list(data.classes), **numbers,
                "outputs": "; ".join(text for name, text in outputs.items() if name in data.targets)}  # fmt: skip

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the model's card on the Hub."""
        data = from_dict(Signature, config["data"], "data")
        modalities = ", ".join(dict.fromkeys(data.modalities))
        return Card(
            title=f"{' and '.join(data.targets).capitalize()} of an utterance from features of its {modalities}",
            task_type="multimodal-emotion-recognition",
            task_name="multimodal emotion recognition",
            command=_command(data),
            program="\n".join(_program(data, repo)),
            **card_texts.of_corpus(recipe, [feature for _, feature, _ in data.streams], inside=False),
        )


def _command(data: Signature) -> str:
    """Return the options that give each stream's file, those of a modality with several by the feature's name."""
    given: dict[str, list[str]] = {}
    for key, (modality, feature, _) in zip(data.keys, data.streams, strict=True):
        name = f"{shlex.quote(feature)}=" if data.modalities.count(modality) > 1 else ""
        given.setdefault(modality, []).append(f"{name}{key}.npy")
    return " ".join(f"--{name} {' '.join(files)}" for name, files in given.items())


def _program(data: Signature, repo: str) -> list[str]:
    """Return the lines of a program that feeds the model and reads what it says."""
    named = [
        f'    "{key}": "{key}.npy",  # {" ".join(feature.split())}: [{width}], or of its frames [T, {width}]'
        for key, (_, feature, width) in zip(data.keys, data.streams, strict=True)
    ]
    streams, low, high = len(data.streams), *data.scale
    told = {
        "emotion": [
            f'for row in outputs["emotion"].softmax(-1).tolist():  # of logits [B, {len(data.classes)}]',
            "    print(dict(zip(model.data.classes, row)))",
        ],
        "valence": [f'print("valence", outputs["valence"].tolist())  # [B], {low:g} to {high:g}'],
    }
    return [
        "import numpy as np", "import torch", "", "from affect.hub import from_pretrained", "",
        card_texts.loaded(repo),
        "files = {", *named, "}",
        "inputs = {}  # [B, width] each, the mean over time",
        "for name, file in files.items():",
        "    values = torch.from_numpy(np.load(file)).float()",
        "    inputs[name] = values.reshape(-1, values.shape[-1]).mean(0, keepdim=True)",
        f"# [B, {streams}] for {', '.join(data.keys)}: 0, and zeros as input, for what is missing.",
        f"present = torch.ones(1, {streams})",
        "with torch.inference_mode():",
        "    outputs = model(present, **inputs)",
        *(line for name, lines in told.items() if name in data.targets for line in lines),
    ]  # fmt: skip
