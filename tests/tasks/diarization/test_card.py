"""What a pushed model of diarization says of itself."""

from __future__ import annotations

from dataclasses import replace

from affect.config import to_dict
from affect.tasks.diarization.config import Data, Diarization, Model, Online
from affect.tasks.diarization.task import DiarizationTask


def card(recipe: Diarization, online: Online | None = None):
    config = {"task": "diarization", "model": to_dict(recipe.model), "online": to_dict(online or recipe.online)}
    return DiarizationTask.card(config, recipe.to_dict(), "me/it")


def test_scores_are_said_to_be_with_collar_and_overlap():
    assert "collar 0 and overlap scored" in card(Diarization()).use


def test_generated_voices_are_an_example_under_an_open_licence():
    generated, spoken = Diarization(), Diarization(data=Data(voices="folder", root="x"))
    assert "It is an example" in card(generated).use and card(generated).licence == "apache-2.0"
    assert "It is an example" not in card(spoken).use and card(spoken).licence == "other"
    pretrained = replace(generated, model=Model(extractor="microsoft/wavlm-base-plus"))
    assert card(pretrained).licence == "other", "whose weights have a licence of their own"


def test_the_program_diarizes_as_it_was_trained_to():
    assert "Online())" in card(Diarization()).program
    online = Online(hop=0.32, merge=0.7)
    assert "Online(hop=0.32, merge=0.7))" in card(Diarization(), online).program
    compile(card(Diarization(), online).program, "program", "exec")
