"""What of a corpus misleads although it can be read: `affect inspect` says it, and reports flag it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from affect.errors import first_few
from affect.tables import counted

_NAMED = 3


def still(ids: Sequence[str], count: int) -> list[dict[str, str]]:
    """Return a sign of `ids` of silent or constant recordings among `count`."""
    words = f"{len(ids)} of {counted(count, 'recording')} are silent or constant: {_some(ids)}"
    return [sign("silent recordings", words)] if ids else []


def unmoved(ids: Sequence[str], count: int) -> list[dict[str, str]]:
    """Return a sign of `ids` of videos among `count` that show one picture throughout."""
    words = f"{len(ids)} of {counted(count, 'video')} show one picture throughout: {_some(ids)}"
    return [sign("still pictures", words)] if ids else []


def unchanging(feature: str, ids: Sequence[str], count: int) -> list[dict[str, str]]:
    """Return a sign of `ids` of clips, among `count` that have the feature, whose frames are all the same."""
    words = f"{len(ids)} of {counted(count, 'clip')} have the same {feature} in all frames: {_some(ids)}"
    return [sign("constant clips", words)] if ids else []


def classes_alike(names: Iterable[str]) -> list[dict[str, str]]:
    """Return a sign for each set of classes, as often as `names` name them, that differ in case or space alone."""
    counts = Counter(name for name in names if name)
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        alike[" ".join(name.casefold().split())].append(name)
    several = [group for group in alike.values() if len(group) > 1]
    return [
        sign("classes alike", f"{' and '.join(f'{name!r} ({counts[name]})' for name in group)} are different classes")
        for group in several
    ]


def classes_untrained(parts: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    """Return a sign for each part with classes that the part `train` has none of, of the classes of their rows."""
    trained = set(parts["train"])
    signs = []
    for part, names in parts.items():
        counts = Counter(name for name in names if name and name not in trained)
        words = ", ".join(f"{name!r} ({count})" for name, count in counts.most_common())
        signs += [sign("class not trained", f"{part} has {words}, of which train has none")] if counts else []
    return signs


def words_of(signs: Iterable[Mapping[str, str]]) -> list[str]:
    """Return signs as lines."""
    return [f"{sign['kind']}: {sign['evidence']}" for sign in signs]


def unnamed(words: str) -> list[dict[str, str]]:
    """Return a sign of speakers that are not known, of which `words` tell, where they do."""
    return [sign("speakers unknown", words)] if words else []


def sign(kind: str, evidence: str) -> dict[str, str]:
    """Return a sign: its kind in a few words, and what shows it."""
    return {"kind": kind, "evidence": evidence}


def _some(names: Collection[str]) -> str:
    return first_few([*names], _NAMED)
