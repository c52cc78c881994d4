"""The terms of each model and option: their weights, what they do with rows that stand for nobody."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from affect.tasks.multimodal_emotion.config import Model
from affect.tasks.multimodal_emotion.models import terms_of
from affect.training.terms import whole
from tests.training.test_stack import CASES, batch, drawn, make

STREAMS = ("audio", "text", "video")
BASIC = {"ce_emotion": 1.0, "mse_valence": 1.0}


def weights(choice):
    return {term.name: term.weight for term in terms_of(choice, STREAMS)}


@pytest.mark.parametrize("name", ["attention", "attention_robust", "lf_dnn", "lmf", "tfn", "topn"])
def test_emotion_and_valence_count_the_same(name):
    assert weights(Model(name=name)) == BASIC
    assert all(term.additive for term in terms_of(Model(name=name), STREAMS))


def test_cross_entropy_and_squared_error_by_torch():
    torch.manual_seed(0)
    outputs = {"emotion": torch.randn(9, 6), "valence": torch.randn(9)}
    targets = {"emotion": torch.randint(6, (9,)), "valence": torch.randn(9), "present": torch.ones(9, 3)}
    wanted = F.cross_entropy(outputs["emotion"], targets["emotion"]) + F.mse_loss(
        outputs["valence"], targets["valence"]
    )
    torch.testing.assert_close(whole(terms_of(Model(), STREAMS), outputs, targets).total, wanted)
    targets["emotion"][:2], targets["valence"][5:] = -100, float("nan")
    wanted = F.cross_entropy(outputs["emotion"][2:], targets["emotion"][2:])
    wanted = wanted + F.mse_loss(outputs["valence"][:5], targets["valence"][:5])
    torch.testing.assert_close(whole(terms_of(Model(), STREAMS), outputs, targets).total, wanted)


@pytest.mark.parametrize(
    ("choice", "added"),
    [
        (Model(imputation=0.5), {"imputed": 0.5}),
        (Model(contrastive=0.2), {"alignment": 0.2}),
    ],
)
def test_options_add_a_term_of_their_weight(choice, added):
    assert weights(choice) == BASIC | added


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("misa", {"reconstruction": 1.0, "difference": 0.3, "similarity": 1.0}),
        ("mmim", {"contrast": 0.1, "information_audio": 0.1, "information_video": 0.1}),
    ],
)
def test_models_with_terms_of_their_own(name, added):
    assert weights(Model(name=name)) == BASIC | added
    assert not all(term.additive for term in terms_of(Model(name=name), STREAMS))


def test_the_temperature_is_the_contrasts():
    models, warm = make(CASES["contrastive"], 1)
    cold = terms_of(Model(contrastive=0.2, temperature=0.01), STREAMS)
    b = batch(8, 0)
    outputs = models[0].eval()(**b.inputs)
    found = [float(whole(terms, outputs, b.targets).values["alignment"].detach()) for terms in (warm, cold)]
    assert found[1] > 2 * found[0]


@pytest.mark.parametrize("case", CASES)
def test_rows_that_stand_for_nobody_count_for_nothing(case):
    """Those that fill a batch up: no label, no modality, zeros for features."""
    (model,), terms = make(CASES[case], 1)
    b = batch(6, 3)
    (noise,) = drawn([model], [b])
    alone = whole(terms, model(**b.inputs, noise=noise), b.targets).values
    inputs, targets = ({name: F.pad(t, (0, 0) * (t.ndim - 1) + (0, 3)) for name, t in side.items()} for side in (
        b.inputs, b.targets))  # fmt: skip
    targets["emotion"][6:], targets["valence"][6:] = -100, float("nan")
    noise = {name: F.pad(t, (0, 0) * (t.ndim - 1) + (0, 3)) for name, t in noise.items()}
    found = whole(terms, model(**inputs, noise=noise), targets).values
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_batch_without_a_label_has_terms_and_gradients_that_are_numbers(case):
    (model,), terms = make(CASES[case], 1)
    b = batch(4, 5)
    b.targets["emotion"][:], b.targets["valence"][:] = -100, float("nan")
    (noise,) = drawn([model], [b])
    found = whole(terms, model(**b.inputs, noise=noise), b.targets)
    found.total.backward()
    assert not found.defined["ce_emotion"]
    assert float(found.values["ce_emotion"].detach()) == 0.0
    assert all(value.isfinite() for value in found.values.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
