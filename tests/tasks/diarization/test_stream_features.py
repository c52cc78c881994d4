"""Features that are kept between windows are those of the whole stream; what a frame depends on is told rightly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affect.tasks.diarization.config import SMALL, Model
from affect.tasks.diarization.stream_features import StreamFeatures, reach
from tests.tasks.diarization.blocks import made

FRONTS = {
    "convolution": {},
    "convolution at 25 Hz": {"frame": 640},
    "resnet": {"extractor": "resnet"},
    "deep resnet at 25 Hz": {"extractor": "resnet", "frame": 640, "blocks": (2, 1, 2, 1)},
}


def model_of(front: str):
    return made("ours", **FRONTS[front]).eval()


def sound(frames: float, size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(frames * size)).astype(np.float32)


def whole(model, samples: np.ndarray, mean: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.features(torch.from_numpy(samples)[None], torch.tensor([len(samples)]), mean[None])[0][0]


@pytest.mark.parametrize("front", FRONTS)
def test_kept_frames_are_those_of_the_whole(front):
    model = model_of(front)
    size, frame = 40, model.config.frame
    samples, mean = sound(120.6, frame), torch.linspace(-1, 1, 80)
    wanted = whole(model, samples, mean)
    features, sure = StreamFeatures(model, size, mean), reach(model.config)
    with torch.inference_mode():
        features.push(samples)
        for end in range(40, 121, 7):
            found = features.window(end)
            assert len(found) == size
            known = size - sure
            torch.testing.assert_close(found[:known], wanted[end - size : end - sure], atol=1e-4, rtol=1e-4)
            assert len(features.sound) <= len(samples) - (end - 2 * sure - 2 - 7) * frame
        found = features.window(121, last=True)
    torch.testing.assert_close(found, wanted[-size:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("front", FRONTS)
def test_no_frame_depends_on_what_is_beyond_its_reach(front):
    model = model_of(front)
    frame, far = model.config.frame, reach(model.config)
    samples, mean = sound(100, frame), torch.zeros(80)
    changed = samples.copy()
    changed[50 * frame : 51 * frame] += 1
    moved = (whole(model, samples, mean) != whole(model, changed, mean)).any(-1).nonzero()[:, 0]
    assert 50 - far <= int(moved.min()) <= 50 <= int(moved.max()) <= 50 + far
    # No more is computed again than has to be, but for the coarser steps of a ResNet.
    assert int(moved.max()) - int(moved.min()) >= far - 2


@pytest.mark.parametrize("fields", [{"norm": "block"}, {"extractor": "tiny"}])
def test_others_see_each_window_anew(fields):
    model = made("ours", **fields).eval()
    assert reach(model.config) is None
    frame = model.config.frame
    samples = sound(60, frame)
    features = StreamFeatures(model, 20)
    with torch.inference_mode():
        features.push(samples)
        for end in (20, 33, 47):
            found = features.window(end)
            part = torch.from_numpy(samples[(end - 20) * frame : end * frame])[None]
            mean = features.mean_level()
            args = (part, torch.tensor([20 * frame]), None if mean is None else mean[None])
            torch.testing.assert_close(found, model.features(*args)[0][0], atol=1e-5, rtol=1e-5)
    assert len(features.sound) == 33 * frame


def test_the_mean_is_that_of_all_levels_so_far():
    model = model_of("convolution")
    frame = model.config.frame
    samples = sound(50.3, frame)
    features = StreamFeatures(model, 20)
    with torch.inference_mode():
        for part in np.split(samples, [3 * frame + 5, 20 * frame, 44 * frame]):
            features.push(part)
            for end in range(features.counted + 4, features.heard // frame + 1, 4):
                features.window(end)
        features.window(51, last=True)
        levels, steps = model.extractor.mel.levels(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    assert features.steps == int(steps[0])
    torch.testing.assert_close(features.mean_level(), levels[0].mean(0), atol=1e-3, rtol=1e-3)


def test_of_the_small_model_what_is_computed_again_is_under_half_of_a_window():
    config = Model(**SMALL, extractor="resnet")
    assert reach(config) == 16
    assert (2 * reach(config) + 8) / (8 * config.frames_per_second) < 0.5
