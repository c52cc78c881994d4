"""Readers of corpora: one file a layout on disk, whose object `CORPUS` says all that affect knows of it.

What its rows are, its kind says (`kinds`), and so what `read` returns: a `Corpus` of recordings or texts, a
`FeatureCorpus`, a `ScoreCorpus` of clips, a `RecordingCorpus` of recordings with turns.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from affect.config import require
from affect.data.corpora.kinds import FEATURES as FEATURES
from affect.data.corpora.kinds import RECORDINGS as RECORDINGS
from affect.data.corpora.kinds import SCORES as SCORES
from affect.data.corpora.kinds import UTTERANCES as UTTERANCES
from affect.data.corpora.kinds import C, Kind
from affect.data.corpora.layout import Layout
from affect.errors import AffectError, nearest

ALL = {
    "iemocap": "affect.data.corpora.iemocap",
    "emodb": "affect.data.corpora.emodb",
    "msp_podcast": "affect.data.corpora.msp_podcast",
    "emobank": "affect.data.corpora.emobank",
    "csv_folder": "affect.data.corpora.csv_folder",
    "hub": "affect.data.corpora.hub_dataset",
    "audformat_database": "affect.data.corpora.audformat_database",
    "synthetic": "affect.data.corpora.synthetic",
    "mer2023": "affect.data.corpora.mer2023",
    "generated": "affect.data.corpora.generated",
    "feature_table": "affect.data.corpora.feature_table",
    "score_folder": "affect.data.corpora.score_folder",
    "thqa": "affect.data.corpora.thqa",
    "thqa_ntire": "affect.data.corpora.thqa_ntire",
    "score_table": "affect.data.corpora.score_table",
    "generated_scores": "affect.data.corpora.generated_scores",
    "generated_clips": "affect.data.corpora.generated_clips",
    "rttm_folder": "affect.data.corpora.rttm_folder",
    "kaldi_folder": "affect.data.corpora.kaldi_folder",
    "lhotse_manifests": "affect.data.corpora.lhotse_manifests",
}
"""The file of each corpus; the first one of a kind is what recipes take when none is named."""
_GENERATED = ("synthetic", "generated", "generated_scores", "generated_clips")
INSPECTED = tuple(name for name in ALL if name not in _GENERATED)
"""What `affect inspect` reads; generated corpora are read in the layout that they are written in."""
GUESSED_LAST = ("score_table", "hub", "csv_folder")
"""Layouts of your own data: any corpus may look like them."""


def layout(name: str) -> Layout:
    """Return what a corpus says of itself; raises AffectError, with the nearest name, for an unknown one."""
    if name not in ALL:
        raise AffectError(f"unknown corpus {name!r}: {nearest(name, ALL)}")
    return cast(Layout, importlib.import_module(ALL[name]).CORPUS)


def known(name: object) -> Layout | None:
    """Return what a corpus says of itself, None where `name` is no layout's (a paper's corpus, a user's name)."""
    return layout(name) if isinstance(name, str) and name in ALL else None


def names(kind: Kind[Any]) -> tuple[str, ...]:
    """Return the names of all corpora of a kind, the usual one first."""
    return tuple(name for name in ALL if layout(name).kind is kind)


def check_options(name: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise AffectError for an option `given` that `name` does not take, and another corpus of its kind does.

    Defaults pass, and so do options of generated corpora: a demo may be pointed at a real one.
    """
    own = layout(name).options
    others = [layout(each) for each in names(layout(name).kind)]
    for option, value in given.items():
        owners = [other.name for other in others if option in other.options and not other.generated]
        if owners and option not in own and value != defaults[option]:
            raise AffectError(f"data.{option} must be left out unless corpus is {' or '.join(owners)}, not {value!r}")


def check_pairs(name: str, given: Sequence[str]) -> None:
    """Raise AffectError where `data.columns` are no OURS=THEIRS of columns that `name` has, each of ours once."""
    pairs = [pair.split("=") for pair in given]
    once = all(len(pair) == 2 and all(pair) for pair in pairs) and len({pair[0] for pair in pairs}) == len(pairs)
    require(once, "data.columns", "be OURS=THEIRS, each of ours once", given)
    layout(name).check_columns(pair[0] for pair in pairs)


def mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Return the `columns` of a reader from OURS=THEIRS pairs; raises AffectError for what is no such pair."""
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if pair.count("=") != 1 or not ours or not theirs:
            raise AffectError(f"columns must be OURS=THEIRS, not {pair!r}")
        if ours in columns:
            raise AffectError(f"columns names {ours!r} more than once")
        columns[ours] = theirs
    return columns


def stream_keys(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return a model's name of each stream: audio, text, video, and audio_2 ... for a modality's further ones."""
    counts = [modalities[: k + 1].count(modality) for k, modality in enumerate(modalities)]
    return tuple(m if count == 1 else f"{m}_{count}" for m, count in zip(modalities, counts, strict=True))


def read(kind: Kind[C], corpus: str, root: str | Path, *, name: str | None = None, **options: Any) -> C:
    """Return the corpus in folder `root` (or of that name on the Hub) as the reader of the layout `corpus` finds it.

    `name` is the user's name for it. Raises AffectError for an unknown layout or option, a layout of another kind, and
    what the reader raises.
    """
    reader = layout(corpus)
    if reader.kind is not kind:
        raise AffectError(f"corpus {corpus!r} is of {reader.kind.rows}, not of the {kind.rows} that this task needs")
    _, *parameters = inspect.signature(reader.read).parameters.values()
    allowed = [parameter.name for parameter in parameters]
    unknown = [option for option in options if option not in allowed]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        hint = nearest(unknown[0], allowed) if allowed else "it has none"
        raise AffectError(f"corpus {corpus!r} has no option {unknown[0]!r}: {hint}")
    _check_scale(options.get("scale"))
    made = reader.read(str(root), **options)
    return cast(C, made if name is None else replace(made, name=name))


def _check_scale(scale: Any) -> None:
    """Raise AffectError for a scale, or one of several by name, that does not go from low to high or has no end."""
    for low, high in scale.values() if isinstance(scale, Mapping) else [] if scale is None else [scale]:
        if not -math.inf < low < high < math.inf:
            raise AffectError(f"a scale goes from low to high and has ends, not from {low:g} to {high:g}")


def detect(root: str | Path) -> str:
    """Return the name of the layout that a folder has; raises AffectError where it is none of them."""
    path = Path(root)
    if not path.is_dir():
        raise AffectError(f"{path} is not a folder")
    signs = []
    for each in map(layout, (*(name for name in INSPECTED if name not in GUESSED_LAST), *GUESSED_LAST)):
        try:
            each.find(path)
            return each.name
        except AffectError:
            signs.append(f"no {each.sign} ({each.name})")
    raise AffectError(f"{path} is no known corpus: {', '.join(signs)}")
