"""The loss of each model and option: its terms, their weights, what it does with rows that stand for nobody."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from affect.task import AdditiveLoss, GatheredLoss, terms_of, total_of
from affect.tasks.multimodal_emotion.losses import loss_of
from affect.tasks.multimodal_emotion.sections import Model
from tests.train.test_stack import CASES, batch, drawn, make

STREAMS = ("audio", "text", "video")
BASIC = {"emotion": 1.0, "valence": 1.0}


def labelled(loss):
    """The basic terms' names and weights in a loss, which a sum prefixes."""
    return {name.removeprefix("label_"): w for name, w in loss.weights.items() if name.split("_")[-1] in BASIC}


@pytest.mark.parametrize("name", ["attention", "attention_robust", "lf_dnn", "lmf", "tfn", "topn"])
def test_emotion_and_valence_count_the_same(name):
    loss = loss_of(Model(name=name), STREAMS)
    assert dict(loss.weights) == BASIC
    assert isinstance(loss, AdditiveLoss) and not isinstance(loss, GatheredLoss)


def test_cross_entropy_and_squared_error_by_torch():
    torch.manual_seed(0)
    outputs = {"emotion": torch.randn(9, 6), "valence": torch.randn(9)}
    targets = {"emotion": torch.randint(6, (9,)), "valence": torch.randn(9), "present": torch.ones(9, 3)}
    wanted = F.cross_entropy(outputs["emotion"], targets["emotion"]) + F.mse_loss(
        outputs["valence"], targets["valence"]
    )
    torch.testing.assert_close(total_of(loss_of(Model(), STREAMS), outputs, targets), wanted)
    targets["emotion"][:2], targets["valence"][5:] = -100, float("nan")
    wanted = F.cross_entropy(outputs["emotion"][2:], targets["emotion"][2:])
    wanted = wanted + F.mse_loss(outputs["valence"][:5], targets["valence"][:5])
    torch.testing.assert_close(total_of(loss_of(Model(), STREAMS), outputs, targets), wanted)


@pytest.mark.parametrize(
    ("choice", "added"),
    [
        (Model(imputation=0.5), {"imputed": 0.5}),
        (Model(contrastive=0.2), {"contrast_alignment": 0.2}),
    ],
)
def test_options_add_a_term_of_their_weight(choice, added):
    loss = loss_of(choice, STREAMS)
    assert labelled(loss) == BASIC
    assert {k: w for k, w in loss.weights.items() if k.removeprefix("label_") not in BASIC} == added


@pytest.mark.parametrize("name", ["misa", "mmim"])
def test_models_with_losses_of_their_own(name):
    loss = loss_of(Model(name=name), STREAMS)
    assert isinstance(loss, GatheredLoss)
    assert labelled(loss) == BASIC
    assert any(term.startswith(f"{name}_") and weight for term, weight in loss.weights.items())


def test_the_temperature_is_the_contrasts():
    models, warm = make(CASES["contrastive"], 1)
    cold = loss_of(Model(contrastive=0.2, temperature=0.01), STREAMS)
    b = batch(8, 0)
    outputs = models[0].eval()(**b.inputs)
    found = [float(terms_of(loss, outputs, b.targets)["contrast_alignment"].detach()) for loss in (warm, cold)]
    assert found[1] > 2 * found[0]


@pytest.mark.parametrize("case", CASES)
def test_rows_that_stand_for_nobody_count_for_nothing(case):
    """Those that fill a batch up: no label, no modality, zeros for features."""
    (model,), loss = make(CASES[case], 1)
    b = batch(6, 3)
    (noise,) = drawn([model], [b])
    alone = terms_of(loss, model(**b.inputs, noise=noise), b.targets)
    inputs, targets = ({name: F.pad(t, (0, 0) * (t.ndim - 1) + (0, 3)) for name, t in side.items()} for side in (
        b.inputs, b.targets))  # fmt: skip
    targets["emotion"][6:], targets["valence"][6:] = -100, float("nan")
    noise = {name: F.pad(t, (0, 0) * (t.ndim - 1) + (0, 3)) for name, t in noise.items()}
    torch.testing.assert_close(terms_of(loss, model(**inputs, noise=noise), targets), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_batch_without_a_label_has_terms_and_gradients_that_are_numbers(case):
    (model,), loss = make(CASES[case], 1)
    b = batch(4, 5)
    b.targets["emotion"][:], b.targets["valence"][:] = -100, float("nan")
    (noise,) = drawn([model], [b])
    terms = terms_of(loss, model(**b.inputs, noise=noise), b.targets)
    torch.stack([loss.weights[k] * v for k, v in terms.items()]).sum().backward()
    assert float(terms[next(k for k in terms if k.endswith("emotion"))].detach()) == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
