"""What the report shows of talking-face quality beyond its core: scores beside each other, generators, calibration.

Imports no tensor library. Legend: R rows, K scores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affect.data import corpora
from affect.errors import AffectError
from affect.findings import Flag, Plot, Section, finite
from affect.metrics.conformal import coverage
from affect.metrics.logistic import FEWEST, fit
from affect.metrics.quality import srcc, within_srcc
from affect.metrics.regression import pearson
from affect.tables import filled, grid, inside, number, signed
from affect.task import VALID, Row, Task
from affect.tasks.talking_face import claims, continual, each_score, late_sound
from affect.tasks.talking_face.config import TalkingFace
from affect.tasks.talking_face.intervals import LEVEL, calibrated
from affect.tasks.talking_face.measures import GENERATOR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from affect.report.runs import Run
    from affect.report.study import Study

ALIKE = 0.15
"""By how much scores may be more alike in the predictions than in the labels, in the mean over pairs, unflagged."""
KNOWS, RANKS = 0.4, 0.1
"""From which pooled SRCC a model has to rank clips of one generator better than this."""
STANDS, FALLS = 0.02, 0.2
"""A loss that falls by a smaller share of itself stands still, by a larger one it falls."""
_BINS = 8
"""Of a calibration plot, each with as many predictions."""
_FEWEST = 3
"""Rows of a generator that define a row of the table."""

Floats = NDArray[np.float64]
Columns = dict[str, tuple[Floats, Floats]]
"""Predictions and labels [R] (NaN: missing) by score."""

_ADVICE = {
    "stands still": "{another rate}; look at whether the baselines find anything in these features",
    "rising loss": "{lower rate}",
    "loss does not fall": "{another rate}",
    "opposing gradients": "combine their gradients (--loss.weights upgrad, pcgrad or cagrad), or weigh one down "
    "(--loss.weights fixed)",
    "overfitting": "more dropout ({dropout}){narrower}{augmented}, {sooner}",
    "exploding": "clip gradients (--optim.clip {clip}), {lower rate}",
    "memory nearly full": "nothing has to change: the batch is exact however it is cut; --train.budget at half of what "
    "train.log names needs less",
}
"""What to try by the kind of flag; the words in braces follow the recipe."""
_RATE, _WIDTH = 5e-4, 256
"""What report 003 tries where a loss does not fall, and where there is too little memory."""
_GENERATED = (
    "> **A generated corpus.** Its clips were made up: the scores say how systems compare on it, and nothing about "
    "real generators."
)


class TalkingFaceReport(Task):
    """The part of the task that reports ask."""

    recipe: TalkingFace

    def sections(self, study: Study) -> Sequence[Section]:
        """Return the scales, how alike the scores are, what is told within generators, errors and calibration."""
        layout = corpora.known(inside(study.recipe, "data").get("corpus"))
        sections = [Section(markdown=_GENERATED)] if layout is not None and layout.generated else []
        # Of a challenge the labels of the test part are not public.
        part = next(iter(study.tests or study.evaluations), None)
        if not study.finished or part is None:
            return sections
        seeds = seeds_of(study, part, self.recipe.data.scores)
        columns, kinds = _together(seeds)
        caption = "Mean label by predicted score, an eighth of the predictions a point, and the curve of PLCC"
        drawn = Plot(name="calibration", caption=caption, draw=partial(_calibration, columns))
        return [
            *sections,
            Section(title="The scores", markdown=_scales(study, part, seeds), plots=[drawn]),
            *each_score.sections(study, part),
            *_intervals(study, part, columns),
            *_alike(columns, seeds),
            *_generators(columns, kinds, seeds),
            *late_sound.section(study, part),
            *continual.section(study),
            *claims.section(study),
        ]

    def flags(self, study: Study) -> Iterator[Flag]:
        """Yield scores predicted as one, models that tell generators alone, and losses that stand still."""
        for part in (study.tests or study.evaluations) if study.finished else ():
            yield from each_score.flags(study, part)
            seeds = seeds_of(study, part, self.recipe.data.scores)
            pairs = pairs_of(seeds)
            gap = float(np.mean([p - t for _, p, t in pairs])) if pairs else 0.0
            if gap > ALIKE:
                words = f"scores correlate by {signed(gap)} more in the predictions than in the labels"
                yield Flag("scores predicted as one", part, words, "loss.consistency 0, a wider fusion", gap)
            for score in seeds[0].columns if seeds else ():
                pooled = _mean(srcc(*each.columns[score]) for each in seeds)
                within = _mean(within_srcc(*each.columns[score], each.kinds) for each in seeds)
                if pooled >= KNOWS and within < RANKS:
                    words = f"{score}: SRCC {number(pooled)}, within a generator {number(within)}"
                    advice = "it tells generators, not clips: --data.split generator shows what that is worth"
                    yield Flag("tells generators alone", part, words, advice, pooled - within)
            deviations = {name: float(np.nanstd(t)) for name, (_, t) in _together(seeds).columns.items()}
            yield from late_sound.flags(study, part, deviations, self.recipe.data.synced)
        yield from continual.flags(study)
        scores = tuple(f"_{score}" for score in self.recipe.data.scores)
        for run in study.runs:
            for name, own, others in still(run.steps, scores):
                words = f"{name} fell by {100 * own:.0f} % while others fell by {100 * others:.0f} %"
                advice = "weights that follow the losses (--loss.weights famo or uncertainty)"
                yield Flag("a score stands still", run.name, words, advice, others - own)

    def advice(self) -> dict[str, str]:
        """Return what to try about flags, by what the recipe has not tried yet."""
        model, optim, augment = self.recipe.model, self.recipe.optim, self.recipe.augment
        lower = f"a lower rate (--optim.lr {min(_RATE, optim.lr / 2):g})"
        higher = f"a higher rate (--optim.lr {_RATE:g}), then a lower one"
        words = {
            "another rate": higher if optim.lr < _RATE else f"{lower}, then one three times as high",
            "lower rate": lower,
            "dropout": ".3" if model.dropout < 0.3 else ".5",
            "narrower": f", a narrower model (--model.encoder_dim {_WIDTH})" if model.encoder_dim > _WIDTH else "",
            "augmented": "" if augment.mask or model.media.taken else ", augmentation (--augment.mask .2)",
            "clip": f"{min(1.0, (optim.clip or 2.0) / 2):g}",
            # Filled in by the report.
            "sooner": "{sooner}",
        }  # fmt: skip
        return {kind: text.format(**words) for kind, text in _ADVICE.items()}


class Seed(NamedTuple):
    """What one seed predicts of a part: columns by score, and the generator of each row, "" where it is unknown."""

    columns: Columns
    kinds: NDArray[np.str_]


def seeds_of(study: Study, part: str, scores: Sequence[str]) -> list[Seed]:
    """Return what each seed predicts: of several a clip would count once a seed, and an order be of all of them."""
    each = study.system(part).by_seed.values()
    seeds = [Seed(_columns(rows, scores), np.array([str(row.get(GENERATOR) or "") for row in rows])) for rows in each]
    # Scores that all have: another seed may have predicted no number.
    names = [name for name in scores if all(name in seed.columns for seed in seeds)]
    return [seed._replace(columns={name: seed.columns[name] for name in names}) for seed in seeds]


def _together(seeds: Sequence[Seed]) -> Seed:
    """Return the rows of all seeds as one's, for what is drawn and for labels: of predictions no order."""
    names = seeds[0].columns if seeds else ()
    pairs = {name: zip(*(seed.columns[name] for seed in seeds), strict=True) for name in names}
    columns = {name: (np.concatenate(p), np.concatenate(t)) for name, (p, t) in pairs.items()}
    return Seed(columns, np.concatenate([np.array([], np.str_), *(seed.kinds for seed in seeds)]))


