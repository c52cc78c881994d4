"""Every field of the recipe does something, or is refused in a line that names what it needs."""

from __future__ import annotations

import pytest

from affect.cli.arguments import parse
from affect.errors import AffectError
from affect.experiments.definitions import changed
from affect.tasks.talking_face.config import NEEDS, Data, TalkingFace
from tests.tasks.fields import hold_complete, hold_refused

SEEN, HEARD = {"model.media.video": "tiny"}, {"model.media.audio": "tiny"}
BOTH = SEEN | HEARD
TABLE = {"data.corpus": "score_table"}
FACES = {**BOTH, "data.corpus": "generated_clips", "data.boxes": "boxes"}
ONE, CORRUPTION, SURE = {"data.scores": ["a"]}, {"loss.kind": "corruption"}, {"model.heteroscedastic": True}
POOLED = {"model.layers": 0, "model.temporal_attention": False}
CASES = [
    ("model.alignment", 0.1, {"data.features": ["audio"]}, {}),
    ("model.modality_dropout", 0.1, SEEN, BOTH),
    ("model.temperature", 0.2, {}, {"model.alignment": 0.1}),
    ("model.normalise", False, BOTH, BOTH | {"model.media.features": True}),
    ("model.heads", 4, POOLED, {"model.layers": 0}),
    ("model.head_width", 32, POOLED, {"model.temporal_attention": False}),
    ("model.hidden", 64, {"model.layers": 0}, {}),
    ("model.encoder_hidden", 64, {"model.encoder_layers": 1}, {}),
    ("model.heteroscedastic", True, CORRUPTION, {}),
    ("model.media.faces", True, BOTH, FACES),
    ("model.media.faces", True, {**HEARD, "data.corpus": "generated_clips", "data.boxes": "boxes"}, FACES),
    ("model.media.margin", 0.1, FACES, FACES | {"model.media.faces": True}),
    ("model.media.side", 32, HEARD, SEEN),
    ("model.media.fit", "pad", FACES | {"model.media.faces": True}, SEEN),
    ("model.media.rate", 2.0, {}, SEEN),
    ("model.media.rate", 2.0, HEARD | {"model.media.features": True}, SEEN),
    ("model.media.seconds", 2.0, {}, HEARD),
    ("model.media.features", True, {}, HEARD),
    ("model.media.video_revision", "main", BOTH, {"model.media.video": "owner/model"}),
    ("model.media.audio_revision", "main", BOTH, {"model.media.audio": "owner/model"}),
    ("data.features", ["audio"], BOTH, {}),
    ("data.frames_of", "frames", TABLE | BOTH, TABLE),
    ("data.videos", "clips", TABLE, TABLE | BOTH),
    ("data.boxes", "boxes", TABLE | BOTH, TABLE | BOTH | {"data.videos": "clips"}),
    *((f"data.generated_{name}", value, TABLE, {"data.corpus": "generated_scores"}) for name, value in (
        ("syncnet", 9), ("form", "flat"), ("missing", 0.5), ("absent", 0.0), ("sources", 12), ("generators", 3))),
    ("data.folds", 3, {"data.split": "own"}, {"data.split": "source"}),
    ("augment.mask", 0.1, BOTH, BOTH | {"model.media.features": True}),
    ("augment.mixup", 0.1, BOTH, {}),
    ("augment.speed", 0.1, {}, HEARD),
    ("augment.gain", 3.0, SEEN, HEARD),
    ("augment.noise", [5.0, 9.0], SEEN, HEARD),
    ("augment.crop", 0.1, HEARD, SEEN),
    ("augment.flip", True, HEARD, SEEN),
    ("augment.drop", 0.1, {}, SEEN),
    ("loss.kind", "mae", SURE, {}),
    ("loss.kind", "corruption", BOTH, {}),
    ("loss.plcc", 0.5, CORRUPTION, {}),
    ("loss.rank", 0.5, CORRUPTION, {}),
    ("loss.smoothing", "sqrt", CORRUPTION, {}),
    ("loss.smoothing", "sqrt", SURE, {}),
    ("loss.consistency", 0.1, CORRUPTION, {}),
    ("loss.consistency", 0.1, ONE, {}),
    ("loss.weights", "rlw", CORRUPTION, {}),
    ("loss.weights", "famo", ONE, ONE | {"loss.plcc": 0.5}),
    ("loss.weights", "cagrad", ONE, ONE | {"model.alignment": 0.1}),
    ("loss.weights", "famo", SURE, {}),
    ("loss.delta", 0.5, {}, {"loss.kind": "huber"}),
    ("loss.smoothing_bins", 20, {}, {"loss.smoothing": "sqrt"}),
    ("loss.smoothing_sigma", 1.0, {}, {"loss.smoothing": "inverse"}),
    ("loss.dwa_temperature", 1.0, {"loss.weights": "rlw"}, {"loss.weights": "dwa"}),
    ("loss.cagrad_c", 0.2, {"loss.weights": "upgrad"}, {"loss.weights": "cagrad"}),
    ("continual.batches", 4, {}, {"continual.by": "generator"}),
    ("continual.arrived", 1, {}, {"continual.by": "generator"}),
    ("continual.replay", 0.5, {}, {"continual.by": "generator"}),
    ("optim.encoder_lr", 1e-5, {}, None),
]  # fmt: skip
"""A field, a value, with what it does nothing, and with what it does."""
ALWAYS = {
    *("data.corpus", "data.root", "data.name", "data.scores", "data.scale", "data.split", "data.fold"),
    *("model.encoder_dim", "model.encoder_layers", "model.residual", "model.norm", "model.layers", "model.pooling"),
    *("model.temporal_attention", "model.dropout", "model.fused", "model.output"),
    *("model.media.video", "model.media.audio"),
    *("data.train_all", "data.allow_shared", "continual.by"),
}  # fmt: skip
BY_SECTION = {
    # By what the corpus takes; a demo's own may be pointed at a real one.
    *("data.table", "data.decimal", "data.columns", "data.clip", "data.groups", "data.pattern"),
    *("data.clips", "data.frames"),
    *("data.generated_widths", "data.clip_seconds", "data.noise", "data.generator_seed", "data.sync"),
    *("model.linear", "loss.fixed", "model.media.train_video", "model.media.train_audio", "model.media.lr"),
}  # fmt: skip
"""Fields that always do something, and those that their own section checks."""


