"""Clips with features and scores as `affect convert` writes them: features.arrow, rows.csv and schema.json.

A pickle is never read here: training refuses it, and says how to convert it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora.kinds import SCORES
from affect.data.corpora.layout import Layout, Scales
from affect.data.files import read_bytes
from affect.errors import AffectError

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus


def read(
    root: str | Path, *, features: Sequence[str] = (), scores: Sequence[str] = (),
    scale: Scales | None = None, widths: Mapping[str, int] | None = None, unlabelled: bool = False,
) -> ScoreCorpus:  # fmt: skip
    """Return the corpus in folder `root`, or some features and scores of it (all where none are named).

    `scale` is that of all scores, or of each by its name, inferred where it is not given, `widths` what features must
    have; of clips that may be `unlabelled` scores that are not there are missing. Raises AffectError for a pickle, for
    files that don't belong together and for names that are not there.
    """
    from affect.data.pickle_file import is_pickle, refuse
    from affect.data.score_corpus import read_folder

    path = Path(root)
    if is_pickle(path):
        raise refuse(path)
    if not holds(path):
        if pickles := sorted(filter(is_pickle, path.glob("*"))):
            raise refuse(pickles[0])
        raise AffectError(f"{path} has no {CORPUS.sign}: `affect convert` writes it")
    chosen: dict[str, Any] = {"features": features, "scores": scores, "scale": scale, "widths": widths}
    return read_folder(path, CORPUS.name, **chosen, unlabelled=unlabelled)


def describe_file(path: Path) -> str | None:
    """Return what a pickle holds, which `affect convert` takes, in words; None of any other file."""
    from affect.data import pickle_file

    return pickle_file.describe(path) if pickle_file.is_pickle(path) else None


def holds(path: Path) -> bool:
    """Whether a folder is one that `affect convert` wrote."""
    try:
        schema = json.loads(read_bytes(path / "schema.json"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(schema, dict) and str(schema.get("format", "")).startswith("affect.scores.")


CORPUS = Layout(
    name="score_folder",
    read=read,
    kind=SCORES,
    columns=("part", "length"),
    options=("features", "scores", "scale", "widths", "unlabelled"),
    holds=holds,
    describe_file=describe_file,
    sign="schema.json that affect convert wrote",
    about="These are clips of talking faces with their scores, a collection of your own.",
)
