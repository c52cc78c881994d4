"""Exported models as one ONNX graph: written by torch, opened and run by onnxruntime, with what its task has to know.

Legend: B examples of a batch.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affect.errors import AffectError, first_line

METADATA = "affect"
"""The entry of a file's metadata that holds its task and what that has to know of the model."""
OPSET = 18
"""The oldest version of ONNX's operators that a model is written in, and the one that is chosen."""
_LARGEST = 1_800_000_000
"""Bytes of weights from which they are stored beside the graph: a protobuf message ends at 2 GiB."""


class Session:
    """A file that `affect export` wrote, ready to run; `task` is its task's name, `facts` what that wrote."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises AffectError where it is missing, damaged, or not from `affect export`."""
        if not path.is_file():
            raise AffectError(f"{path}: no such file")
        self.path = path
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        # onnxruntime's own exceptions share no base but Exception, and RuntimeError for what they wrap.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise AffectError(f"{path}: is no model that onnxruntime can run: {reason[:200]}") from error
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        if text is None:
            raise AffectError(f"{path}: was not written by affect export: it does not say what its numbers mean")
        try:
            self.facts: dict[str, Any] = json.loads(text)
            self.task = str(self.facts.pop("task"))
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise AffectError(f"{path}: was written by another version of affect export: export it again") from error
        self.outputs: list[str] = [output.name for output in self._session.get_outputs()]

    def run(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs [B, ...] of a batch's inputs, by name.

        Raises AffectError where onnxruntime can't, or what comes out is no number.
        """
        try:
            outputs = dict(zip(self.outputs, self._session.run(self.outputs, dict(given)), strict=True))
        # Its own kinds of exception have no other base.
        except Exception as error:
            raise AffectError(f"{self.path}: onnxruntime cannot run it: {first_line(error)[:200]}") from error
        for name, value in outputs.items():
            if value.dtype.kind == "f" and np.isnan(value).any():
                raise AffectError(f"{self.path}: {name} comes out as NaN: its weights are not finite")
        return outputs


def require(name: str) -> Any:
    """Return a module of the extra `[onnx]`; raises AffectError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AffectError(f"{name} is not installed: pip install 'affect[onnx]'") from error


def check_opset(opset: int) -> None:
    """Raise AffectError where the extra `[onnx]` is missing or can't write that version of the operators."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        require(name)
    highest = require("onnx").defs.onnx_opset_version()
    if not OPSET <= opset <= highest:
        raise AffectError(f"opset is {opset}: it has to be from {OPSET} to {highest}")


def check_name(path: Path) -> None:
    """Raise AffectError for the place of a graph that is not called as one."""
    if path.suffix != ".onnx":
        raise AffectError(f"output is {path}: its name has to end in .onnx")


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield a place in a folder beside `path`, from which all moves there at the end; of a failure nothing is left.

    Raises AffectError where it can't be written.
    """
    there = path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that moving it there is one step.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as made:
            yield Path(made) / path.name
            for entry in Path(made).iterdir():
                place = path.parent / entry.name
                if entry.is_dir() and place.is_dir():
                    shutil.rmtree(place)
                os.replace(entry, place)
    except OSError as error:
        raise AffectError(f"{path}: cannot be written ({error.strerror or first_line(error)})") from error
    finally:
        if not there:
            # One that something is in stays.
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def write(
    graph: nn.Module, batch: dict[str, Tensor], sizes: dict[str, dict[int, Any]], outputs: list[str],
    facts: Mapping[str, Any], path: Path, opset: int,
) -> None:  # fmt: skip
    """Write `graph(batch)`, which returns a tuple of `outputs`, with `facts` (`task` among them) in its metadata.

    `sizes` are the dynamic dimensions of the inputs by name. Raises AffectError where torch can't.
    """
    try:
        # In two steps: left to itself the exporter tries other ways, of which one gives graphs that are wrong.
        with quiet(), torch.no_grad():
            captured = torch.export.export(graph, (batch,), dynamic_shapes=(sizes,), strict=False)
            program = torch.onnx.export(
                captured, dynamo=True, opset_version=opset, input_names=list(batch), output_names=outputs, verbose=False
            )
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        # The exporter wraps what stopped it in pages of advice.
        reason = " ".join(str(error.__cause__ or error).split())
        raise AffectError(f"torch cannot export this model: {reason[:200]}") from error
    if program is None:
        raise AffectError("torch exported nothing")
    program.model.metadata_props[METADATA] = json.dumps(facts)
    size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    with quiet():
        program.save(str(path), external_data=size > _LARGEST)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the exporter says of its own insides from the user."""
    before, handlers = logging.root.manager.disable, [*logging.root.handlers]
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        # logging.warning gives the root one where it has none.
        logging.root.handlers[:] = handlers
