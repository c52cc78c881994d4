"""What every corpus reader returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from affect.tables import counted

if TYPE_CHECKING:
    from datasets import Dataset

LABELS = ("valence", "arousal", "dominance")
"""Columns of ratings that lie on a corpus's scale."""

_SHOWN = 3
"""Exclusions that a message tells in full."""


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Something of a corpus that is left out (a file, an utterance or a line), and why, in printable words."""

    what: str
    reason: str

    def __post_init__(self) -> None:
        """Escape what no terminal shows and no file takes: control characters, bytes of names that are no UTF-8."""
        for name in ("what", "reason"):
            text = getattr(self, name)
            if not text.isprintable():
                plain = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
                object.__setattr__(self, name, "".join(plain))


def kind(exclusion: Exclusion) -> str:
    """Return the sort of reason, to count by: what stands before the first colon."""
    return exclusion.reason.partition(":")[0]


def summary(exclusions: Sequence[Exclusion]) -> str:
    """Return how many are left out for each reason, and up to three of them in full, of different reasons first."""
    counts = Counter(map(kind, exclusions)).most_common()
    firsts = {kind(each): each for each in reversed(exclusions)}
    shown = list(dict.fromkeys([*(firsts[reason] for reason, _ in counts), *exclusions]))[:_SHOWN]
    examples = "; ".join(f"{each.what}: {each.reason}" for each in shown)
    return ", ".join(f"{count} {reason}" for reason, count in counts) + (f"; for example {examples}" if shown else "")


def held(count: int, unit: str, exclusions: Sequence[Exclusion]) -> str:
    """Return in words how many rows there are, what each is, and how many are left out and why."""
    return f"{counted(count, unit)}, {counted(len(exclusions), 'exclusion')} ({summary(exclusions)})"


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """The ratings that labels are means of: rows, recordings, Krippendorff's alpha by label where it is defined."""

    rows: int
    recordings: int
    agreement: Mapping[str, float]

    def __str__(self) -> str:
        """Return it in words."""
        alphas = ", ".join(f"{name} {alpha:.2f}" for name, alpha in self.agreement.items())
        words = f"means of {self.rows} rows of {self.recordings} recordings"
        return f"{words}; Krippendorff's alpha: {alphas or 'not defined'}"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus as read from disk: its utterances, what was left out, its scale and its version.

    `name` is the layout's, or the user's for it. `scale` is the lowest and highest value of the raw ratings; `inferred`
    says that it was taken from the labels, and `mapped` that the ratings were derived from categories. `labels` and
    `groups` are further columns of the user's own: numbers (NaN where missing), and texts that may be held out (""
    where missing). `still` are ids of recordings that are silent or constant. `ratings` is what labels are means of,
    None where rows are labels as they are. `fingerprint` changes when any label or audio file changes.
    """

    name: str
    utterances: Dataset
    exclusions: Sequence[Exclusion] = field(default_factory=list)
    scale: tuple[float, float]
    inferred: bool = False
    mapped: bool = False
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    ratings: Ratings | None = None
    fingerprint: str

    @property
    def identity(self) -> str:
        """What reports and comparisons call it: its name, and the beginning of its fingerprint."""
        return f"{self.name}@{self.fingerprint[:8]}"
