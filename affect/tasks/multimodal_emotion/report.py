"""What the report shows of multimodal emotion beyond its core: modalities, attention, modality dropout, the protocol.

Imports no tensor library. Legend: M modalities.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affect.data.conditions import MODALITIES, SUBSETS
from affect.findings import Flag, Plot, Section, finite
from affect.tables import NONE, filled, grid, inside, number
from affect.task import Measure, Task
from affect.tasks.multimodal_emotion.config import SEEDS, MultimodalEmotion
from affect.tasks.multimodal_emotion.measures import ACCURACY, CCC, EMOVAL, F1, SQUARED_ERROR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from affect.report.runs import Run
    from affect.report.study import Study

INCOMPLETE = "incomplete"
"""Stands for the mean over the subsets that lack a modality."""

LACKING = 0.1
"""Largest share of a part's utterances without a modality that goes unflagged."""

_SUM = 1e-3
_EMOVAL = "`emoval` is f1 - 0.25 val; `val` is the mean squared error of valence, n/a where none is rated."
_OF_CLASSES = (
    "The calibration error is the expected one, 15 bins, of the softmax of the logits that are scored; 0 is best."
)
_NOTE = (
    "**Missing** is what a model is told of: the modality is not there. **Noise** and **shuffled** are what it is not "
    "told of: features with Gaussian noise, or those of another utterance. Doing well on one says nothing of the other."
)
_GENERATED = (
    "> **A generated corpus.** Its features were made up: the scores say how systems compare on it, and nothing about "
    "real people."
)
Floats = NDArray[np.float64]


def partial_of(letters: str) -> list[str]:
    """Return the subsets of a recipe's modalities, by their letters, that lack one of them."""
    return [subset for subset in SUBSETS if {*subset} < {*letters}]


class FusionReport(Task):
    """The part of the task that reports ask."""

    recipe: MultimodalEmotion

    def sections(self, study: Study) -> Sequence[Section]:
        """Return what is missing, what that costs, attention, modality dropout and the toolkit's lines."""
        generated = inside(study.recipe, "data").get("corpus") == "generated"
        sections = [Section(markdown=_GENERATED)] if generated else []
        if not study.finished:
            return sections
        text = "\n\n".join(filter(None, [_lines(study), _error(study), _legend(study)]))
        drawn = Plot(name="dropout", caption="Modality dropout by epoch, and the epochs kept",
                     draw=partial(_dropout, study))  # fmt: skip
        return [
            *sections,
            Section(title="The public toolkit's metric lines" if _lines(study) else "Measures", markdown=text),
            _modalities(study),
            *_attention(study),
            Section(title="Modality dropout", plots=[drawn]),
        ]

    def flags(self, study: Study) -> Iterator[Flag]:
        """Yield too few seeds, what is odd in the data, epochs before the full modality dropout, missing modalities."""
        count = len(study.seeds)
        if study.recipe.get("protocol") == "strict" and 0 < count < SEEDS:
            evidence = f"protocol strict with {count} of {SEEDS} seeds: no difference can be called real"
            yield Flag("few seeds", "across runs", evidence, f"train seeds up to {SEEDS} (--seeds)")
        for run in study.finished:
            yield from _early(run)
        for part, size, counts in _presence(study):
            for name, count in counts.items():
                lacking = 1 - count / size
                if name != "all" and lacking > LACKING:
                    evidence = f"{name} in {count:,} of {size:,} utterances ({100 * lacking:.0f} % lack it)"
                    advice = "a model that is told what is missing (robust_ours), and scores by subset"
                    yield Flag("modality missing", part, evidence, advice, lacking)

    def summaries(self, evaluations: Sequence[str]) -> dict[str, list[str]]:
        """Return of each part the mean over the subsets that lack a modality."""
        parts = [name for name in evaluations if "@" not in name]
        subsets = partial_of(self.recipe.data.letters)
        return {f"{part}@{INCOMPLETE}": [f"{part}@subset={letters}" for letters in subsets] for part in parts}

    def advice(self) -> dict[str, str]:
        """Return what to try about flags, by what the recipe has not tried yet."""
        model, optim = self.recipe.model, self.recipe.optim
        dropped = model.modality_dropout > 0
        start = "" if dropped else ", modality dropout (--model.modality-dropout .2)"
        less = "less modality dropout or a longer warm-up of it (--model.warmup), " if dropped else ""
        less += f"a smaller learning rate (--optim.lr {optim.lr / 2:g}), less dropout"
        clip = f"--optim.clip {min(1.0, (optim.clip or 2.0) / 2):g}"
        nan = f"a smaller learning rate, gradient clipping ({clip}); look for NaN in the features"
        more = ".35 to .5" if model.dropout < 0.5 else ".6"
        return {
            "overfitting": f"more dropout ({more}){start}, weight decay, {{sooner}}: see the recipes robust_v1 to v3",
            "collapse to one class": less,
            "constant predictions": less,
            "NaN loss": nan,
            "NaN predictions": nan,
        }  # fmt: skip


