"""Pickles read without trusting them: of numbers, texts, lists, dictionaries and numpy's arrays of numbers alone.

A pickle names functions, and who reads it calls them. Here the few names that such files need mean objects of this
module, which check what they are given; every other name is refused before anything is imported. numpy's own functions
are not called either: a crafted state of `numpy.dtype` makes them read memory that is not theirs.
"""

from __future__ import annotations

import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError

UNREADABLE = (pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, EOFError, OverflowError,
              MemoryError, RecursionError)  # fmt: skip
"""What reading a damaged pickle raises."""

NUMBERS = frozenset(("f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))
"""Types of numbers that are read."""
_TEXT = re.compile(r"[US]\d{1,6}")


class Unpickler(pickle.Unpickler):
    """Knows the names `admitted`, and refuses all others before anything is imported.

    `refusal` makes the error of a name (module, name) that is not admitted.
    """

    def __init__(
        self, stream: BinaryIO, admitted: Mapping[tuple[str, str], Callable[..., object]],
        refusal: Callable[[str, str], Exception],
    ) -> None:  # fmt: skip
        super().__init__(stream)
        self._admitted, self._refusal = admitted, refusal

    def find_class(self, module: str, name: str) -> object:
        """Return what stands for an admitted name."""
        if (module, name) not in self._admitted:
            raise self._refusal(module, name)
        return Stand(self._admitted[module, name])

    def persistent_load(self, pid: object) -> NoReturn:
        """Refuse what lies outside the file."""
        raise pickle.UnpicklingError("it refers to objects outside itself")


class Stand:
    """Stands for what a pickle names. A new one each time: a pickle can set attributes of what it is given."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *arguments: object) -> object:
        """Give the arguments to the function that it stands for."""
        return self.function(*arguments)


class Kind:
    """A dtype: its code without the order of bytes (`f8`, `U5`, `O8`), and that order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", "<"):
            self.order = state[1]


def ndarray(*_: object) -> NoReturn:
    """Stand for numpy's class, which is only ever an argument."""
    raise pickle.UnpicklingError("an array of it does not start empty")


def check_start(kind: object, shape: object, code: object) -> None:
    """Raise UnpicklingError unless `_reconstruct` is to make an empty array, which a state then fills."""
    if type(kind) is not Stand or kind.function is not ndarray or shape != (0,) or code != b"b":
        raise pickle.UnpicklingError("an array of it does not start empty")


def check_places(payload: bytes) -> None:
    """Raise UnpicklingError for a number of an object above a pickle's length: Python makes room for all below it.

    A process whose memory is bounded does not need it.
    """
    for opcode, argument, _ in pickletools.genops(payload):
        if opcode.name.endswith("PUT") and not 0 <= (argument or 0) <= len(payload):
            raise pickle.UnpicklingError(f"it numbers an object {argument}")


def _dtype(code: object, align: object = False, copy: object = True) -> Kind:
    if type(code) is not str:
        raise pickle.UnpicklingError("a type of it is no code")
    return Kind(code)


def _scalar(kind: object, data: object) -> object:
    """Make Python's own of a numpy number or string."""
    if type(kind) is not Kind or type(data) is not bytes:
        raise pickle.UnpicklingError("a number of it is not written as bytes")
    if kind.code.startswith("U"):
        return data.decode("utf-32-le" if kind.order == "<" else "utf-32-be").rstrip("\0")
    if kind.code not in NUMBERS:
        raise pickle.UnpicklingError(f"a value of it has the type {kind.code[:20]!r}")
    return np.frombuffer(data, kind.order + kind.code).item()


def _encode(text: object, encoding: object) -> bytes:
    """Make bytes, which protocol 2 writes as text."""
    if type(text) is not str or encoding != "latin1":
        raise pickle.UnpicklingError("bytes of it are not in latin1")
    return text.encode("latin-1")


def _both(module: str, name: str, function: Callable[..., object]) -> Names:
    """Return a name as numpy 1 and numpy 2 write it."""
    return {(f"numpy.{core}.{module}", name): function for core in ("core", "_core")}


Names = dict[tuple[str, str], Callable[..., object]]
"""What stands for each admitted name, by module and name."""

SCALARS: Names = {
    ("numpy", "ndarray"): ndarray, ("numpy", "dtype"): _dtype, ("_codecs", "encode"): _encode,
    **_both("multiarray", "scalar", _scalar),
}  # fmt: skip
"""The names that numpy's numbers and types need."""


class Array:
    """An array as its pickle holds it: what it is of is known, and its numbers are taken when they are asked for."""

    __slots__ = ("_axes", "_data", "_kind", "_order", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self._kind, self._data, self._order = Kind("O"), b"", "C"
        self._axes: tuple[int, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self._fill(data, kind, shape, "F" if fortran else "C")

    def _fill(self, data: Any, kind: Any, shape: Any, order: str) -> None:
        whole = type(shape) is tuple and all(type(side) is int and side >= 0 for side in shape)
        if not whole or type(kind) is not Kind:
            raise pickle.UnpicklingError("an array of it has no shape or type")
        self.shape, self._kind, self._data, self._order = shape, kind, data, order

    @property
    def code(self) -> str:
        """The code of its type: f4, U5, O8 ..."""
        return self._kind.code

    @property
    def fault(self) -> str:
        """What it holds that is not read, in words; "" where it is of numbers or texts."""
        if self.code in NUMBERS or _TEXT.fullmatch(self.code):
            return ""
        named = {"O": "Python objects (dtype object)", "V": "records (a structured dtype)", "M": "dates (datetime64)"}
        return named.get(self.code[:1], f"values of the type {self.code[:20]}")

    def numbers(self) -> NDArray[Any]:
        """Return the array, without a copy; raises UnpicklingError where bytes and shape contradict each other."""
        if self.fault or type(self._data) not in (bytes, bytearray):
            raise pickle.UnpicklingError("an array of it is not written as bytes")
        kind = np.dtype(self._kind.order + self.code)
        count = int(np.prod(self.shape, dtype=object))
        if len(self._data) != count * kind.itemsize:
            raise pickle.UnpicklingError(f"an array of it has {len(self._data)} bytes for the shape {self.shape}")
        if not count:
            return np.zeros(self.shape, kind)
        flat: NDArray[Any] = np.frombuffer(self._data, kind)
        if self._axes is not None:
            return flat.reshape(self.shape).transpose(self._axes)
        return flat.reshape(self.shape, order="F" if self._order == "F" else "C")


def _reconstruct(kind: object, shape: object, code: object) -> Array:
    check_start(kind, shape, code)
    return Array()


def _frombuffer(data: object, kind: object, shape: object, order: object, axes: Any = None) -> Array:
    """Make an array as protocol 5 writes it; with the order K its axes lie in memory in another order."""
    if order not in ("C", "F", "K"):
        raise pickle.UnpicklingError("an array of it is in no known order")
    made = Array()
    made._fill(data, kind, shape, order)
    made._axes = axes if order == "K" else None
    return made


def _no_bytes(*given: object) -> bytes:
    if given:
        raise pickle.UnpicklingError("bytes of it are made of something")
    return b""


def _mapping(*_: object) -> dict[object, object]:
    """Make the dictionary that a default or ordered one is; its entries follow."""
    return {}


def _sequence(*_: object) -> list[object]:
    return []


ARRAYS: Names = {
    **SCALARS, **_both("multiarray", "_reconstruct", _reconstruct), **_both("numeric", "_frombuffer", _frombuffer),
    ("__builtin__", "bytes"): _no_bytes, ("collections", "defaultdict"): _mapping,
    ("collections", "OrderedDict"): _mapping, ("builtins", "list"): _sequence, ("__builtin__", "list"): _sequence,
}  # fmt: skip
"""The names that arrays of numbers and texts need, of numpy 1 and 2 in every protocol, and dictionaries of them."""


def advice(module: str, name: str) -> str:
    """Return what to save in place of what a refused name stands for; "" where no data file should have it."""
    top = module.partition(".")[0]
    if top == "torch":
        return "it holds torch tensors: save arrays of numbers (tensor.numpy())"
    if top in ("pandas", "pyarrow"):
        return "it holds data frames: save a dictionary of arrays, or a CSV file"
    if module.startswith("numpy.ma"):
        return "it holds masked arrays: save plain ones with NaN where masked (array.filled(numpy.nan))"
    if top == "numpy" and name in ("matrix", "recarray", "record", "memmap"):
        return f"it holds a numpy.{name}: save plain arrays (numpy.array(x))"
    return ""


def refusal(where: str, what: str) -> Callable[[str, str], AffectError]:
    """Return what makes the error of a name that is not admitted, in a file that should be `what` alone."""

    def make(module: str, name: str) -> AffectError:
        hint = advice(module, name) or "don't use this file"
        asked = f"{where} is not {what} alone: its pickle asks for {f'{module}.{name}'[:100]!r}"
        return AffectError(f"{asked}, which was refused; {hint}")

    return make