def _columns(rows: Sequence[Row], scores: Sequence[str]) -> Columns:
    """Return predictions and labels of rows, by score; without scores that nothing or no number predicts."""

    def make(name: str, side: str) -> Floats:
        values = (row[side].get(name) for row in rows)
        return np.array([v if finite(v) else np.nan for v in values], np.float64)

    columns = {name: (make(name, "prediction"), make(name, "target")) for name in scores}
    return {name: (p, t) for name, (p, t) in columns.items() if np.isfinite(p).all() and np.isfinite(t).any()}


def pairs_of(seeds: Sequence[Seed]) -> list[tuple[str, float, float]]:
    """Return for each pair of scores the correlation of predictions and of labels, over rows that have both labels.

    Of several seeds it is their mean.
    """
    pairs = []
    for one, other in combinations(seeds[0].columns if seeds else (), 2):
        each = []
        for columns, _ in seeds:
            (p, t), (q, u) = columns[one], columns[other]
            both = np.isfinite(t) & np.isfinite(u)
            if both.sum() > 1 and not np.isnan(truth := pearson(t[both], u[both])):
                each.append((pearson(p[both], q[both]), truth))
        if each:
            own, truth = np.mean(each, axis=0)
            pairs.append((f"{one}, {other}", float(own), float(truth)))
    return pairs


