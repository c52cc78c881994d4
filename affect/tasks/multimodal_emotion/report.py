"""What the report shows of multimodal emotion beyond its core: modalities, attention, modality dropout, the protocol.

Imports no tensor library. Legend: M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from affect.findings import Flag, Plot, Section
from affect.tables import NONE, filled, grid, inside, number
from affect.tasks.multimodal_emotion.config import SEEDS
from affect.tasks.multimodal_emotion.measures import ACCURACY, F1, SQUARED_ERROR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from affect.report.runs import Run
    from affect.report.study import Study

MODALITIES = {"A": "audio", "T": "text", "V": "video"}
WHOLE = "ATV"
PARTIAL = ("A", "T", "V", "AT", "AV", "TV")
INCOMPLETE = "incomplete"
"""Stands for the mean over the six subsets that lack a modality."""

LACKING = 0.1
"""Largest share of a part's utterances without a modality that goes unflagged."""

_SUM = 1e-3
_LEGEND = (
    "`emoval`, by which epochs are chosen, is f1 - 0.25 val (with `choose` subsets its mean over the seven subsets "
    "of the "
    "modalities); `val` is the mean squared error of valence, n/a where none is rated. A test part is predicted by the "
    "mean of the folds' logits and valences. The calibration error is the expected one, 15 bins, of the softmax of the "
    "logits that are scored; 0 is best."
)
_NOTE = (
    "**Missing** is what a model is told of: the modality is not there. **Noise** and **shuffled** are what it is not "
    "told of: features with Gaussian noise, or those of another utterance. Doing well on one says nothing of the other."
)
Floats = NDArray[np.float64]


def summaries(evaluations: Sequence[str]) -> dict[str, list[str]]:
    """Return of each part the mean over the subsets that lack a modality."""
    parts = [name for name in evaluations if "@" not in name]
    return {f"{part}@{INCOMPLETE}": [f"{part}@subset={letters}" for letters in PARTIAL] for part in parts}


def advice_of() -> dict[str, str]:
    """Return what report 001 advises about flags."""
    return {
        "overfitting": "more dropout (.35 to .5), modality dropout, weight decay, early stopping: report 001's "
        "robust_v1 to v3",
        "collapse to one class": "less modality dropout or a longer warm-up (W), a smaller learning rate, less dropout",
        "constant predictions": "less modality dropout or a longer warm-up (W), a smaller learning rate, less dropout",
        "NaN loss": "a smaller learning rate, gradient clipping (clip 1.0); look for NaN in the features",
        "NaN predictions": "a smaller learning rate, gradient clipping (clip 1.0); look for NaN in the features",
    }


# Sections.


def sections(study: Study) -> list[Section]:
    """Return what the page shows beyond the core."""
    found = []
    if inside(study.recipe, "data").get("corpus") == "generated":
        found.append(Section(markdown=(
            "> **A generated corpus.** Its features were made up: the scores say how systems compare on it, and "
            "nothing about real people."
        )))  # fmt: skip
    if not study.finished:
        return found
    found.append(
        Section(
            title="The public toolkit's metric lines",
            markdown="\n\n".join(filter(None, [lines(study), _error(study), _LEGEND])),
        )
    )
    found += _modalities(study)
    attended = _attention(study)
    found += [attended] if attended else []
    drawn = Plot(name="dropout", caption="Modality dropout by epoch, and the epochs kept", draw=lambda: _dropout(study))
    return [*found, Section(title="Modality dropout", plots=[drawn])]


def lines(study: Study) -> str:
    """Return the public toolkit's metric line of each seed and part, indented as code."""
    found = []
    for seed in study.seeds:
        for part in study.evaluations:
            values = {m.shown: study.scored(part, m).by_seed.get(seed, math.nan) for m in (F1, ACCURACY, SQUARED_ERROR)}
            shown = ", ".join(f"{name}={'n/a' if math.isnan(v) else f'{v:.4f}'}" for name, v in values.items())
            found.append(f"    seed{seed} {part}: {shown}")
    return "\n".join(found)


