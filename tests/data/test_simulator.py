"""Simulated conversations: labels are who was put where, and each is a function of (seed, epoch, index) alone."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import talkers
import torch
from torch.utils.data import DataLoader

from affect.config import from_dict, to_dict
from affect.data import voices
from affect.data.activity import RATE, SampleTurn
from affect.data.noise import prepared
from affect.data.rttm import read_rttm
from affect.data.simulation import Simulation
from affect.data.simulator import Conversation, Simulator, activity, rows
from affect.data.turn_taking import fit, overlap_ratio
from affect.errors import AffectError

DRY = Simulation(speakers=(2, 3), reverberation=0.0, noise=0.0, distance=(1.0, 1.0))


@pytest.fixture(scope="module")
def tones(tmp_path_factory, own_cache):
    return voices.read(talkers.write(tmp_path_factory.mktemp("tones")))


def same(one: Conversation, other: Conversation) -> bool:
    return one.turns == other.turns and np.array_equal(one.samples, other.samples)


def decibels(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(wave, dtype=np.float64))))


def spoken(made: Conversation) -> np.ndarray:
    """Return which samples somebody speaks at."""
    where = np.zeros(len(made.samples), bool)
    for start, end, _ in made.turns:
        where[start:end] = True
    return where


@pytest.mark.parametrize("rules", [DRY, replace(DRY, speakers=(1, 5), turn=(0.1, 1.0), gap=0.5)])
def test_labels_are_who_is_heard(tones, rules):
    simulator = Simulator(tones, rules)
    for index in range(12):
        made = simulator.conversation(3, 0, index, 8.0)
        assert made.samples.shape == (8 * RATE,) and made.samples.dtype == np.float32
        assert made.turns == sorted(made.turns) and all(0 <= a < b <= 8 * RATE for a, b, _ in made.turns)
        for name, hertz in talkers.TONES.items():
            (active,) = activity(made.turns, [name], 800, 160)
            heard = talkers.levels(made.samples, hertz)
            borders = {edge // 160 for a, b, who in made.turns if who == name for edge in (a, a + 80, b - 81, b - 1)}
            inside = np.array([frame not in borders for frame in range(800)])
            assert np.array_equal(heard[inside] > 0.02, active[inside].astype(bool))
            # A voice at 1 m is as loud as every other one, but where its track begins again.
            loud = heard[inside & (active > 0)]
            assert not len(loud) or (np.abs(loud / voices.LEVEL - 1) < 0.02).mean() > 0.96


def test_a_function_of_seed_epoch_and_index(tones):
    rules = Simulation(speakers=(2, 4))
    simulator, other = Simulator(tones, rules), pickle.loads(pickle.dumps(Simulator(tones, rules)))
    first = simulator.conversation(1, 2, 3, 4.0)
    for numbers in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        assert not same(first, simulator.conversation(*numbers, 4.0))
    assert same(first, simulator.conversation(1, 2, 3, 4.0)) and same(first, other.conversation(1, 2, 3, 4.0))


def test_rows_are_batches_of_a_loader(tones):
    """As a task has them: rows with id and length, and a batch that any worker process makes alike."""
    simulator = Simulator(tones, Simulation(speakers=(2, 3)))

    def collate(batch: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
        made = [simulator.conversation(0, 7, row["index"], row["length"]) for row in batch]
        slots = [activity(each.turns, sorted({who for *_, who in each.turns}), 50, 640) for each in made]
        labels = [np.pad(each, ((0, 3 - len(each)), (0, 0))) for each in slots]
        return torch.from_numpy(np.stack([each.samples for each in made])), torch.from_numpy(np.stack(labels))

    table = rows("train", 6, 2.0)
    assert set(table.column_names) == {"id", "index", "length"} and len({*table["id"]}) == 6
    batches = [list(DataLoader(table, batch_size=2, num_workers=n, collate_fn=collate)) for n in (0, 2)]
    for (wave, labels), (other, same_labels) in zip(*batches, strict=True):
        assert wave.shape == (2, 2 * RATE) and labels.shape == (2, 3, 50) and labels.any()
        assert torch.equal(wave, other) and torch.equal(labels, same_labels)


def test_several_processes_make_the_same(tones):
    simulator = Simulator(tones, Simulation(speakers=(2, 4), reverberation=1.0, noise=1.0))
    jobs = [(0, 1, index, 3.0) for index in range(6)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        elsewhere = pool.starmap(simulator.conversation, jobs[::-1], chunksize=1)[::-1]
    assert all(same(simulator.conversation(*job), made) for job, made in zip(jobs, elsewhere, strict=True))


@pytest.mark.parametrize("files", [False, True])
def test_the_ratio_to_noise_is_what_is_asked_for(tones, files, tmp_path):
    if files:
        hiss = 0.1 + 0.05 * np.random.default_rng(0).standard_normal(2 * RATE)
        soundfile.write(tmp_path / "hiss.wav", hiss, RATE, subtype="FLOAT")
    rules = Simulation(speakers=(2, 2), noise=0.0)
    noisy = replace(rules, noise=1.0, snr=(7.0, 7.0), noise_files=str(tmp_path) if files else None)
    for index in range(4):
        clean = Simulator(tones, rules).conversation(0, 0, index, 20.0)
        made = Simulator(tones, noisy).conversation(0, 0, index, 20.0)
        assert made.turns == clean.turns, "noise changes nothing of who speaks when"
        added = made.samples.astype(np.float64) - clean.samples
        assert decibels(clean.samples[spoken(clean)]) - decibels(added) == pytest.approx(7.0, abs=0.05)
        assert abs(added.mean()) < 0.05 * added.std()


def test_noise_alone_where_nobody_speaks(tones):
    simulator = Simulator(tones, replace(DRY, noise=1.0, snr=(20.0, 20.0), turn=(0.1, 0.1), gap=9.0, speakers=(1, 1)))
    made = next(each for k in range(20) if not (each := simulator.conversation(0, 0, k, 2.0)).turns)
    assert decibels(made.samples) == pytest.approx(20 * np.log10(voices.LEVEL) - 20.0, abs=1.0)


def test_prepared_noise_is_as_long_as_it_is_to_be():
    for size in (1, 1000, 700_000):
        pieces = prepared(size, np.random.default_rng(size))
        assert sum(map(len, pieces)) == size
    colours = [prepared(RATE, np.random.default_rng(k))[0] for k in range(12)]
    low = [np.abs(np.fft.rfft(each))[1:200].mean() / np.abs(np.fft.rfft(each))[-200:].mean() for each in colours]
    assert min(low) < 2 < 5 < max(low), "from white to pink"


def turn_levels(made: Conversation) -> dict[str, list[float]]:
    """Return the level in dB of each speaker's turns that are long enough."""
    levels: dict[str, list[float]] = {name: [] for name in talkers.TONES}
    for start, end, who in made.turns:
        if end - start > 0.2 * RATE:
            inside = made.samples[start + 160 : end - 160]
            levels[who].append(20 * np.log10(np.median(talkers.levels(inside, talkers.TONES[who]))))
    return levels


