"""The recipe of multimodal emotion: what it refuses, its protocols, its way to JSON and back."""

from __future__ import annotations

import pytest

from affect import tasks
from affect.errors import AffectError
from affect.recipe import Recipe
from affect.tasks.multimodal_emotion.config import SEEDS, Data, Model, MultimodalEmotion
from affect.training import run_dir
from tests.tasks.multimodal_emotion import small


def test_the_strict_protocol_has_six_seeds():
    recipe = MultimodalEmotion()
    assert recipe.protocol == "strict"
    assert recipe.seeds(None) == (0, 1, 2, 3, 4, 5)
    assert MultimodalEmotion(seed=7).seeds(None) == (7, 8, 9, 10, 11, 12)
    assert recipe.seeds((3, 1, 4, 5, 9, 2, 6)) == (3, 1, 4, 5, 9, 2, 6)
    assert SEEDS == 6


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2, 3, 4)])
def test_fewer_are_refused_in_one_line(seeds):
    with pytest.raises(AffectError) as error:
        MultimodalEmotion().seeds(seeds)
    assert "\n" not in str(error.value)
    assert "seeds must be at least 6 with protocol=strict (or --protocol toolkit)" in str(error.value)


def test_nothing_is_begun_with_too_few_seeds(tmp_path):
    recipe = small.with_(small.recipe(small.corpus(tmp_path / "c")), protocol="strict")
    from affect.experiments import folds
    from affect.options import Options

    with pytest.raises(AffectError, match="at least 6"):
        folds.run("x", recipe, Options(runs=tmp_path / "runs", seeds=(0, 1), report=False), "a command")
    assert not (tmp_path / "runs").exists()


def test_the_toolkits_protocol_has_one_seed():
    recipe = MultimodalEmotion(protocol="toolkit", seed=3)
    assert recipe.seeds(None) == (3,)
    assert recipe.seeds((5, 6)) == (5, 6)


def test_other_recipes_have_their_own_seed():
    assert Recipe(seed=4).seeds(None) == (4,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Model(name="attention", hidden=0), "model.hidden must be positive"),
        (lambda: Model(dropout=1.0), "model.dropout must lie in"),
        (lambda: Model(modality_dropout=-0.1), "model.modality_dropout must lie in"),
        (lambda: Model(warmup=3), "model.warmup must be 0 without model.modality_dropout"),
        (lambda: Model(imputation=-1), "model.imputation must not be negative"),
        (lambda: Model(temperature=0), "model.temperature must be positive"),
        (lambda: Data(folds=1), "data.folds must be at least 2"),
        (lambda: Data(fold=6), "data.fold must be from 1 to 5"),
        (lambda: Data(audio=(), text=(), video=()), "data.audio, data.text or data.video must name features"),
        (lambda: Data(audio=("a", "a")), "data.audio must name each feature once"),
        (lambda: Data(widths=(1, 2)), "data.widths must give one width a feature"),
        (lambda: Data(noise=0), "data.noise must be positive"),
        (lambda: MultimodalEmotion(together=0), "together must be positive"),
        (lambda: MultimodalEmotion(data=Data(audio=("a", "b"))), "model.name must be topn with several features"),
    ],
)
def test_mistakes_name_their_field(make, words):
    with pytest.raises(AffectError) as error:
        make()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_topn_takes_several_features():
    data = Data(audio=("a", "b"), widths=(1, 2, 3, 4))
    assert MultimodalEmotion(data=data, model=Model(name="topn")).data.audio == ("a", "b")


def test_json_and_back():
    recipe = MultimodalEmotion(
        data=Data(audio=("a", "b"), text=(), folds=3, fold=2), model=Model(name="topn", softmax="plain"), together=4,
        protocol="toolkit", seed=9,
    )  # fmt: skip
    data = {"experiment": "x", **recipe.to_dict()}
    assert data["task"] == "multimodal_emotion"
    assert MultimodalEmotion.from_dict(data) == recipe
    data["model"]["dropuot"] = 1
    with pytest.raises(AffectError, match=r"unknown field model\.dropuot"):
        MultimodalEmotion.from_dict(data)


def test_the_task_is_known_by_its_name():
    recipe = small.recipe("nowhere")
    made = tasks.make(recipe)
    assert (made.recipe, made.measures[0].name, made.unit) == (recipe, "emoval", "utterances")


def test_how_many_train_together_may_change(tmp_path):
    """It decides no result, so a run may go on with another number; any other field stops it."""
    recipe = small.recipe("nowhere")
    folder = tmp_path / "run"
    assert not run_dir.claim(folder, recipe, experiment="x", overwrite=False)
    (folder / "metrics.jsonl").write_text('{"event": "step"}\n')
    assert not run_dir.claim(folder, small.with_(recipe, together=3), experiment="x", overwrite=False)
    with pytest.raises(AffectError, match=r"differs in model\.hidden, protocol"):
        run_dir.claim(folder, small.with_(recipe, model__hidden=9, protocol="strict"), experiment="x", overwrite=False)
