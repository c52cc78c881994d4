"""Who is trained on, validated on and tested on: splits in which nobody's voice is on both sides.

Kinds of split and their folds:

- `session`: one session is tested, the next one (cyclically) validates, whole; the others train.
- `speaker`: one speaker is tested. Where the speaker's session has exactly two speakers the other one validates
  (the usual ten-fold protocol of IEMOCAP), else the next speaker (cyclically). The two of a session talk to each
  other, so validation and test then share dialogues, which this protocol accepts; training shares none.
- `column`: the column `split` says `train`, `valid`, `test...` or another word for them (`parts.PARTS`). It is one
  fold: several test parts (`test1`, `Test2`) are parts of it, by their names in lower case; a single one is `test`.
  Its speakers may be unknown: that whether parts share one cannot be told is logged then.
- `script`: neither speakers, dialogues nor scripts are shared, see `_script_parts`.
- any other column (source, generator, one of the user's own): as `session`, its groups in the place of sessions.

Every other split that shares a speaker or a dialogue between parts (for `session` and `script` also a session, for
`script` also a script), or the very same recording under two names, is refused, unless the caller allows it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict

from affect.data import copies, sharing
from affect.data.parts import part_of
from affect.errors import AffectError, nearest
from affect.tables import counted

_LOG = logging.getLogger("affect")

KINDS = ("session", "speaker", "column", "script")
PARTS = ("train", "valid", "test")


def folds(dataset: Dataset, kind: str) -> list[str]:
    """Return the sorted names of the groups that are held out in turn, one a fold; a split by column is one fold.

    `kind` is one of `KINDS` or a column. Raises AffectError where it is neither, with the nearest name, or where the
    corpus lacks what it needs.
    """
    if kind not in (*KINDS, *dataset.column_names):
        close = nearest(kind, (*KINDS, *dataset.column_names))
        raise AffectError(f"a split by {kind!r} is none of {', '.join(KINDS)}, nor is there such a column: {close}")
    values = _groups(dataset, kind)
    groups = sorted(set(values))
    if kind == "column":
        return [", ".join(_tests(groups))]
    if kind not in KINDS and len(groups) == len(values) > 1:
        raise AffectError(f"column {kind!r} is another in each of the {len(values)} utterances: it tells no groups")
    return groups


def split(dataset: Dataset, kind: str, fold: int, *, allow_shared: bool = False) -> DatasetDict:
    """Return the parts `train`, `valid` and `test` of fold `fold` (counted from 1), rows in the corpus's order.

    In place of `test` a split by column may have several tests by their names. Raises AffectError where the fold does
    not exist, a part is empty, or, unless `allow_shared`, two parts share a speaker or dialogue (or session, or script,
    where the kind forbids it).
    """
    groups = folds(dataset, kind)
    if not 1 <= fold <= len(groups):
        there = f"folds 1 to {len(groups)} here" if kind != "column" else "one fold, whose tests are its parts"
        raise AffectError(f"fold {fold} does not exist: a split by {kind} has {there}")
    values = _groups(dataset, kind)
    test, valid = groups[fold - 1], groups[fold % len(groups)]
    partner = _partner(dataset, values, test) if kind == "speaker" else None
    tests = ["test"]
    if kind == "script":
        names = _script_parts(dataset, values, groups, fold)
    elif kind == "column":
        several = _tests(values)
        tests = several if len(several) > 1 else tests
        names = [_plain(value) if _plain(value) in tests else _part_of(value) for value in values]
    else:
        held_out = {partner or valid: "valid", test: "test"}
        names = [held_out.get(value, "train") for value in values]
    parts = {part: [row for row, name in enumerate(names) if name == part] for part in (*PARTS[:2], *tests)}
    for part, rows in parts.items():
        if not rows:
            there = counted(len(groups), "group")
            raise AffectError(f"fold {fold} of a split by {kind} has an empty {part} part ({there})")
    _refuse_shared(dataset, kind, parts, allow_shared, dyad=partner is not None)
    _refuse_copies(dataset, kind, parts, allow_shared)
    left = names.count("")
    if left:
        _LOG.info("split by %s, fold %d: %d of %d utterances are in no part", kind, fold, left, len(dataset))
    return DatasetDict({part: dataset.select(rows) for part, rows in parts.items()})


def _groups(dataset: Dataset, kind: str) -> list[str]:
    """Return what each utterance is grouped by in a split: its session in one by script."""
    return _column(dataset, {"script": "session", "column": "split"}.get(kind, kind), kind)


def _partner(dataset: Dataset, speakers: Sequence[str], speaker: str) -> str | None:
    """Return the other speaker of a speaker's only session, None where it has not exactly two."""
    if "session" not in dataset.column_names:
        return None
    members: dict[str, set[str]] = defaultdict(set)
    for session, name in zip(dataset["session"], speakers, strict=True):
        members[session].add(name)
    own = [names for names in members.values() if speaker in names]
    return next(iter(own[0] - {speaker})) if len(own) == 1 and len(own[0]) == 2 else None


def _tests(values: Iterable[str]) -> list[str]:
    """Return the test parts that the column `split` names, in lower case; raises AffectError where it names none."""
    tests = sorted({_plain(value) for value in values if _part_of(value) == "test"})
    if not tests:
        shown = ", ".join(map(repr, sorted(set(values))[:8]))
        raise AffectError(f"column 'split' names no test part; its values are: {shown}")
    odd = next((name for name in tests if not re.fullmatch(r"[\w.-]+", name)), None)
    if odd is not None and len(tests) > 1:
        raise AffectError(f"column 'split' has the value {odd!r}: of several tests each is a file's name, too")
    return tests


