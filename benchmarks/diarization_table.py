"""Report 004's experiments beside each other: the true DER, the report's own, and both losses beside chance.

`python benchmarks/diarization_table.py runs/before runs/improved ...` (or a folder of experiments) prints a Markdown
table: means over seeds with their deviation, over the recordings of all tests together. Losses are those of the last
tenth of the recorded diagnostics. ArcFace at chance lies anywhere from what embeddings have that are all alike to what
random ones have.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from affect.report import Study, expand, load
from affect.report.systems import spread
from affect.tables import NONE, filled, grid, with_deviation
from affect.task import Row
from affect.tasks.diarization import diagnostics
from affect.tasks.diarization.breakdown import rate, tested
from affect.tasks.diarization.config import Diarization
from affect.tasks.diarization.learning import Means, chances, ends, series, speakers_of
from affect.tasks.diarization.trivial import ORACLE_SPEECH, SILENCE, trivially

HEAD = [
    *("experiment", "seeds", "DER", "oracle speech", "report 004's DER", "silence's"),
    *("BCE", "chance", "ArcFace", "chance"),
]


def line(study: Study) -> list[str]:
    """Return the cells of an experiment."""
    recipe = Diarization.from_dict(dict(study.recipe))
    parts = [study.system(part).by_seed for part in tested(study)]
    seeds: list[list[Row]] = [[row for rows in parts for row in rows.get(seed, ())] for seed in study.seeds]
    ways = [("der", None), ("der", ORACLE_SPEECH), ("counted", None), ("counted", SILENCE)]
    rates = [
        _shown(rate(name, rows if way is None else [trivially(row, way) for row in rows]) for rows in seeds)
        for name, way in ways
    ]
    last = [ends(records)[1] for run in study.finished if (records := series(run.steps))]
    bce, arcface = ([means for means in last if name in means] for name in ("bce", "arcface"))
    losses = [
        _shown(means["bce"] for means in bce), _shown(chances(means, study, recipe)["bce"] for means in bce),
        _shown(means["arcface"] for means in arcface), _range(arcface, study, recipe),
    ]  # fmt: skip
    return [study.name, str(len(study.seeds)), *rates, *losses]


def _range(last: list[Means], study: Study, recipe: Diarization) -> str:
    """Return both of ArcFace's chance levels, which scale, margin and speakers set: those of one seed are all's."""
    if not last:
        return NONE
    random = diagnostics.random_arcface(recipe, speakers_of(study))
    return f"{chances(last[0], study, recipe)['arcface']:.1f} to {random:.1f}"


def _shown(values: Iterable[float]) -> str:
    return with_deviation(*spread(values))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    studies = [load(path) for path in expand(parser.parse_args().runs)]
    print(grid(*filled(HEAD, [line(study) for study in studies if study.finished])))


if __name__ == "__main__":
    main()
