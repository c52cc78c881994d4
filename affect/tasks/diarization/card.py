"""What a pushed model says of itself: its inputs and outputs, and a program that feeds it. Loads no tensor library."""

from __future__ import annotations

from typing import Any

from affect.config import from_dict
from affect.task import Task
from affect.tasks.diarization.config import SAMPLING_RATE, Model, Online
from affect.usage import Card

_LIMITS = (
    "Who speaks when is told of conversations like those that it was trained on; voices, rooms and microphones of "
    "other kinds may be confused. Speakers are numbers, and no name is told. DER is with collar 0 and overlap scored."
)


class DiarizationCard(Task):
    """The part of the task that the Hub asks."""

    @classmethod
    def preprocessing(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return what the model takes, and what its outputs mean."""
        model, online = from_dict(Model, config["model"], "model"), from_dict(Online, config["online"], "online")
        return {
            "task": config["task"], "sampling_rate": SAMPLING_RATE, "channels": 1,
            "frames_per_second": model.frames_per_second, "latency_seconds": online.hop + online.ahead,
            "outputs": "turns (start, end in seconds, speaker by number), by affect.tasks.diarization.online",
        }  # fmt: skip

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the model's card on the Hub."""
        program = [
            "from affect.data import audio", "from affect.hub import from_pretrained",
            "from affect.tasks.diarization.config import Online",
            "from affect.tasks.diarization.online import diarize", "",
            f'model = from_pretrained("{repo}")  # in evaluation mode, on the CPU',
            'samples = audio.load("MEETING.wav")  # 16 kHz, mono',
            "for start, end, speaker in diarize(model, samples, Online()):",
            '    print(f"{start / 16000:8.2f} {end / 16000:8.2f} speaker {speaker}")',
        ]  # fmt: skip
        return Card(
            title="Who speaks when in a recording",
            task_type="speaker-diarization",
            task_name="speaker diarization",
            command="MEETING.wav",
            program="\n".join(program),
            use=f"## Limits\n\n{_LIMITS}",
            tags=("speaker-diarization", "diarization", "affect"),
        )