@pytest.mark.parametrize("moves", [0.0, 1.0])
def test_distance_is_heard_as_level(tones, moves):
    rules = replace(DRY, distance=(0.5, 4.0), moves=moves, speakers=(3, 3))
    levels = turn_levels(Simulator(tones, rules).conversation(0, 0, 0, 60.0))
    widths = [max(own) - min(own) for own in levels.values() if own]
    every = [level - 20 * np.log10(voices.LEVEL) for own in levels.values() for level in own]
    assert len(widths) == 3
    assert min(widths) > 3 if moves else max(widths) < 0.2
    assert -20 * np.log10(4.0) - 0.3 < min(every) and max(every) < 20 * np.log10(2.0) + 0.3


def test_a_room_makes_speech_neither_later_nor_louder(tones):
    dry = replace(DRY, speakers=(1, 1), moves=1.0, distance=(0.5, 3.0), overlap=0.0)
    wet = replace(dry, reverberation=1.0)
    for index in range(4):
        one, other = (Simulator(tones, rules).conversation(0, 0, index, 12.0) for rules in (dry, wet))
        assert one.turns == other.turns
        for start, end, _ in one.turns:
            # Distances differ: in the open nothing of a room was drawn before them.
            level = 20 * np.log10(voices.LEVEL)
            assert level - 10.1 < decibels(other.samples[start:end]) < level + 6.6
            before = other.samples[max(0, start - 40) : start]
            assert not len(before) or decibels(before + 1e-9) < decibels(other.samples[start : start + 1600])


