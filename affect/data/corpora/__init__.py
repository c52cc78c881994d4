"""Readers of corpora: one module a layout on disk, each with `read(root, ...) -> Corpus`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affect.data.corpus import Corpus
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
    if name not in MODULES:
        raise AffectError(f"unknown corpus {name!r}: {nearest(name, MODULES)}")
    reader = importlib.import_module(MODULES[name])
    parameters = list(inspect.signature(reader.read).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for option in options:
        if option not in known and not takes_any:
            hint = nearest(option, known) if known else "it has none"
            raise AffectError(f"corpus {name!r} has no option {option!r}: {hint}")
    corpus: Corpus = reader.read(str(root), **options)
    return corpus
