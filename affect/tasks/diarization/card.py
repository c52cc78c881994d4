"""What a pushed model says of itself: its inputs and outputs, and a program that feeds it. Loads no tensor library."""

from __future__ import annotations

from typing import Any

from affect.config import from_dict, to_dict
from affect.tables import inside
from affect.task import Task
from affect.tasks.diarization.config import SAMPLING_RATE, Model, Online
from affect.tasks.diarization.measures import KINDS
from affect.usage import Card

_USE = """## Intended use

Telling speakers of a recording apart who agreed to it: who of them speaks when, by number. It knows nobody's name.

## Limits

{limits}

**The scores** are diarization error rates (`der`) and their parts, Jaccard error rates (`jer`) and errors of the number
of speakers, of whole recordings from an empty memory, with collar 0 and overlap scored; 0 is perfect, and lower is
better. `counted` is another rate, which does not ask who speaks."""
_LIMITS = (
    "Who speaks when is told of conversations like those that it was trained on; voices, rooms and microphones of "
    "other kinds may be confused."
)
_EXAMPLE = (
    "**It is an example.** The voices are generated and nobody speaks in them: the scores show that the code works, "
    "and what this model says of real recordings means nothing."
)
_BUILT_IN = ("resnet", "convolution")
_OPEN = "The code that made and loads it, affect, is under Apache-2.0. So are these weights: the voices are generated."


class DiarizationCard(Task):
    """The part of the task that the Hub asks."""

    @classmethod
    def preprocessing(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return what the model takes, and what its outputs mean."""
        model, online = from_dict(Model, config["model"], "model"), from_dict(Online, config["online"], "online")
        return {
            "task": config["task"], "sampling_rate": SAMPLING_RATE, "channels": 1,
            "frames_per_second": model.frames_per_second, "latency_seconds": online.latency,
            "outputs": "turns (start, end in seconds, speaker by number), by affect.tasks.diarization.online",
        }  # fmt: skip

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the model's card on the Hub."""
        data, own = inside(recipe, "data"), from_dict(Online, config["online"], "online")
        example = data.get("voices") == "generated" and not data.get("recordings")
        # A pretrained encoder's weights have a licence of their own.
        whole = example and from_dict(Model, config["model"], "model").extractor in _BUILT_IN
        plain = to_dict(Online())
        changed = ", ".join(f"{name}={value!r}" for name, value in to_dict(own).items() if value != plain[name])
        program = [
            "from affect.data import audio", "from affect.hub import from_pretrained",
            "from affect.tasks.diarization.config import Online",
            "from affect.tasks.diarization.online import diarize", "",
            f'model = from_pretrained("{repo}")  # in evaluation mode, on the CPU',
            'samples = audio.load("MEETING.wav")  # 16 kHz, mono',
            f"for start, end, speaker in diarize(model, samples, Online({changed})):",
            '    print(f"{start / 16000:8.2f} {end / 16000:8.2f} speaker {speaker}")',
        ]  # fmt: skip
        return Card(
            title="Who speaks when in a recording",
            task_type="speaker-diarization",
            task_name="speaker diarization",
            command="MEETING.wav",
            program="\n".join(program),
            use=_USE.format(limits=_EXAMPLE if example else _LIMITS),
            metric_args={name: {"collar": 0.0, "skip_overlap": False} for name in ("der", *KINDS)},
            licence="apache-2.0" if whole else Card.licence,
            licence_note=_OPEN if whole else Card.licence_note,
            tags=("speaker-diarization", "diarization", "affect"),
        )