def _mean(values: Iterable[float]) -> float:
    """Return the mean of what is defined, NaN where nothing is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


def still(steps: Sequence[dict[str, Any]], scores: tuple[str, ...]) -> Iterator[tuple[str, float, float]]:
    """Yield each loss that stood still while others fell: its name, by which share it fell, and the others' mean.

    They are those whose names end as `scores` say.
    """
    series: dict[str, list[float]] = defaultdict(list)
    for step in steps:
        for name, value in inside(step, "terms").items():
            if name.endswith(scores) and finite(value) and name not in (step.get("undefined") or ()):
                series[name].append(float(value))
    fell = {}
    for name, values in series.items():
        tenth = max(1, len(values) // 10)
        first = float(np.mean(values[:tenth]))
        if len(values) >= 10 and first > 0:
            fell[name] = 1 - float(np.mean(values[-tenth:])) / first
    for name, own in fell.items():
        others = [share for other, share in fell.items() if other != name]
        if own < STANDS and others and np.mean(others) > FALLS:
            yield name, own, float(np.mean(others))


def _scales(study: Study, part: str, seeds: Sequence[Seed]) -> str:
    scales, guessed = (inside(study.environment, name) for name in ("scales", "scale_inferred"))
    rows = []
    for name in seeds[0].columns if seeds else ():
        low, high = scales.get(name) or (np.nan, np.nan)
        scale = f"{low:g} to {high:g}{', inferred' * bool(guessed.get(name))}"
        each = [seed.columns[name] for seed in seeds]
        errors = [(p - t)[np.isfinite(t)] for p, t in each]
        rows.append([
            name, scale, f"{max(map(len, errors)):,}", number(_mean(float(np.nanmean(t)) for _, t in each)),
            number(_mean(p.mean() for p, _ in each)), number(_mean(np.abs(error).mean() for error in errors)),
            signed(_mean(error.mean() for error in errors)),
        ])  # fmt: skip
    head = ["score", "scale", f"labels ({part})", "mean label", "mean prediction", "mean error", "bias"]
    if members := _members(study, part):
        head.append("deviation of the members")
        rows = [[*row, number(members.get(row[0], np.nan))] for row in rows]
    return "\n\n".join(filter(None, [grid(head, rows), each_score.curves(study, part)]))


def _members(study: Study, part: str) -> dict[str, float]:
    """Return by score how far apart an ensemble's members are, in the mean over clips; {} of any other experiment."""
    rows = [row for run in study.finished for row in (run.predictions.get(part) or {}).values()]
    told = [each for row in rows if (each := inside(row, "deviation"))]
    return {name: float(np.mean([each.get(name, np.nan) for each in told])) for name in (told[0] if told else ())}


