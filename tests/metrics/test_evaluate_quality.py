from __future__ import annotations

import math
from pathlib import Path

import evaluate
import numpy as np
import pytest

import affect.metrics
from affect.metrics import quality, regression
from affect.metrics.logistic import fit

FOLDER = Path(affect.metrics.__file__).parent / "evaluate_modules" / "quality"


@pytest.fixture(scope="module")
def module():
    return evaluate.load(str(FOLDER))


@pytest.mark.parametrize("seed", range(4))
def test_the_module_of_evaluate_equals_ours(module, seed) -> None:
    random = np.random.default_rng(seed)
    target = random.normal(1e4, 1, 200)  # 32 bits would keep three digits of these
    prediction = np.exp(target - 1e4) + random.normal(0, 0.5, 200) * seed
    target[::7] = np.nan
    found = module.compute(predictions=prediction, references=target)
    x, y = prediction, target
    assert found == pytest.approx({
        "srcc": quality.srcc(x, y), "krcc": quality.krcc(x, y), "pearson": regression.pearson(x, y),
        "plcc": quality.plcc(x, y), "rmse": regression.rmse(x, y), "rmse_fitted": quality.rmse_fitted(x, y),
        "quality": (quality.srcc(x, y) + quality.plcc(x, y)) / 2, "curve": float(fit(x, y).kind == "logistic"),
        "n": 171,
    }, rel=1e-5)  # fmt: skip


def test_what_its_readme_says(module) -> None:
    found = module.compute(predictions=[1, 3, 2, 7], references=[1, 3, 5, 4])
    assert [found[name] for name in ("srcc", "krcc", "pearson", "rmse", "n")] == pytest.approx(
        [0.4, 1 / 3, 0.426732, math.sqrt(18 / 4), 4], abs=1e-6
    )
    assert all(math.isnan(found[name]) for name in ("plcc", "rmse_fitted", "quality", "curve"))
    straight = module.compute(predictions=range(12), references=range(0, 24, 2))
    assert (straight["curve"], straight["plcc"]) == (0.0, pytest.approx(1.0))
    falls = module.compute(predictions=[-(x**3) for x in range(12)], references=range(12))
    assert falls["srcc"] == pytest.approx(-1.0)
    assert falls["plcc"] > 0.95


@pytest.mark.parametrize(("x", "y"), [([1.0] * 12, range(12)), (range(12), [1.0] * 12), ([1.0], [np.nan])])
def test_what_is_not_defined_is_nan(module, x, y) -> None:
    found = module.compute(predictions=x, references=y)
    assert all(math.isnan(found[name]) for name in ("srcc", "krcc", "pearson", "plcc", "rmse_fitted", "quality"))


def test_bad_predictions_are_refused(module) -> None:
    with pytest.raises(ValueError, match="finite"):
        module.compute(predictions=[1.0, np.nan], references=[1.0, 2.0])
