"""Speed and memory of the Mamba block: affect's scan, transformers' slow path, and a GRU to compare with.

`python benchmarks/mamba.py [--rounds 5] [--lengths 50 100 200 400 800 1600] [--mixer-until 200] [--device cpu]`
prints a Markdown table. All three map frames [B, T, 128] to [B, T, 128] (inner width 256, state 16; a GRU of 128) in
float32, on one thread, and take turns, so that a machine whose speed drifts is fair to all. Our block and
transformers' hold the same weights, and their difference is printed. Memory is that of all tensors alive together
at the peak of a forward and backward pass, weights and input left out, as torch's dispatcher sees them.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from affect.models.mamba import Mamba, kernels_for

OURS, MIXER, GRU = "affect", "MambaMixer", "GRU"


class Recurrent(nn.Module):
    """A GRU that returns its outputs alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.gru(x)[0]


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors made inside of it that are alive together; `top` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.top = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in self.alive:
                storage = value.untyped_storage()
                self.alive[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.top = max(self.top, self.now)
                weakref.finalize(storage, self.forget, storage._cdata)
        return result

    def forget(self, key: int) -> None:
        """Take a freed storage off the count."""
        self.now -= self.alive.pop(key)


def systems(width: int, state: int, device: str) -> dict[str, nn.Module]:
    """Return the three models; ours holds the weights of transformers'."""
    torch.manual_seed(0)
    mixer = MambaMixer(MambaConfig(hidden_size=width, state_size=state, num_hidden_layers=1, use_mambapy=False), 0)
    ours = Mamba(width, d_state=state)
    ours.load_state_dict(mixer.state_dict())
    return {name: model.to(device) for name, model in ((OURS, ours), (MIXER, mixer), (GRU, Recurrent(width)))}


def forward(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)


def train(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Run forward and backward; returns the output and all gradients."""
    model.zero_grad()
    x = x.detach().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(value.grad for _, value in sorted(model.named_parameters()))]


def seconds(work: Callable[[], Any], device: str) -> float:
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def mebibytes(model: nn.Module, x: Tensor) -> float:
    gc.collect()
    with Peak() as seen:
        train(model, x)
    return seen.top / 2**20


def difference(models: dict[str, nn.Module], x: Tensor) -> float:
    """Return how far our output and gradients are from transformers', relative to the largest value of each."""
    pairs = zip(train(models[OURS], x), train(models[MIXER], x), strict=True)
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def measure(models: dict[str, nn.Module], x: Tensor, rounds: int, device: str) -> dict[str, tuple[list[float], ...]]:
    """Return the seconds of each round, forward alone and forward with backward, by the model's name."""
    results: dict[str, tuple[list[float], ...]] = {name: ([], []) for name in models}
    for round_ in range(rounds + 1):
        for name, model in models.items():
            times = [seconds(lambda w=work, m=model: w(m, x), device) for work in (forward, train)]
            if round_:  # the first meets cold caches and unmapped memory
                for kept, value in zip(results[name], times, strict=True):
                    kept.append(value)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 100, 200, 400, 800, 1600])
    parser.add_argument(
        "--mixer-until",
        type=int,
        default=200,
        help="longest input of MambaMixer, whose backward pass on a CPU takes time with the square of the length",
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--state", type=int, default=16)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    models = systems(options.width, options.state, options.device)
    scan = "PyTorch" if kernels_for(torch.empty(0, device=options.device)).scan is None else "mamba_ssm"
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.device}, 1 thread, batch "
          f"{options.batch}, width {options.width}, state {options.state}, scan in {scan}, medians of "
          f"{options.rounds} rounds\n")  # fmt: skip
    print("| length | model | forward ms | forward + backward ms | slower than affect (median of rounds) | peak MiB |")
    print("|---|---|---|---|---|---|")
    worst = 0.0
    for length in options.lengths:
        x = torch.randn(options.batch, length, options.width, device=options.device)
        taken = {name: model for name, model in models.items() if name != MIXER or length <= options.mixer_until}
        results = measure(taken, x, options.rounds, options.device)
        for name, model in taken.items():
            once, both = (1e3 * statistics.median(times) for times in results[name])
            ratio = statistics.median(t / o for t, o in zip(results[name][1], results[OURS][1], strict=True))
            row = f"| {length} | {name} | {once:.1f} | {both:.1f} | {ratio:.2f} | {mebibytes(model, x):.0f} |"
            print(row, flush=True)
        if MIXER in taken:
            worst = max(worst, difference(models, x))
    print(f"\nlargest relative difference to MambaMixer, output and every gradient: {worst:.1e}")


if __name__ == "__main__":
    main()
