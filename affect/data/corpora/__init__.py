"""Readers of corpora: one module a layout on disk, each with `read(root, ...)`.

Those of recordings or texts return a `Corpus`, those of features a `FeatureCorpus`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from affect.data.corpus import Corpus
from affect.data.feature_corpus import FeatureCorpus
from affect.errors import AffectError, nearest

MODULES = {
    "iemocap": "affect.data.corpora.iemocap",
    "emodb": "affect.data.corpora.emodb",
    "msp_podcast": "affect.data.corpora.msp_podcast",
    "emobank": "affect.data.corpora.emobank",
    "csv_folder": "affect.data.corpora.csv_folder",
    "hub": "affect.data.corpora.hub_dataset",
    "synthetic": "affect.data.synthetic",
}
FEATURE_MODULES = {"mer2023": "affect.data.corpora.mer2023"}
"""Readers of corpora that are features alone."""


def mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Return the `columns` of a reader from OURS=THEIRS pairs; raises AffectError for what is no such pair."""
    found: dict[str, str] = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if pair.count("=") != 1 or not ours or not theirs:
            raise AffectError(f"columns must be OURS=THEIRS, not {pair!r}")
        if ours in found:
            raise AffectError(f"columns names {ours!r} more than once")
        found[ours] = theirs
    return found


def read(name: str, root: str | Path, **options: Any) -> Corpus:
    """Return the corpus in folder `root` (for `hub`, a folder or a name) as the reader called `name` finds it.

    Raises AffectError for an unknown reader or option, and what the reader raises.
    """
    if name in FEATURE_MODULES:
        raise AffectError(f"corpus {name!r} is of features, not of the recordings or texts that this task needs")
    corpus: Corpus = _reader(name, MODULES, options)(str(root), **options)
    return corpus


def read_features(name: str, root: str | Path, **options: Any) -> FeatureCorpus:
    """Return the corpus of features in folder `root` as the reader called `name` finds it; raises as `read` does."""
    corpus: FeatureCorpus = _reader(name, FEATURE_MODULES, options)(str(root), **options)
    return corpus


def _reader(name: str, modules: dict[str, str], options: Iterable[str]) -> Callable[..., Any]:
    if name not in modules:
        raise AffectError(f"unknown corpus {name!r}: {nearest(name, modules)}")
    read: Callable[..., Any] = importlib.import_module(modules[name]).read
    parameters = list(inspect.signature(read).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for option in options:
        if option not in known and not takes_any:
            hint = nearest(option, known) if known else "it has none"
            raise AffectError(f"corpus {name!r} has no option {option!r}: {hint}")
    return read
