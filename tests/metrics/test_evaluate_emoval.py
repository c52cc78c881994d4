from __future__ import annotations

import math
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import f1_score

import affect.metrics
from affect.metrics.classification import weighted_f1
from affect.metrics.regression import mse
from affect.tasks.multimodal_emotion.measures import EMOVAL

FOLDER = Path(affect.metrics.__file__).parent / "evaluate_modules" / "emoval"
CLASSES = ("neutral", "angry", "happy")


@pytest.fixture(scope="module")
def module():
    return evaluate.load(str(FOLDER))


def rows(emotions, valences) -> list[dict[str, object]]:
    return [{"emotion": name, "valence": value} for name, value in zip(emotions, valences, strict=True)]


def test_the_module_of_evaluate_equals_ours(module) -> None:
    random = np.random.default_rng(0)
    target, prediction = random.choice(CLASSES, (2, 100))
    valence, valence_target = random.normal(0, 2, (2, 100))
    complete = module.compute(predictions=rows(prediction, valence), references=rows(target, valence_target))
    assert complete["weighted_f1"] == pytest.approx(f1_score(target, prediction, average="weighted"))

    target, valence_target = target.astype(object), valence_target.copy()
    target[::7], target[1::7], valence_target[::3] = None, "", np.nan
    scores = module.compute(predictions=rows(prediction, valence), references=rows(target, valence_target))
    ours = [{"prediction": x, "target": y} for x, y in zip(rows(prediction, valence), rows(target, valence_target),
                                                           strict=True)]  # fmt: skip
    f1, error = weighted_f1(prediction, target), mse(valence, valence_target)
    assert scores == pytest.approx({"emoval": EMOVAL.score(ours), "weighted_f1": f1, "mse": error}, abs=1e-12)
    assert scores != complete


def test_what_its_readme_says(module) -> None:
    predictions = rows(["happy", "sad"], [1.0, -2.0])
    assert module.compute(predictions=predictions, references=rows(["happy", "sad"], [2.0, None])) == {
        "emoval": 0.75,
        "weighted_f1": 1.0,
        "mse": 1.0,
    }
    nothing = module.compute(predictions=predictions, references=rows([None, ""], [None, math.nan]))
    assert all(math.isnan(score) for score in nothing.values())


def test_bad_predictions_are_refused(module) -> None:
    with pytest.raises(ValueError, match="finite"):
        module.compute(predictions=rows(["happy"], [math.nan]), references=rows(["happy"], [1.0]))
    with pytest.raises(ValueError, match="needs a prediction"):
        module.compute(predictions=rows([None], [1.0]), references=rows(["happy"], [1.0]))