@pytest.mark.parametrize("case", CASES)
def test_a_field_that_does_nothing_is_refused_and_its_default_never(case):
    hold_refused(TalkingFace, case, "(be left out|be 0|not be famo)")


def test_every_field_is_looked_at():
    hold_complete(TalkingFace, ("data", "model", "loss", "augment", "continual"), CASES, NEEDS, ALWAYS | BY_SECTION)


def test_the_help_says_what_of_the_weightings_is_not_exact(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse("demo", TalkingFace, ["--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "famo takes the values of successive batches where its paper takes the same batch twice" in said
    assert "heads and log variances keep the plain gradient, and scores that a batch has no label of are left" in said


# Scales


def test_a_scale_is_of_all_scores_or_of_those_named():
    scores = {"data.scores": ["sync", "overall"]}
    assert changed(TalkingFace(), scores).data.scales == {}
    same = changed(TalkingFace(), scores | {"data.scale": [0, 5]}).data
    assert same.scale == (0.0, 5.0) and same.scales == {"sync": (0.0, 5.0), "overall": (0.0, 5.0)}
    each = changed(TalkingFace(), scores | {"data.scale": ["overall=0,100"]})
    assert each.data.scales == {"overall": (0.0, 100.0)}
    two = changed(TalkingFace(), scores | {"data.scale": ["overall=0,100", "sync=-1,1"]})
    assert two.data.scales == {"overall": (0.0, 100.0), "sync": (-1.0, 1.0)}
    assert TalkingFace.from_dict(two.to_dict()) == two


@pytest.mark.parametrize("words", [["1", "5"], ["overall_score=0,100", "lip_sync_score=1,5"]])
def test_a_command_line_gives_either(words):
    (data,) = [parse("name", TalkingFace, ["--data.scale", *words])[0].data]
    assert [str(part) for part in data.scale] == (["1.0", "5.0"] if len(words[0]) == 1 else words)


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ((5.0, 1.0), "data.scale must go from low to high"),
        (("overall_score=5,1",), "data.scale must go from low to high"),
        (("overall_score=0,inf",), "data.scale must go from low to high"),
        (("overall_score=0,1", "overall_score=0,2"), "data.scale must name each score once"),
        (("overall=0,1",), "data.scale names no score of data.scores: 'overall'; did you mean 'overall_score'?"),
        (("overall_score=0",), "data.scale must be LOW HIGH or NAME=LOW,HIGH each, not 'overall_score=0'"),
        (("overall_score",), "data.scale must be LOW HIGH or NAME=LOW,HIGH each"),
        (("overall_score=a,b",), "data.scale must be LOW HIGH or NAME=LOW,HIGH each"),
    ],
)
def test_a_wrong_scale_is_one_line(scale, said):
    with pytest.raises(AffectError) as error:
        Data(scale=scale)
    assert str(error.value).startswith(said)
