from __future__ import annotations

import ast
import math
from pathlib import Path

import evaluate
import numpy as np
import pytest

import affect.metrics
from affect.metrics.diarization import Segment, score

FOLDER = Path(affect.metrics.__file__).parent / "evaluate_modules" / "der"


@pytest.fixture(scope="module")
def module():
    return evaluate.load(str(FOLDER))


def rows(segments: list[Segment]) -> list[dict[str, object]]:
    return [{"start": start, "end": end, "speaker": str(name)} for start, end, name in segments]


def text(segments: list[Segment], recording: str = "meeting") -> str:
    """Return an RTTM whose times have all their digits."""
    lines = [
        f"SPEAKER {recording} 1 {start!r} {end - start!r} <NA> <NA> {name} <NA> <NA>" for start, end, name in segments
    ]
    return "\n".join(["; written by hand", f"SPKR-INFO {recording} 1 <NA>", *lines, ""])


def talk(random: np.random.Generator, names: str) -> list[Segment]:
    starts = random.uniform(0, 60, 20)
    turns = [
        (float(start), float(start + length), str(name))
        for start, length, name in zip(starts, random.exponential(3, 20), random.choice(list(names), 20), strict=True)
    ]
    # Of one speaker that touch, too: a collar is left out at their seam.
    return [*turns, *((end, end + 1, name) for _, end, name in turns[:5])]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"collar": 0.25},
        {"skip_overlap": True},
        {"collar": 0.25, "skip_overlap": True, "uem": [[(0, 20), (30, 50)], None, [(10, 40)], None]},
    ],
)
def test_the_module_of_evaluate_equals_ours(module, options: dict) -> None:
    random = np.random.default_rng(0)
    references = [talk(random, "abc"), talk(random, "ab"), [], talk(random, "abcd")]
    predictions = [talk(random, "xyz"), [], talk(random, "x"), talk(random, "wxyz")]
    ours = {("uems" if name == "uem" else name): value for name, value in options.items()}
    expected = score(predictions, references, **ours)
    assert module.compute(
        predictions=list(map(rows, predictions)), references=list(map(rows, references)), **options
    ) == pytest.approx(expected, abs=1e-9)
    as_text = module.compute(
        predictions=[text(p) for p in predictions], references=[text(r) for r in references], **options
    )
    assert as_text == pytest.approx(expected, abs=1e-6)
    assert 0 < expected["der"] < 2
    assert min(expected[name] for name in ("missed", "false_alarm", "confusion")) > 0


def test_what_its_readme_says(module) -> None:
    reference = rows([(0, 6, "ann"), (6, 10, "ben")])
    assert module.compute(predictions=[rows([(0, 8, "x")])], references=[reference]) == pytest.approx(
        {"der": 0.4, "jer": 0.625, "missed": 2.0, "false_alarm": 0.0, "confusion": 2.0, "speech": 10.0}
    )
    assert module.compute(predictions=[[]], references=[reference])["der"] == 1.0
    alone = module.compute(predictions=[reference], references=[[]])
    assert math.isnan(alone["der"])
    assert math.isnan(alone["jer"])
    assert alone["false_alarm"] == 10.0
    beside = module.compute(predictions=[reference, reference], references=[[], reference])
    assert beside["der"] == 1.0
    assert module.compute(predictions=[""], references=[text([(0, 6, "ann")])])["missed"] == 6.0


def test_what_cannot_be_scored_is_refused(module) -> None:
    reference = rows([(0, 6, "ann")])
    with pytest.raises(ValueError, match="end after they start"):
        module.compute(predictions=[rows([(3, 2, "x")])], references=[reference])
    with pytest.raises(ValueError, match="expected format"):
        module.compute(predictions=[[(0, 6, "ann")]], references=[reference])
    with pytest.raises(ValueError, match="expected format"):
        module.compute(predictions=["SPEAKER a 1 0 1 <NA> <NA> x"], references=[reference])
    with pytest.raises(ValueError, match="one recording"):
        module.compute(predictions=[""], references=[text([(0, 1, "a")], "one") + text([(0, 1, "a")], "other")])
    with pytest.raises(ValueError, match="8 to 10 fields"):
        module.compute(predictions=[""], references=["SPEAKER a 1 0 1"])
    with pytest.raises(ValueError, match="UEMs"):
        module.compute(predictions=[[]], references=[reference], uem=[])
    with pytest.raises(ValueError, match="collar"):
        module.compute(predictions=[[]], references=[reference], collar=-1)


def test_the_module_stands_alone() -> None:
    tree = ast.parse((FOLDER / "der.py").read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names])
    }
    assert names == {"__future__", "typing", "math", "datasets", "evaluate", "numpy", "scipy"}
