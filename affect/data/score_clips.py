"""The videos of clips with scores: found by the clips' names, looked at once, and told of in the corpus's rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasets import Dataset, Features, Value

from affect.cache import kept_json, stamp
from affect.data import video
from affect.data.corpus import Exclusion
from affect.data.endings import FILM
from affect.data.files import open_file
from affect.data.score_corpus import ScoreCorpus
from affect.data.score_samples import Made, Sample
from affect.errors import AffectError, first_line

SAME = "videos of the very same bytes"
"""What copies are called."""


def videos_in(folder: Path) -> dict[str, Path]:
    """Return the videos of a folder by their names without endings; raises AffectError for none and for two of one."""
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    videos: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in FILM and not path.name.startswith("."):
            if path.stem in videos:
                raise AffectError(f"{folder} has {videos[path.stem].name} and {path.name}: names must differ")
            videos[path.stem] = path
    if not videos:
        raise AffectError(f"{folder} has no video ({', '.join(sorted(FILM))})")
    return videos


def stem(id: str) -> str:
    """Return the name of a clip without the ending of a video."""
    path = Path(id)
    return path.stem if path.suffix.lower() in FILM else id


def looked_at(samples: Sequence[Sample], videos: Mapping[str, Path]) -> Made:
    """Return the clips whose video begins as it should, and why the others are left out.

    Raises AffectError where no clip has a video.
    """
    kept: list[Sample] = []
    left_out: dict[str, str] = {}
    if not any(stem(sample.id) in videos for sample in samples):
        folder = next(iter(videos.values())).parent
        raise AffectError(f"{folder} has none of the {len(samples)} clips, {samples[0].id!r} for one")
    for sample in samples:
        path = videos.get(stem(sample.id))
        try:
            if path is None:
                left_out[sample.id] = "no video of this name"
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
    columns = {"path": [str(path) for path in paths], "boxes": faces, "seconds": _seconds(paths)}
    rows = corpus.utterances
    told = zip(rows["id"], there, strict=True)
    left_out = [Exclusion(what=id, reason="no table of faces") for id, has in told if not has]
    table = {name: [values[k] for k in kept] for name, values in rows.to_dict().items()} | columns
    types = {**rows.features, "path": Value("string"), "boxes": Value("string"), "seconds": Value("float64")}
    return replace(
        corpus, utterances=Dataset.from_dict(table, features=Features(types)), fingerprint=digest.hexdigest()[:16],
        exclusions=[*corpus.exclusions, *left_out],
        contents={**corpus.contents, SAME: dict(zip(table["id"], _digests(paths), strict=True))},
    )  # fmt: skip
