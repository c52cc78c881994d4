"""The classes of the target `emotion`: which emotions of a corpus are told apart, and which are one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

from affect.data import corpora
from affect.errors import AffectError, nearest

_LOG = logging.getLogger("affect")


class Classes:
    """Names of the classes in order, and the class of each emotion."""

    def __init__(self, spelt: Sequence[str]):
        """Take classes as a recipe spells them: `ang`, or `hap+exc`, which is called `hap`."""
        members = [text.split("+") for text in spelt]
        self.names = tuple(group[0] for group in members)
        self.of = {emotion: k for k, group in enumerate(members) for emotion in group}
        named = [emotion for group in members for emotion in group]
        if len(set(named)) < len(named) or "" in named:
            raise AffectError(f"data.classes must name each emotion once, not {' '.join(spelt)}")

    def index(self, emotion: str) -> int:
        """Return the number of an emotion's class, -1 where it has none."""
        return self.of.get(emotion, -1)

    def name(self, emotion: str) -> str | None:
        """Return the class of an emotion, None where it has none."""
        k = self.index(emotion)
        return self.names[k] if k >= 0 else None


def choose(spelt: Sequence[str], corpus: str, emotions: Iterable[str]) -> Classes:
    """Return the classes that a recipe asks for, those usual for the corpus, or all of its emotions.

    Raises AffectError where an emotion asked for does not occur, or fewer than two classes are left.
    """
    counts = Counter(emotion for emotion in emotions if emotion)
    if not counts:
        raise AffectError("the target emotion needs emotion labels, and this corpus has none")
    if spelt:
        chosen = Classes(spelt)
        unknown = sorted(chosen.of.keys() - counts.keys())
        if unknown:
            raise AffectError(f"data.classes: no utterance is {unknown[0]!r}; {nearest(unknown[0], counts)}")
    else:
        chosen = Classes(corpora.layout(corpus).classes or sorted(counts))
        sizes = Counter(chosen.name(emotion) for emotion in counts.elements())
        told = ", ".join(f"{name} {sizes[name]}" for name in chosen.names)
        _LOG.info("classes: %s; %d utterances of other emotions", told, sizes[None])
    if len(chosen.names) < 2:
        raise AffectError(f"the target emotion needs at least two classes, not {' '.join(chosen.names)}")
    return chosen
