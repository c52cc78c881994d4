"""Every audio file of a corpus decoded once, in threads, and remembered until the file changes."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from affect.cache import cache_folder, read_json, write_json
from affect.data import audio
from affect.data.files import open_file
from affect.data.stillness import Span
from affect.errors import AffectError
from affect.progress import progress

_LOG = logging.getLogger("affect")
_VERSION = 2
"""To be raised when `audio.check` becomes stricter: what older versions passed is then checked again."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verification found: duration (s), SHA-256, channels, still stretches (start, end in s), or the fault."""

    duration: float = float("nan")
    digest: str = ""
    channels: int = 1
    still: tuple[Span, ...] = ()
    fault: str = ""


def verify(paths: Sequence[Path], corpus: str) -> list[Verdict]:
    """Return a verdict for each file; files whose size and time of change are as before are not read again."""
    folder = os.path.commonpath(paths) if paths else ""
    key = hashlib.sha256(f"{_VERSION}:{folder}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
    file = cache_folder() / "audio" / f"{corpus}-{key}.json"
    remembered = read_json(file) or {}
    stamps = {str(path): _stamp(path) for path in paths}
    verdicts = {
        path: Verdict(**{**entry["verdict"], "still": tuple((a, b) for a, b in entry["verdict"]["still"])})
        for path, stamp in stamps.items()
        if stamp and (entry := remembered.get(path, {})).get("stamp") == stamp
    }
    new = [path for path in stamps if path not in verdicts]
    if new:
        checked = in_threads(lambda path: verdict(Path(path), path), new, f"checking {corpus} audio")
        verdicts |= zip(new, checked, strict=True)
        entries = {
            path: {"stamp": stamps[path], "verdict": vars(each)}
            for path, each in verdicts.items()
            if not each.fault  # A network disk may fail once.
        }
        try:
            write_json(file, entries)
        except AffectError as error:
            _LOG.warning("the audio will be checked again next time: %s", error)
    return [verdicts[str(path)] for path in paths]


def verdict(source: Path | bytes, name: str) -> Verdict:
    """Return the verdict on an audio file, or on one held in memory, which errors call `name`."""
    try:
        info = audio.check(source, name)
        with io.BytesIO(source) if isinstance(source, bytes) else open_file(source) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except AffectError as error:
        return Verdict(fault=str(error).removeprefix(f"{name}: "))
    except OSError as error:
        return Verdict(fault=f"cannot be read ({error.strerror})")
    return Verdict(duration=info.duration, digest=digest, channels=info.channels, still=info.still)


def in_threads(function: Callable[[Any], T], items: Sequence[Any], title: str) -> list[T]:
    """Return `function` of each item, in order, with a progress bar once it takes longer than two seconds."""
    if not items:
        return []
    with (
        ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool,
        progress(len(items), title) as done,
    ):
        results = []
        for result in pool.map(function, items):
            results.append(result)
            done(1)
        return results


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]
