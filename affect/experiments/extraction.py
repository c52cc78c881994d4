"""Extraction: features of all media of a source, by any number of processes, each file whole or absent."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from affect.data import synthetic_media
from affect.data.corpora import mapping
from affect.data.media import Medium, read_media
from affect.errors import AffectError, first_line
from affect.extraction import GENERATED, Extraction, IncompleteError
from affect.inference import manifest
from affect.inference.extractor import Extractor, Features
from affect.training import run_dir
from affect.training.distributed import Engine, is_out_of_memory, join

_LOG = logging.getLogger("affect")

FAILURES = "failures.jsonl"
_ROUND = 64
"""Media a process between two meetings: what is wrong on one is then known to all, and none waits for long."""

_THERE = "there already"
_THERE_ZERO = "there already, all zero"
_WRITTEN = "written"

Report = tuple[str, str, str]
"""Of a medium: its name, what was done (`_WRITTEN`, `_THERE`, why it is all zeros, or nothing) and what is wrong."""


def launch(settings: Extraction, command: str) -> None:
    """Extract, or only say what there is to do, and print it once. Reached by every rank; raises as `run` does."""
    said = dry_run(settings) if settings.dry_run else f"features: {run(settings, command)}"
    if os.environ.get("RANK", "0") == "0":
        print(said)


def run(settings: Extraction, command: str) -> Path:
    """Extract what is not there yet and return the folder of the features, its manifest written.

    Reached by every rank. Raises AffectError for what the user can mend, and IncompleteError at the end where media
    could not be read.
    """
    engine = join()
    source = engine.on_main(lambda: _source(settings))
    media, extractor = _read(engine, settings, source)
    file = settings.folder / manifest.FILE
    start = {"source": source, "command": command, "world": engine.world, "device": str(engine.device.type)}
    engine.on_main(lambda: _claim(extractor, start))
    reports = _rounds(engine, extractor, media)
    counts = Counter(done for _, done, _ in reports)
    failed = [{"name": name, "reason": fault} for name, _, fault in reports if fault]

    def conclude() -> None:
        run_dir.write_lines(settings.folder / FAILURES, failed)
        if not failed:
            (settings.folder / FAILURES).unlink(missing_ok=True)
        files = sum(1 for _ in settings.folder.glob("*.npy"))
        absent = {reason: count for reason, count in sorted(counts.items()) if reason not in ("", _WRITTEN, _THERE)}
        end = {"finished": True, "files": files, "all_zero": absent, "failed": len(failed)}
        run_dir.write_json(file, manifest.describe(extractor, **start, **end))
        zeros = "".join(f", {count} all zero ({reason})" for reason, count in absent.items())
        _LOG.info(
            "%s: %d written, %d there already%s, %d failed",
            settings.folder, counts[_WRITTEN], counts[_THERE], zeros, len(failed),
        )  # fmt: skip

    engine.on_main(conclude)
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(media)} media have no features ({failed[0]['name']}: {failed[0]['reason']}); "
            f"all are listed in {settings.folder / FAILURES}"
        )
    return settings.folder


def dry_run(settings: Extraction) -> str:
    """Return the settings and how much there is to do, as text; nothing is written and no encoder is read."""
    shown = {name: str(value) if isinstance(value, Path) else value for name, value in vars(settings).items()}
    lines = [json.dumps({"modality": settings.modality, **shown}, indent=2), ""]
    if settings.source == GENERATED:
        return "\n".join([*lines, f"{synthetic_media.COUNT} generated media -> {settings.folder}"])
    media = _media(settings, settings.source)
    there = sum((settings.folder / f"{medium.name}.npy").exists() for medium in media)
    return "\n".join([*lines, f"{len(media)} media, {there} of them there already -> {settings.folder}"])


def _source(settings: Extraction) -> str:
    if settings.source != GENERATED:
        return settings.source
    return str(synthetic_media.write(settings.output / "media"))


def _has(medium: Medium, modality: str) -> bool:
    part = medium.sound if modality == "audio" else medium.text if modality == "text" else medium.video
    return part is not None


def _read(engine: Engine, settings: Extraction, source: str) -> tuple[Sequence[Medium], Extractor]:
    """Return the media and the extractor. A collective: a rank that can't read them leaves no other waiting."""
    found: list[tuple[Sequence[Medium], Extractor]] = []

    def read() -> None:
        media = _media(settings, source)
        found.append((media, Extractor(settings, engine.device, engine.precision)))

    engine.everywhere(read)
    return found[0]


