"""What a pushed model says of itself: its inputs and outputs, and a program that feeds it. Loads no tensor library."""

from __future__ import annotations

from typing import Any

from affect.config import from_dict
from affect.tables import inside
from affect.task import Task
from affect.tasks.diarization.config import SAMPLING_RATE, Model, Online, are_generated
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
            "outputs": "turns (start, end in seconds, speaker by number), by affect.load",
        }  # fmt: skip

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the model's card on the Hub."""
        data = inside(recipe, "data")
        example = are_generated(data.get("voices"), data.get("root")) and not data.get("recordings")
        # A pretrained encoder's weights have a licence of their own.
        whole = example and from_dict(Model, config["model"], "model").extractor in _BUILT_IN
        program = [
            "import affect", "", f'model = affect.load("{repo}")  # it diarizes as its run was told to',
            'for turn in model("MEETING.wav")["turns"]:  # seconds',
            '    print("{start:8.2f} {end:8.2f} speaker {speaker}".format(**turn))',
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
