"""Who speaks when in a stream: with a model that knows, what is told is right; with any, cutting changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affect.data.activity import RATE, SampleTurn, in_seconds
from affect.metrics.diarization import compare
from affect.tasks.diarization.config import Online
from affect.tasks.diarization.memory import FrameMemory, MeanMemory, memory_of, merged
from affect.tasks.diarization.online import OnlineDiarizer, Window, decode, diarize, speaking
from affect.tasks.diarization.stream_features import StreamFeatures
from tests.tasks.diarization.blocks import made
from tests.tasks.diarization.oracle import FRAME, Oracle, sound, spoken, turn

EXACT = Online(shortest=0.0, threshold=0.5, enrol=1.6)


def der(found: Sequence[SampleTurn], wanted: Sequence[SampleTurn]) -> float:
    return compare(in_seconds(found), in_seconds(wanted)).errors.rate


def pieces(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[k : k + size] for k in range(0, len(samples), size)]


def pushed(stream: OnlineDiarizer, parts: Sequence[np.ndarray]) -> list[SampleTurn]:
    return [*(told for part in parts for told in stream.push(part)), *stream.finish()]


@pytest.mark.parametrize(("speakers", "frames", "seed"), [(2, 700, 0), (3, 500, 1), (12, 900, 2)])
def test_what_a_model_knows_is_told(speakers, frames, seed):
    turns = spoken(speakers, frames, seed)
    assert len({each.speaker for each in turns}) == speakers
    for options in (EXACT, replace(EXACT, offline=True), replace(EXACT, hop=2.4, start=4.0)):
        found = diarize(Oracle(), sound(turns, frames), options)
        assert len({each.speaker for each in found}) == speakers
        assert der(found, turns) == 0


def test_all_who_are_new_in_one_window_are_found():
    turns = [turn(0, 1.8, 0), turn(1.8, 4.2, 1), turn(3.7, 6, 2), turn(6, 7.8, 3)]
    stream = OnlineDiarizer(Oracle(), EXACT)
    told = pushed(stream, [sound(turns, 100)])
    assert der(told, turns) == 0
    assert sorted(stream.speakers) == [0, 1, 2, 3]
    assert [each.speaker for each in sorted(told)] == ["0", "1", "2", "3"], "by who speaks first"
    assert len(stream.embeddings()) == 4
    few = OnlineDiarizer(Oracle(), replace(EXACT, rounds=1))
    assert len({each.speaker for each in pushed(few, [sound(turns, 100)])}) == 2


class Doubtful(Oracle):
    """Knows newcomers better than speakers with an embedding; its slots hear all who speak in a conversation."""

    known, others = 1.0, 0.0

    def detect(self, encoded, mask, slots, embeddings):
        told = super().detect(encoded, mask, slots, embeddings).sigmoid()
        new = (slots[0] < 0)[None, :, None]
        heard = torch.where((encoded.sum(-1) > 0)[:, None] & new, torch.maximum(told, torch.tensor(self.others)), told)
        return torch.where(new, heard, told * self.known).logit(1e-6)


def test_where_somebody_is_met_the_slot_that_found_them_has_a_say():
    turns, model = [turn(0, 3, 0), turn(3, 6, 1)], Doubtful()
    model.known = 0.3
    assert der(diarize(model, sound(turns, 75), EXACT), turns) == 0


def test_slots_that_all_hear_more_than_one_find_whom_they_are_surest_of():
    turns, model = [turn(0, 3, 0), turn(3, 6, 1)], Doubtful(pseudo=2)
    model.others = 0.6
    stream = OnlineDiarizer(model, EXACT)
    pushed(stream, [sound(turns, 75)])
    assert sorted(stream.speakers) == [0, 1]
    embeddings = stream.embeddings()
    assert abs(embeddings[0] @ embeddings[1]) < 1e-6, "each of what it alone is surest of"


def test_who_speaks_too_little_to_be_enrolled_is_taken_for_another_unless_it_is_decoded_again():
    # The last speaker says a word early, and much later a lot.
    turns = [turn(1, 9, 0), turn(10, 11, 1), turn(12, 30, 0), turn(31, 40, 1)]
    heard = sound(turns, 520)
    online = diarize(Oracle(), heard, EXACT)
    assert der(online, turns) == pytest.approx(1 / 36, rel=0.05)
    assert der(diarize(Oracle(), heard, replace(EXACT, offline=True)), turns) == 0


def test_turns_are_told_within_the_latency_of_who_is_known():
    turns = [turn(0, 4, 0), turn(4.4, 8, 1), *(turn(k, k + 2, k % 2) for k in range(10, 40, 3))]
    options = replace(EXACT, window=6.4, start=3.2)
    stream, heard = OnlineDiarizer(Oracle(), options), sound(turns, 520)
    told = {}
    for k, part in enumerate(pieces(heard, FRAME)):
        for each in stream.push(part):
            told[each] = (k + 1) * FRAME
    assert der(list(told), turns) == 0
    for each, when in told.items():
        if each.start > 9 * RATE:
            # A turn has ended when its next frame is told.
            assert when - each.end <= round((options.latency + 0.08) * RATE)
        assert when - each.start <= round((options.window + options.latency + 4) * RATE)
    counted = stream.delays
    assert counted == pytest.approx([(when - each.end) / RATE for each, when in told.items()], abs=1e-9)
    last = stream.finish()
    assert stream.delays[len(counted) :] == [(len(heard) - each.end) / RATE for each in last]
    again = OnlineDiarizer(Oracle(), options)
    pushed(again, [heard])
    assert again.delays == stream.delays, "as long as it would have taken, though all came at once"
    assert again.took > 0


@pytest.mark.parametrize("offline", [False, True])
def test_there_are_no_more_speakers_than_are_asked_for(offline):
    turns = spoken(5, 700, 3)
    heard = sound(turns, 700)
    found, stream = decode(Oracle(alike=0.2), Online(offline=offline), lambda: pieces(heard, 9999), most=3)
    assert len({each.speaker for each in found}) == 3
    assert len(stream.speakers) == 3
    free, _ = decode(Oracle(alike=0.2), Online(offline=offline), lambda: pieces(heard, 9999))
    assert len({each.speaker for each in free}) == 5


def busy(name: str) -> tuple[torch.nn.Module, Online, np.ndarray]:
    """Return a model of random weights, options with which it finds turns, and a sound of 5 s."""
    model = made(name).eval()
    frame = model.config.frame
    size = 12 * frame / RATE
    heard = np.random.default_rng(1).normal(0, 0.1, 5 * RATE).astype(np.float32)
    heard *= np.repeat(np.random.default_rng(2).uniform(0.1, 3, 25), RATE // 5).astype(np.float32)
    features = StreamFeatures(model, 12)
    features.push(heard[: 12 * frame])
    with torch.inference_mode():
        shares = Window(model, features.window(12)).activity(torch.zeros(0, model.config.width))
    times = {"window": size, "hop": size / 3, "ahead": size / 6, "enrol": frame / RATE, "least": frame / RATE}
    return model, Online(**times, shortest=0.0, threshold=float(shares.median()), merge=0.999), heard


@pytest.mark.parametrize("name", ["ours", "ours_encoder", "improved"])
def test_pieces_of_other_lengths_give_the_same_turns(name):
    model, options, heard = busy(name)
    wanted = pushed(OnlineDiarizer(model, options), [heard])
    assert len(wanted) > 3
    for size in (997, 16_000):
        assert pushed(OnlineDiarizer(model, options), pieces(heard, size)) == wanted
    assert sorted(wanted) == diarize(model, heard, options)
    assert all(0 <= each.start < each.end <= len(heard) for each in wanted)


def held(stream: OnlineDiarizer) -> int:
    """Return the numbers that a stream holds."""
    arrays = (stream.features.sound, stream.features.kept, stream.active, stream.pending)
    return sum(int(np.prod(each.shape)) for each in (*arrays, *stream.memory.frames, *stream.memory.scores))


def test_memory_does_not_grow_with_the_recording():
    model, options, heard = busy("ours")
    stream, sizes = OnlineDiarizer(model, replace(options, memory=0.64), most=3), []
    for part in pieces(np.tile(heard, 6), 9_000):
        stream.push(part)
        sizes.append(held(stream))
    assert len(stream.speakers) == 3
    assert stream.features.heard == 480_000
    assert max(sizes) < 12_000, "what is of a window, and the piece that came"


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("samples", [0, 1, 300, 1281, 16_000, 128_000, 128_001, 141_000])
def test_short_and_silent_sound_is_no_matter(samples, offline):
    model, options = made("ours").eval(), Online(offline=offline)
    found = diarize(model, np.zeros(samples, np.float32), options)
    assert all(each.end <= samples for each in found)
    assert diarize(Oracle(), np.zeros(samples, np.float32), options) == []


def test_options_do_something():
    turns = spoken(3, 500, 4)
    heard = sound(turns, 500)
    plain = diarize(Oracle(), heard, EXACT)
    short = [turn(1, 9, 0), turn(9.2, 9.4, 0), turn(12, 12.1, 0)]
    assert len(diarize(Oracle(), sound(short, 200), replace(EXACT, shortest=0.3))) == 1
    assert len(diarize(Oracle(), sound(short, 200), EXACT)) == 3
    assert diarize(Oracle(), heard, replace(EXACT, threshold=0.999)) == []
    assert len({each.speaker for each in diarize(Oracle(), heard, replace(EXACT, merge=-1.0))}) == 1
    assert diarize(Oracle(), heard[: 60 * FRAME], replace(EXACT, least=6.0)) == []
    doubt = Doubtful()
    doubt.known = 0.6
    assert diarize(doubt, heard, replace(EXACT, counting=0.7)) != diarize(doubt, heard, replace(EXACT, counting=None))
    late = replace(EXACT, enrol=4.9)
    assert der(diarize(Oracle(), heard, late), turns) > der(plain, turns)


def test_as_many_speak_as_probabilities_add_up_to():
    shares = torch.tensor([[0.45, 0.3, 0.9, 0.2, 0.6], [0.45, 0.35, 0.8, 0.1, 0.55], [0.05, 0.3, 0.1, 0.1, 0.5]])
    alone = replace(EXACT, counting=None, threshold=0.4)
    assert speaking(shares, alone).int().tolist() == [[1, 0, 1, 0, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 1]]
    # Two slots share a voice, three do, two speak, nobody does, and two of three.
    assert speaking(shares, EXACT).int().tolist() == [[1, 0, 1, 0, 1], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]]
    assert speaking(shares, replace(EXACT, counting=0.3)).sum(0).tolist() == [1, 1, 2, 1, 2]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.floats(0.05, 0.95))
def test_of_one_slot_counting_is_a_threshold(shares, at):
    row = torch.tensor([shares])
    sure = (row - at).abs() > 1e-5
    counted = speaking(row, replace(EXACT, counting=at))
    assert torch.equal(counted[sure], (row > at)[sure])
    assert speaking(torch.zeros(0, 5), EXACT).shape == (0, 5)


def test_a_memory_keeps_the_surest_frames_once_each():
    memory = memory_of(Oracle(), Online(memory=0.32))
    assert isinstance(memory, FrameMemory)
    speaker = memory.enrol()
    features = torch.arange(6.0)[:, None].expand(6, 16)
    shares = torch.tensor([[0.9, 0.6, 0.99, 0.7, 0.8, 0.95], [0.1, 0.1, 0.1, 0.1, 0.1, 0.9]])
    clean = torch.tensor([True] * 5 + [False])
    for _ in range(2):
        memory.add(speaker, features, clean, shares, 100)
    assert sorted(memory.places[0].tolist()) == [100, 102, 103, 104]
    memory.add(speaker, features, clean, shares, 10_000)
    assert sorted(memory.places[0].tolist()) == [10_000, 10_002, 10_003, 10_004], "of two as sure the later stays"


@pytest.mark.parametrize("name", ["ours", "improved"])
def test_the_most_alike_are_merged_first(name):
    model = made(name).eval()
    memory = memory_of(model, Online())
    assert isinstance(memory, FrameMemory if name == "ours" else MeanMemory)
    torch.manual_seed(1)
    size, width = 12, model.config.width
    first, second = 3 * torch.randn(2, size, width)
    clean, shares = torch.ones(size, dtype=torch.bool), torch.full((1, size), 0.9)
    with torch.no_grad():
        for place, features in enumerate([first, second, first + 0.01]):
            memory.add(memory.enrol(), features, clean, shares, place * size)
        before = memory.embeddings()
        assert before.norm(dim=-1).tolist() == pytest.approx([1] * 3)
        cosine = float(before[0] @ before[1])
        assert list(merged(memory, max(cosine, float(before[1] @ before[2])) + 1e-3)) == [(2, 0)]
        assert len(memory) == 2
        torch.testing.assert_close(memory.embeddings()[1], before[1], atol=1e-4, rtol=1e-4)
        assert list(merged(memory, 1.0)) == []
        assert list(merged(memory, 1.0, most=1)) == [(1, 0)]


def test_speakers_who_turn_out_to_be_one_go_on_as_the_earlier():
    stream = OnlineDiarizer(Oracle(), EXACT)
    turns = [turn(0, 4, 0), turn(4, 8, 1)]
    told = stream.push(sound(turns, 100))
    assert stream.speakers == [0, 1]
    # What the second one is known by is now the first one's voice.
    stream.memory.frames[1] = stream.memory.frames[0].clone()
    told += stream.push(sound([turn(0, 3, 0), turn(3, 6, 1)], 100))
    told += stream.finish()
    assert stream.speakers[0] == 0
    assert 1 not in stream.speakers
    assert {each.speaker for each in told if each.start >= 8 * RATE} == {"0", "2"}
