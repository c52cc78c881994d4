"""What a pushed model of diarization says of itself."""

from __future__ import annotations

from dataclasses import replace

from affect.config import to_dict
from affect.tasks.diarization.config import Data, Diarization, Model
from affect.tasks.diarization.task import DiarizationTask


def card(recipe: Diarization):
    config = {"task": "diarization", "model": to_dict(recipe.model), "online": to_dict(recipe.online)}
    return DiarizationTask.card(config, recipe.to_dict(), "me/it")


def test_scores_are_said_to_be_with_collar_and_overlap():
    assert "collar 0 and overlap scored" in card(Diarization()).use


def test_generated_voices_are_an_example_under_an_open_licence():
    generated, spoken = Diarization(), Diarization(data=Data(root="x"))
    assert "It is an example" in card(generated).use and card(generated).licence == "apache-2.0"
    assert "It is an example" not in card(spoken).use and card(spoken).licence == "other"
    pretrained = replace(generated, model=Model(extractor="microsoft/wavlm-base-plus"))
    assert card(pretrained).licence == "other", "whose weights have a licence of their own"


def test_the_program_needs_nothing_but_the_model():
    """How it diarizes is in its config.json (tests/hub/test_hub_diarization.py runs it)."""
    program = card(Diarization()).program
    compile(program, "program", "exec")
    assert 'affect.load("me/it")' in program
