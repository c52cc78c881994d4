"""What a pushed model says of itself: its inputs and outputs, and a program that feeds it. Loads no tensor library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affect.config import from_dict, to_dict
from affect.task import Task
from affect.tasks.talking_face import intervals
from affect.tasks.talking_face.config import FRAMES, Model, Signature
from affect.tasks.talking_face.media import Media
from affect.usage import Card

_LIMITS = (
    "The scores are what the raters of one corpus gave to clips of its generators, on the scales named above. A clip "
    "of another generator or person, or with features made in another way, may be scored wrongly, and no score tells "
    "whether a video is genuine."
)

_SAID = (
    "with torch.inference_mode():", "    outputs = model(**inputs)", "for name, low, high in model.data.scores:",
    '    print(f"{name} {float(outputs[name]):.2f} on a scale of {low:g} to {high:g}")',
)  # fmt: skip
"""The lines of a program that ask the model and print what it says."""


class TalkingFaceCard(Task):
    """The part of the task that the Hub asks."""

    @classmethod
    def pushed_config(cls, config: dict[str, Any], run: Path) -> dict[str, Any]:
        """Return config.json with the intervals that the run's validation rows calibrate."""
        return {**config, intervals.FIELD: intervals.of_folder(run / "checkpoints" / "best", config)}

    @classmethod
    def preprocessing(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return the features that the model takes, and what its outputs mean."""
        model, data = from_dict(Model, config["model"], "model"), from_dict(Signature, config["data"], "data")
        columns = {name: {"columns": list(names)} for name, names in data.columns}
        features = [
            {"feature": name, "width": width, "frames": f"{name} [B, T, {width}], {name}{FRAMES} [B], 0: missing",
             **columns.get(name, {})}
            for name, width in data.features
        ]  # fmt: skip
        scaling = "in the model, by statistics of training" if model.normalise else "none"
        scales = {name: [low, high] for name, low, high in data.scores}
        own: dict[str, Any] = {"features": features, "scaling": scaling}
        if model.media.taken:
            kept = [each for each in features if each["feature"] not in model.media.taken]
            own = {"clip": to_dict(model.media), "features": kept}
        return {"task": config["task"], **own, "scales": scales, "outputs": "each score [B] on its scale",
                intervals.FIELD: config.get(intervals.FIELD, {})}  # fmt: skip

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the model's card on the Hub."""
        data, media = from_dict(Signature, config["data"], "data"), from_dict(Model, config["model"], "model").media
        scores = ", ".join(f"{name} ({low:g} to {high:g})" for name, low, high in data.scores)
        return Card(
            title=f"The quality of talking-face videos: {scores}",
            task_type="talking-face-quality-assessment",
            task_name="talking-face quality",
            command="CLIP.mp4" if media.taken or data.made_by else "CLIPS.csv" if data.columns else "CLIP.npz",
            program="\n".join(_program_of_clips(media, data, repo) if media.taken else _program(data, repo)),
            use="## Limits\n\n" + " ".join(filter(None, [_LIMITS, intervals.words(config.get(intervals.FIELD, {}))])),
            tags=("talking-face", "quality-assessment", "affect"),
        )


def _program(data: Signature, repo: str) -> list[str]:
    """Return the lines of a program that feeds the model a clip and reads what it says."""
    # In a comment, which a name with a line of its own would end.
    features = ", ".join(f"{' '.join(name.split())} ({width})" for name, width in data.features)
    return [
        "import numpy as np", "import torch", "", "from affect.hub import from_pretrained", "",
        f'model = from_pretrained("{repo}")  # in evaluation mode, on the CPU',
        "inputs = {}",
        f'with np.load("CLIP.npz") as clip:  # frames [T, width] of {features}',
        "    for name, width in model.data.features:",
        "        frames = clip[name] if name in clip else np.zeros((0, width))",
        "        inputs[name] = torch.zeros(1, max(1, len(frames)), width)",
        "        inputs[name][0, : len(frames)] = torch.from_numpy(frames)",
        f'        inputs[name + "{FRAMES}"] = torch.tensor([len(frames)])  # 0: the clip lacks it',
        *_SAID,
    ]  # fmt: skip


def _program_of_clips(media: Media, data: Signature, repo: str) -> list[str]:
    """Return the lines of a program that lets the model see and hear a clip and reads what it says."""
    faces = 'Path("CLIP.csv")' if media.faces else "None"
    given = [name for name, _ in data.features if name not in media.taken]
    lacking = ", ".join(f"{' '.join(name.split())} ({dict(data.features)[name]})" for name in given)
    return [
        "from pathlib import Path", "", "import torch", "", "from affect.hub import from_pretrained",
        "from affect.tasks.talking_face.films import inputs_of, read", "",
        f'model = from_pretrained("{repo}")  # in evaluation mode, on the CPU',
        f'clip = read(Path("CLIP.mp4"), model.config.media, {faces}, "CLIP.mp4")',
        "inputs = inputs_of([clip], model.config.media)",
        *([f"for name, width in model.data.features[:{len(given)}]:  # {lacking}: missing here",
           f'    inputs |= {{name: torch.zeros(1, 1, width), name + "{FRAMES}": torch.tensor([0])}}'] if given else []),
        *_SAID,
    ]  # fmt: skip
