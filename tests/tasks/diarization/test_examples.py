"""Blocks as what models take: padding, who is enrolled from where, and who is compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from affect import keyed
from affect.tasks.diarization.config import ACTIVITY, CANDIDATES, EMPTY, NON_SPEAKER, PSEUDO, SPEAKER, VOICES, signature
from affect.tasks.diarization.examples import Block, Example, collated
from affect.tasks.diarization.losses import terms_of
from affect.tasks.diarization.models import build
from affect.training.terms import whole
from tests.tasks.diarization.blocks import TABLE, VARIANTS, sections

FRAMES = (12, 7)


def example(place: int, size: int, voices=(4, -1, 2)) -> Example:
    g = default_rng(place)

    def block(frames: int) -> Block:
        spoken = (g.random((len(voices), frames)) > 0.4).astype(np.uint8)
        return Block((0.1 * g.standard_normal(frames * size - 50)).astype(np.float32), spoken)

    return Example(f"conversation{place}", block(FRAMES[place]), block(9 + place), np.array(voices))


def test_what_a_block_lacks_is_padded():
    model, loss = sections("ours")
    examples = [example(0, model.frame), example(1, model.frame, (5,))]
    inputs, targets = collated(examples, model, loss, [default_rng(k) for k in range(2)])
    assert inputs["samples"].tolist() == [12 * 1280 - 50, 7 * 1280 - 50]
    assert not inputs["waveform"][1, 7 * 1280 - 50 :].any()
    assert inputs["spoken"].shape == inputs["reference_spoken"][..., :1].expand(-1, -1, 12).shape == (2, 3, 12)
    assert not inputs["spoken"][1, 1:].any()
    np.testing.assert_array_equal(inputs["spoken"][0], examples[0].block.spoken)
    np.testing.assert_array_equal(inputs["reference"][1], examples[1].reference.waveform)
    assert torch.isnan(targets[ACTIVITY][1, :, 7:]).all()
    assert torch.isnan(targets[CANDIDATES][1, :, 7:]).all()
    assert set(inputs["slots"][1].tolist()) <= {PSEUDO, 0, EMPTY}


def test_who_is_seldom_heard_in_the_other_block_is_new_and_not_compared():
    model, loss = sections("ours")
    one = example(0, model.frame)
    one.reference.spoken[1, :] = 0
    one.reference.spoken[1, :6] = 1
    for frames in (6, 7):
        one.reference.spoken[1, :frames] = 1
        for seed in range(12):
            inputs, targets = collated([one], model, loss, [default_rng(seed)])
            assert (1 in inputs["slots"][0]) <= (frames == 7)
            assert (int(targets[VOICES][0, 1]) != -100) == (frames == 7), "half a second is 6.25 frames"


def test_voices_without_a_row_of_the_table_are_numbered_by_their_example():
    model, loss = sections("ours")
    examples = [example(0, model.frame), replace(example(0, model.frame), id="another")]
    for one in examples:
        one.block.spoken[:] = one.reference.spoken[:] = 1
    _, targets = collated(examples, model, loss, [None, None])
    voices, speaker = targets[VOICES], targets[SPEAKER]
    assert voices[:, [0, 2]].tolist() == speaker[:, [0, 2]].tolist() == [[4, 2]] * 2
    assert speaker[:, 1].tolist() == [-100, -100]
    assert len({*voices[:, 1].tolist(), 4, 2}) == 4
    assert (voices.double().long() == voices).all(), "what is gathered is packed as float64"


def test_the_reports_slots_are_of_the_table():
    model, loss = sections("before")
    inputs, targets = collated([example(0, model.frame)], model, loss, [default_rng(0)], table=TABLE)
    assert inputs.keys() == {"waveform", "samples", "spoken", "slots", "speaker", "owner"}
    for slot, owner, speaker in zip(*(t[0].tolist() for t in (inputs["slots"], inputs["owner"], targets[SPEAKER])),
                                    strict=True):  # fmt: skip
        assert slot in (owner, PSEUDO)
        assert speaker == {0: 4, 1: -100, 2: 2, -1: -100}[owner]
        assert slot != 1, "who is not in the table can't be enrolled"


def test_absent_speakers_are_others_of_the_table():
    model, loss = sections("mended")
    inputs, _ = collated([example(0, model.frame)], model, loss, [default_rng(1)], table=TABLE)
    speaker, slots = inputs["speaker"][0], inputs["slots"][0]
    absent = speaker[3:]
    assert set(absent[absent >= 0].tolist()) == {0, 1, 3, 5, 6}
    assert not inputs["spoken"][0, 3:].any()
    assert (slots >= 3).any()
    assert (slots == NON_SPEAKER).any()


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_models_and_terms_take_what_it_gives(name, random):
    model, loss = sections(name)
    examples = [example(0, model.frame), example(1, model.frame)]
    randoms = [default_rng(k) if random else None for k in range(2)]
    inputs, targets = collated(examples, model, loss, randoms, table=TABLE)
    built = build(model, signature(model, loss, frames=12, speakers=TABLE))
    keyed.name_places(built)
    if name in ("before", "improved", "mended"):
        # Its head gives a whole block.
        assert inputs["spoken"].shape[-1] == 12
    result = whole(terms_of(model, loss), built(**inputs), targets)
    assert torch.isfinite(result.total)
    assert all(torch.isfinite(value) for value in result.values.values())
