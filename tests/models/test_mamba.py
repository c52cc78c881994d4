"""The block is mamba_ssm's by name and transformers' by number; the stack is causal, replayable and uses time."""

# ruff: noqa: N803

from __future__ import annotations

import logging
import sys
import time
import types

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from affect import keyed
from affect.errors import AffectError
from affect.losses.ccc import ccc_term
from affect.models import mamba
from affect.models.layer_stack import mask_frames
from affect.models.mamba import UNDECAYED, Kernels, Mamba, MambaLayers
from affect.task import Batch
from affect.training import step
from affect.training.distributed import join


def mixer(width: int = 24, **changes) -> MambaMixer:
    """transformers' block on its slow path, with every parameter away from its start."""
    torch.manual_seed(0)
    facts = {"hidden_size": width, "state_size": 16, "num_hidden_layers": 1, "use_mambapy": False, **changes}
    made = MambaMixer(MambaConfig(**facts), 0)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return made


def outcome(model: nn.Module, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = model(x)
    found = torch.autograd.grad((y * weights).sum(), [x, *model.parameters()])
    names = ["x", *(name for name, _ in model.named_parameters())]
    return {"y": y.detach(), **dict(zip(names, found, strict=True))}


def agree(found: dict[str, Tensor], expected: dict[str, Tensor], accuracy: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(float(value.abs().max()), 1.0)
        assert float((found[name] - value).abs().max()) < accuracy * scale, name


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"use_bias": True}, {"bias": True}),
        ({"use_conv_bias": False, "conv_kernel": 1}, {"conv_bias": False, "d_conv": 1}),
        ({"conv_kernel": 7, "state_size": 3, "expand": 1}, {"d_conv": 7, "d_state": 3, "expand": 1}),
        ({"time_step_rank": 5}, {"dt_rank": 5}),
    ],
)
@pytest.mark.parametrize("length", [1, 2, 37])
def test_transformers_block_loads_and_gives_the_same_output_and_gradients(theirs, ours, length):
    reference = mixer(**theirs)
    block = Mamba(24, **ours)
    block.load_state_dict(reference.state_dict())
    reference.load_state_dict(block.state_dict())
    x, weights = torch.randn(3, length, 24), torch.randn(3, length, 24)
    agree(outcome(block, x, weights), outcome(reference, x, weights))


def test_the_size_of_the_issue_agrees_to_1e_5():
    reference = mixer(128)
    block = Mamba(128)
    block.load_state_dict(reference.state_dict())
    x, weights = torch.randn(2, 200, 128), torch.randn(2, 200, 128) / 20
    agree(outcome(block, x, weights), outcome(reference, x, weights))


def test_it_is_five_times_as_fast_as_transformers_slow_path():
    reference = mixer(128)
    block = Mamba(128)
    block.load_state_dict(reference.state_dict())
    x, weights = torch.randn(8, 200, 128), torch.randn(8, 200, 128)
    outcome(block, x[:, :8], weights[:, :8])

    def seconds(model: nn.Module) -> float:
        begin = time.perf_counter()
        outcome(model, x, weights)
        return time.perf_counter() - begin

    # The least of three: other programs on the machine can only add to a time.
    assert seconds(reference) > 5 * min(seconds(block) for _ in range(3))


def test_parameters_have_the_names_and_shapes_of_mamba_ssm():
    shapes = {name: tuple(value.shape) for name, value in Mamba(40, d_state=8).state_dict().items()}
    assert shapes == {
        "A_log": (80, 8),
        "D": (80,),
        "in_proj.weight": (160, 40),
        "conv1d.weight": (80, 1, 4),
        "conv1d.bias": (80,),
        "x_proj.weight": (3 + 16, 80),
        "dt_proj.weight": (80, 3),
        "dt_proj.bias": (80,),
        "out_proj.weight": (40, 80),
    }
    assert {"in_proj.bias", "out_proj.bias"} <= Mamba(8, bias=True).state_dict().keys()
    assert "conv1d.bias" not in Mamba(8, conv_bias=False).state_dict()


def test_it_starts_as_mamba_ssm_does():
    torch.manual_seed(0)
    block = Mamba(256, dt_rank=4, dt_min=0.002, dt_max=0.05)
    steps = F.softplus(block.dt_proj.bias.detach())
    assert 0.00199 < float(steps.min()) < 0.0025
    assert 0.04 < float(steps.max()) < 0.0501
    assert abs(float(steps.log().mean()) - 0.5 * (torch.tensor([0.002, 0.05]).log().sum())) < 0.1
    bound = float(block.dt_proj.weight.detach().abs().max())
    assert 0.49 < bound <= 0.5
    torch.testing.assert_close(block.A_log.exp(), torch.arange(1.0, 17).expand(512, 16))
    assert bool((block.D == 1).all())
    assert bool((Mamba(16, dt_rank=4, dt_init="constant", dt_scale=2.0).dt_proj.weight == 1.0).all())
    floored = F.softplus(Mamba(16, dt_min=1e-6, dt_max=1e-5, dt_init_floor=1e-3).dt_proj.bias)
    torch.testing.assert_close(floored, torch.full_like(floored, 1e-3))


