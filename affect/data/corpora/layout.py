"""What a corpus says of itself: the object `CORPUS` of its file, the only place in affect that knows it.

Importing a layout's file loads no tensor library and no `datasets`: help and recipes ask it, too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affect.data.corpora.kinds import UTTERANCES, Kind
from affect.errors import AffectError, nearest

_LOG = logging.getLogger("affect")
Scales = tuple[float, float] | Mapping[str, tuple[float, float]]
"""Lowest and highest value of all scores, or of some by their names."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A corpus, or a layout of your own data: how it is read, recognised and spoken of."""

    name: str
    """As recipes name it, and as `corpora/__init__.py` lists it."""
    read: Callable[..., Any]
    """`read(root, *, options)` returns a corpus of its kind."""
    kind: Kind[Any] = UTTERANCES
    """What its rows are."""
    options: tuple[str, ...] = ()
    """Fields of a recipe's `Data` that `read` takes, and other corpora don't."""
    columns: tuple[str, ...] = ()
    """Columns that its rows fill beside `id`, `path` and what is measured; of your own data all that it may fill, which
    the option `columns` maps to other names."""
    holds: Callable[[Path], object] | None = None
    """Whether a folder looks like it (or an AffectError). None: it is never guessed from a folder."""
    sign: str = ""
    """What `holds` looks for, in few words."""
    part: str | None = None
    """A pattern of the names of its own folders: then it may lie just below a folder, or above one of these."""
    scale: tuple[float, float] | None = None
    """Lowest and highest label; None where each user's data has its own: given, or inferred from the labels."""
    bars: tuple[float, float] | None = None
    """CCC of valence on one test fold under which a model is not worth training on all folds, and from which it is."""
    mapped: bool = False
    """Whether numbers are derived from categories and nobody rated them."""
    classes: tuple[str, ...] = ()
    """The usual classes of emotion, joined ones as `hap+exc`; all that occur where none are usual."""
    has_audio: bool = True
    """Without: a corpus of texts, whose rows have a `transcript`, no `path`, and a length in words."""
    generated: bool = False
    """Anybody may generate it: it restricts no weights, and its scores mean nothing."""
    on_hub: bool = False
    """`root` may be a name on the Hub."""
    language: str | None = None
    """ISO 639-1 code of what is spoken or written."""
    about: str = ""
    """A sentence for the Hub's card: whose speech or text it is, and how it came about."""
    licence: str = ""
    """How the corpus itself may be used, in few words."""
    citation: str = ""
    """The publication that describes it."""
    folder: str = ""
    """Where it usually lies, below the working folder."""
    describe_file: Callable[[Path], str | None] | None = None
    """What `affect inspect` says of a file that the corpus is made from, None of any other file."""
    usual: Mapping[str, str] = field(default_factory=dict)
    """Of a corpus of features: the usual one of each modality."""
    features: Callable[..., Mapping[str, str]] | None = None
    """Of a corpus whose tables may list features: says which, by name, of the root and what `read` takes."""

    def check_columns(self, ours: Iterable[str]) -> None:
        """Raise AffectError, with the nearest name, for a column that its rows never fill."""
        for name in ours:
            if name not in self.columns:
                close = nearest(name, self.columns)
                raise AffectError(f"columns names {name!r}, which is none of: {', '.join(self.columns)}; {close}")

    def find(self, root: str | Path) -> Path:
        """Return the folder that holds it: `root`, or with a `part` one below or above; raises AffectError for none."""
        path = Path(root)
        if not path.is_dir():
            raise AffectError(f"{self.name}: {path} is not a folder")
        if self.holds is not None and self.holds(path):
            return path
        if self.holds is None or self.part is None:
            raise AffectError(f"{self.name}: {path} has no {self.sign}")
        places = [child for child in path.iterdir() if child.is_dir() and self.holds(child)]
        if len(places) != 1:
            own = path.resolve()
            places = [own.parent] if re.fullmatch(self.part, own.name) and self.holds(own.parent) else []
        if not places:
            raise AffectError(f"{self.name}: {path} has no {self.sign} (nor has a folder just below it)")
        _LOG.info("%s: reading %s in place of %s", self.name, places[0], path)
        return places[0]
