"""An accelerator where there is none: a device of PyTorch's private use, whose tensors keep their values on the CPU.

A tensor there reports the device and holds its values in a CPU tensor of the same shape; each operation computes on
those. What a real accelerator would refuse is refused (an operation that mixes devices, a NumPy view), and what makes
its host wait is counted: a value that the host reads, a shape that follows from values, a copy that is not of pinned
memory. PyTorch registers such a device once a process, for good: `register` is for a process of its own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

NAME = "card"
MEMORY = 2**30
"""Bytes of the device's memory."""
_ROOT = Path(__file__).parents[2]
aten = torch.ops.aten

_READ = frozenset({"_local_scalar_dense", "equal"})
"""Operations whose result is a number of the host."""
_SHAPED = frozenset({"nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive"})
"""Operations whose result has as many rows as the values say, which the host waits for."""
_INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
"""As those where an index is a mask."""
_FACTORIES = (
    "empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step", "linspace", "randperm",
)  # fmt: skip
"""What makes a tensor of nothing; all others (zeros, rand) are made of these."""

waits: Counter[str] = Counter()
"""What made the host wait: "<kind>: <file>:<function>", of the line of this repository that asked for it."""
_pinned: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
"""Pinned tensors by the address of their storage."""


class _Allocation:
    """A storage of the device, alive as long as one of its tensors."""

    counted = False
    live: WeakValueDictionary[int, _Allocation] = WeakValueDictionary()
    allocated = 0
    peak = 0

    def __init__(self, size: int):
        self.size = size
        _Allocation.allocated += size
        _Allocation.peak = max(_Allocation.peak, _Allocation.allocated)

    def __del__(self) -> None:
        _Allocation.allocated -= self.size

    @classmethod
    def of(cls, held: Tensor) -> _Allocation:
        """Return the allocation of a tensor's storage, which its views share."""
        storage = held.untyped_storage()
        found = cls.live.get(storage.data_ptr())
        if found is None:
            found = cls(storage.nbytes())
            if storage.data_ptr():
                cls.live[storage.data_ptr()] = found
        return found


@contextmanager
def memory_counted() -> Iterator[None]:
    """Count the memory of tensors that are made inside, which takes a fifth of an operation's time."""
    _Allocation.counted = True
    try:
        yield
    finally:
        _Allocation.counted = False


class DeviceTensor(Tensor):
    """A tensor of the device, whose values are the CPU tensor `held`."""

    held: Tensor
    allocation: _Allocation | None
    # What PyTorch's own functions do with a plain tensor they do with this one.
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        """Return a tensor of the device with the values of a CPU tensor, which it shares."""
        made: DeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0), layout=held.layout,
        )  # fmt: skip
        made.held = held
        made.allocation = _Allocation.of(held) if _Allocation.counted else None
        return made

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        """The tensor without its graph; set, it is another's values from then on."""
        return Tensor.data.__get__(self)  # type: ignore[attr-defined,no-any-return]

    @data.setter
    def data(self, value: DeviceTensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held, self.allocation = value.held, value.allocation

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.held!r})"

    def tolist(self) -> Any:
        """Return the values, read by the host: PyTorch's own refuses a subclass."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.copy_.default:
            return _copy(*args, **(kwargs or {}))
        if func is aten._to_copy.default:
            return _to_copy(*args, **(kwargs or {}))
        if func._schema.name == "aten::to":
            # Comes as it is in inference mode alone; elsewhere of a copy, or nothing, is left.
            return func.decompose(*args, **(kwargs or {}))
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what an operation gives, computed on the values that the tensors hold."""
    name = func._schema.name.removeprefix("aten::")
    owners: dict[int, DeviceTensor] = {}
    strangers: list[Tensor] = []
    given = _values(args, owners, strangers)
    named = dict(zip(kwargs, _values(kwargs.values(), owners, strangers), strict=True))
    if strangers and owners:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {name} got {NAME} and {strangers[0].device}, "
            f"of shape {list(strangers[0].shape)}"
        )
    if name in _READ:
        _wait("read")
    masked = name in _INDEXED and any(k is not None and k.dtype in (torch.bool, torch.uint8) for k in given[1])
    if name in _SHAPED or masked or (name == "repeat_interleave" and named.get("output_size") is None):
        _wait("shaped by values")
    found = func(*given, **named)
    if torch.Tag.inplace_view in func.tags:
        # What the tensor itself says of its shape has to follow.
        with torch._C._DisableTorchDispatch():
            func(*args, **kwargs)
    return _there(found, owners)


