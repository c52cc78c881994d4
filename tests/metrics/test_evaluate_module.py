from __future__ import annotations

from pathlib import Path

import evaluate
import numpy as np
import pytest

import affect.metrics
from affect.metrics.regression import ccc

FOLDER = Path(affect.metrics.__file__).parent / "evaluate_modules" / "ccc"


def test_the_module_of_evaluate_equals_ours() -> None:
    module = evaluate.load(str(FOLDER))
    random = np.random.default_rng(0)
    target = random.normal(1e4, 1, 100)  # 32 bits would keep three digits of these
    prediction = target + random.normal(0.5, 1, 100)
    target[::7] = np.nan
    assert module.compute(predictions=prediction, references=target)["ccc"] == pytest.approx(
        ccc(prediction, target), abs=1e-12
    )
    assert module.compute(predictions=[2.0, 2.0, 2.0], references=[1.0, 2.0, 3.0]) == {"ccc": 0.0}
    for undefined in ([1.0, 1.0, 1.0], [1.0, np.nan, np.nan]):
        score = module.compute(predictions=[1.0, 2.0, 3.0], references=undefined)["ccc"]
        assert np.isnan(score) and np.isnan(ccc([1.0, 2.0, 3.0], undefined))
    with pytest.raises(ValueError, match="finite"):
        module.compute(predictions=[1.0, np.nan], references=[1.0, 2.0])


@pytest.mark.parametrize("path", sorted(FOLDER.parent.glob("*/*.py")), ids=lambda path: path.stem)
def test_the_module_stands_alone(path) -> None:
    assert "affect" not in {
        line.split()[1].split(".")[0]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    }