def _error(study: Study) -> str:
    """Return how much a test's accuracy varies by the choice of its utterances alone."""
    tests = [part for part in study.evaluations if part != "valid" and study.system(part).size]
    if not tests:
        return ""
    part = min(tests, key=lambda name: study.system(name).size)
    size, share = study.system(part).size, study.scored(part, ACCURACY).mean
    if math.isnan(share):
        return ""
    error = 100 * math.sqrt(share * (1 - share) / size)
    return f"With {size:,} utterances one standard error of {part}'s accuracy is {error:.1f} points."


def _modalities(study: Study) -> list[Section]:
    """Return what is missing in the data, and what incomplete and shuffled modalities cost."""
    there = presence(study)
    parts = [f"Utterances that have each modality (train and valid: of seed {study.finished[0].seed}, fold "
             f"{study.finished[0].fold}):", there] if there else []  # fmt: skip
    known = [part for part in study.evaluations if f"{part}@{INCOMPLETE}" in study.summaries]
    if known:
        said = []
        for part in known:
            whole, rest = study.scored(part, F1).mean, study.scored(f"{part}@{INCOMPLETE}", F1).mean
            said.append(f"{part} {number(rest)} ({_points(rest - whole)})")
        parts.append(
            "Weighted F1 with some modalities alone (A audio, T text, V video): the mean of the six incomplete "
            "subsets, "
            f"and its points from the whole: {', '.join(said)}."
        )
        parts += [_rates(study), *_shuffled(study), _NOTE]
    else:
        parts.append("No subset of the modalities was evaluated, so nothing is known of missing or noisy modalities.")
    return [Section(title="Missing and noisy modalities", markdown="\n\n".join(filter(None, parts)))]


def presence(study: Study) -> str:
    """Return a line a part: how many utterances have each modality, and how many have all; "" where nobody says."""
    told, sizes = inside(study.environment, "presence"), inside(study.environment, "utterances")
    rows = []
    for part, known in told.items():
        size = sizes.get(part)
        if isinstance(known, dict) and isinstance(size, int) and size > 0:
            cells = [_share(known.get(name), size) for name in (*MODALITIES.values(), "all")]
            rows.append([str(part), f"{size:,}", *cells])
    return grid(*filled(["part", "n", *MODALITIES.values(), "all three"], rows)) if rows else ""


def _share(count: object, size: int) -> str:
    return f"{count:,} ({100 * count / size:.1f} %)" if isinstance(count, int) else NONE


def _points(value: float) -> str:
    return NONE if math.isnan(value) else f"{round(100 * value, 1) + 0.0:+.1f}"


def _rates(study: Study) -> str:
    """Return how much is missing at the lowest and the highest rate, told from what the rows were given."""
    rates = [name for name in study.conditions(study.evaluations[0]) if name.startswith("missing=")]
    if len(rates) < 2:
        return ""
    shares = [missing_share(study, name) for name in (rates[0], rates[-1])]
    if any(math.isnan(share) for share in shares):
        return ""
    now, most = (f"{100 * share:.0f} %" for share in shares)
    low, high = (name.removeprefix("missing=").replace("0.", ".") for name in (rates[0], rates[-1]))
    return (
        "Under `missing` each modality that is there is dropped with that probability (one is always left; the "
        "same masks "
        f"for all runs): of all modalities {now} are not there at rate {low} and {most} at {high}."
    )


def missing_share(study: Study, condition: str) -> float:
    """Return the share of modalities that a condition took away or that were not there, over all parts."""
    names = [f"{part}@{condition}" for part in study.evaluations if f"{part}@{condition}" in study.names]
    given = [
        row["present"] for name in names for row in study.system(name).rows() if isinstance(row.get("present"), str)
    ]
    return 1 - sum(map(len, given)) / (len(MODALITIES) * len(given)) if given else math.nan


def _shuffled(study: Study) -> list[str]:
    """Return a line a part: weighted F1 with each modality taken from another utterance, with the loss in points."""
    rows = []
    for part in study.evaluations:
        clean = study.scored(part, F1).mean
        names = [f"{part}@shuffle={letter}" for letter in MODALITIES]
        values = [study.scored(name, F1).mean if name in study.names else math.nan for name in names]
        cells = [NONE if math.isnan(v) else f"{number(v)} ({_points(v - clean)})" for v in values]
        rows.append([part, number(clean), *cells])
    head, kept = filled(["part", "as it is", *MODALITIES.values()], rows)
    if len(head) < 3:
        return []
    return [
        "Weighted F1 with one modality taken from another utterance, in parentheses the loss in points: what a model "
        "relies on, though it is wrong.",
        grid(head, kept),
    ]