def _intervals(study: Study, part: str, columns: Columns) -> list[Section]:
    """Return how wide the intervals of the runs' models are, and how many test labels are within."""
    if part == VALID:
        return []
    scales = inside(study.environment, "scales")
    rows = [line for name in columns if name in scales and (line := _interval(study, part, name, tuple(scales[name])))]
    if not rows:
        return []
    by = "split conformal prediction on a run's validation rows, as its saved model gives it,"
    if _every(study):
        by = "cross-conformal prediction on the test rows of the same seed's other folds,"
    words = (
        f"Half the width of a {100 * LEVEL:.0f} % interval by {by} in the mean over runs. Few people or recordings "
        "cover less than that."
    )
    head = ["score", "interval", "calibrated by", "of people or recordings", f"labels within ({part})"]
    return [Section(title="Intervals", markdown=f"{words}\n\n{grid(*filled(head, rows))}")]


def _interval(study: Study, part: str, score: str, scale: tuple[float, float]) -> list[str]:
    """Return the line of a score; [] where no run has validation rows enough."""
    own, widths, bounds, labels = [], [], [], []
    for run in study.finished:
        try:
            interval = calibrated(_held_out(study, run, part), score, scale)
        except AffectError:
            continue
        rows = [row for row in (run.predictions.get(part) or {}).values() if finite(row["prediction"].get(score))]
        # A row without a spread has no interval.
        rows = [row for row in rows if not interval.normalised or finite(inside(row, "spread").get(score))]
        spread = [row["spread"][score] for row in rows] if interval.normalised else None
        own.append(interval)
        widths += [interval.half_width * each for each in spread or [1.0] * len(rows)]
        bounds += interval([row["prediction"][score] for row in rows], spread=spread).tolist()
        labels += [value if finite(value := row["target"].get(score)) else np.nan for row in rows]
    if not bounds:
        return []
    half = f"± {number(float(np.mean(widths)))}"
    if own[0].normalised:
        half += f" ({number(float(np.mean([each.half_width for each in own])))} spreads)"
    sizes = sorted(each.rows for each in own)
    sources = sorted(each.sources for each in own if each.sources is not None)
    return [score, half, _span(sizes), _span(sources), f"{100 * coverage(bounds, labels):.0f} %"]


def _every(study: Study) -> bool:
    """Whether the runs trained on their validation clips, too."""
    return inside(study.recipe, "data").get("train_all") is True


def _held_out(study: Study, run: Run, part: str) -> list[Row]:
    """Return the rows that calibrate a run's intervals, none of them of the `part` of its own fold."""
    if not _every(study):
        return [*(run.predictions.get(VALID) or {}).values()]
    others = [other for other in study.finished if other.seed == run.seed and other.fold != run.fold]
    return [row for other in others for row in (other.predictions.get(part) or {}).values()]


def _span(sizes: Sequence[int]) -> str:
    """Return the least and the largest of sorted numbers, one where they are the same, "" for none."""
    return " to ".join(f"{size:,}" for size in dict.fromkeys([*sizes[:1], *sizes[-1:]]))


def _alike(columns: Columns, seeds: Sequence[Seed]) -> list[Section]:
    pairs = pairs_of(seeds)
    if not pairs:
        return []
    rows = [[names, number(truth), number(own), signed(own - truth)] for names, own, truth in pairs]
    words = (
        "Correlation of two scores over the clips that have both. Where predictions are much more alike than labels, "
        "the model says one thing under several names."
    )
    table = grid(["scores", "labels", "predictions", "difference"], rows)
    drawn = Plot(name="alike", caption="Correlation between scores", draw=partial(_matrices, [*columns], pairs))
    return [Section(title="How alike the scores are", markdown=f"{words}\n\n{table}", plots=[drawn])]