def _plain(value: str) -> str:
    return value.strip().lower()


def _part_of(value: str) -> str:
    if part := part_of(value):
        return part
    raise AffectError(f"column 'split' has the value {value!r}; known are train, valid (dev), test (test1 ...)")


def _script_parts(dataset: Dataset, sessions: Sequence[str], groups: Sequence[str], fold: int) -> list[str]:
    """Return each row's part, where none share speakers or scripts: sessions crossed with groups of scripts.

    Every session of IEMOCAP plays the same scenes, so speakers and scenes cannot both be held out by leaving out
    rows of one of them. The scenes are dealt into as many groups as there are sessions (the largest scene first, to
    the lightest group). Fold k tests session k's utterances of group k and validates on the next session's of the
    next group; training takes the remaining sessions' utterances of the remaining groups. What lies across
    (a test session's other scenes, a test scene in other sessions) is in no part, and how much is logged: with five
    sessions about 36 % train, 4 % validate and 4 % are tested in a fold.
    """
    scripts = _column(dataset, "script", "script")
    decks = min(len(groups), len(set(scripts)))
    if decks < 3:
        raise AffectError(
            f"a split by script needs at least 3 sessions and 3 scripts; here are {len(groups)} and {len(set(scripts))}"
        )
    sizes = [0] * decks
    deck_of: dict[str, int] = {}
    for script, count in sorted(Counter(scripts).items(), key=lambda item: (-item[1], item[0])):
        deck_of[script] = sizes.index(min(sizes))
        sizes[deck_of[script]] += count
    test, valid = fold - 1, fold % len(groups)
    # By session that does not train: its part and its deck.
    held_out = {groups[valid]: ("valid", (test + 1) % decks), groups[test]: ("test", test % decks)}
    held_decks = [deck for _, deck in held_out.values()]
    names = []
    for session, deck in zip(sessions, (deck_of[script] for script in scripts), strict=True):
        part, own = held_out.get(session, ("train", -1))
        fits = deck not in held_decks if part == "train" else deck == own
        names.append(part if fits else "")
    return names


def _refuse_shared(
    dataset: Dataset, kind: str, parts: Mapping[str, list[int]], allow_shared: bool, *, dyad: bool
) -> None:
    """Raise AffectError, or log it, where parts share what they may not; a `dyad` may share its dialogues."""
    keys = {"session": ("session",), "script": ("session", "script")}.get(kind, ())
    for key in ("speaker", "dialogue", *keys):
        values = list(dataset[key]) if key in dataset.column_names else [""] * len(dataset)
        if key == "speaker" and (missing := unnamed(dataset, sum(parts.values(), []))):
            if not allow_shared and kind != "column":
                raise AffectError(missing)
            _LOG.warning("a split by %s: %s", kind, missing)
        shared = sharing.shared({part: [values[row] for row in rows] for part, rows in parts.items()}, key)
        for (first, _), message in shared.items():
            if dyad and key == "dialogue" and first == "valid":
                continue
            if not allow_shared:
                raise AffectError(f"a split by {kind} leaks: {message} ({copies.ACCEPTED})")
            _LOG.warning("a split by %s leaks, as allowed: %s", kind, message)


def unnamed(dataset: Dataset, rows: Sequence[int]) -> str:
    """Say of how many of these rows the speaker is not known, "" where all are."""
    speakers = list(dataset["speaker"]) if "speaker" in dataset.column_names else None
    if speakers is None:
        return "the corpus has no column 'speaker': whether parts share one cannot be told"
    count = sum(speakers[row] in ("", None) for row in rows)
    if not count:
        return ""
    which = "no utterance has a speaker" if count == len(rows) else f"{count} of {len(rows)} utterances have no speaker"
    return f"{which}: whether parts share one cannot be told"


def _refuse_copies(dataset: Dataset, kind: str, parts: Mapping[str, list[int]], allow_shared: bool) -> None:
    """Raise AffectError, or log it, where parts share recordings to the byte; of texts alone it is logged."""
    if not {"id", "digest"} <= {*dataset.column_names}:
        return
    ids, digests = list(dataset["id"]), list(dataset["digest"])
    if any(digests):
        refuse, what, contents = None if allow_shared else copies.ACCEPTED, "recordings", digests
    else:
        refuse, what, contents = None, "texts", list(dataset["transcript"])
    by_part = {part: [(ids[row], contents[row]) for row in rows] for part, rows in parts.items()}
    copies.check(f"a split by {kind}", by_part, what, refuse=refuse)


def _column(dataset: Dataset, name: str, kind: str) -> list[str]:
    """Return a column as text; raises AffectError where it is absent, empty somewhere, or holds no names of groups."""
    hint = " (data.split column takes the parts that the corpus names)" if "split" in dataset.column_names else ""
    if name not in dataset.column_names:
        there = ", ".join(dataset.column_names)
        raise AffectError(f"a split by {kind} needs the column {name!r}; there are: {there}{hint}")
    values = [_name(value, name) for value in dataset[name]]
    empty = values.count("")
    if empty:
        raise AffectError(
            f"a split by {kind} needs the column {name!r}, which is empty for {empty} of {len(values)} utterances{hint}"
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