def _attention(study: Study) -> Section | None:
    """Return the weight of each modality in the fusion by what was given; None for models without attention."""
    found = {s: {part: weights(study, part, s) for part in study.evaluations} for s in (*PARTIAL, WHOLE)}
    known = [w for row in found.values() for w in row.values() if w is not None]
    if not known:
        return None
    shares = all((w >= -_SUM).all() and abs(w.sum() - 1) <= _SUM for w in known)
    said = (
        "Mean weight of audio, text and video (in this order) in the fusion, over utterances, folds and seeds, by the "
        "subset that the model was given. "
    )
    if shares:
        lost = [
            sum(w[i] for i, letter in enumerate(MODALITIES) if letter not in subset)
            for subset in PARTIAL for w in found[subset].values() if w is not None
        ]  # fmt: skip
        said += (
            f"On incomplete subsets {100 * float(np.mean(lost)):.0f} % of it goes to what is missing." if lost else ""
        )
    else:
        said += "These weights have no softmax: they don't sum to 1 and may be under 0."
    rows = [
        [subset, *(NONE if w is None else " ".join(f"{value:.2f}" for value in w) for w in row.values())]
        for subset, row in found.items()
    ]
    table = grid(["given", *(f"{part} (A T V)" for part in study.evaluations)], rows)
    drawn = Plot(name="attention", caption="Attention by what is given", draw=lambda: _attended(study, found, shares))
    return Section(title="Attention", markdown=f"{said.rstrip()}\n\n{table}", plots=[drawn])


def weights(study: Study, part: str, subset: str) -> Floats | None:
    """Return the mean weight of each modality [M] over a part's rows; None where a row has none."""
    name = part if subset == WHOLE else f"{part}@subset={subset}"
    if name not in study.names:
        return None

    def make() -> Floats | None:
        given = [inside(row, "attention") for row in study.system(name).rows()]
        if not given or not all(given):
            return None
        found: Floats = np.array([[float(row.get(m) or 0.0) for m in MODALITIES.values()] for row in given]).mean(0)
        return found

    return study.remember(("attention", name), make)


def _attended(study: Study, found: dict[str, dict[str, Floats | None]], shares: bool) -> Figure | None:
    """Return the weights as bars, a panel a part: stacked where they are shares."""
    from matplotlib.patches import Patch

    from affect.figures import COLOURS, lay_out, same_scale

    parts = [part for part in study.evaluations if all(row[part] is not None for row in found.values())]
    if not parts:
        return None
    figure, panels = lay_out(len(parts), 3.0, 2.6)
    for axes, part in zip(panels, parts, strict=True):
        values = np.array([row[part] for row in found.values()])
        places, left = np.arange(len(found)), np.zeros(len(found))
        for i in range(len(MODALITIES)):
            if shares:
                axes.bar(places, values[:, i], 0.75, bottom=left, color=COLOURS[i])
                left += values[:, i]
            else:
                axes.bar(places + 0.26 * (i - 1), values[:, i], 0.25, color=COLOURS[i])
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xticks(places, list(found))
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(part)
        axes.set_xlabel("given")
        axes.grid(axis="x", visible=False)
    same_scale(panels)
    panels[0].set_ylabel("share of attention" if shares else "weight (no softmax)")
    handles = [Patch(color=COLOURS[i], label=name) for i, name in enumerate(MODALITIES.values())]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def dropout_by_epoch(study: Study) -> dict[int, float]:
    """Return the probability of modality dropout by epoch (from 1), the mean over steps and runs; {} without it."""
    known: dict[int, list[float]] = {}
    for run in study.finished:
        for step in run.steps:
            value = inside(step, "schedule").get("modality_dropout")
            if isinstance(value, int | float) and math.isfinite(value) and isinstance(step.get("epoch"), int):
                known.setdefault(step["epoch"] + 1, []).append(float(value))
    found = {epoch: float(np.mean(values)) for epoch, values in sorted(known.items())}
    return found if any(found.values()) else {}


