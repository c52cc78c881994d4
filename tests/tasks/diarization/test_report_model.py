"""The report's model has each named cause of its failure, and the option that takes one away does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from affect.recipe import field_names
from affect.task import Term
from affect.tasks.diarization.config import (
    ACTIVITY,
    CANDIDATES,
    NON_SPEAKER,
    PSEUDO,
    SPEAKER,
    Diarization,
    Signature,
)
from affect.tasks.diarization.losses import terms_of
from affect.tasks.diarization.models import Diarizer, build
from affect.tasks.diarization.slots import assign
from tests.tasks.diarization.blocks import LONGEST, VARIANTS, inputs, made, sections


def test_each_of_the_fifteen_causes_has_an_option_or_a_test():
    text = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text()
    _, _, after = text.partition("| | cause | in `before` | held by |")
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \| `(\w+\.py)::(\w+)` \|$", after.partition("\n\n")[0], re.M)
    assert [int(number) for number, *_ in rows] == [*range(1, 16)]
    for _, options, file, test in rows:
        assert f"\ndef {test}(" in Path(__file__).with_name(file).read_text()
        assert set(re.findall(r"`(\w+\.\w+)`", options)) <= {*field_names(Diarization)}


def sizes_of_a_slots_parts(model: Diarizer) -> tuple[float, float]:
    """Return the norm of a slot's input beside a speaker's embedding, and of that embedding on its way in."""
    query = getattr(model, "detection_query", None)
    vectors = model.table.detach() / model.config.embedding_divisor
    return 0.0 if query is None else float(query.detach().norm(dim=1).mean()), float(vectors.norm(dim=1).mean())


def test_the_decoders_inputs_of_before_are_zeros():
    """So that the first norm of the decoder has nothing to scale, and the parameter never learns."""
    model = made("before")
    seen: list[Tensor] = []
    model.detection[0].frames_norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(**inputs(model.config))[ACTIVITY].sum().backward()
    assert not seen[0].any()
    assert not model.detection[0].frames_norm.weight.grad.any()
    assert model.detection_query is None


def test_improveds_queries_are_normal_one_a_slot_and_drown_the_speaker():
    model = made("improved", width=256, heads=4)
    assert model.detection_query.shape == (6, 256)
    assert model.representation_query.shape == (6, LONGEST)
    query, embedding = sizes_of_a_slots_parts(model)
    assert query == pytest.approx(16, rel=0.05)
    assert embedding < 0.02 * query
    assert sizes_of_a_slots_parts(made("improved", width=256, heads=4, embedding_divisor=1.0))[1] > 15 * embedding


def test_the_embedding_of_a_real_table_has_the_norm_of_the_facts():
    """Of some 1,300 speakers .036 beside 16."""
    config, _ = sections("improved", width=256, heads=4)
    torch.manual_seed(0)
    model = build(config, Signature(frames=LONGEST, speakers=1300))
    assert sizes_of_a_slots_parts(model)[1] == pytest.approx(0.036, abs=0.001)


def exchanged(model: Diarizer, what: str) -> float:
    """Return by how much of its own size activity changes where two slots exchange their speakers, or their places."""
    given = inputs(model.config)
    encoded, mask = model.features(given["waveform"], given["samples"])
    encoded = model.encode(encoded, mask)
    vectors = model.table[given["speaker"]]
    slots = torch.tensor([[0, 1, 2]] * 3)
    order = torch.tensor([1, 0, 2])
    logits = model.detect(encoded, mask, slots, vectors)
    if what == "speakers":
        other = model.detect(encoded, mask, slots[:, order], vectors)
    else:
        # The same speakers at other places, looked at where they now are.
        other = model.detect(encoded, mask, slots[:, order], vectors)[:, order]
    return float(((other - logits)[:, :2].abs().mean() / (logits[:, 0] - logits[:, 1]).abs().mean()).detach())


def test_improveds_slots_are_not_alike_and_hardly_ask_who_they_are_for():
    """One of ours at another place is the same; of before too, since zeros are alike."""
    model = made("improved").eval()
    assert exchanged(model, "places") > 0.9
    assert exchanged(model, "speakers") < 0.2
    before = made("before").eval()
    assert exchanged(before, "places") < 1e-3
    assert exchanged(before, "speakers") == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["before", "improved"])
def test_the_mean_of_an_activity_cannot_tell_when(name):
    for kind, sees in (("mean", False), ("whole", True)):
        model = made(name, activity_query=kind).eval()
        given = inputs(model.config)
        moved = model(**{**given, "spoken": given["spoken"].roll(3, -1)})[SPEAKER]
        assert torch.allclose(moved, model(**given)[SPEAKER], atol=1e-5) != sees


def targets_of(name: str, spoken: np.ndarray, **loss) -> tuple[np.ndarray, dict[str, Tensor], Term]:
    """Return the slots of a block, its targets and the term of activity."""
    model, section = sections(name)
    section = replace(section, **loss)
    given = assign(spoken, np.ones(len(spoken), bool), model, section, np.random.default_rng(0))
    targets = {ACTIVITY: given.activity, CANDIDATES: given.candidates}
    return given.slots, {k: torch.from_numpy(v)[None] for k, v in targets.items()}, terms_of(model, section)[0]


def test_padding_teaches_the_pseudo_speaker_silence():
    """Of six slots one may hold a newcomer, and the padding, of the same embedding, is taught silence."""
    spoken = np.ones((2, 12), np.float32)
    for name, padded in (("before", 3), ("mended", 0)):
        slots, targets, term = targets_of(name, spoken, mask_prob=0.0)
        assert (slots[1:] == PSEUDO).sum() == padded
        logits = torch.zeros(1, 6, 12, requires_grad=True)
        (wanted,) = torch.autograd.grad(term.sum({ACTIVITY: logits}, targets), logits)
        quiet = [k for k in range(1, 6) if slots[k] == PSEUDO]
        assert (wanted[0, quiet] > 0).all(), "to fall, whoever speaks"


def test_a_mask_of_known_speakers_leaves_the_non_speaker_untaught():
    """Its own slots ask nothing, yet inference fills slots with it."""
    spoken = np.ones((2, 12), np.float32)
    model = made("mended").eval()
    for labelled in ("speakers", "all"):
        slots, targets, term = targets_of("mended", spoken, labelled=labelled)
        outputs = model(**{**inputs(model.config, [0]), "slots": torch.from_numpy(slots)[None]})
        value = term.sum(outputs, targets) / term.count(targets)
        (logits,) = torch.autograd.grad(value, outputs[ACTIVITY])
        assert (slots == NON_SPEAKER).any()
        assert bool(logits[0, slots == NON_SPEAKER].any()) == (labelled == "all")


def test_a_sum_divided_by_slots_is_as_many_times_larger_as_there_are_frames():
    spoken = np.ones((2, 12), np.float32)
    logits = torch.randn(1, 6, 12, generator=torch.Generator().manual_seed(0))
    values = {}
    for name in ("frames", "slots"):
        _, targets, term = targets_of("before", spoken, divide_by=name)
        values[name] = float(term.sum({ACTIVITY: logits}, targets) / term.count(targets))
    assert values["slots"] == pytest.approx(12 * values["frames"], rel=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_of_a_block_twice_as_long_is_the_same(name):
    """But not as the report's kind of code divides it."""
    model, loss = sections(name)
    g = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 6, 9, generator=g), (torch.rand(2, 6, 9, generator=g) > 0.5).float()
    new = torch.full((2, 3, 9), torch.nan)
    new[0, 1] = label[0, 2]

    def value(times: int, divide_by: str) -> float:
        term = terms_of(model, replace(loss, divide_by=divide_by))[0]
        targets = {ACTIVITY: label.repeat(1, 1, times), CANDIDATES: new.repeat(1, 1, times)}
        return float(term.sum({ACTIVITY: logits.repeat(1, 1, times)}, targets) / term.count(targets))

    assert value(2, "frames") == pytest.approx(value(1, "frames"), rel=1e-5)
    assert value(2, "slots") == pytest.approx(2 * value(1, "slots"), rel=1e-5)
