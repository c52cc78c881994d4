"""A corpus of clips with scores and features, some of either missing, and the parts that it is trained and tested on.

Ways to split it: its own, which the rows' column `part` says; or any group column, whose groups are dealt into folds
(`folds`), or are left out one after another.

Legend: T frames, D numbers of a frame.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value
from numpy.typing import NDArray

from affect.data import copies, inspect_scores, sharing, signs
from affect.data.corpora.labels import infer_scale, within
from affect.data.corpora.layout import Scales
from affect.data.corpus import Corpus, held
from affect.data.files import read_bytes
from affect.data.parts import named_part
from affect.data.score_samples import (
    FEATURES,
    FIXED,
    FORMAT,
    MISSING,
    ROWS,
    SCHEMA,
    UNLABELLED,
    columns_in,
    exclusions,
)
from affect.data.sharing import LEARNED
from affect.data.spread import Spread
from affect.data.store import Store
from affect.data.table_file import number, read_csv
from affect.errors import AffectError, first_few, nearest
from affect.tables import counted

_LOG = logging.getLogger("affect")

OWN = "own"
"""The split that the rows themselves name."""
USUAL = ("identity", "source")
"""Groups that are held out where the rows name no part: the first of these that there is."""
_FOLDS = 5
_SHOWN = 12
"""Scores that an error names."""

Pair = tuple[float, float]
Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreCorpus(Corpus):
    """Clips with scores, and a feature's frames [T, D] in `store` by the column `row`, None where a clip lacks it.

    `utterances` has the columns id, row, length (frames of the longest feature, 1 without any), part (train, valid,
    test, of several tests each by its name, or ""), groups (texts, "" where missing) and scores (NaN where missing).
    `features` are widths D by name, `scores` the scale of each, `guessed` those whose scale is inferred from labels,
    `schema` what was seen when the features were written. `contents` are the digests by which copies are known, by id,
    of each kind of content; of videos `still` are those in which nothing is heard, `unmoved` those that show one
    picture.
    """

    store: Store
    features: Mapping[str, int]
    scores: Mapping[str, Pair]
    guessed: frozenset[str]
    schema: Mapping[str, Any]
    contents: Mapping[str, Mapping[str, str]]
    unmoved: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What reports and comparisons call it: runs on other features of the same clips are compared."""
        columns = [[str(value) for value in self.utterances[name]] for name in ("id", "part", *self.scores)]
        return f"{self.name}@{hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:8]}"

    def release(self) -> None:
        """Let the system take back the memory of features read so far; they are read again when they are needed."""
        self.store.release()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that the rows name: training, validation, and tests by their names."""
        there = set(self.utterances["part"][:]) - {""}
        return (*(part for part in LEARNED if part in there), *sorted(there.difference(LEARNED)))

    def describe(self, listed: int | None = None) -> str:
        """Return what `affect inspect` prints; of what is left out the first `listed` (None: all) are named."""
        rows: list[dict[str, Any]] = self.utterances.to_list()
        features = {name: self.schema["features"][name] for name in self.features}
        seen = {**self.schema, "features": features, "scores": list(self.scores), "groups": list(self.groups)}
        given = {name: pair for name, pair in self.scores.items() if name not in self.guessed}
        seen["left_out"] = {each.what: each.reason for each in self.exclusions}
        text = inspect_scores.describe(self.name, rows, seen, given, listed, contents=self.contents)
        return "\n".join([text, *signs.words_of(self.of_videos()), f"fingerprint {self.fingerprint}"])

    def of_videos(self) -> list[dict[str, str]]:
        """Return signs of what is seen and heard of the clips."""
        count = len(self.utterances)
        return [*signs.still(self.still, count), *signs.unmoved(self.unmoved, count)]

    def signs(self) -> list[dict[str, str]]:
        """Return what misleads of the clips and the features that are read."""
        features = {name: self.schema["features"][name] for name in self.features}
        return [*self.of_videos(), *inspect_scores.of_features({"features": features})]


def read_folder(
    folder: Path, name: str, *, features: Sequence[str] = (), scores: Sequence[str] = (), scale: Scales | None = None,
    widths: Mapping[str, int] | None = None, where: str | None = None, unlabelled: bool = False,
) -> ScoreCorpus:  # fmt: skip
    """Return the corpus that `score_samples.write` wrote, or some features and scores of it (all where none are named).

    Scales are `scale`, of all or of each by its name, or inferred from the scores to train on; `where` is what errors
    call the folder. Where the clips may be `unlabelled`, a score that is not there is missing for all. Raises
    AffectError where the folder's files don't belong together, for names that are not there, widths other than
    `widths`, and scores off the scale.
    """
    schema = read_schema(folder)
    columns, records = read_csv(folder / ROWS, (*FIXED, *schema["scores"]))
    kept = Store(folder / FEATURES)
    there = [*schema["scores"], *(score for score in scores if unlabelled and score not in schema["scores"])]
    rows = [{**dict.fromkeys(there, ""), **cells} for _, cells in records]
    if [row["id"] for row in rows] != kept.ids or {*schema["features"]} != {*kept.features}:
        raise AffectError(f"{folder}: {ROWS} and {FEATURES} are of other clips: convert the file again")
    where = where or str(folder)
    if absent := next((score for score in scores if score not in there), None):
        its = f"it has {first_few(there, _SHOWN)}; --data.scores names those to learn" if there else UNLABELLED
        raise AffectError(f"{where} has no score {absent!r}: {its}")
    wanted = list(dict.fromkeys(scores or there))
    chosen = _chosen(where, "feature", features, schema["features"])
    feature_widths = {each: schema["features"][each]["width"] for each in chosen}
    check_widths(feature_widths, widths or {}, where)
    groups = tuple(column for column in columns if column not in (*FIXED, *schema["scores"]) and column)
    table = _table(rows, groups, wanted, folder)
    same = dict.fromkeys(wanted, scale) if isinstance(scale, tuple) else {}
    given: Mapping[str, Pair] = scale if isinstance(scale, Mapping) else same
    _chosen(where, "score", [*given], wanted)
    scales = {each: given.get(each) or _inferred(table, each) for each in wanted}
    for each, (low, high) in scales.items():
        # Of the file that was converted, and what was edited since.
        lost = schema.get("minus_one", {}).get(each, 0) + sum(number(row[each]) == MISSING for row in rows)
        for line in inspect_scores.minus_one(lost, low):
            _LOG.warning("%s: the score %s on the scale %g to %g: %s", where, each, low, high, line)
    for each, (low, high) in scales.items():
        off = next((value for value in table[each] if not within(value, (low, high))), None)
        if off is not None:
            words = f"{where}: the score {each} {off:g} is not on the scale {low:g} to {high:g}"
            if each in given:
                raise AffectError(words)
            _LOG.warning("%s of the clips to train on (--data.scale says another)", words)
    left_out = exclusions(schema["left_out"])
    if left_out:
        _LOG.warning("%s: %s", where, held(len(rows), "clip", left_out))
    guessed = frozenset(wanted) - {*given}
    spans = [*scales.values()] or [infer_scale([])]
    digest = hashlib.sha256(f"{name} {kept.digest} {sorted(feature_widths)}".encode())
    digest.update(json.dumps([[str(value) for value in table[key]] for key in table]).encode())
    types = {key: Value("int64" if key == "row" else "float64" if key in ("length", *wanted) else "string")
             for key in table}  # fmt: skip
    return ScoreCorpus(
        name=name, utterances=Dataset.from_dict(table, features=Features(types)), store=kept, features=feature_widths,
        scores=scales, scale=(min(low for low, _ in spans), max(high for _, high in spans)),
        inferred=bool(guessed), guessed=guessed, labels=tuple(wanted), groups=groups, schema=schema,
        fingerprint=digest.hexdigest()[:16],
        exclusions=left_out, contents={inspect_scores.SAME: inspect_scores.contents_of(schema)},
    )  # fmt: skip


def check_widths(widths: Mapping[str, int], asked: Mapping[str, int], where: str) -> None:
    """Raise AffectError, with both numbers, where a feature's frames are not as wide as they are `asked` to be."""
    for name, width in asked.items():
        if name not in widths:
            raise AffectError(f"{where} has no feature {name!r}: {nearest(name, widths)}")
        if widths[name] != width:
            own = counted(widths[name], "number")
            raise AffectError(f"the feature {name} of {where} has {own} a frame, not the {width} asked for")