def test_speakers_and_overlap(tones):
    simulator = Simulator(tones, replace(DRY, speakers=(1, 4)))
    counts = Counter(len({who for *_, who in simulator.conversation(0, 0, k, 12.0).turns}) for k in range(60))
    assert set(counts) == {1, 2, 3, 4} and min(counts.values()) > 4
    pairs = Simulator(tones, replace(DRY, speakers=(2, 2), overlap=0.3))
    ratios = [overlap_ratio(pairs.conversation(0, 0, k, 40.0).turns) for k in range(10)]
    assert np.mean(ratios) == pytest.approx(0.3, abs=0.02)
    who = {frozenset(who for *_, who in pairs.conversation(0, 0, k, 6.0).turns) for k in range(40)}
    assert len(who) > 6, "any two may meet"


def test_fitted_to_an_rttm(tones, tmp_path):
    """Turns of 1 s, a quarter of a second between them, the speakers in turn."""
    lines = (f"SPEAKER f 1 {1.25 * k:.2f} 1.00 <NA> <NA> {'AB'[k % 2]} <NA> <NA>\n" for k in range(40))
    (tmp_path / "f.rttm").write_text("".join(lines))
    made = Simulator(tones, replace(DRY, fitted=str(tmp_path / "f.rttm"))).conversation(0, 0, 0, 20.0)
    real = fit(read_rttm(tmp_path))
    assert same(made, Simulator(tones, DRY, real).conversation(0, 0, 0, 20.0))
    inner = made.turns[1:-1]
    assert {end - start for start, end, _ in inner} == {RATE}
    assert {b.start - a.end for a, b in zip(inner, inner[1:], strict=False)} == {RATE // 4}
    assert all(a.speaker != b.speaker for a, b in zip(inner, inner[1:], strict=False))


def test_a_voice_begins_again_behind_its_end(tones):
    made = Simulator(tones, replace(DRY, turn=(20.0, 20.0), speakers=(1, 1))).conversation(0, 0, 0, 30.0)
    start, end, who = max(made.turns, key=lambda turn: turn.end - turn.start)
    assert end - start > 6 * RATE
    heard = talkers.levels(made.samples[start:end], talkers.TONES[who])[2:-2]
    # Where the track begins again, two waves meet.
    assert (np.abs(heard / voices.LEVEL - 1) < 0.05).mean() > 0.99


def test_a_block_of_a_conversation():
    made = Conversation(np.arange(10, dtype=np.float32), [SampleTurn(0, 4, "A"), SampleTurn(3, 10, "B")])
    block = made.block(4, 3)
    assert block.samples.tolist() == [4, 5, 6] and block.turns == [SampleTurn(0, 3, "B")]
    with pytest.raises(ValueError, match="samples 8 to 11 of 10"):
        made.block(8, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"speakers": (0, 2)}, "simulation.speakers must go from 1"), ({"turn": (2.0, 1.0)}, "simulation.turn"),
        ({"turn": (0.01, 1.0)}, "simulation.turn must be 0.05 s at least"),
        ({"noise": 1.5}, "simulation.noise must be a probability"), ({"overlap": 1.0}, "simulation.overlap"),
        ({"snr": (9.0, 5.0)}, "simulation.snr"), ({"decay": (0.1, 9.0)}, "simulation.decay must be 5 s"),
        ({"gap": -1.0}, "simulation.gap"), ({"distance": (0.0, 1.0)}, "simulation.distance"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(change, words):
    with pytest.raises(AffectError, match=words):
        Simulation(**change)


def test_rules_are_a_section_of_a_recipe():
    rules = Simulation(speakers=(1, 3), noise_files="noise", snr=(0.0, 9.0))
    assert from_dict(Simulation, to_dict(rules)) == rules
    code = "import sys, affect.data.simulation; print({'numpy', 'torch', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_too_few_voices(tones, tmp_path):
    with pytest.raises(AffectError, match="speakers must be at most the number of voices, 5, not 6"):
        Simulator(tones, Simulation(speakers=(2, 6)))
    with pytest.raises(AffectError, match="no RTTM file"):
        Simulator(tones, Simulation(fitted=str(tmp_path / "none.rttm")))
