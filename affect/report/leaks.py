"""Flags of splits that leak: what training, validation and test parts share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from affect.errors import first_few
from affect.findings import Flag
from affect.report.rows import Record
from affect.report.runs import TRAIN, VALID, Run
from affect.report.study import Study
from affect.tables import counted, inside, plural

_ADVICE = "the scores are too good: split by {names} (--data.split), without data.allow_shared"
_UNSPLIT_ADVICE = "the scores are too good, and the rows name neither session nor speaker to split by: add them"
_KNOWN_ADVICE = (
    "the split is the corpus's (or your) own: the score is about new rows (sentences) of {kinds} that training or "
    "validation knows too, so compare it only with scores of the same split"
)
_REPEATED_ADVICE = "the same row in two parts is a mistake of the split: give each row one part"

_KINDS = {"speaker": "speakers", "dialogue": "documents (dialogues)"}
_PARTS = 3
"""Training, validation and test."""


def leaks(study: Study) -> Iterator[Flag]:
    """Yield runs with something on both sides of a split, and those that were allowed to share.

    Validation and test of a split by speaker are the two of a session, who talk to each other: their dialogues
    may be the same.
    """
    tests = "test" if study.tests == ["test"] else "the tests"
    rows = {run.name: _rows(run, study.tests) for run in study.measured}
    advice = ""
    for run in study.measured:
        shared = [(f"{_some(names, 'group')} in {a} and {b}", names) for (a, b), names in _held_out(run).items()]
        shared += [(f"{_some(names, kind)} in valid and {tests}", names) for kind, names in rows[run.name].items()]
        if shared:
            advice = advice or _advice(study.measured, {kind for kinds in rows.values() for kind in kinds})
            size = sum(len(names) for _, names in shared)
            yield Flag("leaking split", run.name, "; ".join(words for words, _ in shared), advice, size)
        if inside(run.recipe, "data").get("allow_shared") is True:
            words = "data.allow_shared is on: parts may share speakers, sessions or dialogues"
            yield Flag("sharing allowed", run.name, words)


def _advice(runs: Sequence[Run], shared: set[str]) -> str:
    """Return what can be done about a leak: by what the rows name, and by whether sharing was asked for."""
    data = [inside(run.recipe, "data") for run in runs]
    names = [name for name in ("session", "speaker") if _several(runs, name)]
    if shared == {"utterance"}:
        return _REPEATED_ADVICE
    # A recipe without a split takes the parts as the data have them.
    if any(d.get("allow_shared") is True or d.get("split", "column") == "column" for d in data if d):
        kinds = " and ".join(_KINDS[kind] for kind in _KINDS if kind in shared) or "documents or speakers"
        words = _KNOWN_ADVICE.format(kinds=kinds)
        splits = names and any("split" in d for d in data)
        return words + (f"; --data.split {names[-1]} tells about new {plural(names[-1])}" if splits else "")
    return _ADVICE.format(names=" or ".join(names)) if names else _UNSPLIT_ADVICE


def _several(runs: Sequence[Run], key: str) -> bool:
    """Say whether the rows name at least three sessions or speakers, as many as a split by them needs."""
    values = _named((row for run in runs for name in run.predictions if "@" not in name
                    for row in run.predictions[name].values()), key)  # fmt: skip
    split = [run for run in runs if inside(run.recipe, "data").get("split") == key]
    return len(values.union(*(groups for run in split for groups in _groups(run).values()))) >= _PARTS


def _groups(run: Run) -> dict[str, set[str]]:
    """Return the groups (speakers, sessions) of each part, as environment.json lists them."""
    parts = inside(run.environment, "held_out")
    # An empty name is an unknown one.
    return {part: set(map(str, names)) - {""} for part, names in parts.items() if isinstance(names, list)}


def _held_out(run: Run) -> dict[tuple[str, str], list[str]]:
    """Return the groups that two parts share, by the parts' names; two tests may, nothing is learned by either."""
    pairs = [pair for pair in combinations(_groups(run).items(), 2) if pair[0][0] in (TRAIN, VALID)]
    return {(a, b): sorted(first & second) for (a, first), (b, second) in pairs if first & second}


def _rows(run: Run, tests: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids, speakers and dialogues that the predictions of validation and tests share, if any."""
    valid = run.predictions.get(VALID) or {}
    test = {i: row for name in tests for i, row in (run.predictions.get(name) or {}).items()}
    keys = ("speaker",) if inside(run.recipe, "data").get("split") == "speaker" else ("speaker", "dialogue")
    kinds = {"utterance": valid.keys() & test.keys()}
    kinds |= {key: _named(valid.values(), key) & _named(test.values(), key) for key in keys}
    return {kind: sorted(names) for kind, names in kinds.items() if names}


def _named(rows: Iterable[Record], key: str) -> set[str]:
    return {str(row[key]) for row in rows if row.get(key) not in (None, "")}


def _some(names: list[str], kind: str) -> str:
    return f"{counted(len(names), kind)} ({first_few(names, 1)})"
