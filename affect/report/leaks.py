"""Flags of splits that leak: what training, validation and test parts share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from affect.findings import Flag, worst
from affect.report.rows import Rows
from affect.report.runs import VALID, Run
from affect.report.study import Study
from affect.tables import inside

_ADVICE = "the scores are too good: split by {names} (--data.split), without data.allow_shared"
_UNSPLIT_ADVICE = "the scores are too good, and the rows name neither session nor speaker to split by: add them"
_KNOWN_ADVICE = (
    "the split is the corpus's (or your) own: the score is about new rows (sentences) of {kinds} that training or "
    "validation knows too, so compare it only with scores of the same split"
)
_REPEATED_ADVICE = "the same row in two parts is a mistake of the split: give each row one part"
_ALLOWED_ADVICE = "train.log names what is shared; without data.allow_shared a leaking split is refused"

_KINDS = {"speaker": "speakers", "dialogue": "documents (dialogues)"}
_PARTS = 3
"""Training, validation and test."""


def leaks(study: Study, runs: Sequence[Run]) -> list[Flag]:
    """Return what lies on both sides of a split, and that sharing was allowed: a flag each for all runs.

    Validation and test of a split by speaker are the two of a session, who talk to each other: their dialogues
    may be the same.
    """
    tests = [name for name in study.evaluations if name != VALID]
    found: dict[str, tuple[float, str]] = {}
    allowed: dict[str, tuple[float, str]] = {}
    for run in runs:
        shared = [(f"{_some(names, 'group')} in {a} and {b}", names) for (a, b), names in _held_out(run).items()]
        shared += [
            (f"{_some(names, kind)} in valid and {'test' if tests == ['test'] else 'the tests'}", names)
            for kind, names in _rows(run, tests).items()
            if names
        ]
        if shared:
            found[run.name] = (sum(len(names) for _, names in shared), "; ".join(words for words, _ in shared))
        if inside(run.recipe, "data").get("allow_shared") is True:
            allowed[run.name] = (0, "data.allow_shared is on: parts may share speakers, sessions or dialogues")
    return [
        *worst("leaking split", found, len(runs), _advice(runs, tests)),
        *worst("sharing allowed", allowed, len(runs), _ALLOWED_ADVICE),
    ]


def _advice(runs: Sequence[Run], tests: Sequence[str]) -> str:
    """Return what can be done about a leak: by what the rows name, and by whether sharing was asked for."""
    data = [inside(run.recipe, "data") for run in runs]
    shared = {kind for run in runs for kind, names in _rows(run, tests).items() if names}
    names = [name for name in ("session", "speaker") if _several(runs, name)]
    if shared == {"utterance"}:
        return _REPEATED_ADVICE
    if any(d.get("allow_shared") is True or d.get("split") == "column" for d in data):
        kinds = " and ".join(_KINDS[kind] for kind in _KINDS if kind in shared) or "documents or speakers"
        words = _KNOWN_ADVICE.format(kinds=kinds)
        return words + (f"; --data.split {names[-1]} tells about new {names[-1]}s" if names else "")
    return _ADVICE.format(names=" or ".join(names)) if names else _UNSPLIT_ADVICE


def _several(runs: Sequence[Run], key: str) -> bool:
    """Say whether the rows name at least three sessions or speakers, as many as a split by them needs."""
    plain = [(run, name) for run in runs for name in run.predictions if "@" not in name]
    rows = (row for run, name in plain for row in run.predictions[name].values())
    known = {str(row[key]) for row in rows if row.get(key) not in (None, "")}
    known |= {
        str(name)
        for run in runs
        for v in inside(run.environment, "held_out").values()
        if isinstance(v, list) and inside(run.recipe, "data").get("split") == key
        for name in v
    } - {""}
    return len(known) >= _PARTS


def _held_out(run: Run) -> dict[tuple[str, str], list[str]]:
    """Return the groups (speakers, sessions) that two parts share, by their names, as environment.json lists them."""
    parts = {name: set(map(str, v)) for name, v in inside(run.environment, "held_out").items() if isinstance(v, list)}
    # An empty name is an unknown one.
    pairs = {(a, b): sorted((parts[a] & parts[b]) - {""}) for a, b in combinations(parts, 2)}
    return {pair: names for pair, names in pairs.items() if names}


def _rows(run: Run, tests: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids, speakers and dialogues that the predictions of validation and tests share."""
    valid = run.predictions.get(VALID) or {}
    test = {i: row for name in tests for i, row in (run.predictions.get(name) or {}).items()}
    kinds = {"utterance": sorted(valid.keys() & test.keys())}
    kinds["speaker"] = _shared(valid, test, "speaker")
    if inside(run.recipe, "data").get("split") != "speaker":
        kinds["dialogue"] = _shared(valid, test, "dialogue")
    return kinds


def _shared(valid: Rows, test: Rows, key: str) -> list[str]:
    sides = [{str(row[key]) for row in part.values() if row.get(key) not in (None, "")} for part in (valid, test)]
    return sorted(sides[0] & sides[1])


def _some(names: list[str], kind: str) -> str:
    return f"{len(names)} {kind}{'' if len(names) == 1 else 's'} ({names[0]}{', …' if len(names) > 1 else ''})"
