"""Readers of corpora: one file a layout on disk, whose object `CORPUS` says all that affect knows of it.

Those of recordings or texts return a `Corpus`, those of features a `FeatureCorpus`, those of scores a `ScoreCorpus`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from affect.data.corpora.layout import Layout
from affect.errors import AffectError, nearest

if TYPE_CHECKING:
    from affect.data.corpus import Corpus
    from affect.data.feature_corpus import FeatureCorpus
    from affect.data.score_corpus import ScoreCorpus

UTTERANCES = {
    "iemocap": "affect.data.corpora.iemocap",
    "emodb": "affect.data.corpora.emodb",
    "msp_podcast": "affect.data.corpora.msp_podcast",
    "emobank": "affect.data.corpora.emobank",
    "csv_folder": "affect.data.corpora.csv_folder",
    "hub": "affect.data.corpora.hub_dataset",
    "synthetic": "affect.data.corpora.synthetic",
}
"""The file of each corpus of recordings or texts; the first one is what recipes take when none is named."""
FEATURES = {"mer2023": "affect.data.corpora.mer2023", "generated": "affect.data.corpora.generated"}
"""The file of each corpus that is features alone."""
SCORES = {
    "score_folder": "affect.data.corpora.score_folder",
    "thqa": "affect.data.corpora.thqa",
    "thqa_ntire": "affect.data.corpora.thqa_ntire",
    "score_table": "affect.data.corpora.score_table",
    "generated_scores": "affect.data.corpora.generated_scores",
    "generated_clips": "affect.data.corpora.generated_clips",
}
"""The file of each corpus of clips with scores; the first one is what recipes take when none is named."""
ALL = UTTERANCES | FEATURES | SCORES
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


def check_options(name: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise AffectError for an option `given` that `name` does not take, and another corpus of its sort does.

    Defaults pass, and so do options of generated corpora: a demo may be pointed at a real one.
    """
    own = layout(name).options
    sort = next(each for each in (UTTERANCES, FEATURES, SCORES) if name in each)
    others = [layout(each) for each in sort]
    for option, value in given.items():
        owners = [other.name for other in others if option in other.options and not other.generated]
        if owners and option not in own and value != defaults[option]:
            raise AffectError(f"data.{option} must be left out unless corpus is {' or '.join(owners)}, not {value!r}")


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


def read(corpus: str, root: str | Path, *, name: str | None = None, **options: Any) -> Corpus:
    """Return the corpus in folder `root` (or of that name on the Hub) as the reader of the layout `corpus` finds it.

    `name` is the user's name for it. Raises AffectError for an unknown layout or option, and what the reader raises.
    """
    if corpus in FEATURES or corpus in SCORES:
        raise AffectError(f"corpus {corpus!r} is of features, not of the recordings or texts that this task needs")
    return cast("Corpus", _read(corpus, root, name, options))


def read_features(corpus: str, root: str | Path, *, name: str | None = None, **options: Any) -> FeatureCorpus:
    """Return the corpus of features in folder `root` as the reader of `corpus` finds it; raises as `read` does."""
    if corpus in UTTERANCES:
        raise AffectError(f"corpus {corpus!r} is of recordings or texts, not of the features that this task needs")
    if corpus in SCORES:
        raise AffectError(f"corpus {corpus!r} is of clips with scores, not of the utterances that this task needs")
    return cast("FeatureCorpus", _read(corpus, root, name, options))


def read_scores(corpus: str, root: str | Path, *, name: str | None = None, **options: Any) -> ScoreCorpus:
    """Return the corpus of clips with scores in `root` as the reader of `corpus` finds it; raises as `read` does."""
    if corpus in ALL and corpus not in SCORES:
        raise AffectError(f"corpus {corpus!r} is not of the clips with scores that this task needs")
    return cast("ScoreCorpus", _read(corpus, root, name, options))


def _read(corpus: str, root: str | Path, name: str | None, options: Mapping[str, Any]) -> Any:
    reader = layout(corpus).read
    _, *parameters = inspect.signature(reader).parameters.values()
    names = [parameter.name for parameter in parameters]
    unknown = [option for option in options if option not in names]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        hint = nearest(unknown[0], names) if names else "it has none"
        raise AffectError(f"corpus {corpus!r} has no option {unknown[0]!r}: {hint}")
    made = reader(str(root), **options)
    return made if name is None else replace(made, name=name)


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
