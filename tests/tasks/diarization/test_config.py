"""Wrong fields of a diarization recipe, by their names; every field does something, or is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from affect.config import from_dict, to_dict
from affect.errors import AffectError
from affect.experiments.definitions import changed
from affect.tasks.diarization.config import (
    NEEDS,
    Data,
    Diarization,
    Loss,
    Model,
    Signature,
    check_together,
    signature,
)  # fmt: skip
from tests.tasks.fields import hold_complete, hold_refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": 30}, "model.width must be a multiple of model.heads"),
        ({"kernel": 4}, "model.kernel must be odd"),
        ({"channels": (8, 8)}, "model.channels must be four positive numbers"),
        ({"blocks": (3, 0, 6, 3)}, "model.blocks must be four positive numbers"),
        ({"pseudo": 6}, "model.pseudo must be less than model.slots"),
        ({"dropout": 1.0}, "model.dropout must lie in"),
        ({"slots": 0}, "model.slots must be positive"),
        ({"extractor": ""}, "model.extractor must be a name"),
        ({"train_encoder": "all"}, "model.train_encoder must be left out with model.extractor=convolution"),
        ({"extractor": "tiny", "norm": "block"}, "model.norm must be left out with model.extractor=tiny"),
        ({"embedding_divisor": 16.0}, "model.embedding_divisor must be left out with model.name=ours"),
        ({"activity_query": "mean"}, "model.activity_query must be left out with model.name=ours"),
        ({"name": "before", "pseudo": 2}, "model.pseudo must be 1 with model.name=before"),
    ],
)
def test_a_wrong_field_of_the_model_is_named(fields, said):
    with pytest.raises(AffectError, match=said):
        Model(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"alpha": 1.0}, "loss.alpha must lie in"),
        ({"gamma": -1.0}, "loss.gamma must not be negative"),
        ({"scale": 0.0}, "loss.scale must be positive"),
        ({"mask_prob": 1.5}, "loss.mask_prob must lie in"),
        ({"arrival": -0.1}, "loss.arrival must lie in"),
        ({"weights_lr": 0.02}, "loss.weights_lr must be left out without loss.learned"),
        ({"learned": True, "weights_lr": 0.0}, "loss.weights_lr must be positive"),
    ],
)
def test_a_wrong_field_of_the_loss_is_named(fields, said):
    with pytest.raises(AffectError, match=said):
        Loss(**fields)


@pytest.mark.parametrize(
    ("model", "loss", "said"),
    [
        ({"name": "before"}, {"arcface": True}, "loss.contrastive must be 0 with model.name=before"),
        ({"name": "improved"}, {"arcface": True, "contrastive": 0, "arrival": 0.5}, "loss.arrival must be 0 with"),
        (
            {"name": "before"},
            {"contrastive": 0, "reference": "same"},
            "loss.reference must be left out with model.name=",
        ),
        ({"name": "before"}, {"contrastive": 0}, "loss.arcface must be on with model.name=before"),
        ({}, {"labelled": "speakers"}, "loss.labelled must be all where no speaker has a name"),
    ],
)
def test_a_loss_that_the_model_has_nothing_for_is_named(model, loss, said):
    with pytest.raises(AffectError, match=said):
        check_together(Model(**model), Loss(**loss))


def test_what_a_model_knows_of_its_data():
    known = signature(Model(), Loss(), frames=100, speakers=50)
    assert known == Signature()
    assert signature(Model(), Loss(arcface=True), frames=100, speakers=50) == Signature(speakers=50)
    report = signature(Model(name="before"), Loss(learned=True), frames=200, speakers=50)
    assert report == Signature(frames=200, speakers=50, log_s=(0.0, 2.3026))
    assert from_dict(Signature, to_dict(report)) == report
    with pytest.raises(AffectError, match="data.log_s must be two numbers or none"):
        replace(report, log_s=(1.0,))
    assert Model(frame=640).frames_per_second == 25
    assert Model().frames_per_second == 12.5


@pytest.mark.parametrize(
    ("fields", "generates"),
    [
        ({}, True),
        ({"root": "speech"}, False),
        ({"voices": "generated", "root": "speech"}, True),
        ({"voices": "folder"}, False),
    ],
)
def test_a_root_that_is_given_is_read_and_not_filled(fields, generates):
    assert Data(**fields).generates is generates


def test_what_a_recipe_of_before_says_is_still_taken():
    """Then weights_lr was None, and voices generated."""
    old = to_dict(Diarization())
    old["loss"]["weights_lr"], old["data"]["voices"] = None, "generated"
    for name in ("columns", "voices_layout", "most_seconds"):
        del old["data"][name]
    read = Diarization.from_dict(old)
    assert read.data.generates and read.loss.weights_lr is None


FOLDER, FITTED = {"data.root": "speech"}, {"simulation.fitted": "turns.rttm"}
ENCODER = {"model.extractor": "tiny"}
REPORT = {"model.name": "before", "loss.arcface": True, "loss.contrastive": 0.0}
REAL = {"data.recordings": "ami"}
CASES = [
    ("model.blocks", [1, 1, 1, 1], {}, {"model.extractor": "resnet"}),
    ("model.channels", [4, 4, 4, 8], ENCODER, {}),
    ("model.kernel", 5, {"model.encoder_layers": 0}, {}),
    ("optim.encoder_lr", 1e-5, ENCODER, ENCODER | {"model.train_encoder": "all"}),
    ("loss.alpha", 0.75, {}, {"loss.activity": "focal"}),
    ("loss.gamma", 1.0, {}, {"loss.activity": "focal"}),
    ("loss.margin", 0.1, {}, {"loss.arcface": True}),
    ("loss.scale", 16.0, {}, {"loss.arcface": True}),
    ("loss.log_s_arcface", 4.6, {}, {"loss.arcface": True}),
    ("loss.learned", True, {}, {"loss.arcface": True}),
    ("loss.temperature", 0.2, {"loss.contrastive": 0.0}, {}),
    ("loss.reference_seconds", 0.2, REPORT, {}),
    ("loss.mask_prob", 0.2, {"loss.empty": 1.0}, {}),
    ("loss.masked", "some", {"loss.mask_prob": 0.0}, {}),
    ("data.generated", [3, 2], FOLDER, {}),
    ("data.voice_seconds", 9.0, FOLDER, {}),
    ("data.generator_seed", 4, FOLDER, {}),
    ("data.speaker", "name", {}, FOLDER),
    ("data.speaker", "name", FOLDER | {"data.table": "who.csv"}, FOLDER | {"data.test_root": "tests"}),
    ("data.speaker", "name", FOLDER | {"data.voices_layout": "emodb", "data.test_root": "tests"}, FOLDER),
    ("data.columns", ["file", "who"], FOLDER, FOLDER | {"data.table": "who.csv"}),
    ("data.separator", "_", FOLDER | {"data.speaker": "folder"}, FOLDER),
    ("data.shift", 1.0, REAL, REAL | {"data.real": 0.5}),
    ("simulation.turn", [1.0, 2.0], FITTED, {}),
    ("simulation.gap", 1.0, FITTED, {}),
    ("simulation.overlap", 0.1, FITTED, {}),
    ("simulation.decay", [0.1, 0.2], {"simulation.reverberation": 0.0}, {}),
    ("simulation.snr", [0.0, 5.0], {"simulation.noise": 0.0}, {}),
    ("simulation.noise_files", "noise", {"simulation.noise": 0.0}, {}),
]  # fmt: skip
"""A field, a value, with what it does nothing, and with what it does."""
ALWAYS = {
    *(f"model.{name}" for name in ("name", "extractor", "frame", "width", "heads", "hidden", "encoder_layers",
                                   "decoder_layers", "dropout", "slots", "padding")),
    *(f"loss.{name}" for name in ("activity", "divide_by", "log_s_bce", "empty", "pseudo_weight")),
    *(f"data.{name}" for name in ("voices", "root", "name", "held_out", "speeds", "block", "examples", "valid",
                                  "valid_seconds", "test", "test_speakers", "test_seconds", "test_sound", "test_seed",
                                  "recordings")),
    *(f"simulation.{name}" for name in ("speakers", "fitted", "distance", "moves", "reverberation", "noise")),
}  # fmt: skip
BY_SECTION = {
    *("model.train_encoder", "model.encoder_layer", "model.norm", "model.pseudo", "model.embedding_divisor"),
    *("model.activity_query", "loss.weights_lr", "data.test_root", "data.table", "data.voices_layout"),
    *("data.most_seconds", "data.real", "data.layout"),
    # By check_together.
    *("loss.arcface", "loss.contrastive", "loss.arrival", "loss.labelled", "loss.reference"),
}  # fmt: skip
"""Fields that always do something, and those that their own section, or two together, check."""


@pytest.mark.parametrize("case", CASES)
def test_a_field_that_does_nothing_is_refused_and_its_default_never(case):
    hold_refused(Diarization, case, "be left out")


def test_every_field_is_looked_at():
    hold_complete(Diarization, ("data", "simulation", "model", "loss"), CASES, NEEDS, ALWAYS | BY_SECTION)
    assert {field for field, *_ in CASES} == {name for *_, names in NEEDS for name in names}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data.root": ""}, "data.root must be a folder"),
        ({"data.block": 0.0}, "data.block must be positive"),
        ({"data.block": 8.05}, "data.block must be a multiple of a frame, 0.08 s"),
        ({"data.examples": 0}, "data.examples must be positive"),
        ({"data.valid": 0}, "data.valid must be positive"),
        ({"data.generated": [0, 3]}, "data.generated must be two numbers of voices"),
        ({"data.held_out": -1}, "data.held_out must not be negative"),
        ({"data.speeds": [0.9, 1.0]}, "data.speeds must be from .5 to 2 and not 1"),
        ({"data.speeds": [0.9, 0.9]}, "data.speeds must be from .5 to 2 and not 1, each once"),
        ({"data.real": 1.0}, "data.real must lie in"),
        ({"data.real": 0.5}, "data.real must be left out without data.recordings"),
        ({"data.layout": "rttm_folder"}, "data.layout must be left out without data.recordings"),
        ({"data.test_speakers": []}, "data.test_speakers must be numbers of speakers"),
        ({"data.test_seconds": [0.0]}, "data.test_seconds must be seconds"),
        ({"data.test_sound": []}, "data.test_sound must be trained, plain or both"),
        ({"data.test_root": "x"}, "data.test_root must be left out with generated voices: data.root names"),
        ({"data.table": "x"}, "data.table must be left out with generated voices"),
        ({"data.voices_layout": "emodb"}, "data.voices_layout must be left out with generated voices"),
        ({"data.voices": "generated"} | FOLDER | {"data.most_seconds": 9.0}, "data.most_seconds must be left out with"),
        (FOLDER | {"data.most_seconds": 0.5}, "data.most_seconds must be 1 or more"),
        (FOLDER | {"data.table": "x", "data.voices_layout": "emodb"}, "data.table must be left out with data.voices_l"),
        (FOLDER | {"data.table": "x", "data.columns": ["", "who"]}, "data.columns must be the names of two columns"),
        ({"data.voices": "drawn"}, "data.voices must be "),
        (REPORT | {"online.window": 16.0}, "online.window must be no longer than data.block"),
    ],
)
def test_a_wrong_field_of_the_data_is_one_line(fields, said):
    with pytest.raises(AffectError) as error:
        changed(Diarization(), fields)
    assert str(error.value).startswith(said)
