"""What the launcher said: its launch file made an Accelerator, and held against the recipe.

Accelerate and its engines fall back in silence (to one process, to other engines, to other values). Here a run stops
where it would not get what it was asked for, with one line that names both sides.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    LoggerType,
    ProjectConfiguration,
    patch_environment,
)

from affect.errors import AffectError, first_line, nearest, with_article
from affect.recipe import Recipe
from affect.training import hardware
from affect.training.distributed import tracking
from affect.training.distributed.engine import Engine

_PATIENCE = timedelta(hours=12)
"""How long a collective waits: one rank may fill a cache for hours. Training is watched more closely."""


def join(folder: Path | None = None, trackers: Sequence[str] = (), precision: str | None = None) -> Engine:
    """Join the processes that the launcher started; the recipe's `precision` counts where the launch file names none.

    The launch file's "no" is none: it says so, too, where it says nothing. Raises AffectError when their number or
    their engine is not what was asked for, and for what can't be had here.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    wanted = precision or launched if launched == "no" else launched
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != wanted:
        # Of an earlier run of this process: a new Accelerator would take it over.
        AcceleratorState._reset_state()
    with patch_environment(accelerate_mixed_precision=wanted):
        made = _accelerator(folder, trackers)
    if wanted == "bf16" and made.device.type == "cpu":
        hardware.warn_of_bf16()
    kind = made.distributed_type
    if kind == DistributedType.DEEPSPEED:
        from affect.training.distributed.zero import Zero

        return Zero(made)
    if kind == DistributedType.FSDP:
        from affect.training.distributed.fsdp import Sharded

        return Sharded(made)
    if kind in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        return Engine(made)
    raise AffectError(f"the engine {kind.value} is not supported: use one of accelerate_configs/")


def _accelerator(folder: Path | None, trackers: Sequence[str]) -> Accelerator:
    cuda = torch.cuda.is_available()
    deepspeed, fsdp = _asked("DEEPSPEED"), _asked("FSDP")
    _check(cuda, deepspeed, fsdp)
    usable = _trackers(trackers) if folder else []
    if not cuda:
        # Accelerate imports it wherever it is installed, and each rank then tells that it looked for a GPU in vain.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if deepspeed:
        # What it builds is built with ninja, which is beside Python in an environment that need not be active.
        os.environ["PATH"] = f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"
    try:
        made = Accelerator(
            # Told so: left alone, Accelerate falls back to one process, or to several unrelated ones. With ZeRO it
            # must not be told: either setting for the CPU switches DeepSpeed off.
            cpu=not cuda and not deepspeed,
            # The step decides which backward synchronises: no YAML or variable may accumulate behind its back.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
            kwargs_handlers=[
                # No buffer of ours differs between ranks.
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=_PATIENCE, **({"backend": "gloo"} if deepspeed and not cuda else {})),
            ],
            log_with=usable or None,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)) if folder else None,
        )
    except (ValueError, ImportError) as error:
        # What a launch file gets wrong.
        raise AffectError(f"the launch file can't be used: {first_line(error)}") from error
    # What is refused below is refused by every rank: one that left before another had joined would be that one's error.
    made.wait_for_everyone()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if made.num_processes != processes:
        raise AffectError(
            f"the launcher asked for {processes} processes but {made.num_processes} joined; see accelerate_configs/"
        )
    if made.state.deepspeed_plugin is not None:
        _check_precision(made.state.deepspeed_plugin.deepspeed_config)
    for kind, name, asked in (("DEEPSPEED", "ZeRO", deepspeed), ("FSDP", "FSDP", fsdp)):
        if asked and made.distributed_type.value != kind:
            raise AffectError(
                f"the launch file asks for {name}, but the engine here is {made.distributed_type.value}: "
                "ZeRO takes use_cpu: false, FSDP needs a GPU; or launch with accelerate_configs/cpu_2.yaml"
            )
    return made


