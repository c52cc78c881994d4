"""Where a diarization's errors are: beside trivial ones, by speakers and overlap, and what limits it.

Imports no tensor library. All rates are of seconds that are added up over recordings; rows are of all seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from affect.baselines import turns as ideal
from affect.findings import Plot, Section
from affect.metrics.diarization import Errors
from affect.tables import NONE, counted, grid, number, signed
from affect.task import VALID, Row
from affect.tasks.diarization.measures import (
    KINDS,
    MEASURES,
    REAL,
    compared,
    errors_by_overlap,
    errors_of,
    spans_of,
    turns_in,
)
from affect.tasks.diarization.timelines import MOST, beside_reference
from affect.tasks.diarization.trivial import NAMES, ORACLE_SPEECH, SILENCE, instead, trivially

if TYPE_CHECKING:
    from affect.report.study import Study

NETWORK = "network"
_OVERLAPS = (0.0, 0.1, 0.2, 0.3)
"""Upper ends of classes of recordings by the share of their speech in which several speak; more is the last one."""
_MEASURE = {measure.name: measure for measure in MEASURES}
_PARTS = ("der", *KINDS, "jer")
_HEAD = [_MEASURE[name].shown for name in _PARTS]


def tested(study: Study) -> list[str]:
    """Return the tests that there are predictions of."""
    return [part for part in study.tests if study.system(part).rows()]


def simulated(study: Study) -> list[str]:
    """Return the tests of simulated conversations that there are predictions of."""
    return [part for part in tested(study) if not part.startswith(REAL)]


def rows_of(study: Study, part: str, model: str = NETWORK) -> list[Row]:
    """Return a part's rows as the network, or a trivial model, predicts them.

    A trivial model's are made of the targets where no file has them.
    """
    rows = study.system(part, model).rows()
    return rows or ([trivially(row, model) for row in study.system(part).rows()] if model != NETWORK else [])


def rate(name: str, rows: Sequence[Row]) -> float:
    """Return a measure of rows by its name."""
    return _MEASURE[name].score(rows)


def beside_trivial(study: Study) -> Section:
    """Return the network beside trivial models on each part, and the DER by counts beside the true one."""
    lines = []
    for part in [*tested(study), *([VALID] if VALID in study.evaluations else [])]:
        for model in (NETWORK, *NAMES):
            rows = rows_of(study, part, model)
            shown = [number(rate(name, rows)) for name in (*_PARTS, "counted")]
            lines.append([part if model == NETWORK else "", model.replace("_", " "), *shown])
    words = (
        "*Silence* never hears anybody, *one speaker* always hears one, *all speakers* always hears everybody, *oracle "
        "speech* knows when somebody speaks and calls everybody by one name: **what is not well below it does not tell "
        "speakers apart**. The DER by counts is not the usual one: it counts in each frame how many speakers there are "
        "too many or too few, whoever they are, and divides by all frames. See what silence has by it."
    )
    table = grid(["part", "model", *_HEAD, _MEASURE["counted"].shown], lines, left={1})
    return Section(title="Beside trivial diarizations", markdown=f"{words}\n\n{table}\n\n{_own_metric(study)}")


def _own_metric(study: Study) -> str:
    """Say what the DER by counts tells on the tests."""
    rows = [row for part in tested(study) for row in rows_of(study, part)]
    silent = [trivially(row, SILENCE) for row in rows]
    own, none, true = rate("counted", rows), rate("counted", silent), rate("der", rows)
    words = f"Over all tests the DER by counts is {number(own)} and silence's is {number(none)} ({signed(own - none)})"
    return f"{words}; the true DER is {number(true)}, silence's 1.000."


def by_kind(study: Study) -> Section:
    """Return DER and its parts by number of speakers, by overlap, and where one speaks or several do."""
    lines = []
    for part in tested(study):
        rows = rows_of(study, part)
        for speakers in sorted({int(row["speakers"]) for row in rows}):
            own = [row for row in rows if row["speakers"] == speakers]
            lines.append([f"{part}: {counted(speakers, 'speaker')}", *_line(study, own)])
    table = grid(["recordings", *_COLUMNS], lines)
    rows = [row for part in tested(study) for row in rows_of(study, part)]
    ends = (*_OVERLAPS, math.inf)
    names = [f"{_share(low)} to {_share(high)}" for low, high in zip(_OVERLAPS, _OVERLAPS[1:], strict=False)]
    names = ["none", *names, f"over {_share(_OVERLAPS[-1])}"]
    classes = zip(names, (-1.0, *ends[:-1]), ends, strict=True)
    each = [(name, [row for row in rows if low < row["overlap"] <= high]) for name, low, high in classes]
    overlap = grid(["overlap of the recording", *_COLUMNS], [[name, *_line(study, own)] for name, own in each if own])
    alone, several = errors_by_overlap(rows)
    moments = [["one speaks, or nobody", *_seconds(alone)], ["several speak at once", *_seconds(several)]]
    head = ["moments of all tests", "speech, min", *_HEAD[:4], "of all errors"]
    when = grid(head, _with_shares(moments, alone, several))
    words = (
        "Speakers found: how many a recording is said to have, on average. Speech counts each speaker, and overlap is "
        "the share of the time with speech in which several speak. Oracle speech: the DER of one speaker who speaks "
        "whenever somebody does."
    )
    return Section(title="By number of speakers and overlap", markdown=f"{table}\n\n{words}\n\n{overlap}\n\n{when}")


_COLUMNS = ["n", "speech, min", *_HEAD[:-1], "speakers found", "oracle speech"]


def _line(study: Study, rows: Sequence[Row]) -> list[str]:
    speakers = [compared(row).predicted_speakers for row in rows]
    oracle = rate("der", [trivially(row, ORACLE_SPEECH) for row in rows])
    return [
        f"{len({row['id'] for row in rows}):,}", _minutes(errors_of(rows), len(study.seeds)),
        *(number(rate(name, rows)) for name in _PARTS[:-1]), f"{sum(speakers) / len(speakers):.1f}", number(oracle),
    ]  # fmt: skip


def _minutes(errors: Errors, seeds: int) -> str:
    return f"{errors.speech / 60 / max(seeds, 1):.1f}"


def _seconds(errors: Errors) -> list[str]:
    parts = [getattr(errors, kind) / errors.speech if errors.speech > 0 else math.nan for kind in KINDS]
    return [f"{errors.speech / 60:.1f}", number(errors.rate), *map(number, parts)]


def _with_shares(lines: Sequence[list[str]], *each: Errors) -> list[list[str]]:
    wrong = [sum(getattr(errors, kind) for kind in KINDS) for errors in each]
    shares = [_share(own / sum(wrong)) if sum(wrong) > 0 else NONE for own in wrong]
    return [[*line, share] for line, share in zip(lines, shares, strict=True)]


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


IDEALS = {"perfect activity": ideal.perfect_activity, "perfect assignment": ideal.perfect_assignment}
"""What takes one kind of error out of a diarization."""


def improved(row: Row, name: str) -> Row:
    """Return a row with one kind of error taken out of its prediction, by a name of `IDEALS`."""
    return instead(row, IDEALS[name](turns_in(row, "prediction"), turns_in(row, "target"), spans_of(row)))


def limits(study: Study) -> Section:
    """Return what DER each part would have were one kind of error gone, and which kind weighs most."""
    lines: list[list[str]] = []
    gains: dict[str, list[float]] = {name: [] for name in IDEALS}
    for part in tested(study):
        rows = rows_of(study, part)
        own = rate("der", rows)
        if math.isnan(own):
            continue
        line = [part, number(own)]
        for name in IDEALS:
            without = rate("der", [improved(row, name) for row in rows])
            gains[name].append(own - without)
            line += [number(without), signed(without - own)]
        lines.append([*line, number(rate("der", rows_of(study, part, ORACLE_SPEECH)))])
    if not lines:
        return Section()
    means = {name: sum(each) / len(each) for name, each in gains.items()}
    head = ["part", "DER", *(cell for name in IDEALS for cell in (name, "change")), "oracle speech"]
    most = max(means, key=means.__getitem__)
    what = {
        "perfect activity": "when and how many speak (missed speech and false alarms)",
        "perfect assignment": "who it is that speaks (confusion)",
    }
    words = (
        "*Perfect activity*: as many speakers at each moment as there are, so that confusion alone is left. *Perfect "
        "assignment*: each speaker is called by the right name, so that missed speech and false alarms are left. "
        f"**What limits it most is {what[most]}**: without that the DER would be {number(means[most])} lower, in the "
        "mean over tests."
    )
    return Section(title="What limits it", markdown=f"{words}\n\n{grid(head, lines)}")


def examples(study: Study) -> Section:
    """Return timelines of the recordings of the tests that are diarized best, in the middle, and worst."""
    seed = min(study.seeds)
    rows = [(part, row) for part in tested(study) for row in study.system(part).by_seed.get(seed, ())]
    scored = [(rate("der", [row]), part, str(row["id"]), row) for part, row in rows]
    ordered = sorted((each for each in scored if not math.isnan(each[0])), key=lambda each: each[:3])
    if not ordered:
        return Section()
    chosen = {"best": ordered[0], "median": ordered[len(ordered) // 2], "worst": ordered[-1]}
    plots = []
    for name, (der, _, key, row) in chosen.items():
        errors = compared(row).errors
        parts = ", ".join(f"{kind.replace('_', ' ')} {number(getattr(errors, kind) / errors.speech)}" for kind in KINDS)
        caption = f"The {name} recording, {key}: DER {number(der)} ({parts})"
        caption += f"; its first {MOST:.0f} s" if row["seconds"] > MOST else ""
        plots.append(Plot(name=f"timeline-{name}", caption=caption, draw=partial(beside_reference, row)))
    words = (
        f"Of the {counted(len(ordered), 'recording')} of all tests, by seed {seed}. A speaker of the hypothesis (what "
        "the network says) has the colour of the reference's speaker who is meant, grey is nobody's. Black is where "
        "something is wrong."
    )
    return Section(title="Recordings", markdown=words, plots=plots)