def test_decay_can_tell_the_decays_and_the_skip_by_their_names():
    names = [name for name, _ in MambaLayers(8, 2, 0.0).named_parameters()]
    found = {name.split(".", 2)[2] for name in names if name.endswith(UNDECAYED)}
    assert found == {"mixer.A_log", "mixer.D"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mamba(0), "d_model of a Mamba block is at least 1, not 0"),
        (lambda: Mamba(8, d_conv=0), "d_conv of a Mamba block is at least 1, not 0"),
        (lambda: Mamba(8, dt_min=0.2), "a Mamba block needs 0 < dt_min <= dt_max, not 0.2 and 0.1"),
        (lambda: MambaLayers(8, 0, 0.1), "a stack of Mamba layers has at least 1, not 0"),
        (lambda: MambaLayers(8, 1, 1.0), "the dropout of Mamba layers is at least 0 and below 1, not 1.0"),
    ],
)
def test_impossible_sizes_are_named(make, message):
    with pytest.raises(AffectError, match=message):
        make()


def test_float64_and_autocast():
    block = Mamba(16).double()
    x = torch.randn(2, 20, 16, dtype=torch.float64)
    exact = block(x)
    assert exact.dtype == torch.float64
    block.float()
    torch.testing.assert_close(block(x.float()).double(), exact, atol=1e-6, rtol=1e-5)
    for dtype, accuracy in ((torch.bfloat16, 3e-2), (torch.float16, 4e-3)):
        with torch.autocast("cpu", dtype=dtype):
            y = block(x.float())
            y.float().square().sum().backward()
        assert y.dtype == dtype
        assert float((y.double() - exact).detach().norm() / exact.detach().norm()) < accuracy
        assert all(torch.isfinite(value.grad).all() for value in block.parameters())


# The kernels: none runs on a CPU, so functions that take and check what the kernels take stand in for them.


def kernel_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    for entry in (u, delta, B, C, z):
        assert entry.dtype == u.dtype
        assert entry.stride(-1) == 1, "time last, and contiguous"
    assert A.dtype == D.dtype == delta_bias.dtype == torch.float32
    step = delta.float() + delta_bias[:, None]
    step = F.softplus(step) if delta_softplus else step
    h, outputs = torch.zeros(len(u), *A.shape), []
    for t in range(u.shape[2]):
        h = (step[:, :, t, None] * A).exp() * h + (step * u)[:, :, t, None] * B[:, None, :, t]
        outputs.append((h * C[:, None, :, t]).sum(-1))
    return ((torch.stack(outputs, -1) + D[:, None] * u) * F.silu(z.float())).to(u.dtype)


def kernel_convolution(x, weight, bias=None, activation=None):
    assert weight.ndim == 2 and 2 <= weight.shape[1] <= 4 and activation == "silu"
    width = weight.shape[1]
    return F.silu(
        F.conv1d(x, weight[:, None].to(x.dtype), bias, padding=width - 1, groups=len(weight))[..., : -width + 1]
    )


@pytest.mark.parametrize("kernels", [Kernels(kernel_scan, kernel_convolution), Kernels(kernel_scan, None)])
@pytest.mark.parametrize("width", [4, 6])
def test_kernels_get_what_they_want_and_change_nothing(kernels, width, monkeypatch):
    torch.manual_seed(0)
    block = Mamba(16, d_conv=width)
    x, weights = torch.randn(3, 21, 16), torch.randn(3, 21, 16)
    expected = outcome(block, x, weights)
    monkeypatch.setattr(mamba, "kernels_for", lambda _: kernels)
    agree(outcome(block, x, weights), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(x)
    assert float((y.detach().float() - expected["y"]).norm() / expected["y"].norm()) < 3e-2


@pytest.fixture
def fresh_kernels():
    mamba.load_kernels.cache_clear()
    yield
    mamba.load_kernels.cache_clear()


def test_kernels_are_those_that_can_be_imported_and_the_rest_is_said_once(fresh_kernels, monkeypatch, caplog):
    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = kernel_scan
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.setitem(sys.modules, "causal_conv1d", None)
    on_card = types.SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    with caplog.at_level(logging.WARNING, "affect"):
        for _ in range(2):
            assert mamba.kernels_for(on_card) == Kernels(kernel_scan, None)
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "Mamba runs without the CUDA kernels of causal_conv1d, in PyTorch"
    ]


def test_a_cpu_and_float64_never_ask_for_kernels(monkeypatch):
    monkeypatch.setattr(mamba, "load_kernels", lambda: pytest.fail("imported"))
    assert mamba.kernels_for(torch.zeros(1)) == Kernels(None, None)
    double = types.SimpleNamespace(device=torch.device("cuda"), dtype=torch.float64)
    assert mamba.kernels_for(double) == Kernels(None, None)


