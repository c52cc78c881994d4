"""The videos of clips with scores: found by the clips' names, looked at once, and told of in the corpus's rows."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from affect.cache import kept_json, stamp
from affect.data import audio, clip, video
from affect.data.corpora.segments import is_still
from affect.data.corpus import Exclusion, held
from affect.data.endings import FILM
from affect.data.files import files_below, open_file
from affect.data.score_corpus import ScoreCorpus
from affect.data.score_samples import Made, Sample
from affect.errors import AffectError, first_line

_LOG = logging.getLogger("affect")

NO_ROW = "features that no row names"
"""Why frames, or a table of faces, of no clip are left out."""
_NO_ROW = "video that no row names"
_RATE, _SIDE, _MOVES = 4.0, 64, 6
"""Pictures a second and pixels of a side at which a video is looked at, and steps of 255 that nothing still changes."""
SAME = "videos of the very same bytes"
"""What copies are called."""


def videos_in(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the videos of a folder by their names without endings, and by path what is none there, and why.

    Raises AffectError for no video and for two of one name.
    """
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    paths, faulty = files_below(folder, lambda name: Path(name).suffix.lower() in FILM)
    left_out = {each.what: each.reason for each in faulty}
    videos: dict[str, Path] = {}
    for path in paths:
        if path.parent != folder:
            left_out[path.relative_to(folder).as_posix()] = "video in a folder further down"
        elif path.stem in videos:
            raise AffectError(f"{folder} has {videos[path.stem].name} and {path.name}: names must differ")
        else:
            videos[path.stem] = path
    if not videos:
        told = "".join(f"; {what}: {why}" for what, why in [*left_out.items()][:1])
        raise AffectError(f"{folder} has no video ({', '.join(sorted(FILM))}){told}")
    return videos, left_out


def stem(id: str) -> str:
    """Return the name of a clip without the ending of a video."""
    path = Path(id)
    return path.stem if path.suffix.lower() in FILM else id


def looked_at(made: Made, videos: Mapping[str, Path], faulty: Mapping[str, str]) -> Made:
    """Return the clips whose video begins as it should, and why the others and videos of no clip are left out.

    `faulty` is what else lies there, and why it is no video. Raises AffectError where no clip has a video.
    """
    samples, left_out = made
    kept: list[Sample] = []
    named = {stem(name) for name in (*(sample.id for sample in samples), *left_out)}
    unnamed = {path.name: _NO_ROW for name, path in videos.items() if name not in named}
    left_out = {**left_out, **unnamed, **{what: why for what, why in faulty.items() if stem(what) not in named}}
    reasons = {stem(what): why for what, why in faulty.items()}
    if not any(stem(sample.id) in videos for sample in samples):
        folder = next(iter(videos.values())).parent
        raise AffectError(f"{folder} has none of the {len(samples)} clips, {samples[0].id!r} for one")
    for sample in samples:
        path = videos.get(stem(sample.id))
        try:
            if path is None:
                left_out[sample.id] = reasons.get(stem(sample.id), "no video of this name")
            elif video.starts(path).image is None:
                left_out[sample.id] = "its file has no images"
            else:
                kept.append(sample)
        except AffectError as error:
            # The path comes first, which is told already.
            left_out[sample.id] = f"unreadable video: {first_line(error).removeprefix(f'{path}: ')}"
    return kept, left_out


def _seconds(paths: Sequence[Path]) -> list[float]:
    """Return about how long videos are; those that have not changed since they were asked for are not opened again."""
    stamps = [stamp(path) for path in paths]
    seconds: list[float] = kept_json("seconds", stamps, lambda: [video.seconds_of(path) for path in paths])
    return seconds


def _stillness(path: Path) -> tuple[bool, bool]:
    """Return whether nothing is heard in a video that has sound, and whether it shows one picture throughout.

    What can't be decoded to its end is said where it is used.
    """
    silent = unmoved = False
    with suppress(AffectError):
        if video.starts(path).sound is not None:
            info = audio.check(path)
            silent = is_still(info.still, 0.0, info.duration)
    with suppress(AffectError):
        images = (clip.square(image, _SIDE, whole=True).astype(int) for _, image in video.frames(path, _RATE))
        first = next(images)
        # The first that moves ends it.
        moves = (bool(np.abs(image - first).max() > _MOVES) for image in images)
        unmoved = not next(moves, True) and not any(moves)
    return silent, unmoved


def _digests(paths: Sequence[Path]) -> list[str]:
    """Return hashes of videos, "" of those of a size that no other has; unchanged ones are not read again."""
    sizes = [path.stat().st_size for path in paths]
    counts = Counter(sizes)

    def hashed(path: Path) -> str:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return [
        kept_json("film-digests", stamp(path), partial(hashed, path)) if counts[size] > 1 else ""
        for path, size in zip(paths, sizes, strict=True)
    ]


def with_videos(corpus: ScoreCorpus, videos: Mapping[str, Path], boxes: Path | None) -> ScoreCorpus:
    """Return the corpus with the columns `path`, `boxes` (CSV of its faces, "" for none) and `seconds` of each clip.

    With `boxes` a clip without them is left out. Raises AffectError where they are of no clip.
    """
    names = [stem(id) for id in corpus.utterances["id"]]
    tables = {} if boxes is None else {path.stem: str(path) for path in boxes.glob("*.csv")}
    faces = [tables.get(name, "") for name in names]
    if boxes is not None and not any(faces):
        raise AffectError(f"{boxes} has no CSV of a clip, {names[0]}.csv for one")
    there = [bool(face) or boxes is None for face in faces]
    kept = [k for k, has in enumerate(there) if has]
    names, faces = [names[k] for k in kept], [faces[k] for k in kept]
    paths = [videos[name] for name in names]
    digest = hashlib.sha256(corpus.fingerprint.encode())
    for name, path, box in zip(names, paths, faces, strict=True):
        digest.update(repr((name, path.stat().st_size, box and Path(box).stat().st_size)).encode())
    columns: dict[str, list[Any]] = {"path": [str(path) for path in paths], "boxes": faces, "seconds": _seconds(paths)}
    rows = corpus.utterances
    told = zip(rows["id"], there, strict=True)
    left_out = [Exclusion(what=id, reason="no table of faces") for id, has in told if not has]
    named = {*names, *(stem(each.what) for each in corpus.exclusions if each.reason != _NO_ROW)}
    left_out += [Exclusion(what=f"{each}.csv", reason=NO_ROW) for each in sorted(tables) if each not in named]
    if left_out:
        _LOG.warning("%s: %s", corpus.name, held(len(kept), "clip", left_out))
    table: dict[str, list[Any]] = {name: [values[k] for k in kept] for name, values in rows.to_dict().items()} | columns
    types = {**rows.features, "path": Value("string"), "boxes": Value("string"), "seconds": Value("float64")}
    looks = [(id, kept_json("film-stillness", stamp(path), partial(_stillness, path)))
             for id, path in zip(table["id"], paths, strict=True)]  # fmt: skip
    return replace(
        corpus, utterances=Dataset.from_dict(table, features=Features(types)), fingerprint=digest.hexdigest()[:16],
        exclusions=[*corpus.exclusions, *left_out],
        still=tuple(id for id, (silent, _) in looks if silent),
        unmoved=tuple(id for id, (_, unmoved) in looks if unmoved),
        contents={**corpus.contents, SAME: dict(zip(table["id"], _digests(paths), strict=True))},
    )  # fmt: skip