def _values(arguments: Iterable[Any], owners: dict[int, DeviceTensor], strangers: list[Tensor]) -> list[Any]:
    """Return arguments as the CPU takes them; `owners` are the device's tensors by their values, `strangers` others."""
    values: list[Any] = []
    for argument in arguments:
        if type(argument) is DeviceTensor:
            owners[id(argument.held)] = argument
            values.append(argument.held)
        elif isinstance(argument, list | tuple):
            values.append(_values(argument, owners, strangers))
        elif isinstance(argument, torch.device):
            values.append(torch.device("cpu"))
        else:
            # As on any accelerator, a number of the CPU may go into an operation.
            if isinstance(argument, Tensor) and argument.dim() > 0:
                strangers.append(argument)
            values.append(argument)
    return values


def _there(found: Any, owners: dict[int, DeviceTensor]) -> Any:
    """Return what an operation gave as tensors of the device: those that it was given, or new ones."""
    if isinstance(found, Tensor):
        owner = owners.get(id(found))
        return DeviceTensor(found) if owner is None else owner
    if isinstance(found, list | tuple):
        return type(found)([_there(part, owners) for part in found])
    return found


def _copy(into: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """Copy values between devices, or on this one."""
    if not isinstance(into, DeviceTensor):
        assert isinstance(source, DeviceTensor)
        _wait("read")
        return into.copy_(source.held)
    if not isinstance(source, DeviceTensor):
        pinned = source.untyped_storage().data_ptr() in _pinned
        if source.numel() and not (pinned and non_blocking):
            _wait("copied from pinned memory, waiting" if pinned else "copied from memory that is not pinned")
    into.held.copy_(source.held if isinstance(source, DeviceTensor) else source)
    return into


def _to_copy(source: Tensor, *, device: Any = None, non_blocking: bool = False, **options: Any) -> Tensor:
    """Return a copy on a device, perhaps with another dtype."""
    assert isinstance(source, DeviceTensor)
    copied: Tensor = aten._to_copy.default(source.held, **{k: v for k, v in options.items() if k != "pin_memory"})
    if device is None or torch.device(device).type == NAME:
        return DeviceTensor(copied)
    _wait("read")
    return copied


def _wait(kind: str) -> None:
    """Count a wait by the innermost function of this repository that asked for it."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(str(_ROOT)) and path != __file__ and "site-packages" not in path:
            waits[f"{kind}: {Path(path).relative_to(_ROOT)}:{frame.f_code.co_name}"] += 1
            return
        frame = frame.f_back  # type: ignore[assignment]
    waits[f"{kind}: a thread of PyTorch"] += 1


def _pin(tensor: Tensor, device: Any = None) -> Tensor:
    pinned = tensor.clone()
    _pinned[pinned.untyped_storage().data_ptr()] = pinned
    return pinned


class _Module:
    """What `torch.get_device_module` gives: one device, its memory counted, its random numbers the CPU's."""

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any = None) -> None:
        pass

    synchronize = empty_cache = manual_seed_all = set_device

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def memory_allocated(self, device: Any = None) -> int:
        return _Allocation.allocated

    memory_reserved = memory_allocated

    def max_memory_allocated(self, device: Any = None) -> int:
        return _Allocation.peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        _Allocation.peak = _Allocation.allocated

    def get_device_name(self, device: Any = None) -> str:
        return "a device in tests"

    def get_device_properties(self, device: Any = None) -> SimpleNamespace:
        return SimpleNamespace(total_memory=MEMORY)

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return MEMORY - _Allocation.allocated, MEMORY


_libraries: list[torch.library.Library] = []


def reason_against() -> str | None:
    """Return why this PyTorch can't register such a device, None where it can."""
    from torch.utils import backend_registration

    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        return f"torch {torch.__version__} registers no device from Python"
    if torch.accelerator.is_available():
        return "a process has one kind of accelerator, and a real one is here"
    return None


def register() -> torch.device:
    """Register the device in this process, for good, and return it."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if not _libraries:
        _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
        library = torch.library.Library("aten", "IMPL")
        for name in _FACTORIES:
            _register_factory(library, name)
        # PyTorch's own way into the device where it looks past subclasses, as torch.tensor does.
        library.impl(
            "_copy_from", lambda source, into, non_blocking=False: _copy(into, source, non_blocking), "PrivateUse1"
        )
        _libraries.append(library)
        # The private interface has no pinned memory.
        Tensor.pin_memory = _pin  # type: ignore[method-assign,assignment]
    return torch.device(NAME, 0)


def _register_factory(library: torch.library.Library, name: str) -> None:
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(aten, packet), overload or "default")

    def make(*args: Any, **options: Any) -> DeviceTensor:
        kept = {key: value for key, value in options.items() if key not in ("device", "pin_memory")}
        return DeviceTensor(operation(*args, device="cpu", **kept))

    library.impl(name, make, "PrivateUse1")
