"""Every audio file of a corpus decoded once, in threads, and remembered until the file changes."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from affect.data import audio
from affect.data.cache import cache_folder, read_json, write_json
from affect.errors import AffectError

_LOG = logging.getLogger("affect")
_VERSION = 1
"""To be raised when `audio.check` becomes stricter: what older versions passed is then checked again."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verification found: duration (s), rate (Hz), channels, SHA-256 of the file, or the fault."""

    duration: float = float("nan")
    rate: int = 0
    channels: int = 0
    digest: str = ""
    fault: str = ""


def verify(paths: Sequence[Path], corpus: str) -> dict[Path, Verdict]:
    """Return a verdict for each file; files whose size and time of change are as before are not read again.

    Faults are never remembered, since a network disk may fail once.
    """
    folder = os.path.commonpath([os.path.abspath(path) for path in paths]) if paths else ""
    key = hashlib.sha256(f"{_VERSION}:{folder}".encode()).hexdigest()[:24]
    file = cache_folder() / "audio" / f"{corpus}-{key}.json"
    known = read_json(file)
    known = known if isinstance(known, dict) else {}
    stamps = {path: _stamp(path) for path in paths}
    found = {path: _recall(known.get(os.path.abspath(path)), stamps[path]) for path in paths}
    new = [path for path in paths if found[path] is None]
    verdicts = dict(zip(new, in_threads(_verify_file, new, f"checking {corpus} audio"), strict=True))
    verdicts.update({path: verdict for path, verdict in found.items() if verdict is not None})
    if new:
        _remember(file, verdicts, stamps)
    return verdicts


def verify_bytes(data: bytes, name: str) -> Verdict:
    """Return the verdict on an encoded file held in memory."""
    try:
        info = audio.check(data, name)
    except AffectError as error:
        return Verdict(fault=_without_name(error, name))
    digest = hashlib.sha256(data).hexdigest()
    return Verdict(duration=info.duration, rate=info.rate, channels=info.channels, digest=digest)


def in_threads(function: Callable[[Any], T], items: Iterable[Any], title: str) -> list[T]:
    """Return `function` of each item, in order, with a progress bar once it takes longer than two seconds."""
    items = list(items)
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool:
        return list(tqdm(pool.map(function, items), total=len(items), desc=title, delay=2, leave=False, disable=None))


def _verify_file(path: Path) -> Verdict:
    try:
        info = audio.check(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except AffectError as error:
        return Verdict(fault=_without_name(error, str(path)))
    except OSError as error:
        return Verdict(fault=f"cannot be read ({error.strerror})")
    return Verdict(duration=info.duration, rate=info.rate, channels=info.channels, digest=digest)


def _without_name(error: AffectError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ")


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _recall(entry: object, stamp: list[int] | None) -> Verdict | None:
    """Return the remembered verdict where the file has not changed since."""
    if stamp is None or not isinstance(entry, Mapping) or entry.get("stamp") != stamp:
        return None
    try:
        return Verdict(
            duration=float(entry["duration"]),
            rate=int(entry["rate"]),
            channels=int(entry["channels"]),
            digest=str(entry["digest"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _remember(file: Path, verdicts: Mapping[Path, Verdict], stamps: Mapping[Path, list[int] | None]) -> None:
    entries = {
        os.path.abspath(path): {
            "stamp": stamps[path],
            "duration": verdict.duration,
            "rate": verdict.rate,
            "channels": verdict.channels,
            "digest": verdict.digest,
        }
        for path, verdict in verdicts.items()
        if not verdict.fault
    }
    try:
        write_json(file, entries)
    except AffectError as error:
        _LOG.warning("the audio will be checked again next time: %s", error)
