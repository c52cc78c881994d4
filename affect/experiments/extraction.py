"""Extraction: features of all media of a source, by any number of processes, each file whole or absent."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from affect.data import synthetic_media
from affect.data.corpora import mapping
from affect.data.media import Medium, cut, parts_of, read_media
from affect.data.store import Feature, Store
from affect.data.store import write as write_store
from affect.errors import AffectError, first_line
from affect.extraction import GENERATED, Extraction, IncompleteError
from affect.inference import manifest
from affect.inference.extractor import Extractor, Features
from affect.progress import progress
from affect.training import run_dir
from affect.training.distributed import Engine, is_out_of_memory, join

_LOG = logging.getLogger("affect")

FAILURES, STORE = "failures.jsonl", "features.arrow"
_ROUND = 64
"""Media a process between two meetings: what is wrong on one is then known to all, and none waits for long."""

_THERE = "there already"
_THERE_ZERO = "there already, all zero"
_WRITTEN = "written"

Report = tuple[str, str, str]
"""Of a medium: its name, what was done (`_WRITTEN`, `_THERE`, why it is all zeros, or nothing) and what is wrong."""


def launch(settings: Extraction, command: str) -> None:
    """Extract, or only say what there is to do, and print it once. Reached by every rank; raises as `run` does."""
    text = dry_run(settings) if settings.dry_run else f"features: {run(settings, command)}"
    if os.environ.get("RANK", "0") == "0":
        print(text)


def run(settings: Extraction, command: str) -> Path:
    """Extract what is not there yet and return the folder of the features, its manifest written.

    Reached by every rank. Raises AffectError for what the user can mend, and IncompleteError at the end where media
    could not be read.
    """
    engine = join()
    source = settings.source
    if source == GENERATED:
        source = engine.on_main(lambda: str(synthetic_media.write(settings.output / "media")))
    made: list[tuple[Sequence[Medium], Extractor]] = []

    def read() -> None:
        made.append((_media(settings, source), Extractor(settings, engine.device, engine.precision)))

    # A rank that can't read them leaves no other waiting.
    engine.everywhere(read)
    ((media, extractor),) = made
    if settings.modality != "text":
        # Once: it reads the recordings.
        media = cut(media, engine.on_main(lambda: parts_of(media, seen=settings.modality == "video")))
    folder = settings.folder
    start = {"source": source, "command": command, "world": engine.world, "device": str(engine.device.type)}
    engine.on_main(lambda: _claim(extractor, start))
    reports = _rounds(engine, extractor, media)
    failed = [{"name": name, "reason": fault} for name, _, fault in reports if fault]

    def conclude() -> None:
        if failed:
            run_dir.write_lines(folder / FAILURES, failed)
        else:
            (folder / FAILURES).unlink(missing_ok=True)
        counts = Counter(done for _, done, _ in reports)
        absent = {reason: count for reason, count in sorted(counts.items()) if reason not in ("", _WRITTEN, _THERE)}
        if settings.store:
            _pack(extractor, [medium.name for medium in media])
        files = len(_packed(settings)) + sum(1 for _ in folder.glob("*.npy"))
        end = {"finished": True, "files": files, "all_zero": absent, "failed": len(failed)}
        run_dir.write_json(folder / manifest.FILE, manifest.describe(extractor, **start, **end))
        zeros = "".join(f", {count} all zero ({reason})" for reason, count in absent.items())
        _LOG.info(
            "%s: %d written, %d there already%s, %d failed",
            folder, counts[_WRITTEN], counts[_THERE], zeros, len(failed),
        )  # fmt: skip

    engine.on_main(conclude)
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(media)} media have no features ({failed[0]['name']}: {failed[0]['reason']}); "
            f"all are listed in {folder / FAILURES}"
        )
    return folder


def dry_run(settings: Extraction) -> str:
    """Return the settings and how much there is to do, as text; nothing is written and no encoder is read."""
    shown = {name: str(value) if isinstance(value, Path) else value for name, value in vars(settings).items()}
    if settings.source == GENERATED:
        count = f"{synthetic_media.COUNT} generated media"
    else:
        media = _media(settings, settings.source)
        held = {*_packed(settings), *(path.stem for path in settings.folder.glob("*.npy"))}
        there = sum(medium.name in held for medium in media)
        count = f"{len(media)} media, {there} of them there already"
    return f"{json.dumps({'modality': settings.modality, **shown}, indent=2)}\n\n{count} -> {settings.folder}"


def _media(settings: Extraction, source: str) -> Sequence[Medium]:
    """Return the media of the source; raises AffectError where not one has what the features are made of."""
    media = read_media(source, columns=mapping(settings.columns), root=settings.root)
    part = "sound" if settings.modality == "audio" else settings.modality
    if all(getattr(medium, part) is None for medium in media):
        raise AffectError(f"{source}: none of {len(media)} media has {settings.modality}; --columns says where it is")
    return media


def _claim(extractor: Extractor, start: dict[str, object]) -> None:
    """Take the folder of the features, or raise AffectError where other features are in it."""
    settings = extractor.settings
    folder, file = settings.folder, settings.folder / manifest.FILE
    held = manifest.read(file) if os.path.exists(file) else None
    other = settings.modality if held is None else held.get("modality", settings.modality)
    if other != settings.modality:
        raise AffectError(f"{folder} holds features of {other}: give another --name")
    if settings.overwrite:
        try:
            for path in (*folder.glob("*.npy"), folder / STORE, folder / FAILURES, file):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise AffectError(f"{folder}: cannot be emptied ({error.strerror or first_line(error)})") from error
    elif held is not None:
        manifest.check(held, manifest.deciding(extractor), file, "give --overwrite or another --name")
    elif any(folder.glob("*.npy")) or (folder / STORE).exists():
        raise AffectError(f"{folder} holds features and no {manifest.FILE}: give --overwrite or another --name")
    # Now, for a run that is stopped to know its files by.
    run_dir.write_json(file, manifest.describe(extractor, **start, finished=False))


def _rounds(engine: Engine, extractor: Extractor, media: Sequence[Medium]) -> list[Report]:
    """Return what became of every medium, on every rank: shares are fixed by place, a round at a time."""
    reports: list[Report] = []
    packed: dict[str, Features | None] = {}
    # A rank that can't read it leaves no other waiting.
    engine.everywhere(lambda: packed.update(_packed(extractor.settings)))
    step = _ROUND * engine.world
    with progress(len(media), extractor.settings.feature, show=engine.main, delay=0) as tell:
        for start in range(0, len(media), step):
            share = range(start + engine.rank, min(start + step, len(media)), engine.world)
            done: list[Report] = []
            engine.everywhere(partial(_extract, extractor, (media[place] for place in share), packed, done))
            # Every rank must reach this.
            of_all = engine.gather_objects(done)
            reports += of_all
            tell(len(of_all))
    # By name: what is said and written is the same for every number of processes.
    return sorted(reports)


def _extract(
    extractor: Extractor, media: Iterable[Medium], packed: Mapping[str, Features | None], done: list[Report]
) -> None:
    """Write the features of those media that have none, and add what became of each to `done`."""
    folder = extractor.settings.folder

    def missing() -> Iterator[Medium]:
        for medium in media:
            held = _load(folder / f"{medium.name}.npy", extractor)
            if held is None and medium.name in packed:
                array = packed[medium.name]
                held = extractor.nothing() if array is None else array
            if held is None:
                yield medium
            else:
                done.append((medium.name, _THERE if held.any() else _THERE_ZERO, ""))

    try:
        for outcome in extractor.outcomes(missing()):
            if outcome.values is not None:
                with run_dir.whole(folder / f"{outcome.name}.npy") as draft, draft.open("wb") as file:
                    np.save(file, outcome.values, allow_pickle=False)
            done.append((outcome.name, "" if outcome.fault else outcome.absent or _WRITTEN, outcome.fault))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AffectError(f"out of memory ({first_line(error)}); give a smaller --budget") from error


def _packed(settings: Extraction) -> dict[str, Features | None]:
    """Return what the file of all features has by name, None for zeros; raises AffectError where it is damaged."""
    if not (settings.folder / STORE).exists():
        return {}
    store = Store(settings.folder / STORE)
    return {name: store.read(settings.feature, row) for row, name in enumerate(store.ids)}


def _pack(extractor: Extractor, names: Iterable[str]) -> None:
    """Put the features that are there into one file, with what made them, and remove the others."""
    settings, packed = extractor.settings, _packed(extractor.settings)
    files = sorted(settings.folder.glob("*.npy"))

    def rows() -> Iterator[tuple[str, dict[str, Features | None]]]:
        # Those of another source, too: all files are removed.
        for name in dict.fromkeys((*packed, *names, *(path.stem for path in files))):
            held = _load(settings.folder / f"{name}.npy", extractor)
            if held is not None:
                # Zeros are the mark of what is missing.
                yield name, {settings.feature: held if held.any() else None}
            elif name in packed:
                yield name, {settings.feature: packed[name]}

    kind = {settings.feature: Feature(settings.precision, extractor.nothing().ndim)}
    facts = {settings.feature: json.dumps(manifest.describe(extractor))}
    write_store(settings.folder / STORE, kind, rows(), facts=facts)
    for path in files:
        path.unlink()


def _load(path: Path, extractor: Extractor) -> Features | None:
    """Return a file's features such as the extractor makes, or None; logs a file that holds something else."""
    wanted = extractor.nothing()
    try:
        # Mapped: its size is held against its header, and little of it is read.
        array: Features = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        _LOG.warning("%s is damaged and is made again (%s)", path, first_line(error))
        return None
    right = isinstance(array, np.ndarray) and array.dtype == wanted.dtype and array.shape[-1:] == wanted.shape[-1:]
    if not right or array.ndim != wanted.ndim or not len(array):
        _LOG.warning("%s is no %s file of width %d and is made again", path, wanted.dtype, wanted.shape[-1])
        return None
    return array
