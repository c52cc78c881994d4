"""What is left of weighted F1 when modalities are missing, noisy or shuffled; each of the three for itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from affect.report.multimodal.conditions import Conditions
from affect.report.multimodal.measures import MEASURES, f1, over_seeds
from affect.report.multimodal.names import MODALITIES, NOISES, RATES, SHUFFLES, SUBSETS, WHOLE, shown
from affect.report.multimodal.result import gain, with_deviation
from affect.report.multimodal.study import Study
from affect.report.scores import spread
from affect.report.tables import NONE, filled, grid, number

CLEAN = f"subset={WHOLE}"
NOTE = (
    "**Missing** is what a model is told of: the modality is not there. **Noise** and **shuffled** are what it is not "
    "told of: features with Gaussian noise, or those of another utterance. Doing well on one says nothing of the other."
)


def section(study: Study, plot: Callable[[str], list[str]] = lambda name: []) -> list[str]:
    """Return the matrix over subsets, the missing rates, the noise levels and the shuffled modalities, in Markdown.

    `plot` gives the blocks that show a plot by its name.
    """
    if not measured(study, SUBSETS, "subset="):
        return ["No conditions.npz was written, so nothing is known of missing or noisy modalities."]
    parts = ["### Subsets of modalities", subset_words(study), subsets(study), *plot("subsets")]
    if measured(study, RATES):
        parts += ["### Missing at random", _rates(study), conditions(study, RATES, _rate), *plot("missing")]
    if measured(study, NOISES):
        parts += [
            "### Noise",
            "Weighted F1 with Gaussian noise on all modalities that are there, by signal-to-noise ratio.",
            conditions(study, (CLEAN, *NOISES), lambda name: "clean" if name == CLEAN else f"{name[4:]} dB"),
            *plot("noise"),
        ]
    if measured(study, SHUFFLES):
        parts += [
            "### Shuffled modalities",
            "Weighted F1 with one modality taken from another utterance, in parentheses the loss in points: what a "
            "model relies on, though it is wrong.",
            shuffled(study),
        ]
    return [*parts, NOTE]


def measured(study: Study, names: Sequence[str], prefix: str = "") -> bool:
    """Tell whether some part was evaluated under all of these conditions."""
    return any(all(study.under(f"{prefix}{name}", part) for name in names) for part in study.parts)


def score(study: Study, condition: str, part: str) -> tuple[float, float]:
    """Return the weighted F1 under a condition, mean and deviation over seeds."""
    return over_seeds(study.under(condition, part), f1)


def incomplete(study: Study, part: str) -> tuple[float, float]:
    """Return the mean weighted F1 over the six incomplete subsets, mean and deviation over seeds."""
    return spread(study.incomplete_by_seed(part).values())


def subset_words(study: Study) -> str:
    """Return what the incomplete subsets cost on each part, in a sentence."""
    said = []
    for part in study.parts:
        whole, rest = score(study, CLEAN, part)[0], incomplete(study, part)[0]
        if not math.isnan(whole - rest):
            said.append(f"{shown(part)} {number(rest)} ({gain(rest - whole, 'f1')})")
    means = ", ".join(said)
    return (
        "Weighted F1 with some modalities alone (A audio, T text, V video), means over seeds. The mean of the six "
        f"incomplete subsets, and its points from the whole: {means}."
    )


def subsets(study: Study) -> str:
    """Return a line a part with its weighted F1 under each subset, their mean and the majority's."""
    rows = []
    for part in study.parts:
        trivial = over_seeds(study.baseline(part), MEASURES["f1"])[0]
        cells = [number(score(study, f"subset={subset}", part)[0]) for subset in SUBSETS]
        rows.append([shown(part), *cells, with_deviation(*incomplete(study, part)), number(trivial)])
    return grid(["part", *SUBSETS, "mean of the incomplete", "majority"], rows)


def conditions(study: Study, names: Sequence[str], label: Callable[[str], str]) -> str:
    """Return a line a part with its weighted F1 under each condition, mean ± deviation over seeds."""
    rows = [[shown(part), *(with_deviation(*score(study, name, part)) for name in names)] for part in study.parts]
    return grid(["part", *(label(name) for name in names)], rows)


def shuffled(study: Study) -> str:
    """Return a line a part: weighted F1 as it is and with each modality shuffled, with the loss in points."""
    rows = []
    for part in study.parts:
        clean = score(study, CLEAN, part)[0]
        values = [score(study, name, part)[0] for name in SHUFFLES]
        cells = [NONE if math.isnan(v) else f"{number(v)} ({gain(v - clean, 'f1')})" for v in values]
        rows.append([shown(part), number(clean), *cells])
    return grid(["part", "clean", *MODALITIES], rows)


def missing_share(study: Study, condition: str) -> float:
    """Return the share of modalities that a condition took away or that were not there, over all parts and runs."""
    held = [study.conditions.get(run.name, Conditions()) for run in study.finished]
    masks = [part.masks[condition] for run in held for part in run.parts.values() if condition in part.masks]
    return 1 - float(np.concatenate(masks).mean()) if masks else math.nan


def presence(study: Study) -> str:
    """Return a line a part: how many utterances have each modality, and how many have all; "" where nobody says."""
    told, sizes = study.environment.get("presence"), study.environment.get("utterances")
    if not isinstance(told, dict) or not isinstance(sizes, dict):
        return ""
    rows = []
    for part in told:
        known, size = told[part], sizes.get(part)
        if isinstance(known, dict) and isinstance(size, int) and size > 0:
            cells = [_share(known.get(name), size) for name in (*MODALITIES, "all")]
            rows.append([str(part), f"{size:,}", *cells])
    return grid(*filled(["part", "n", *MODALITIES, "all three"], rows)) if rows else ""


def _share(count: object, size: int) -> str:
    return f"{count:,} ({100 * count / size:.1f} %)" if isinstance(count, int) else NONE


def _rate(name: str) -> str:
    return name.removeprefix("missing=")


def _rates(study: Study) -> str:
    said = (
        "Weighted F1 where each modality that is there is dropped with this probability (one is always left; the same "
        "stored masks for all runs), mean ± deviation over seeds."
    )
    shares = [missing_share(study, name) for name in (RATES[0], RATES[-1])]
    if any(math.isnan(share) for share in shares):
        return said
    now, most = (f"{100 * share:.0f} %" for share in shares)
    return f"{said} Of all modalities {now} are not there at rate 0 and {most} at .7."
