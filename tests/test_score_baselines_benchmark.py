"""The numbers that benchmarks/score_baselines.py writes of THQA-NTIRE's names, as a report reads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from affect import report
from affect.report.compare import compare

SOURCE = Path(__file__).parents[1] / "benchmarks" / "score_baselines.py"
MADE = {"sadtalker": 3.0, "wav2lip": 2.0, "audio2head": 4.0}


def test_what_names_tell_is_there_to_hold_a_model_against(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("score_baselines", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    random = np.random.default_rng(0)
    labels = {}
    for part, characters in (("train", range(10)), ("val", range(10, 16))):
        names = [f"{k}_dalle3_common_voice_en_1{k}_{talker}.mp4" for k in characters for talker in MADE]
        labels[part] = {name: round(MADE[name[:-4].split("_")[-1]] + random.normal(), 2) for name in names}
        lines = [f"{name},{score}" for name, score in labels[part].items()]
        (tmp_path / f"{part}.csv").write_text("\n".join(["Video,Score", *lines]))
    module.ntire(tmp_path, tmp_path / "numbers")
    assert "generator and picture model" in capsys.readouterr().out
    studies = {name: report.load(tmp_path / "numbers" / name) for name in ("generator", "generator_and_picture_model")}
    means = {
        talker: np.mean([score for name, score in labels["train"].items() if name.endswith(f"_{talker}.mp4")])
        for talker in MADE
    }
    guess = [means[name[:-4].split("_")[-1]] for name in labels["val"]]
    wanted = spearmanr(guess, [*labels["val"].values()])[0]
    own = studies["generator"]
    assert own.reported and own.scored("valid", own.main).mean == pytest.approx(wanted, abs=1e-4)
    assert {measure.name for measure in own.headline} >= {"srcc", "plcc", "mse"}
    (first, *_) = compare(own, studies["generator_and_picture_model"]).differences
    assert first.estimate.value == pytest.approx(0.0, abs=1e-4), "there is one picture model"