def _check(cuda: bool, deepspeed: bool, fsdp: bool) -> None:
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1" and os.environ.get("WORLD_SIZE", "1") == "1":
        raise AffectError(
            f"srun started {tasks} tasks, and this one is a run of its own: srun affect launch RECIPE.py EXPERIMENT "
            "makes one run of them (srun --ntasks=1 starts one)"
        )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16", "fp16"):
        raise AffectError(f"mixed_precision {precision} is not supported: use no, bf16 or fp16")
    if (compiler := os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()) != "no":
        # It would wrap the model, whose weights then have other names in every checkpoint.
        raise AffectError(
            f"the launch file asks for torch.compile (dynamo_backend {compiler}), which runs do not take: leave it out"
        )
    if precision == "fp16" and not cuda:
        raise AffectError("precision fp16 needs a GPU and none is here: launch with --mixed_precision no or bf16")
    if precision == "fp16" and (deepspeed or fsdp):
        raise AffectError("precision fp16 is for one process and DDP: launch ZeRO and FSDP with bf16")
    if deepspeed and find_spec("deepspeed") is None:
        raise AffectError("the launch file asks for DeepSpeed: pip install 'affect[deepspeed]'")
    if deepspeed and (path := os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")) != "none":
        _check_file(path)
    if deepspeed and not cuda and shutil.which(os.environ.get("CXX", "c++")) is None:
        raise AffectError("DeepSpeed on a CPU builds an operator, and no C++ compiler is here: apt-get install g++")
    if fsdp and os.environ.get("FSDP_VERSION", "1") != "2":
        raise AffectError("the launch file asks for the first FSDP: say fsdp_version: 2")
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps not in ("1", "auto"):
        raise AffectError(
            f"the launch file accumulates {steps} steps (gradient_accumulation_steps), but the recipe's train.batch is "
            "the global batch, which the step cuts itself: leave it out of the launch file"
        )


def _check_file(path: str) -> None:
    """Raise AffectError for a DeepSpeed configuration that Accelerate would stumble over without naming it."""
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else first_line(error)
        raise AffectError(f"deepspeed_config_file {path} can't be read: {why}") from error
    if not isinstance(settings, dict):
        held = with_article(type(settings).__name__)
        raise AffectError(f"deepspeed_config_file {path} must hold a JSON object, not {held}")
    for name in ("zero_optimization", "bf16", "fp16", "torch_autocast", "optimizer", "scheduler"):
        if not isinstance(settings.get(name, {}), dict):
            raise AffectError(f"deepspeed_config_file {path}: {name} must be a JSON object, not {settings[name]!r}")


def _check_precision(settings: Mapping[str, Any]) -> None:
    """Raise AffectError where a DeepSpeed configuration of its own has another precision than this run would.

    `bf16` enabled there is the run's precision bf16: torch's autocast, the weights in float32. Accelerate takes no
    mixed_precision of the launch file beside it; the command line's it takes, and drops.
    """
    enabled = {name: settings.get(name, {}).get("enabled") is True for name in ("bf16", "fp16", "torch_autocast")}
    if enabled["fp16"]:
        raise AffectError(
            "the launch file's DeepSpeed configuration enables fp16, which is for one process and DDP: enable bf16"
        )
    if enabled["torch_autocast"] and not enabled["bf16"]:
        raise AffectError("the launch file's DeepSpeed configuration enables torch_autocast: enable bf16 there instead")
    if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "bf16" and not enabled["bf16"]:
        raise AffectError(
            "the launch file says mixed_precision bf16, its DeepSpeed configuration bf16 disabled: keep one"
        )


def agree(made: Accelerator, recipe: Recipe) -> None:
    """Raise AffectError, naming both, where the launch file says something else than the recipe."""
    world = made.num_processes
    if recipe.train.world not in (None, world):
        raise AffectError(f"train.world asks for {recipe.train.world} processes, but {world} joined")
    if recipe.train.precision not in (None, made.mixed_precision):
        raise AffectError(
            f"the launch file says mixed_precision {made.mixed_precision}, the recipe train.precision "
            f"{recipe.train.precision}: keep one"
        )
    plugin = made.state.deepspeed_plugin
    if plugin is None:
        return
    for name in ("clip_value", "clip_percentile"):
        if getattr(recipe.optim, name) is not None:
            raise AffectError(f"optim.{name} needs whole gradients, which ZeRO does not keep: launch with ddp.yaml")
    settings: dict[str, Any] = plugin.deepspeed_config
    clip, batch = recipe.optim.clip, recipe.train.batch
    for name, field, value in (("gradient_clipping", "optim.clip", clip), ("train_batch_size", "train.batch", batch)):
        # A clip of 0 is DeepSpeed's word for none.
        if settings.get(name, "auto") != "auto" and float(settings[name]) != float(value or 0):
            raise AffectError(f"the launch file says {name} {settings[name]}, the recipe {field} {value}: keep one")
    for name, harmless in (("gradient_accumulation_steps", 1), ("train_micro_batch_size_per_gpu", "auto")):
        if settings.get(name, harmless) not in (harmless, "auto"):
            raise AffectError(
                f"the launch file says {name} {settings[name]}, the recipe train.batch {batch}, which the step cuts "
                "itself: leave it out of the launch file"
            )
    for name, field in (("optimizer", "algorithm"), ("scheduler", "schedule")):
        if name in settings:
            kind, value = settings[name].get("type", name), getattr(recipe.optim, field)
            raise AffectError(
                f"the launch file has {with_article(name)} ({kind}), the recipe optim.{field} {value}: keep the "
                "recipe's"
            )


def _asked(kind: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() in ("true", "1", "yes")


def _trackers(names: Sequence[str]) -> list[str]:
    trackers = {str(kind) for kind in LoggerType} - {"all"}
    here = {str(kind) for kind in get_available_trackers()}
    for name in names:
        if name not in trackers:
            raise AffectError(f"train.trackers: unknown tracker {name!r}; {nearest(name, trackers)}")
        if name not in here:
            # Accelerate would go on without it and not say so.
            raise AffectError(f"train.trackers: {name} is not installed: pip install {name}, or leave it out")
    if os.environ.get("RANK", "0") == "0":
        tracking.check_login(names)
    return list(names)
