"""Who is trained on, validated on and tested on: splits in which nobody's voice is on both sides.

Kinds of split and their folds:

- `session`: one session is tested, the next one (cyclically) validates, whole; the others train.
- `speaker`: one speaker is tested. Where the speaker's session has exactly two speakers the other one validates
  (the usual ten-fold protocol of IEMOCAP), else the next speaker (cyclically). The two of a session talk to each
  other, so validation and test then share dialogues, which this protocol accepts; training shares none.
- `column`: a column of the corpus says `train`, `valid`, `dev`, `development`, `validation` or `test...`; each
  test part is a fold.
- `script`: neither speakers, dialogues nor scripts are shared, see `_script_parts`.
- any other column (source, generator, one of the user's own): as `session`, its groups in the place of sessions.

Every other split that shares a speaker or a dialogue between parts (for `session` and `script` also a session, for
`script` also a script) is refused, unless the caller allows it.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from datasets import Dataset, DatasetDict

from affect.errors import AffectError, nearest

_LOG = logging.getLogger("affect")

KINDS = ("session", "speaker", "column", "script")
PARTS = ("train", "valid", "test")
_VALID = ("valid", "validation", "val", "dev", "development")
_TRAIN = ("train", "training")

Parts = dict[str, list[int]]


def folds(dataset: Dataset, kind: str, column: str | None = None) -> list[str]:
    """Return the sorted names of the groups that are held out in turn, one a fold.

    `kind` is one of `KINDS` or a column. Raises AffectError where it is neither, with the nearest name, or where the
    corpus lacks what it needs.
    """
    if kind not in (*KINDS, *dataset.column_names):
        close = nearest(kind, (*KINDS, *dataset.column_names))
        raise AffectError(f"a split by {kind!r} is none of {', '.join(KINDS)}, nor is there such a column: {close}")
    if kind == "column":
        name = column or "split"
        values = _column(dataset, name, "a split by column")
        tests = {value for value in values if _part_of(value, name) == "test"}
        if not tests:
            raise AffectError(f"column {name!r} names no test part; its values are: {_listed(values)}")
        return sorted(tests)
    if column is not None:
        raise AffectError(f"a split by {kind} takes no column; column {column!r} needs the kind 'column'")
    values = _column(dataset, "session" if kind == "script" else kind, f"a split by {kind}")
    groups = sorted(set(values))
    if kind not in KINDS and len(groups) == len(values) > 1:
        raise AffectError(f"column {kind!r} is another in each of the {len(values)} utterances: it tells no groups")
    return groups


def split(
    dataset: Dataset, kind: str, fold: int, *, column: str | None = None, allow_shared: bool = False
) -> DatasetDict:
    """Return the parts `train`, `valid` and `test` of fold `fold` (counted from 1), rows in the corpus's order.

    Raises AffectError where the fold does not exist, a part is empty, or, unless `allow_shared`, two parts share a
    speaker or dialogue (or session, or script, where the kind forbids it).
    """
    groups = folds(dataset, kind, column)
    if not 1 <= fold <= len(groups):
        raise AffectError(f"fold {fold} does not exist: a split by {kind} has folds 1 to {len(groups)} here")
    if kind == "speaker":
        parts = _speaker_parts(dataset, groups, fold)
    elif kind == "column":
        parts = _column_parts(_column(dataset, column or "split", kind), column or "split", groups[fold - 1])
    elif kind == "script":
        parts = _script_parts(dataset, groups, fold)
    else:
        parts = _group_parts(_column(dataset, kind, kind), groups[fold - 1], groups[fold % len(groups)])
    for part in PARTS:
        if not parts[part]:
            raise AffectError(f"fold {fold} of a split by {kind} has an empty {part} part ({len(groups)} groups)")
    dyad = kind == "speaker" and _partner(dataset, list(dataset["speaker"]), groups[fold - 1]) is not None
    _refuse_shared(dataset, kind, parts, allow_shared, dyad)
    left = len(dataset) - sum(len(rows) for rows in parts.values())
    if left:
        _LOG.info("split by %s, fold %d: %d of %d utterances are in no part", kind, fold, left, len(dataset))
    return DatasetDict({part: dataset.select(parts[part]) for part in PARTS})


def _group_parts(names: Sequence[str], test: str, valid: str) -> Parts:
    return _parts(["test" if name == test else "valid" if name == valid else "train" for name in names])


def _speaker_parts(dataset: Dataset, groups: Sequence[str], fold: int) -> Parts:
    speakers = _column(dataset, "speaker", "a split by speaker")
    test = groups[fold - 1]
    return _group_parts(speakers, test, _partner(dataset, speakers, test) or groups[fold % len(groups)])


def _partner(dataset: Dataset, speakers: Sequence[str], speaker: str) -> str | None:
    """Return the other speaker of a speaker's only session, None where it has not exactly two."""
    if "session" not in dataset.column_names:
        return None
    members: dict[str, set[str]] = defaultdict(set)
    for session, name in zip(dataset["session"], speakers, strict=True):
        members[session].add(name)
    own = [names for names in members.values() if speaker in names]
    return next(iter(own[0] - {speaker})) if len(own) == 1 and len(own[0]) == 2 else None


