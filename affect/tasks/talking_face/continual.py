"""Continual learning: batches of labelled clips arrive one after another, and what is forgotten of the earlier ones.

A batch is some values of a group column (generators), in their order by name. A stage trains on the newest batch and,
replayed, on a share of the clips of earlier ones; it validates on all that have arrived. Legend: K stages and batches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError, nearest
from affect.findings import Flag, Section
from affect.tables import counted, grid, inside, number, signed
from affect.tasks.talking_face.config import Continual

if TYPE_CHECKING:
    from datasets import DatasetDict

    from affect.data.score_corpus import ScoreCorpus
    from affect.report.study import Study
    from affect.task import Measure, Row

FORGOTTEN = 0.05
"""Mean forgetting from which a flag says so, in SRCC."""

Floats = NDArray[np.float64]


def batches_of(corpus: ScoreCorpus, settings: Continual) -> list[list[str]]:
    """Return the values of the column by batch. Raises AffectError for a column that is not there, or has too few."""
    column = settings.by
    if column not in corpus.groups:
        there = ", ".join(corpus.groups) or "none"
        hint = nearest(column or "", corpus.groups)
        raise AffectError(f"{corpus.name} has no column {column!r} ({hint}) that arrives; its groups are: {there}")
    values = sorted(set(corpus.utterances[column]))
    if "" in values:
        raise AffectError(f"{corpus.name}: the {column} of some clips is empty: they belong to no batch")
    if len(values) < settings.batches:
        there = counted(len(values), "value")
        raise AffectError(f"{corpus.name} has {there} of {column}, not the {settings.batches} batches")
    return [part.tolist() for part in np.array_split(np.array(values), settings.batches)]


def arrived(parts: DatasetDict, batches: Sequence[Sequence[str]], settings: Continual) -> None:
    """Leave of the parts to train and to validate on what a stage has; the test part stays as it is.

    Which earlier clips are replayed follows their ids alone, so that a later stage's are among an earlier one's.
    """
    number_of = {value: k for k, batch in enumerate(batches, start=1) for value in batch}
    newest, column = settings.arrived or len(batches), str(settings.by)

    def trains(row: Row) -> bool:
        batch = number_of[row[column]]
        return batch == newest or (batch < newest and _share(row["id"]) < settings.replay)

    parts["train"] = parts["train"].select([k for k, row in enumerate(parts["train"]) if trains(row)])
    seen = [k for k, value in enumerate(parts["valid"][column]) if number_of[value] <= newest]
    parts["valid"] = parts["valid"].select(seen)


def _share(name: str) -> float:
    """Return a number in [0, 1) that follows from a name."""
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=7).digest()
    return float(int.from_bytes(digest, "big") / 2 ** (8 * len(digest)))


Table = tuple[Floats, list[str]]


def table_of(study: Study) -> Table | None:
    """Return the mean score [stages, K] of each batch's test clips after each of `stages_of`, and the batches' names.

    None where the study is of no stage. A score is the mean over seeds of the first measure, the mean SRCC.
    """
    # Section and flags both ask, and it reads the rows of every stage.
    return study.remember(("continual",), lambda: _table(study))


def _table(study: Study) -> Table | None:
    settings, batches = _settings(study), study.environment.get("batches")
    if settings is None or not isinstance(batches, list) or not study.finished or not study.tests:
        return None
    first = study.measures[0]
    scores = [[_score(stage, first, str(settings["by"]), batch) for batch in batches] for stage in stages_of(study)]
    return np.array(scores), [", ".join(batch) for batch in batches]


def stages_of(study: Study) -> list[Study]:
    """Return a stage with those before it that have the same batches, back to what is no stage of them.

    What the first of them started from (a pretraining, another experiment) is none.
    """
    batches, stages = study.environment.get("batches"), [study]
    for earlier in reversed(study.earlier):
        settings = _settings(earlier) or {}
        if not isinstance(settings.get("arrived"), int) or earlier.environment.get("batches") != batches:
            break
        stages.insert(0, earlier)
    return stages


def _settings(study: Study) -> dict[str, Any] | None:
    settings = inside(study.recipe, "continual")
    return settings if settings.get("by") else None


def _score(study: Study, measure: Measure, column: str, batch: Iterable[str]) -> float:
    wanted = set(batch)
    of_unit: dict[object, list[Row]] = {}
    for test in study.tests:
        for unit, rows in study.system(test).units.items():
            of_unit.setdefault(unit, []).extend(row for row in rows.values() if row.get(column) in wanted)
    values = [measure.score(rows) for rows in of_unit.values()]
    return float(np.mean(values)) if values else math.nan


def summary(scores: Floats) -> dict[str, float]:
    """Return what continual learning is judged by, of scores [K, K] by stage and batch, larger is better.

    `average`: of all batches at the end. `forgetting`: from each earlier batch's best score to its last (Chaudhry et
    al. 2018). `backward`: from its own stage's score to its last; `unseen`: a batch's score before it has arrived
    (Lopez-Paz and Ranzato 2017, without the random model's). Means over batches, NaN with one alone.
    """
    count = len(scores)
    last, old = scores[-1], range(count - 1)
    return {
        "average": float(last.mean()),
        "forgetting": _mean(scores[:-1, k].max() - last[k] for k in old),
        "backward": _mean(last[k] - scores[k, k] for k in old),
        "unseen": _mean(scores[k, k + 1] for k in old),
    }


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else math.nan


def section(study: Study) -> list[Section]:
    """Return the table of stages and batches, and what was forgotten; nothing of other experiments."""
    table = table_of(study)
    if table is None:
        return []
    scores, names = table
    stages = stages_of(study)
    rows = [[stage.name, *map(number, row)] for stage, row in zip(stages, scores, strict=True)]
    words = "Mean SRCC of the test clips of each batch, after each stage; those right of the diagonal had not arrived."
    text = f"{words}\n\n{grid(['after', *names], rows)}"
    if before := study.earlier[: len(study.earlier) - len(stages) + 1]:
        text += f"\n\n{stages[0].name} started from {before[-1].name}, which is no stage of these batches."
    if scores.shape[0] == scores.shape[1] > 1:
        judged = summary(scores)
        replay = inside(study.recipe, "continual").get("replay")
        text += (
            f"\n\nAt the end {number(judged['average'])} in the mean over batches; forgotten "
            f"{number(judged['forgetting'])} (from an earlier batch's best score to its last), backward transfer "
            f"{signed(judged['backward'])} (from its own stage's), {number(judged['unseen'])} before a batch had "
            f"arrived. {100 * float(replay or 0):g} % of earlier clips were replayed."
        )
    elif len(stages) < (inside(study.recipe, "continual").get("arrived") or len(names)):
        text += "\n\nNot all earlier stages are there, so that nothing tells what was forgotten."
    return [Section(title="Stages, and what was forgotten", markdown=text)]


def flags(study: Study) -> Iterator[Flag]:
    """Yield a flag where earlier batches are forgotten."""
    table = table_of(study)
    if table is None or not table[0].shape[0] == table[0].shape[1] > 1:
        return
    forgotten = summary(table[0])["forgetting"]
    if forgotten > FORGOTTEN:
        words = f"the SRCC of earlier batches fell by {number(forgotten)} from its best"
        yield Flag(
            "forgets",
            ", ".join(study.tests),
            words,
            "replay more of them (--continual.replay .5), a lower rate",
            forgotten,
        )