def _legend(study: Study) -> str:
    """Return what the measures are, and by which of them epochs are chosen."""
    of_both = any(m.name == EMOVAL.name for m in study.measures)
    over = " (its mean over all subsets of the modalities)" if study.recipe.get("choose") == "subsets" else ""
    chosen = f"Epochs are chosen by `{study.measures[0].shown}`{over}."
    chosen = "" if inside(study.recipe, "train").get("choose") == "last" else chosen
    many = "" if len(study.folds) < 2 else "A test part is predicted by the mean of the folds' logits and valences."
    of_classes = _OF_CLASSES if any(m.name == F1.name for m in study.measures) else ""
    return " ".join(filter(None, [chosen, _EMOVAL if of_both else "", many, of_classes]))


def _lines(study: Study) -> str:
    """Return the public toolkit's metric line of each seed and part, indented as code; "" of other measures."""
    if not any(m.name == EMOVAL.name for m in study.measures):
        return ""
    lines = []
    for seed in study.seeds:
        for part in study.evaluations:
            values = {m.shown: study.scored(part, m).by_seed.get(seed, math.nan) for m in (F1, ACCURACY, SQUARED_ERROR)}
            shown = ", ".join(f"{name}={'n/a' if math.isnan(v) else f'{v:.4f}'}" for name, v in values.items())
            lines.append(f"    seed{seed} {part}: {shown}")
    return "\n".join(lines)


def _error(study: Study) -> str:
    """Return how much the smallest test's accuracy varies by the choice of its utterances alone; "" without classes."""
    if not any(m.name == ACCURACY.name for m in study.measures):
        return ""
    size, part = min(((study.size(p), p) for p in study.evaluations if p != "valid" and study.size(p)), default=(0, ""))
    share = study.scored(part, ACCURACY).mean if part else math.nan
    if math.isnan(share):
        return ""
    error = 100 * math.sqrt(share * (1 - share) / size)
    return f"With {size:,} utterances one standard error of {part}'s accuracy is {error:.1f} points."


def _modalities(study: Study) -> Section:
    """Return what is missing in the data, and what incomplete and shuffled modalities cost."""
    parts, there = [], _presence(study)
    if there:
        names, run = [*there[0][2]], study.finished[0]
        rows = [
            [part, f"{size:,}", *(f"{counts[name]:,} ({100 * counts[name] / size:.1f} %)" for name in names)]
            for part, size, counts in there
        ]
        parts += [
            f"Utterances that have each modality (train and valid: of seed {run.seed}, fold {run.fold}):",
            grid(["part", "n", *("all of them" if name == "all" else name for name in names)], rows),
        ]
    losses, (measure, words) = [], _told(study)
    for part in study.evaluations:
        if f"{part}@{INCOMPLETE}" in study.summaries:
            rest = study.scored(f"{part}@{INCOMPLETE}", measure).mean
            losses.append(f"{part} {number(rest)} ({_points(rest - study.scored(part, measure).mean)})")
    if losses:
        count = len(partial_of(_letters(study)))
        parts.append(
            f"{words} with some modalities alone (A audio, T text, V video): the mean of the {count} incomplete "
            f"subsets, and its points from the whole: {', '.join(losses)}."
        )
        parts += [_rates(study), *_shuffled(study), _NOTE]
    else:
        parts.append("No subset of the modalities was evaluated, so nothing is known of missing or noisy modalities.")
    return Section(title="Missing and noisy modalities", markdown="\n\n".join(filter(None, parts)))


def _letters(study: Study) -> str:
    """Return the recipe's modalities by their letters, all where it does not say them."""
    data = inside(study.recipe, "data")
    return "".join(letter for letter, name in MODALITIES.items() if data.get(name)) or "".join(MODALITIES)


def _told(study: Study) -> tuple[Measure, str]:
    """Return the measure that the loss of modalities is told in, and its words: weighted F1, or without classes CCC."""
    return (F1, "Weighted F1") if any(m.name == F1.name for m in study.measures) else (CCC, CCC.title)


