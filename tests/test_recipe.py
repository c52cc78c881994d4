"""Recipes: what is written is what is read, and a wrong file is one line that names the field."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import recipe
from affect.errors import AffectError
from affect.recipe import Optim, Train, differences, field_names
from affect.tasks import read_recipe, task_class
from affect.tasks.emotion.config import Data, Emotion, Model
from affect.training import run_dir

rate = st.floats(1e-9, 10.0)
share = st.floats(0.0, 0.99)
whole = st.integers(1, 1000)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def maybe(strategy):
    return st.none() | strategy


optims = st.builds(
    Optim,
    lr=rate,
    encoder_lr=maybe(rate),
    weight_decay=st.floats(0, 1),
    betas=st.tuples(share, share),
    schedule=st.sampled_from(["cosine", "constant", "plateau"]),
    warmup=share,
    clip=maybe(rate),
    ema=maybe(st.floats(0.01, 0.99)),
)
trains = st.builds(
    Train,
    batch=whole,
    epochs=whole,
    steps=maybe(whole),
    budget=st.just("auto") | st.floats(0.1, 1e6) | whole,
    mode=st.sampled_from(["auto", "hold", "replay"]) | st.floats(0.01, 0.99),
    patience=maybe(whole),
    workers=st.integers(0, 9),
    trackers=st.lists(st.sampled_from(["tensorboard", "wandb", "trackio"]), max_size=3).map(tuple),
    world=maybe(whole),
)
ours = st.builds(
    Data,
    corpus=st.sampled_from(["csv_folder", "hub"]),
    root=text,
    fold=maybe(whole),
    allow_shared=st.booleans(),
    scale=maybe(st.tuples(st.floats(-9, 0), st.floats(1, 9))),
)
known = st.builds(
    Data,
    corpus=st.sampled_from(["synthetic", "iemocap", "emodb"]),
    root=text,
    seconds=st.tuples(st.floats(0.3, 1), st.floats(1, 60)),
    dialogues=whole,
)
models = st.builds(
    Model,
    encoder=text.filter(lambda name: name != "none"),
    layers=st.sampled_from(["last", "weighted"]) | whole,
    prosody_dim=st.integers(0, 99),
    dropout=share,
    encoder_dropout=maybe(share),
    attention_dropout=maybe(share),
    sigmoid=st.booleans(),
    layerdrop=share,
)


@st.composite
def recipes(draw: st.DrawFn) -> Emotion:
    targets = draw(st.permutations(["valence", "arousal", "dominance"]))[: draw(st.integers(1, 3))]
    loss = draw(st.sampled_from(["ccc", "weighted", "mse", "ccc_mse"]))
    weights = tuple(draw(st.lists(rate, min_size=len(targets), max_size=len(targets)))) if loss == "weighted" else None
    return Emotion(
        seed=draw(st.integers(0, 2**31)),
        optim=draw(optims),
        train=draw(trains),
        data=draw(ours | known),
        model=draw(models),
        targets=tuple(targets),
        loss=loss,
        weights=weights,
    )


@settings(max_examples=100, deadline=None)
@given(recipes())
def test_what_is_written_is_what_is_read(recipe):
    plain = recipe.to_dict()
    assert plain["task"] == "emotion"
    read = read_recipe(json.loads(json.dumps(plain)))
    assert read == recipe
    assert type(read) is Emotion
    assert differences(plain, read.to_dict()) == []


@settings(max_examples=50, deadline=None)
@given(recipes(), recipes())
def test_differences_are_the_fields_that_differ(one, other):
    def flat(recipe, prefix=""):
        found = {}
        for field in dataclasses.fields(recipe):
            value = getattr(recipe, field.name)
            deeper = dataclasses.is_dataclass(value)
            found |= flat(value, f"{prefix}{field.name}.") if deeper else {prefix + field.name: value}
        return found

    a, b = flat(one), flat(other)
    assert list(a) == field_names(Emotion)
    assert differences(one.to_dict(), other.to_dict()) == [name for name in a if a[name] != b[name]]


def test_the_file_of_a_run_is_read(tmp_path):
    recipe = Emotion(data=Data(root="here"), optim=Optim(lr=0.5), model=Model(layers=3), seed=4)
    run_dir.claim(tmp_path / "run", recipe, experiment="demo", overwrite=False)
    assert read_recipe(tmp_path / "run" / "recipe.json") == recipe


def test_fields_left_out_have_their_defaults():
    assert read_recipe({"task": "emotion", "data": {"root": "x"}}) == Emotion(data=Data(root="x"))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sed", 1, "unknown field sed; did you mean 'seed'?"),
        ("optim.learning_rate", 1, "unknown field optim.learning_rate"),
        ("train.bacth", 1, "unknown field train.bacth; did you mean 'batch'?"),
        ("seed", "one", "seed must be int, not 'one'"),
        ("seed", True, "seed must be int, not True"),
        ("seed", None, "seed must be int, not None"),
        ("optim", 3, "optim must be an object, not 3"),
        ("optim.lr", "fast", "optim.lr must be float, not 'fast'"),
        ("optim.lr", -1, "optim.lr must be positive"),
        ("optim.betas", [0.9], "optim.betas must be tuple"),
        ("optim.betas", [0.9, "x"], "optim.betas must be float, not 'x'"),
        ("optim.schedule", "linear", "optim.schedule must be"),
        ("train.steps", 1.5, "train.steps must be int or None, not 1.5"),
        ("train.budget", "much", "train.budget must be float or"),
        ("data", {}, "data.root"),
        ("data.root", "", "data.root must name"),
        ("targets", [], "targets must name at least one"),
        ("targets", ["joy"], "targets must be"),
        ("targets", "valence", "targets must be"),
        ("task", "emotoin", "unknown task 'emotoin'; did you mean 'emotion'"),
        ("task", None, "unknown task 'None'"),
    ],
)
def test_a_wrong_field_is_one_line_that_names_it(path, value, words):
    data = Emotion(data=Data(root="x")).to_dict()
    inside = data
    *parents, last = path.split(".")
    for name in parents:
        inside = inside[name]
    inside[last] = value
    with pytest.raises(AffectError) as error:
        read_recipe(data)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"recipe"', "{\n\n'a'"])
def test_a_file_that_is_no_recipe_is_one_line(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(AffectError, match="recipe.json is not a") as error:
        read_recipe(path)
    assert "\n" not in str(error.value)
    with pytest.raises(AffectError, match="not a readable recipe"):
        read_recipe(tmp_path / "none.json")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AffectError, match="not a readable recipe"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Optim(betas=(0.9, 1.0)), "optim.betas"),
        (lambda: Optim(warmup=1.0), "optim.warmup"),
        (lambda: Optim(clip=0.0), "optim.clip"),
        (lambda: Optim(ema=1.0), "optim.ema"),
        (lambda: Optim(lr=float("nan")), "optim.lr"),
        (lambda: Train(epochs=0), "train.epochs"),
        (lambda: Train(patience=0), "train.patience"),
        (lambda: Train(budget=0), "train.budget"),
        (lambda: Train(workers=-1), "train.workers"),
        (lambda: Data(root="x", fold=0), "data.fold"),
        (lambda: Data(root="x", scale=(1, 5)), "data.scale"),
        (lambda: Data(root="x", corpus="hub", scale=(5, 1)), "data.scale"),
        (lambda: Data(root="x", columns=("a=b",)), "data.columns"),
        (lambda: Data(root="x", corpus="hub", columns=("ab",)), "data.columns must be OURS=THEIRS"),
        (lambda: Data(root="x", corpus="hub", columns=("=b",)), "data.columns must be OURS=THEIRS"),
        (
            lambda: Data(root="x", corpus="csv_folder", columns=("a=b", "a=c")),
            "data.columns must be OURS=THEIRS, each of ours once",
        ),
        (
            lambda: Data(root="x", corpus="emodb", columns=("a=b",)),
            "data.columns must be left out unless corpus is csv_",
        ),
        (
            lambda: Data(root="x", corpus="hub", labels="a.csv"),
            "data.labels must be left out unless corpus is csv_fold",
        ),
        (lambda: Data(root="x", corpus="hub", audio="wav"), "data.audio must be left out unless corpus is csv_folder"),
        (lambda: Data(root="x", corpus="csv_folder", subset="a"), "data.subset must be left out unless corpus is hub"),
        (lambda: Data(root="x", corpus="csv_folder", revision="a"), "data.revision must be left out unless corpus is"),
        (lambda: Data(root="x", corpus="csv_folder", limit=3), "data.limit must be left out unless corpus is hub"),
        (lambda: Data(root="x", streaming=True), "data.streaming must be left out unless corpus is hub"),
        (lambda: Data(root="x", corpus="hub", limit=0), "data.limit must be positive"),
        (lambda: Model(encoder="none", layers=3), "model.layers must be left out with encoder=none"),
        (lambda: Model(encoder="none", checkpointing=True), "model.checkpointing must be left out with encoder=none"),
        (lambda: Model(encoder="none", layerdrop=0.1), "model.layerdrop must be left out with encoder=none"),
        (lambda: Model(encoder="none", spec_augment=True), "model.spec_augment must be left out with encoder=none"),
        (lambda: Model(encoder="none", prosody_dim=0), "model.prosody_dim"),
        (lambda: Model(layers=0), "model.layers"),
        (lambda: Emotion(targets=("valence", "valence")), "targets"),
        (lambda: Emotion(weights=(1.0, 2.0)), "weights"),
        (lambda: Emotion(loss="weighted", weights=(1.0,)), "weights"),
        (lambda: Emotion(loss="ccc_mse", model=Model(uncertainty=True)), "model.uncertainty"),
        (lambda: Emotion(seed=-1), "seed"),
    ],
)
def test_a_wrong_value_names_its_field(make, words):
    with pytest.raises(AffectError) as error:
        make()
    assert str(error.value).startswith(words)


def test_the_class_of_a_task():
    assert task_class("emotion").recipe_class is Emotion
    with pytest.raises(AffectError, match="unknown task 'emotions'; did you mean 'emotion'"):
        task_class("emotions")


def test_a_file_that_holds_no_object_is_named_with_its_article(tmp_path):
    path = tmp_path / "kept.json"
    path.write_text("[]")
    for what, named in (("recipe", "a recipe"), ("environment", "an environment")):
        with pytest.raises(AffectError, match=f"kept.json is not {named}: it holds no object"):
            recipe.read(path, what)