def read_schema(folder: Path) -> dict[str, Any]:
    """Return what schema.json says; raises AffectError where it is not there, or is damaged."""
    try:
        schema: dict[str, Any] = json.loads(read_bytes(folder / SCHEMA))
        valid = schema["format"] == FORMAT and _sound(schema)
    except OSError as error:
        raise AffectError(f"{folder / SCHEMA} cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        valid = False
    if not valid:
        raise AffectError(f"{folder / SCHEMA} is of another program, or of another version: convert the file again")
    return schema


def _sound(schema: Mapping[str, Any]) -> bool:
    """Tell whether a folder's schema holds what is read of it; LookupError or AttributeError where it lacks that."""
    texts = [*schema["scores"], *schema["groups"], *schema["left_out"].values()]
    texts += [pair[name] for pair in schema["copies"] for name in ("id", "as")]
    widths = [feature["width"] for feature in schema["features"].values()]
    texts += [id for feature in schema["features"].values() for id in feature.get("still", ())]
    for spread in (feature["spread"] for feature in schema["features"].values() if "spread" in feature):
        if {*spread} != {each.name for each in fields(Spread)} or {*map(type, spread.values())} - {int, float}:
            return False
    texts += [name for columns in columns_in(schema).values() for name in columns]
    counts = schema.get("minus_one", {}).values()
    lists = all(isinstance(schema[name], list) for name in ("scores", "groups", "copies"))
    named = columns_in(schema).items()
    lists = lists and all(len(columns) == schema["features"][name]["width"] for name, columns in named)
    return lists and all(isinstance(each, str) for each in texts) and all(type(n) is int for n in (*widths, *counts))


def _chosen(where: str, kind: str, asked: Sequence[str], there: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return the names asked for, all that are there where none are."""
    for name in asked:
        if name not in there:
            raise AffectError(f"{where} has no {kind} {name!r}: {nearest(name, there)}")
    return list(dict.fromkeys(asked or there))


def _table(
    rows: Sequence[Mapping[str, str]], groups: Sequence[str], scores: Sequence[str], folder: Path
) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {"id": [row["id"] for row in rows], "row": list(range(len(rows)))}
    for name in ("length", *scores):
        try:
            values = [number(row[name]) for row in rows]
        except ValueError as error:
            raise AffectError(f"{folder / ROWS}: {name} is no number ({error})") from error
        table[name] = [math.nan if value == MISSING else value for value in values]
    parts = [named_part(row["part"]) for row in rows]
    odd = next((row["part"] for row, part in zip(rows, parts, strict=True) if row["part"] and not part), None)
    if odd is not None:
        raise AffectError(f"{folder / ROWS} has the part {odd!r}: {nearest(odd, (*LEARNED, 'test'))}")
    tests = sorted({*parts} - {*LEARNED, ""})
    unfit = next((test for test in tests if not re.fullmatch(r"[\w.-]+", test)), None)
    if unfit is not None and len(tests) > 1:
        raise AffectError(f"{folder / ROWS} has the part {unfit!r}: of several tests each is a file's name, too")
    if len(tests) == 1:
        parts = ["test" if part == tests[0] else part for part in parts]
    return table | {"part": parts} | {name: [row[name] for row in rows] for name in groups}


def _inferred(table: Mapping[str, Sequence[Any]], score: str) -> Pair:
    """Return the scale of a score, from the rows to train on, or from all where none says what it is for."""
    values = [value for value, part in zip(table[score], table["part"], strict=True) if part == "train"]
    return infer_scale(values or table[score])


@dataclass(frozen=True)
class Way:
    """How a corpus is split: by which column ("part": its own), into how many folds."""

    column: str
    folds: int


def way(corpus: ScoreCorpus, kind: str | None = None, folds: int | None = None) -> Way:
    """Return how a corpus is split: `kind` is own or a group column, None takes its own, else the usual groups.

    The groups of a named column are left out one by one, of the usual ones in five folds, unless `folds` says another
    number. Raises AffectError, with the nearest name, for a column that isn't there, where its groups are too few, and
    for folds of the corpus's own parts.
    """
    own = "train" in corpus.parts and len(corpus.parts) > 1
    if kind == OWN or (kind is None and own):
        if not own:
            raise AffectError(f"{corpus.name} names no parts to train and to test on: give a group column to split by")
        if folds is not None:
            raise AffectError(f"{corpus.name} names its parts: folds are of a split by groups (--data.split COLUMN)")
        return Way("part", 1)
    column = kind or _usual(corpus)
    if column is None or column not in corpus.groups:
        there = ", ".join(corpus.groups) or "none"
        words = f"no column {column!r} ({nearest(column, corpus.groups)})" if column else "no identity or source"
        raise AffectError(f"{corpus.name} has {words} to hold out; its groups are: {there}")
    values = list(corpus.utterances[column])
    groups = set(values)
    if "" in groups:
        raise AffectError(f"{corpus.name}: the {column} of {values.count('')} of {len(values)} clips is empty")
    if len(groups) < 3:
        shown = ", ".join(sorted(groups))
        words = f"has {counted(len(groups), 'value')} of {column} ({shown})"
        raise AffectError(f"{corpus.name} {words}: to train, choose and test takes three")
    most = folds or (len(groups) if kind else min(_FOLDS, len(groups)))
    if not 2 <= most <= len(groups):
        raise AffectError(
            f"{corpus.name}: {most} folds of {counted(len(groups), 'value')} of {column}: give from 2 to {len(groups)}"
        )
    return Way(column, most)


def split(corpus: ScoreCorpus, how: Way, fold: int, *, allow_shared: bool = False) -> DatasetDict:
    """Return the parts of fold `fold`, from 1; groups that are shared by them are logged.

    Of groups those of the fold are tested, and a fifth of the others validates. An own split may have several tests, by
    their names; one that has no part to validate on takes a fifth of its usual groups' from training. Raises
    AffectError where a part would be empty, for a fold that there is not, and, unless `allow_shared`, for clips that
    two parts have under two names.
    """
    if not 1 <= fold <= how.folds:
        there = f"a split by {how.column} has folds 1 to {how.folds} here"
        own = f"{corpus.name} names its parts, which are one fold"
        raise AffectError(f"fold {fold} does not exist: {own if how.column == 'part' else there}")
    data = corpus.utterances
    if how.column == "part":
        given = np.array(data["part"])
        rows = {part: np.flatnonzero(given == part) for part in corpus.parts}
        if left := int((given == "").sum()):
            _LOG.warning("%s: %d of %d clips name no part, and are in none", corpus.name, left, len(data))
        if "valid" not in rows:
            column = _usual(corpus)
            if column is None:
                raise AffectError(
                    f"{corpus.name} has no part to validate on, and no identity or source to hold out for it"
                )
            # It raises where the clips can't be split by the column.
            way(corpus, column)
            rows |= _choose(corpus, column, rows["train"], 1)
    else:
        dealt = _dealt(corpus, how.column, np.arange(len(data)), how.folds)
        rows = _choose(corpus, how.column, np.flatnonzero(dealt != fold - 1), fold)
        rows["test"] = np.flatnonzero(dealt == fold - 1)
    parts = DatasetDict({part: data.select(own) for part, own in rows.items()})
    for what, digests in corpus.contents.items():
        contents = {part: [(id, digests.get(id, "")) for id in own["id"]] for part, own in parts.items()}
        copies.say(corpus.name, contents, what)
        copies.check(corpus.name, contents, what, refuse=None if allow_shared else copies.ACCEPTED)
    for name in (name for name in corpus.groups if name in USUAL):
        for line in sharing.shared({part: own[name] for part, own in parts.items()}, name).values():
            _LOG.warning("%s: %s", corpus.name, line)
    return parts


def _usual(corpus: ScoreCorpus) -> str | None:
    """Return the usual group column that is held out, None where there is none."""
    return next((name for name in USUAL if name in corpus.groups), None)


def _dealt(corpus: ScoreCorpus, column: str, rows: Rows, folds: int) -> Rows:
    """Return the fold, from 0, of each of these rows: the largest group goes to the smallest fold.

    The same as scikit-learn's GroupKFold without shuffling.
    """
    _, group, counts = np.unique(np.array(corpus.utterances[column])[rows], return_inverse=True, return_counts=True)
    sizes, fold_of = np.zeros(folds), np.zeros(len(counts), np.intp)
    for each in np.argsort(counts)[::-1]:
        fold_of[each] = sizes.argmin()
        sizes[fold_of[each]] += counts[each]
    return fold_of[group]


def _choose(corpus: ScoreCorpus, column: str, rows: Rows, fold: int) -> dict[str, Rows]:
    """Return these rows as train and valid: a fifth of the groups, others in each fold."""
    count = min(_FOLDS, len(set(np.array(corpus.utterances[column])[rows].tolist())))
    valid = _dealt(corpus, column, rows, count) == (fold - 1) % count
    return {"train": rows[~valid], "valid": rows[valid]}
