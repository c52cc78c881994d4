"""Rows of predictions and their measures, against scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error

from affect.data.corpora.mer2023 import CLASSES
from affect.task import Batch, measured
from affect.tasks.multimodal_emotion.measures import MEASURES, rows_of

LABEL = st.sampled_from(CLASSES)
NUMBER = st.integers(-20, 20).map(lambda k: k / 4)


def row(predicted, labelled, x, y):
    return {
        "prediction": {"emotion": predicted, "valence": x}, "target": {"emotion": labelled, "valence": y},
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(LABEL, LABEL, NUMBER, NUMBER), min_size=2, max_size=30))
def test_scores_are_scikit_learns(drawn):
    found = measured(MEASURES, [row(*one) for one in drawn])
    predicted, labelled, x, y = zip(*drawn, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = f1_score(labelled, predicted, average="weighted", zero_division=0)
        macro = f1_score(labelled, predicted, average="macro", zero_division=0)
    mse = mean_squared_error(y, x)
    assert found["f1"] == pytest.approx(f1)
    assert found["acc"] == pytest.approx(accuracy_score(labelled, predicted))
    assert found["mse"] == pytest.approx(mse)
    assert found["emoval"] == pytest.approx(f1 - 0.25 * mse)
    assert found["macro_f1"] == pytest.approx(macro)
    mx, my, a, b = np.mean(x), np.mean(y), np.var(x), np.var(y)
    if b == 0 or len(y) < 2:
        assert math.isnan(found["ccc_valence"]), "labels that are all the same define none"
    elif a + b > 0:
        ccc = 2 * np.mean((np.array(x) - mx) * (np.array(y) - my)) / (a + b + (mx - my) ** 2)
        assert found["ccc_valence"] == pytest.approx(ccc, abs=1e-9)


def test_missing_valences_count_for_nothing():
    rows = [row("sad", "sad", 9.0, math.nan), row("sad", "happy", 1.0, 2.0), row("happy", "happy", 0.0, 3.0)]
    found = measured(MEASURES, rows)
    assert found["mse"] == pytest.approx((1 + 9) / 2)
    assert found["acc"] == pytest.approx(2 / 3)


def test_without_any_valence_there_is_no_such_score():
    """test3 has none: an error against a placeholder would be about 80."""
    found = measured(MEASURES, [row("sad", "sad", 0.5, math.nan), row("sad", "happy", 0.5, math.nan)])
    assert {name for name, value in found.items() if math.isnan(value)} == {"mse", "emoval", "ccc_valence", "ece"}
    assert found["acc"] == 0.5


def outputs(count, streams=None):
    torch.manual_seed(0)
    found = {"emotion": torch.randn(count, 6), "valence": torch.randn(count)}
    return found | ({"attention": torch.rand(count, streams)} if streams else {})


def batch(present):
    rows = [{"emotion": CLASSES[k % 6], "valence": float(k)} for k in range(len(present))]
    return Batch(
        ids=tuple(f"u{k}" for k in range(len(present))), inputs={}, rows=rows,
        targets={"present": torch.tensor(present, dtype=torch.float32)},
    )  # fmt: skip


ALL = [[a, t, v] for a in (0, 1) for t in (0, 1) for v in (0, 1)]


def test_a_row_is_what_the_model_said():
    out = outputs(8, streams=3)
    found = rows_of(out, batch(ALL), CLASSES, ["audio", "text", "video"])
    shares = torch.softmax(out["emotion"], -1)
    for k, one in enumerate(found):
        assert set(one) == {"id", "prediction", "target", "probability", "logits", "attention", "present"}
        assert one["id"] == f"u{k}"
        assert one["prediction"]["emotion"] == CLASSES[int(out["emotion"][k].argmax())]
        assert one["prediction"]["valence"] == pytest.approx(float(out["valence"][k]))
        assert one["target"] == {"emotion": CLASSES[k % 6], "valence": float(k)}
        assert one["logits"] == pytest.approx(out["emotion"][k].tolist())
        assert list(one["probability"]["emotion"]) == list(CLASSES)
        assert list(one["probability"]["emotion"].values()) == pytest.approx(shares[k].tolist(), rel=1e-5)
        assert list(one["attention"].values()) == pytest.approx(out["attention"][k].tolist())
    assert [one["present"] for one in found] == ["", "V", "T", "TV", "A", "AV", "AT", "ATV"]


def test_attention_of_a_modality_is_that_of_its_streams():
    out = outputs(8, streams=5)
    found = rows_of(out, batch(ALL), CLASSES, ["audio", "audio", "text", "video", "video"])
    for k, one in enumerate(found):
        weights = out["attention"][k]
        assert one["attention"] == {
            "audio": pytest.approx(float(weights[:2].sum())), "text": pytest.approx(float(weights[2])),
            "video": pytest.approx(float(weights[3:].sum())),
        }  # fmt: skip


def test_models_without_attention_have_none():
    assert "attention" not in rows_of(outputs(8), batch(ALL), CLASSES, ["audio", "text", "video"])[0]
