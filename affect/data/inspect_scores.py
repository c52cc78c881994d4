"""What a corpus of scores holds, in words: the same of a pickle, of a folder and of a corpus in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data import copies, corpora, sharing, signs
from affect.data.corpora.columns import read_as_proposed
from affect.data.corpora.labels import infer_scale
from affect.data.files import leaving
from affect.data.spread import Spread
from affect.tables import counted

Row = Mapping[str, Any]
_MOST = 24
SAME = "clips with the very same features"
"""What copies are called."""


def scores(name: str, root: Path, options: Mapping[str, Any], listed: int | None) -> str:
    """Return what `affect inspect` prints of the corpus `name`; `options` are its reader's. Raises as that does."""
    corpus, taken = read_as_proposed(lambda own: corpora.read(corpora.SCORES, name, root, **own), options)
    files = [name for name in ("path", "boxes") if name in corpus.utterances.column_names]
    paths = [path for name in files for path in corpus.utterances[name]]
    return "\n".join([corpus.describe(listed), *taken, *leaving(root, paths)])


def describe(
    name: str, rows: Sequence[Row], schema: Mapping[str, Any],
    scales: Mapping[str, tuple[float, float]] | None = None, listed: int | None = None,
    contents: Mapping[str, Mapping[str, str]] | None = None,
) -> str:  # fmt: skip
    """Return what `affect inspect` prints; `scales` are those in use, else they are inferred.

    Of what is left out the first `listed` (None: all) are named; `contents` are a corpus's, else those of its schema.
    """
    parts = list(dict.fromkeys(row["part"] for row in rows))
    by_part = {part: [row for row in rows if row["part"] == part] for part in parts}
    own = [f"{part} {len(each)}" for part, each in by_part.items() if part]
    lines = [
        f"{name}: {counted(len(rows), 'clip')}, {counted(len(schema['features']), 'feature')}, "
        f"{counted(len(schema['scores']), 'score')}",
        f"by part: {', '.join(own)}" if own else "by part: the file names no split",
        *(_feature(feature, facts, len(rows)) for feature, facts in schema["features"].items()),
    ]
    for score in schema["scores"]:
        lines += _score(score, by_part, (scales or {}).get(score), schema.get("minus_one", {}).get(score, 0))
    for group in schema["groups"]:
        counts = sorted(Counter(row[group] or "(none)" for row in rows).items())
        more = f", and {len(counts) - _MOST} more" if len(counts) > _MOST else ""
        lines.append(f"by {group}: {', '.join(f'{value} {count}' for value, count in counts[:_MOST])}{more}")
    if not own and all(len({row[group] for row in rows}) < 3 for group in schema["groups"]):
        lines.append("nothing can be held out: no split, and no group of three values (to train, choose and test)")
    # Clips that name no part, where others do, are in none.
    told = {part: each for part, each in by_part.items() if part or not own}
    shared = [
        line
        for group in schema["groups"]
        for line in sharing.shared({part: [row[group] for row in rows] for part, rows in told.items()}, group).values()
    ]
    lines += shared or ["shared by parts: nothing that the groups tell"] * (len(own) > 1)
    for what, digests in (contents or {SAME: contents_of(schema)}).items():
        named = {part: [(row["id"], digests.get(row["id"], "")) for row in each] for part, each in told.items()}
        lines += copies.lines(named, what)
    lines += signs.words_of(of_features(schema))
    left_out = [f"left out: {what}: {reason}" for what, reason in schema["left_out"].items()]
    lines += left_out[:listed]
    if listed is not None and len(left_out) > listed:
        lines.append(f"left out: {len(left_out) - listed} more (--all lists them)")
    return "\n".join(lines)


def of_features(schema: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return signs of features that never change, in a clip or over all; folders of earlier versions do not say it."""
    told = [(name, facts.get("still", ()), facts["clips"]) for name, facts in schema["features"].items()]
    spreads = [(name, Spread(**facts["spread"])) for name, facts in schema["features"].items() if "spread" in facts]
    return [
        *(sign for name, ids, clips in told for sign in signs.unchanging(name, ids, clips)),
        *(signs.sign(kind, f"{name}: {words}") for name, own in spreads for kind, words in own.odd("clips")),
    ]


def contents_of(schema: Mapping[str, Any]) -> dict[str, str]:
    """Return what copies are known by, of each clip whose features are another one's: that one's name."""
    own = {pair["id"]: pair["as"] for pair in schema["copies"]}
    return {**own, **{first: first for first in own.values()}}


def minus_one(lost: int, low: float) -> list[str]:
    """Return a line on labels of -1 that were taken as missing although they may be on a scale from `low`."""
    taken = f"{counted(lost, 'label')} of -1 {'is' if lost == 1 else 'are'} taken as missing"
    return [f"{taken}, though this scale has it"] if lost and low <= -1 else []


def numbers(title: str, values: NDArray[np.float64]) -> str:
    """Return a line about numbers, NaN where missing."""
    given = values[np.isfinite(values)]
    if not len(given):
        return f"{title}: none"
    missing = f", missing for {len(values) - len(given)}" if len(given) < len(values) else ""
    return (
        f"{title}: mean {given.mean():.3f}, deviation {given.std():.3f}, "
        f"from {given.min():.3f} to {given.max():.3f}{missing}"
    )


def _feature(name: str, facts: Mapping[str, Any], clips: int) -> str:
    shortest, longest = facts["frames"]
    filled = f", {counted(facts['filled'], 'frame')} without numbers filled" if facts["filled"] else ""
    alike = ", all of them equally many: where clips were padded, padding counts as frames"
    spread = Spread(**facts["spread"]) if "spread" in facts else None
    same = f", {spread.same} of them the same in all training frames" if spread and spread.told and spread.same else ""
    padded = alike if facts["clips"] > 1 and 1 < shortest == longest else ""
    return (
        f"feature {name}: {counted(facts['width'], 'number')} a frame ({facts['dtype']}){same}, "
        f"{shortest} to {counted(longest, 'frame')}, of {facts['clips']} of {counted(clips, 'clip')}{filled}{padded}"
    )


def _score(name: str, by_part: Mapping[str, Sequence[Row]], scale: tuple[float, float] | None, lost: int) -> list[str]:
    columns = {part: np.array([row[name] for row in rows], np.float64) for part, rows in by_part.items()}
    given = np.concatenate(list(columns.values()))
    if np.isnan(given).all():
        return [f"score {name}: no clip has it (affect convert --labels names the others)"]
    trained = columns.get("train", given)
    low, high = scale or infer_scale((given if np.isnan(trained).all() else trained).tolist())
    note = "" if scale else ", inferred: the narrowest usual one that holds the labels to train on"
    lines = [f"score {name}: scale {low:g} to {high:g}{note}", *(f"  {text}" for text in minus_one(lost, low))]
    for part, values in columns.items():
        lines.append(f"  {numbers(part or 'all', values)} ({100 * np.isnan(values).mean():.0f} %)")
    return lines
