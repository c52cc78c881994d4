"""Slots that ask frames and each other: their order, those that are not there, and padded frames."""

from __future__ import annotations

import torch

from affect.models.slot_decoder import SlotDecoderLayer

B, N, T, D = 2, 5, 7, 8


def sample() -> tuple[SlotDecoderLayer, list[torch.Tensor]]:
    torch.manual_seed(0)
    layer = SlotDecoderLayer(D, heads=2, hidden=12, dropout=0.2).eval()
    slots, meaning, keys, values = (torch.randn(B, n, D) for n in (N, N, T, T))
    mask = torch.arange(T) < torch.tensor([T, 4])[:, None]
    return layer, [slots, meaning, keys, values, mask, torch.ones(B, N, dtype=torch.bool)]


def test_slots_in_another_order_give_the_same_in_that_order():
    layer, (slots, meaning, *rest) = sample()
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(slots[:, order], meaning[:, order], *rest), layer(slots, meaning, *rest)[:, order])


def test_a_slot_that_is_not_there_changes_no_other_one():
    layer, (slots, meaning, keys, values, mask, there) = sample()
    fewer = layer(slots[:, :3], meaning[:, :3], keys, values, mask, there[:, :3])
    there[:, 3:] = False
    slots[:, 3:], meaning[:, 3:] = 1e3, -1e3
    torch.testing.assert_close(layer(slots, meaning, keys, values, mask, there)[:, :3], fewer)


def test_padded_frames_change_nothing():
    layer, (slots, meaning, keys, values, mask, there) = sample()
    wanted = layer(slots, meaning, keys, values, mask, there)[1]
    keys[1, 4:], values[1, 4:] = 1e3, -1e3
    torch.testing.assert_close(layer(slots, meaning, keys, values, mask, there)[1], wanted)


def test_what_a_slot_means_is_part_of_what_it_asks():
    layer, (slots, meaning, *rest) = sample()
    same = torch.zeros_like(slots)
    alike = layer(same, torch.zeros_like(meaning), *rest)
    torch.testing.assert_close(alike, alike[:, :1].expand_as(alike), msg="slots of one meaning are one slot")
    apart = layer(same, meaning, *rest)
    assert (apart - apart[:, :1]).abs().amax((0, 2))[1:].min() > 1e-3