def _generators(columns: Columns, kinds: NDArray[np.str_], seeds: Sequence[Seed]) -> list[Section]:
    own = max((seed.kinds for seed in seeds), key=len, default=kinds)
    names = [name for name in np.unique(own) if name and (own == name).sum() >= _FEWEST]
    if len(names) < 2:
        return []
    scores = [*seeds[0].columns]

    def line(score: Callable[[Floats, Floats, NDArray[np.str_]], float]) -> list[str]:
        return [number(_mean(score(*seed.columns[name], seed.kinds) for seed in seeds)) for name in scores]

    rows = [
        ["all", f"{len(own):,}", *line(lambda p, t, _: srcc(p, t))],
        ["within a generator", "", *line(within_srcc)],
        *([name, f"{(own == name).sum():,}", *line(partial(_own_srcc, name))] for name in names),
    ]
    words = (
        "SRCC over all clips, within generators (their mean, by labels), and of each. Who knows a clip's generator "
        "alone has 0 within each."
    )
    drawn = Plot(name="residuals", caption="Prediction less label, by generator",
                 draw=partial(_residuals, columns, kinds, names))  # fmt: skip
    table = grid(["generator", "rows", *scores], rows)
    return [Section(title="Within generators", markdown=f"{words}\n\n{table}", plots=[drawn])]


def _own_srcc(name: str, p: Floats, t: Floats, kinds: NDArray[np.str_]) -> float:
    return srcc(p[kinds == name], t[kinds == name])


def _calibration(columns: Columns) -> Figure | None:
    from affect.figures import COLOURS, GREY, lay_out, plain

    figure, panels = lay_out(len(columns), 2.4, 2.4)
    for axes, (name, (predicted, labels)) in zip(panels, columns.items(), strict=True):
        valid = np.isfinite(labels)
        p, t = predicted[valid], labels[valid]
        bins = [part for part in np.array_split(np.argsort(p), _BINS) if part.size]
        points = np.array([(p[part].mean(), t[part].mean()) for part in bins]).reshape(-1, 2)
        axes.plot(points[:, 0], points[:, 1], "o", color=COLOURS[0], ms=4)
        if len(p) >= FEWEST and np.ptp(p) > 0:
            across = np.linspace(p.min(), p.max(), 50)
            axes.plot(across, fit(p, t)(across), color=COLOURS[0], lw=1)
        if points.size:
            ends = [points.min(), points.max()]
            axes.plot(ends, ends, color=GREY, lw=1)
        axes.set(xlabel="prediction", ylabel="mean label")
        axes.set_title(plain(name))
    return figure


def _residuals(columns: Columns, kinds: NDArray[np.str_], names: Sequence[str]) -> Figure | None:
    from affect.figures import GREY, lay_out, plain

    figure, panels = lay_out(len(columns), 2.4, 0.6 + 0.28 * len(names))
    for axes, (name, (p, t)) in zip(panels, columns.items(), strict=True):
        parts = [(p - t)[(kinds == kind) & np.isfinite(t)] for kind in names]
        axes.boxplot(parts, orientation="horizontal", widths=0.6, flierprops={"ms": 2})
        axes.axvline(0, color=GREY, lw=1)
        axes.set_yticks(range(1, len(names) + 1), [plain(kind) for kind in names] if axes is panels[0] else [])
        axes.set_title(plain(name))
    return figure


def _matrices(names: Sequence[str], pairs: Sequence[tuple[str, float, float]]) -> Figure | None:
    from affect.figures import heat, lay_out

    places = {name: k for k, name in enumerate(names)}
    figure, panels = lay_out(2, 0.9 * len(places) + 1.6, 0.5 * len(places) + 1.2)
    labels, predictions = (np.eye(len(places)) for _ in range(2))
    for pair, own, truth in pairs:
        i, j = (places[name] for name in pair.split(", "))
        labels[i, j] = labels[j, i] = truth
        predictions[i, j] = predictions[j, i] = own
    for axes, title, matrix in zip(panels, ("labels", "predictions"), (labels, predictions), strict=True):
        heat(axes, matrix, [*places], [*places] if len(places) < 3 else [str(k + 1) for k in range(len(places))])
        axes.set_title(title)
    return figure
