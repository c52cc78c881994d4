"""Keys: who has them, what they decide, and that a recomputation has those of its forward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from affect import keyed
from affect.models.dropout import Dropout

IDS = ["Ses01_1", "Ses01_2", "Ses02_1"]


def network() -> nn.ModuleDict:
    """Return two dropouts of one kind at different places."""
    made = nn.ModuleDict({"first": Dropout(0.5), "second": Dropout(0.5)})
    keyed.name_places(made)
    return made


def drawn(module: nn.Module, ids: list[str], seed: int = 0, step: int = 0) -> Tensor:
    with keyed.examples(seed, step, ids):
        found: Tensor = module(torch.ones(len(ids), 60))
    return found


def test_a_mask_follows_seed_step_example_and_place():
    net = network()
    wanted = drawn(net["first"], IDS)
    assert torch.equal(drawn(net["first"], IDS[::-1]).flip(0), wanted)
    assert torch.equal(drawn(net["first"], IDS[1:2])[0], wanted[1])
    torch.manual_seed(7)
    assert torch.equal(drawn(net["first"], IDS), wanted), "torch's generator decides nothing"
    others = [drawn(net["second"], IDS), drawn(net["first"], IDS, seed=1), drawn(net["first"], IDS, step=1)]
    others += [wanted.roll(1, 0)]
    assert not any(torch.equal(row, mine) for other in others for row, mine in zip(other, wanted, strict=True))


def test_examples_of_several_steps_draw_what_they_draw_in_theirs():
    net = network()
    apart = [drawn(net["first"], IDS[:2], step=4), drawn(net["first"], IDS, step=5)]
    with keyed.examples(0, [4, 4, 5, 5, 5], IDS[:2] + IDS):
        assert torch.equal(net["first"](torch.ones(5, 60)), torch.cat(apart))
        with pytest.raises(RuntimeError, match="several steps"):
            keyed.coin(net["first"], 0)


def test_the_calls_of_a_place_differ_and_are_the_same_in_any_arrangement():
    net = network()
    x = torch.ones(3, 60)
    with keyed.examples(0, 0, IDS):
        first, second = net["first"](x), net["first"](x)
    assert not torch.equal(first, second)
    with keyed.examples(0, 0, IDS):
        for k in (2, 0, 1):
            with keyed.rearranged(lambda keys, k=k: keys[k : k + 1]):
                assert torch.equal(net["first"](x[:1])[0], first[k])
                assert torch.equal(net["first"](x[:1])[0], second[k])
        rows = torch.tensor([[0, 2], [1, 1]])
        with keyed.rearranged(lambda keys: keys[rows]):
            assert torch.equal(net["first"](torch.ones(2, 2, 60)), first[rows])
        assert torch.equal(net["first"](x), first)


def test_a_recomputation_draws_what_its_forward_drew():
    """In the backward, under the keys of another micro-batch, and after another call of the same place."""
    net = network()

    def run(ids: list[str], *, again: bool) -> tuple[Tensor, Tensor]:
        x = torch.ones(len(ids), 60, requires_grad=True)
        with keyed.examples(0, 0, ids):
            net["first"](x)
            body = lambda x: net["second"](net["first"](x).sin())  # noqa: E731
            y = checkpoint(body, x, use_reentrant=False, context_fn=keyed.recomputation) if again else body(x)
            net["first"](x)
        return x, y

    plain, recomputed = run(IDS, again=False), run(IDS, again=True)
    assert torch.equal(plain[1], recomputed[1])
    with keyed.examples(1, 5, ["other"]):
        for _, y in (plain, recomputed):
            y.sum().backward(retain_graph=True)
            y.sum().backward()
    assert torch.equal(plain[0].grad, recomputed[0].grad)


def test_without_keys_a_recomputation_is_the_forwards_too():
    net = network()
    x = torch.ones(3, 60, requires_grad=True)
    y = checkpoint(lambda x: net["first"](x).square(), x, use_reentrant=False, context_fn=keyed.recomputation)
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * y.detach() / x.detach())


def test_coins_and_uniform_numbers():
    net = network()
    with keyed.examples(0, 0, IDS):
        coins = [keyed.coin(net["first"], k) for k in range(2000)]
        numbers = keyed.uniform(net["first"], 3, 20_000, torch.device("cpu"))
    with keyed.examples(0, 0, ["another"]):
        assert [keyed.coin(net["first"], k) for k in range(5)] == coins[:5], "one for the whole global batch"
    for found in (torch.tensor(coins), *numbers):
        assert 0 <= float(found.min()) < 0.01
        assert 0.99 < float(found.max()) < 1
        assert float(found.mean()) == pytest.approx(0.5, abs=0.02)
    with keyed.examples(0, 0, IDS[2:]):
        assert torch.equal(keyed.uniform(net["first"], 1, 20_000, torch.device("cpu"))[0], numbers[2])


def test_a_module_without_a_place_is_refused_and_rows_of_no_example_are_drawn_from_torch():
    with keyed.examples(0, 0, IDS), pytest.raises(RuntimeError, match="Dropout has no place"):
        Dropout(0.5)(torch.ones(3, 4))
    net, found = network(), []
    for _ in range(2):
        torch.manual_seed(0)
        with keyed.examples(0, 0, IDS):
            found.append(net["first"](torch.ones(7, 60)))
    assert torch.equal(*found)


def test_the_numbers_stay_what_they_are():
    """A checkpoint is resumed by another version, or on another machine: its masks may not change."""
    with keyed.examples(3, 14, ["a", "Ses01F_impro01_F000"]):
        held = keyed._keys
        assert held is not None
        assert held.examples.tolist() == [1278542229473923858, -8461380177157949140]
    assert keyed.number("layers.3.dropout") == 3932058414281807391


class Checkpointed(nn.Module):
    """Dropouts in a part that is recomputed, one of them called twice, between values that a compiler can fuse."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Dropout(0.5), Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        def body(x: Tensor) -> Tensor:
            return self.second(self.first(x).sin()) + self.first(x)

        recomputed: Tensor = checkpoint(body, self.first(x), use_reentrant=False, context_fn=keyed.recomputation)
        return recomputed


@torch._dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=True)
def test_a_compiled_forward_draws_what_a_plain_one_draws():
    """In one graph, at every step, length and size of the batch; a recomputation and the backward, too."""
    torch._dynamo.reset()
    net = Checkpointed()
    keyed.name_places(net)
    compiled = torch.compile(net, backend="eager", dynamic=True, fullgraph=True)
    for step, rows, length in ((0, 3, 7), (1, 3, 7), (2, 2, 9)):
        found = []
        for run in (net, compiled):
            x = torch.ones(rows, length, 5, requires_grad=True)
            with keyed.examples(0, step, IDS[:rows]):
                y = run(x)
            y.square().sum().backward()
            found.append((y, x.grad))
        torch.testing.assert_close(found[1], found[0])