def _media(settings: Extraction, source: str) -> Sequence[Medium]:
    """Return the media of the source; raises AffectError where not one has what the features are made of."""
    media = read_media(source, columns=mapping(settings.columns), root=settings.root)
    if not any(_has(medium, settings.modality) for medium in media):
        raise AffectError(f"{source}: none of {len(media)} media has {settings.modality}; --columns says where it is")
    return media


def _claim(extractor: Extractor, start: dict[str, object]) -> None:
    """Take the folder of the features, or raise AffectError where other features are in it."""
    folder = extractor.settings.folder
    file = folder / manifest.FILE
    held = manifest.read(file)
    other = held.get("modality", extractor.settings.modality) if held is not None else extractor.settings.modality
    if other != extractor.settings.modality:
        raise AffectError(f"{folder} holds features of {other}: give another --name")
    if extractor.settings.overwrite:
        _empty(folder)
        held = None
    if held is not None:
        manifest.check(held, manifest.deciding(extractor), file, "give --overwrite or another --name")
    elif any(folder.glob("*.npy")):
        raise AffectError(f"{folder} holds features and no {manifest.FILE}: give --overwrite or another --name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AffectError(f"{folder}: cannot be made ({error.strerror or first_line(error)})") from error
    # Now, for a run that is stopped to know its files by.
    run_dir.write_json(file, manifest.describe(extractor, **start, finished=False))


def _empty(folder: Path) -> None:
    """Delete what an extraction has written to a folder, and nothing else."""
    try:
        for path in (*folder.glob("*.npy"), folder / FAILURES, folder / manifest.FILE):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise AffectError(f"{folder}: cannot be emptied ({error.strerror or first_line(error)})") from error


def _rounds(engine: Engine, extractor: Extractor, media: Sequence[Medium]) -> list[Report]:
    """Return what became of every medium, on every rank: shares are fixed by place, a round at a time."""
    reports: list[Report] = []
    step = _ROUND * engine.world
    with tqdm(total=len(media), desc=extractor.settings.feature, disable=None if engine.main else True) as bar:
        for start in range(0, len(media), step):
            mine = range(start + engine.rank, min(start + step, len(media)), engine.world)
            done: list[Report] = []
            _together(engine, extractor, (media[place] for place in mine), done)
            # Every rank must reach this.
            found = engine.gather_objects(done)
            reports += found
            bar.update(len(found))
    # By name: what is said and written is the same for every number of processes.
    return sorted(reports)


def _together(engine: Engine, extractor: Extractor, media: Iterable[Medium], done: list[Report]) -> None:
    def work() -> None:
        try:
            done.extend(_extract(extractor, media))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise AffectError(f"out of memory ({first_line(error)}); give a smaller --budget") from error

    engine.everywhere(work)


def _extract(extractor: Extractor, media: Iterable[Medium]) -> Iterator[Report]:
    """Write the features of those media that have none, and yield what became of each."""
    folder = extractor.settings.folder
    there: list[Report] = []

    def missing() -> Iterator[Medium]:
        for medium in media:
            held = _load(folder / f"{medium.name}.npy", extractor)
            if held is None:
                yield medium
            else:
                there.append((medium.name, _THERE if held.any() else _THERE_ZERO, ""))

    for outcome in extractor.outcomes(missing()):
        if outcome.values is not None:
            with run_dir.whole(folder / f"{outcome.name}.npy") as draft, draft.open("wb") as file:
                np.save(file, outcome.values, allow_pickle=False)
        yield outcome.name, "" if outcome.fault else outcome.absent or _WRITTEN, outcome.fault
    yield from there


def _load(path: Path, extractor: Extractor) -> Features | None:
    """Return a file's features such as the extractor makes, or None; logs a file that holds something else."""
    wanted = extractor.nothing()
    try:
        # Mapped: its size is held against its header, and little of it is read.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        _LOG.warning("%s is damaged and is made again (%s)", path, first_line(error))
        return None
    right = isinstance(array, np.ndarray) and array.dtype == wanted.dtype and array.shape[-1:] == wanted.shape[-1:]
    if not right or array.ndim != wanted.ndim or not len(array):
        _LOG.warning("%s is no %s file of width %d and is made again", path, wanted.dtype, extractor.width)
        return None
    found: Features = array
    return found
