"""The machine under a rank: its cores, threads and memory, and how many ranks share them."""

from __future__ import annotations

import logging
import os
import platform
from functools import cache
from pathlib import Path

import psutil

from affect.errors import AffectError

_CPUINFO = Path("/proc/cpuinfo")
_LOG = logging.getLogger("affect")


def local_world() -> int:
    """Return how many ranks the launcher started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_memory() -> float:
    """Return the bytes that are free here, within a container's limit."""
    return min(psutil.virtual_memory().available, _container_free())


def threads() -> int:
    """Return the threads of this rank on a CPU: its share of the cores, or what AFFECT_THREADS names.

    Threads of one process wait for each other by spinning: where other programs take the cores, one is faster.
    """
    named = os.environ.get("AFFECT_THREADS", "")
    if named:
        if not (named.isdecimal() and int(named) > 0):
            raise AffectError(f"AFFECT_THREADS must be a positive number of threads, not {named!r}")
        return int(named)
    return max(1, cores() // local_world())


def processor() -> str:
    """Return the name of this machine's processor."""
    return _told("model name") or platform.processor() or platform.machine()


@cache
def warn_of_bf16() -> None:
    """Say, once a process, where this processor has no instructions for bf16 (as its operating system tells)."""
    flags = (_told("flags") or _told("Features")).split()
    if flags and not {"avx512_bf16", "amx_bf16", "bf16"} & {*flags}:
        words = "it may be slower than float32 here (--train.precision None)"
        _LOG.warning("precision bf16 on %s, which has no AVX512_BF16: %s", processor(), words)


def _told(name: str) -> str:
    """Return what Linux tells first of a processor by this name, "" where it tells nothing."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _container_free() -> float:
    """Return the bytes left under a container's limit (cgroup version 2 or 1), or infinity where there is none."""
    root = Path("/sys/fs/cgroup")
    for limit, used in (
        (root / "memory.max", root / "memory.current"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes"),
    ):
        if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
            return max(0.0, float(most) - float(used.read_text()))
    return float("inf")


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