def _presence(study: Study) -> list[tuple[str, int, dict[str, int]]]:
    """Return of each part its size and how many of its utterances have each modality, and all, where a run says it."""
    sizes = inside(study.environment, "utterances")
    return [(p, sizes[p], counts) for p, counts in inside(study.environment, "presence").items() if sizes.get(p)]


def _points(value: float) -> str:
    return NONE if math.isnan(value) else f"{round(100 * value, 1) + 0.0:+.1f}"


def _rates(study: Study) -> str:
    """Return how much is missing at the lowest and the highest rate, told from what the rows were given."""
    rates = [name for name in study.conditions(study.evaluations[0]) if name.startswith("missing=")]
    shares = [missing_share(study, name) for name in (rates[0], rates[-1])] if len(rates) > 1 else [math.nan]
    if any(map(math.isnan, shares)):
        return ""
    now, most = (f"{100 * share:.0f} %" for share in shares)
    low, high = (name.removeprefix("missing=").replace("0.", ".") for name in (rates[0], rates[-1]))
    return (
        "Under `missing` each modality that is there is dropped with that probability (one is always left; the same "
        f"masks for all runs): of all modalities {now} are not there at rate {low} and {most} at {high}."
    )


def missing_share(study: Study, condition: str) -> float:
    """Return the share of modalities that a condition took away or that were not there, over all parts."""
    names = [f"{part}@{condition}" for part in study.evaluations if f"{part}@{condition}" in study.names]
    given = [row["present"] for name in names for row in study.system(name).rows() if "present" in row]
    return 1 - sum(map(len, given)) / (len(_letters(study)) * len(given)) if given else math.nan


def _shuffled(study: Study) -> list[str]:
    """Return a line a part: the score with each modality taken from another utterance, with the loss in points."""
    rows, (measure, words) = [], _told(study)
    for part in study.evaluations:
        clean = study.scored(part, measure).mean
        names = [f"{part}@shuffle={letter}" for letter in MODALITIES]
        values = [study.scored(name, measure).mean if name in study.names else math.nan for name in names]
        cells = [NONE if math.isnan(v) else f"{number(v)} ({_points(v - clean)})" for v in values]
        rows.append([part, number(clean), *cells])
    head, kept = filled(["part", "as it is", *MODALITIES.values()], rows)
    if len(head) < 3:
        return []
    return [
        f"{words} with one modality taken from another utterance, in parentheses the loss in points: what a model "
        "relies on, though it is wrong.",
        grid(head, kept),
    ]


def _attention(study: Study) -> list[Section]:
    """Return the weight of each modality in the fusion by what was given; nothing for models without attention."""
    whole = _letters(study)
    by_subset = {s: {p: weights(study, p, s) for p in study.evaluations} for s in (*partial_of(whole), whole)}
    present = [w for row in by_subset.values() for w in row.values() if w is not None]
    if not present:
        return []
    shares = all((w >= -_SUM).all() and abs(w.sum() - 1) <= _SUM for w in present)
    lost = [
        sum(w[i] for i, letter in enumerate(whole) if letter not in subset)
        for subset in partial_of(whole) for w in by_subset[subset].values() if w is not None
    ]  # fmt: skip
    words = (
        f"Mean weight of {', '.join(MODALITIES[letter] for letter in whole)} (in this order) in the fusion, over "
        "utterances, folds and seeds, by the subset that the model was given. "
    )
    if not shares:
        words += "These weights have no softmax: they don't sum to 1 and may be under 0."
    elif lost:
        words += f"On incomplete subsets {100 * float(np.mean(lost)):.0f} % of it goes to what is missing."
    rows = [
        [subset, *(NONE if w is None else " ".join(f"{value:.2f}" for value in w) for w in row.values())]
        for subset, row in by_subset.items()
    ]
    table = grid(["given", *(f"{part} ({' '.join(whole)})" for part in study.evaluations)], rows)
    drawn = Plot(name="attention", caption="Attention by what is given", draw=partial(_attended, by_subset, shares))
    return [Section(title="Attention", markdown=f"{words.rstrip()}\n\n{table}", plots=[drawn])]


def weights(study: Study, part: str, subset: str) -> Floats | None:
    """Return the mean weight of each of the recipe's modalities [M] over a part's rows; None where a row has none."""
    whole = _letters(study)
    name = part if subset == whole else f"{part}@subset={subset}"
    if name not in study.names:
        return None

    def make() -> Floats | None:
        given = [inside(row, "attention") for row in study.system(name).rows()]
        if not given or not all(given):
            return None
        mean: Floats = np.array([[float(row.get(MODALITIES[m]) or 0.0) for m in whole] for row in given]).mean(0)
        return mean

    return study.remember(("attention", name), make)


