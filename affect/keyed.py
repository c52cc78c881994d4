"""Keyed randomness: what a training forward draws is a function of (seed, step, example id, place in the model) alone.

Around a training forward stand the keys of its examples (`examples`). A module that draws takes them with its own
place, and every number is a hash of both and of its index in what is drawn: padding, the order of the examples, the
micro-batch, the rank, a replay and a recomputation (gradient checkpointing) change none, on any device. Without keys,
as where a user calls a model in training mode by hand, they are drawn from torch's generator, which `manual_seed` sets.

Legend: B examples of a micro-batch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

GOLDEN, _CALL = 0x9E3779B97F4A7C15, 0x2545F4914F6CDD1D
"""Odd constants: splitmix64's, and another."""


@dataclass(frozen=True)
class Keys:
    """What is drawn from: a key an example (int64), one [1] for all of the step, and the calls of each place."""

    examples: Tensor
    step: Tensor | None
    calls: dict[int, int]

    @property
    def shared(self) -> Tensor:
        """The key of the step [1]. Raises RuntimeError where the examples are of several."""
        if self.step is None:
            raise RuntimeError("examples of several steps share no draw")
        return self.step


_keys: Keys | None = None
"""Those of the forward that runs. A plain global, whose tensors a compiled forward takes as inputs: of a context
variable it would know nothing."""


def wrap(number: int) -> int:
    """Return the int64 that has the last 64 bits of `number`."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


_ROUNDS = ((30, wrap(0xBF58476D1CE4E5B9)), (27, wrap(0x94D049BB133111EB)))
"""Shifts and factors of the last step of splitmix64."""


def scramble(numbers: Any) -> Any:
    """Return int64 numbers, a tensor or an array of any shape, scrambled (Steele, Lea and Flood 2014, splitmix64)."""
    for bits, factor in _ROUNDS:
        numbers = (numbers ^ shift(numbers, bits)) * factor
    return numbers ^ shift(numbers, 31)


def shift(numbers: Any, bits: int) -> Any:
    """Shift int64 numbers to the right, with zeros moving in whatever the sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def advance(keys: Tensor, count: int, step: int) -> Tensor:
    """Return keys [..., `count`] (int64): those given [...] plus 0, 1, ... times an odd `step`."""
    # Not as a sum of multiples: those of `arange` alone are indices to a compiler, which it takes to be small.
    start = keys[..., None] * wrap(pow(step, -1, 1 << 64))
    return (start + torch.arange(count, device=keys.device)) * wrap(step)


def sequence(keys: Tensor, count: int) -> Tensor:
    """Return the first `count` numbers (int64) of the sequence of each of `keys` [B], [B, `count`]."""
    numbers: Tensor = scramble(advance(keys, count, GOLDEN))
    return numbers


def fractions(numbers: Tensor) -> Tensor:
    """Return int64 numbers of any shape as numbers in [0, 1) (float32)."""
    high: Tensor = shift(numbers, 40)
    return high.float() * 2.0**-24


@lru_cache(maxsize=1 << 16)
def number(*parts: str | int) -> int:
    """Return an int64 that `parts` decide, on every machine alike."""
    # repr keeps the parts apart: ("a", "bc") is not ("ab", "c").
    digest = hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


# The keys of a forward.


@contextlib.contextmanager
def examples(
    seed: int, step: int | Sequence[int], ids: Sequence[str], device: torch.device | str = "cpu"
) -> Iterator[None]:
    """Let what is drawn inside follow the examples `ids` [B] of a step, or of the step of each [B].

    Of several steps nothing can be drawn that all examples of one share.
    """
    places = [number(seed, one) for one in ([step] if isinstance(step, int) else step)]
    keys = scramble(np.array([number(name) for name in ids], dtype=np.int64) + np.array(places, dtype=np.int64))
    own = torch.from_numpy(np.append(keys, places[0]))
    if torch.device(device).type != "cpu":
        # From pinned memory: else the host would wait for what is queued, in each forward.
        own = own.pin_memory().to(device, non_blocking=True)
    with _entered(Keys(own[:-1], own[-1:] if isinstance(step, int) else None, {})):
        yield