def _column_parts(values: Sequence[str], column: str, test: str) -> Parts:
    """Return the parts a column names; other test parts than `test` belong to none."""
    names = [_part_of(value, column) for value in values]
    return _parts([name if name != "test" or value == test else "" for name, value in zip(names, values, strict=True)])


def _part_of(value: str, column: str) -> str:
    plain = value.strip().lower()
    if plain in _TRAIN:
        return "train"
    if plain in _VALID:
        return "valid"
    if plain.startswith("test"):
        return "test"
    raise AffectError(f"column {column!r} has the value {value!r}; known are train, valid (dev), test (test1 ...)")


def _script_parts(dataset: Dataset, groups: Sequence[str], fold: int) -> Parts:
    """Return parts that share neither speakers nor scripts: sessions crossed with groups of scripts.

    Every session of IEMOCAP plays the same scenes, so speakers and scenes cannot both be held out by leaving out
    rows of one of them. The scenes are dealt into as many groups as there are sessions (the largest scene first, to
    the lightest group). Fold k tests session k's utterances of group k and validates on the next session's of the
    next group; training takes the remaining sessions' utterances of the remaining groups. What lies across
    (a test session's other scenes, a test scene in other sessions) is in no part, and how much is logged: with five
    sessions about 36 % train, 4 % validate and 4 % are tested in a fold.
    """
    scripts = _column(dataset, "script", "a split by script")
    sessions = _column(dataset, "session", "a split by script")
    decks = min(len(groups), len(set(scripts)))
    if decks < 3:
        raise AffectError(
            f"a split by script needs at least 3 sessions and 3 scripts; here are {len(groups)} and {len(set(scripts))}"
        )
    group_of = _deal(scripts, decks)
    order = {name: index for index, name in enumerate(groups)}
    test, valid = fold - 1, fold % len(groups)
    test_group, valid_group = test % decks, (test + 1) % decks
    names = []
    for session, script in zip(sessions, scripts, strict=True):
        at, group = order[session], group_of[script]
        if at == test:
            names.append("test" if group == test_group else "")
        elif at == valid:
            names.append("valid" if group == valid_group else "")
        else:
            names.append("train" if group not in (test_group, valid_group) else "")
    return _parts(names)


def _deal(scripts: Sequence[str], decks: int) -> dict[str, int]:
    """Return each script's group: the largest first, to the group with the fewest utterances so far."""
    sizes = [0] * decks
    group_of: dict[str, int] = {}
    for script, count in sorted(Counter(scripts).items(), key=lambda item: (-item[1], item[0])):
        group = sizes.index(min(sizes))
        group_of[script] = group
        sizes[group] += count
    return group_of


def _refuse_shared(dataset: Dataset, kind: str, parts: Parts, allow_shared: bool, dyad: bool) -> None:
    """Raise AffectError where two parts share what they may not; log it where that is allowed.

    `dyad`: validation and test are the two speakers of one session, whose dialogues are the same.
    """
    keys = {"session": ("session",), "script": ("session", "script")}.get(kind, ())
    for key in ("speaker", "dialogue", *keys):
        if key not in dataset.column_names:
            if key == "speaker" and not allow_shared:
                raise AffectError("the corpus has no column 'speaker': whether parts share one cannot be told")
            continue
        values = list(dataset[key])
        members = {part: {values[row] for row in rows} - {"", None} for part, rows in parts.items()}
        if key == "speaker" and not allow_shared and any(values[row] in ("", None) for row in sum(parts.values(), [])):
            raise AffectError("some utterances have no speaker: whether parts share one cannot be told")
        for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
            shared = sorted(members[first] & members[second])
            if not shared or (dyad and key == "dialogue" and first == "valid"):
                continue
            message = f"{first} and {second} share {len(shared)} of the {key}s, {shared[0]!r} for one"
            if not allow_shared:
                raise AffectError(f"a split by {kind} leaks: {message} (allow_shared accepts it)")
            _LOG.warning("a split by %s leaks, as allowed: %s", kind, message)


def _column(dataset: Dataset, name: str, purpose: str) -> list[str]:
    """Return a column as text; raises AffectError where it is absent, empty somewhere, or holds no names of groups."""
    if name not in dataset.column_names:
        raise AffectError(f"{purpose} needs the column {name!r}; there are: {', '.join(dataset.column_names)}")
    values = [_name(value, name) for value in dataset[name]]
    empty = values.count("")
    if empty:
        raise AffectError(
            f"{purpose} needs the column {name!r}, which is empty for {empty} of {len(values)} utterances"
        )
    return values


def _name(value: Any, column: str) -> str:
    """Return a cell as the name of a group, "" where it is missing; raises AffectError where it can't be one."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, dict, float)):
        raise AffectError(f"column {column!r} holds {str(value)[:40]}, which is no name of a group to hold out")
    return str(value)


def _listed(values: Sequence[str]) -> str:
    return ", ".join(repr(value) for value in sorted(set(values))[:8])


def _parts(names: Sequence[str]) -> Parts:
    parts: Parts = {part: [] for part in PARTS}
    for index, name in enumerate(names):
        if name:
            parts[name].append(index)
    return parts