def _dropout(study: Study) -> Figure | None:
    """Return the probability of modality dropout by epoch, with the epochs whose weights were kept."""
    found = dropout_by_epoch(study)
    if not found:
        return None
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    from affect.figures import COLOURS, GREY, lay_out

    figure, (axes,) = lay_out(1, 6.4, 2.6)
    axes.plot(list(found), list(found.values()), color=COLOURS[0], lw=2)
    best = [run.kept_epoch for run in study.finished if run.kept_epoch is not None]
    heights = np.interp(best, list(found), list(found.values()))
    # Runs that kept the same epoch are drawn one over the other.
    axes.plot(best, heights, "o", color=COLOURS[1], ms=6, alpha=0.6, mec="white", mew=0.5)
    handles = [
        Line2D([], [], color=COLOURS[0], lw=2, label="probability"),
        Line2D([], [], color=COLOURS[1], marker="o", lw=0, label="epoch kept by a run"),
    ]
    full = max((warmup(run) for run in study.finished), default=0)
    if full:
        axes.axvline(full + 1, color=GREY, ls="--", lw=1.2)
        handles.append(Line2D([], [], color=GREY, ls="--", lw=1.2, label="full rate (2W)"))
    axes.set_ylim(0, 1.15 * max(found.values()))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="modality dropout")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


# Flags.


def flags(study: Study) -> Iterator[Flag]:
    """Yield too few seeds for the protocol, epochs before the full modality dropout, and parts that lack a modality."""
    count = len(study.seeds)
    if study.recipe.get("protocol") == "strict" and 0 < count < SEEDS:
        evidence = f"protocol strict with {count} of {SEEDS} seeds: no difference can be called real"
        yield Flag("few seeds", "across runs", evidence, f"train seeds up to {SEEDS} (--seeds)")
    for run in study.finished:
        yield from _early(run)
    told, sizes = inside(study.environment, "presence"), inside(study.environment, "utterances")
    for part, known in told.items():
        size = sizes.get(part)
        if not isinstance(known, dict) or not isinstance(size, int) or size < 1:
            continue
        for name in MODALITIES.values():
            there = known.get(name)
            if isinstance(there, int) and 1 - there / size > LACKING:
                evidence = f"{name} in {there:,} of {size:,} utterances ({100 * (1 - there / size):.0f} % lack it)"
                advice = "a model that is told what is missing (robust_ours), and scores by subset"
                yield Flag("modality missing", str(part), evidence, advice, 1 - there / size)


def _early(run: Run) -> Iterator[Flag]:
    """Yield a run that ended, or whose weights were kept, before modality dropout was at its full."""
    full, ended, best = warmup(run), run.last_epoch, run.kept_epoch
    # From 1: the first epoch at the full rate is 2W + 1.
    if full and ended is not None and ended <= full:
        evidence = f"ended after epoch {ended}; modality dropout reaches its full rate in epoch {full + 1}"
        advice = "more patience, a shorter warm-up (W), or a smaller rate that needs none"
        yield Flag("stopped before 2W", run.name, evidence, advice, full - ended)
    elif full and best is not None and best <= full:
        evidence = f"kept epoch {best}, which saw a rate of {number(_rate(run, best))} at most; "
        evidence += f"the full rate comes in epoch {full + 1}"
        advice = "a shorter warm-up (W): the kept weights never learnt what the full rate teaches"
        yield Flag("kept before 2W", run.name, evidence, advice, full - best)


def warmup(run: Run) -> int:
    """Return after how many epochs modality dropout is at its full (2W); 0 where it has no warm-up."""
    model = inside(run.recipe, "model")
    rate, epochs = model.get("modality_dropout"), model.get("warmup")
    if not isinstance(rate, int | float) or not isinstance(epochs, int) or rate <= 0:
        return 0
    return 2 * epochs


def _rate(run: Run, best: int) -> float:
    told = [
        inside(event, "schedule").get("modality_dropout")
        for event in run.steps
        if isinstance(event.get("epoch"), int) and event["epoch"] < best
    ]
    known = [float(value) for value in told if isinstance(value, int | float)]
    return max(known) if known else math.nan