@contextlib.contextmanager
def rearranged(change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let the leading dimensions of what is drawn inside be those that `change` makes of the keys [B].

    For what takes the examples in another arrangement: some of them, or as the rows of dialogues [G, K]. How many such
    calls there are changes nothing: each begins with the same calls behind it.
    """
    keys = _keys
    with contextlib.nullcontext() if keys is None else _entered(_copy(replace(keys, examples=change(keys.examples)))):
        yield


def recomputation() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
    """Return what `context_fn` of torch's checkpoint is to: the recomputation draws what its forward drew.

    It runs in the backward, where the keys may be another micro-batch's, or none: those of the forward are held.
    """
    if torch.compiler.is_compiling():
        # There they are inputs of both, and a compiler takes modes alone.
        return _Nothing(), _Nothing()  # type: ignore[no-untyped-call]
    return contextlib.nullcontext(), _Recomputation(None if _keys is None else _copy(_keys))


class _Nothing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs or {})


class _Recomputation(contextlib.AbstractContextManager[None]):
    """Enters the keys of a forward; more than once where a graph is walked more than once."""

    def __init__(self, keys: Keys | None):
        self.keys = keys

    def __enter__(self) -> None:
        global _keys
        self.before, _keys = _keys, None if self.keys is None else _copy(self.keys)

    def __exit__(self, *_: object) -> None:
        global _keys
        _keys = self.before


def _copy(keys: Keys) -> Keys:
    return replace(keys, calls=dict(keys.calls))


@contextlib.contextmanager
def _entered(keys: Keys) -> Iterator[None]:
    global _keys
    before, _keys = _keys, keys
    try:
        yield
    finally:
        _keys = before


# What modules draw from.


def name_places(model: nn.Module) -> None:
    """Give every module its place, a number of its qualified name; for a whole model, before an engine wraps it."""
    for name, module in model.named_modules():
        module._place = number(name)


def _place(module: nn.Module) -> int:
    place: int | None = getattr(module, "_place", None)
    if place is None:
        raise RuntimeError(f"{type(module).__name__} has no place in its model: call `name_places` with the model")
    return place


def draw_keys(module: nn.Module, shape: Sequence[int], device: torch.device, *, shared: bool = False) -> Tensor:
    """Return the keys (int64) of one draw of `module` for something of `shape`, whose leading dimensions are theirs.

    The n-th draw of a module in a forward is the n-th of each example. `shared`: one key [1] for all examples of the
    step. Keys are drawn from torch's generator where there are none, and where the leading dimensions are not those of
    the examples: whose rows they are is then unknown. Raises RuntimeError for a module without a place.
    """
    keys = _keys
    if keys is not None and (shared or tuple(shape[: keys.examples.ndim]) == keys.examples.shape):
        place = _place(module)
        call = keys.calls.get(place, 0)
        keys.calls[place] = call + 1
        offset = wrap(place + call * _CALL)
        return (keys.shared if shared else keys.examples).to(device) + offset
    drawn = torch.empty(1 if shared else shape[0], dtype=torch.int64).random_(-(1 << 63), None)
    return drawn.to(device)


def keys_device() -> torch.device:
    """Return the device that the keys are on, the CPU where there are none: to draw there moves nothing."""
    return torch.device("cpu") if _keys is None else _keys.examples.device


def uniform(module: nn.Module, rows: int, count: int, device: torch.device) -> Tensor:
    """Return numbers [B, `count`] (float32) in [0, 1), drawn for each of `rows` B examples."""
    return fractions(sequence(draw_keys(module, (rows,), device), count))


def coin(module: nn.Module, k: int) -> Tensor:
    """Return the `k`-th number [] in [0, 1) of `module` in a step: the same one for all examples of the global batch.

    On the device of the keys, so that neither a host waits for it nor a compiled forward depends on it.
    """
    if _keys is None:
        return torch.rand([])
    return fractions(scramble(_keys.shared + wrap(_place(module) + k * _CALL)))[0]
