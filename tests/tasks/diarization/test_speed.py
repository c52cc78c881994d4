"""Bounds on CPU time, far above what docs/experiments.md has, by the functions of the benchmarks."""

from __future__ import annotations

import pytest
import torch

from affect.data import synthetic_voices, voices
from affect.data.simulator import Simulator

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("name", "speakers", "most"), [("demo", 4, 0.1), ("small, hop 0.64 s", 1, 0.5)])
def test_a_stream_takes_a_share_of_its_time(benchmark, name, speakers, most):
    """The least of three rounds, on one thread."""
    online, threads = benchmark("diarization_online"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        samples = online.sound(16.0)
        model, options = online.drawn(*online.MODELS[name], samples)
        taken = [online.factor(model, options, samples, speakers) for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    print(f"{name}: {taken}")
    assert min(taken) <= most


def test_conversations_are_simulated_faster_than_they_last(benchmark, tmp_path):
    simulate = benchmark("simulate")
    root, _ = synthetic_voices.generate(tmp_path / "voices", synthetic_voices.VoiceSettings(voices=6))
    made = voices.read(root)
    speeds = simulate.measured({name: Simulator(made, rules) for name, rules in simulate.kinds(None).items()}, 40)
    print(speeds)
    for (name, _), speed in speeds.items():
        assert speed >= (200 if name == "rooms" else 2000), name


def test_eighteen_meetings_are_scored_in_a_moment(benchmark, real_data):
    """The goals of docs/experiments.md: .5 s for both scores, 1.5 CPU-seconds for the command with its imports."""
    _, scores, command = benchmark("diarization_scoring").measure(real_data / "rttm_pairs", 5)
    assert scores <= 0.5
    assert command <= 1.5