# The stack.


def test_alone_equals_batched_and_the_future_is_unseen():
    torch.manual_seed(0)
    model = MambaLayers(16, 3, 0.2).eval()
    lengths = torch.tensor([5, 33, 1, 18])
    x = torch.randn(4, 40, 16)
    mask = mask_frames(lengths, 40)
    y = model(x.masked_fill(~mask[..., None], 1e3))
    assert y.shape == x.shape
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[row, :length], model(x[row : row + 1, :length])[0], atol=1e-4, rtol=1e-4)
    # And the past is seen: the first frame reaches the last one, which is further than the convolutions do.
    model.double()
    other = x.double()
    other[:, 0] += 1
    assert bool(((model(other) - model(x.double()))[:, -1].norm(dim=-1) > 1e-6).all())


def test_padding_gives_no_gradient():
    torch.manual_seed(0)
    model = MambaLayers(8, 2, 0.0)
    x = torch.randn(1, 30, 8)
    alone = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    padded = F.pad(x, (0, 0, 0, 25), value=50.0)
    batched = torch.autograd.grad(model(padded)[:, :30].square().sum(), list(model.parameters()))
    for ours, theirs in zip(batched, alone, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_forward_is_the_same_with_and_without_a_graph_dropout_included():
    model = MambaLayers(16, 2, 0.3).train()
    x = torch.randn(3, 20, 16)
    torch.manual_seed(1)
    with torch.no_grad():
        first = model(x)
    torch.manual_seed(1)
    assert torch.equal(model(x), first)
    torch.manual_seed(2)
    assert not torch.allclose(model(x), first), "dropout was off"


class Scores(nn.Module):
    """Frames -> Mamba -> the mean of valid frames -> two targets."""

    def __init__(self) -> None:
        super().__init__()
        self.temporal = MambaLayers(8, 2, 0.2, state=4)
        self.head = nn.Linear(8, 2)

    def forward(self, frames: Tensor, count: Tensor) -> dict[str, Tensor]:
        mask = mask_frames(count, frames.shape[1])[..., None]
        scores = self.head((self.temporal(frames) * mask).sum(1) / mask.sum(1))
        return {"valence": scores[:, 0], "arousal": scores[:, 1]}


def test_a_replayed_step_gives_holds_gradient_to_every_parameter():
    torch.manual_seed(0)
    model, batches = Scores().train(), []
    keyed.name_places(model)
    for k, size in enumerate((3, 2, 4)):
        inputs = {"frames": torch.randn(size, 12 + k, 8), "count": torch.randint(3, 12, (size,))}
        labels = {name: torch.rand(size) for name in ("valence", "arousal")}
        ids = tuple(f"{k}-{i}" for i in range(size))
        batches.append(Batch(ids=ids, inputs=inputs, targets=labels, rows=[{}] * size))
    found = {}
    for mode in ("hold", "replay"):
        model.zero_grad()
        terms = [ccc_term("valence"), ccc_term("arousal")]
        step.accumulate(join(), model, terms, batches, mode=mode, key=(5, 3))
        found[mode] = torch.cat([value.grad.flatten() for value in model.parameters()])
        for name, value in model.named_parameters():
            assert value.grad is not None and float(value.grad.abs().max()) > 0, name
    assert float((found["replay"] - found["hold"]).norm() / found["hold"].norm()) < 1e-6


def tones(count: int) -> tuple[Tensor, Tensor]:
    """Rows of 24 frames with a high and a low tone at least 8 frames apart, and which came first."""
    x = 0.1 * torch.randn(count, 24, 8)
    high_first = torch.rand(count) < 0.5
    early, late = torch.randint(0, 8, (count,)), torch.randint(16, 24, (count,))
    rows = torch.arange(count)
    x[rows, torch.where(high_first, early, late), 0] += 3
    x[rows, torch.where(high_first, late, early), 1] += 3
    return x, high_first.float()


class OrderFree(nn.Module):
    """A network a frame: whatever it learns, the mean over frames can't tell their order."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def accuracy(model: nn.Module, steps: int) -> float:
    """Train to say from the mean of the outputs which tone came first; returns the accuracy on new rows."""
    head = nn.Linear(8, 1)
    parameters = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(steps):
        x, target = tones(64)
        loss = F.binary_cross_entropy_with_logits(head(model(x).mean(1))[:, 0], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, target = tones(1000)
    with torch.no_grad():
        return float(((head(model(x).mean(1))[:, 0] > 0) == (target > 0.5)).float().mean())


def test_it_learns_an_order_that_no_bag_of_frames_shows():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    # Further apart than the convolution reaches: only the scan's state can carry the first tone to the second.
    assert accuracy(MambaLayers(8, 1, 0.0), 250) > 0.9
    assert accuracy(OrderFree(), 250) < 0.6