def _attended(by_subset: dict[str, dict[str, Floats | None]], shares: bool) -> Figure | None:
    """Return the weights as bars, a panel a part: stacked where they are shares."""
    from matplotlib.patches import Patch

    from affect.figures import COLOURS, lay_out, same_scale

    *_, whole = by_subset
    parts = [part for part in by_subset[whole] if all(row[part] is not None for row in by_subset.values())]
    if not parts:
        return None
    figure, panels = lay_out(len(parts), 3.0, 2.6)
    for axes, part in zip(panels, parts, strict=True):
        values = np.array([row[part] for row in by_subset.values()])
        places, left = np.arange(len(by_subset)), np.zeros(len(by_subset))
        for i in range(len(whole)):
            if shares:
                axes.bar(places, values[:, i], 0.75, bottom=left, color=COLOURS[i])
                left += values[:, i]
            else:
                axes.bar(places + 0.26 * (i - 1), values[:, i], 0.25, color=COLOURS[i])
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xticks(places, list(by_subset))
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(part)
        axes.set_xlabel("given")
        axes.grid(axis="x", visible=False)
    same_scale(panels)
    panels[0].set_ylabel("share of attention" if shares else "weight (no softmax)")
    handles = [Patch(color=COLOURS[i], label=MODALITIES[letter]) for i, letter in enumerate(whole)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _dropout(study: Study) -> Figure | None:
    """Return the probability of modality dropout by epoch, with the epochs whose weights were kept."""
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for run in study.finished:
        for epoch, value in _probabilities(run):
            by_epoch[epoch].append(value)
    epochs = sorted(by_epoch)
    means = [float(np.mean(by_epoch[epoch])) for epoch in epochs]
    if not any(means):
        return None
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    from affect.figures import COLOURS, GREY, lay_out

    figure, (axes,) = lay_out(1, 6.4, 2.6)
    axes.plot(epochs, means, color=COLOURS[0], lw=2)
    best = [run.kept_epoch for run in study.finished if run.kept_epoch is not None]
    # Runs that kept the same epoch are drawn one over the other.
    axes.plot(best, np.interp(best, epochs, means), "o", color=COLOURS[1], ms=6, alpha=0.6, mec="white", mew=0.5)
    handles = [
        Line2D([], [], color=COLOURS[0], lw=2, label="probability"),
        Line2D([], [], color=COLOURS[1], marker="o", lw=0, label="epoch kept by a run"),
    ]
    full = max(map(_full, study.finished))
    if full:
        axes.axvline(full + 1, color=GREY, ls="--", lw=1.2)
        handles.append(Line2D([], [], color=GREY, ls="--", lw=1.2, label="full rate (2W)"))
    axes.set_ylim(0, 1.15 * max(means))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="modality dropout")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _probabilities(run: Run) -> Iterator[tuple[int, float]]:
    """Yield the epoch (from 1) and the probability of modality dropout of each logged step."""
    for step in run.steps:
        value: Any = inside(step, "schedule").get("modality_dropout")
        if finite(value) and isinstance(step.get("epoch"), int):
            yield step["epoch"] + 1, float(value)


def _full(run: Run) -> int:
    """Return after how many epochs modality dropout is at its full (2W); 0 where it has no warm-up."""
    model = inside(run.recipe, "model")
    rate, epochs = model.get("modality_dropout"), model.get("warmup")
    return 2 * epochs if isinstance(rate, int | float) and isinstance(epochs, int) and rate > 0 else 0


def _early(run: Run) -> Iterator[Flag]:
    """Yield a run that ended, or whose weights were kept, before modality dropout was at its full."""
    full, ended, best = _full(run), run.last_epoch, run.kept_epoch
    # From 1: the first epoch at the full rate is 2W + 1.
    if full and ended is not None and ended <= full:
        evidence = f"ended after epoch {ended}; modality dropout reaches its full rate in epoch {full + 1}"
        advice = "more patience, a shorter warm-up (W), or a smaller rate that needs none"
        yield Flag("stopped before 2W", run.name, evidence, advice, full - ended)
    elif full and best is not None and best <= full:
        most = max((value for epoch, value in _probabilities(run) if epoch <= best), default=math.nan)
        evidence = f"kept epoch {best}, which saw a rate of {number(most)} at most; "
        evidence += f"the full rate comes in epoch {full + 1}"
        advice = "a shorter warm-up (W): the kept weights never learnt what the full rate teaches"
        yield Flag("kept before 2W", run.name, evidence, advice, full - best)
