"""The report of an experiment: `report.md`, the same as one page `report.html`, and its plots, in its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from affect.errors import AffectError
from affect.report import against, classes, comparison, goals, html
from affect.report.compare import Comparison, compare
from affect.report.experiment import Experiment, experiments_in, is_experiment, load, with_scores
from affect.report.flags import flags, mapped
from affect.report.multimodal import page as multimodal
from affect.report.multimodal.names import is_multimodal
from affect.report.parts import command, environment, flagged, left_out, replace
from affect.report.runs import Run
from affect.report.scores import Scores, section
from affect.report.tables import baselines, escaped, folds, settings, table
from affect.report.words import resampling, result

_LOG = logging.getLogger("affect")


def write(folder: Path, against: Path | None = None, targets: Mapping[str, float] | None = None) -> Path:
    """Write `report.md`, `report.html` and `plots/*.png` into an experiment's folder and return the first's path.

    `against` is another experiment (its folder, its name beside this one, or a file of reported numbers), `targets`
    are scores to reach by name (V, valence, mean). `comparison.md` beside the folder is written anew.
    A pure function of the run folders: the same runs give the same bytes (PNGs: with the same matplotlib). Raises
    AffectError where there are no runs, nothing to compare, or the folder can't be written.
    """
    experiment = load(folder)
    other = load(against, experiment.folder.resolve().parent, scores_only=True) if against is not None else None
    path, _ = publish(experiment, other, targets)
    # A single run may be asked for too: its neighbours are seeds and folds.
    if is_experiment(experiment.folder):
        compare_all(experiment.folder.resolve().parent)
    return path


def publish(
    experiment: Experiment, other: Experiment | None = None, targets: Mapping[str, float] | None = None
) -> tuple[Path, str]:
    """Write the report of an experiment that was read, beside another one (see `write`).

    Returns the page's path and what the terminal shows of it: the tables, the comparison and the goals in words.
    """
    # The table printed after a run needs no matplotlib.
    from affect.report.plots import draw

    folder = experiment.folder
    path = folder / "report.md"
    # Of an experiment beside itself there is nothing to say.
    if other is not None and other.folder.resolve() == folder.resolve():
        other = None
    if is_multimodal(experiment.runs):
        return multimodal.publish(experiment, other, targets)
    left = left_out(path, other, targets)
    # Before anything is written: what can't be compared leaves the earlier report whole.
    scores = experiment.scores
    found = compare(experiment, other) if other is not None else None
    wanted = goals.resolve(targets, scores.targets) if targets and scores.runs else {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plots = draw(experiment.runs, folder / "plots", other, found, known=scores)
        content = page(experiment.name, experiment.runs, plots, comparison=found, wanted=wanted, known=scores)
        replace(path, content)
        replace(path.with_suffix(".html"), html.render(content, experiment.name, folder))
    except OSError as error:
        raise AffectError(f"the report {str(path)!r} can't be written: {error.strerror or error}") from error
    said = [table(experiment.runs, scores), *([against.summary(found)] if found else [])]
    said += [goals.distances(scores, wanted)] if wanted else []
    said += [left] if left else []
    return path, "\n\n".join(said).replace("**", "")


def compare_all(folder: Path) -> Path | None:
    """Write `comparison.md` into a folder of experiments; None where there is no experiment in it or it can't be."""
    if not experiments_in(folder):
        return None
    try:
        return comparison.write(folder)
    except AffectError as error:
        # The reports themselves are there; a read-only folder of experiments must not hide them.
        _LOG.warning("%s", error)
        return None


def expand(paths: Sequence[Path]) -> list[Path]:
    """Return the experiments that paths name: a folder of several stands for all of them.

    Raises AffectError for a path that holds neither runs nor experiments.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = [] if is_experiment(path) else experiments_in(path)
        found += inside or [path]
    return list(dict.fromkeys(found))


def page(
    name: str,
    runs: Sequence[Run],
    plots: Sequence[tuple[str, str]] = (),
    *,
    comparison: Comparison | None = None,
    wanted: Mapping[str, float] | None = None,
    known: Scores | None = None,
) -> str:
    """Return the report in Markdown; `plots` are (caption, path relative to the page), `wanted` goals by target.

    `known` are the runs' scores where they were computed before.
    """
    scores = known if known is not None else with_scores(runs)
    parts = [f"# {escaped(name)}", *_notice(runs)]
    if scores.runs:
        parts += ["## Result", result(scores), _honesty(runs)]
        parts += ["## Targets", goals.distances(scores, wanted)] if wanted else []
        parts += [f"## Against {escaped(comparison.name)}", against.section(comparison)] if comparison else []
        parts += ["## Folds", folds(scores), _legend(scores), *_pooled(scores)]
    else:
        parts += ["## Result", "No run is finished, so there is no score yet."]
    parts += ["## Flags", _flagged(runs)]
    shown = [f"{escaped(caption)}\n\n![{escaped(caption)}]({path})" for caption, path in plots]
    parts += ["## Plots", *shown] if plots else []
    if all(run.reported for run in runs):
        return "\n\n".join(parts) + "\n"
    recipe = next((run.recipe for run in runs if run.recipe), {})
    parts += ["## Settings", settings(recipe) if recipe else "No readable recipe.json."]
    parts += ["## Reproduce", command(runs, recipe), "## Environment", environment([run.environment for run in runs])]
    return "\n\n".join(parts) + "\n"


def _pooled(scores: Scores) -> list[str]:
    if not any(run.test for run in scores.runs):
        return []
    categorical = classes.section(scores)
    parts = ["## Pooled scores and baselines", baselines(scores), resampling(scores)]
    return parts + (["## Classes", categorical] if categorical else [])


def _notice(runs: Sequence[Run]) -> list[str]:
    if not any(mapped(run) for run in runs):
        return []
    return [
        "> **Labels mapped, not rated.** The dimensional labels were derived from emotion categories: each category "
        "has one point. The scores say how well categories are told apart along these axes; they are not comparable "
        "with scores on rated corpora."
    ]


def _honesty(runs: Sequence[Run]) -> str:
    if all(run.reported for run in runs):
        source = escaped(str(runs[0].environment.get("source", "")))
        return f"These numbers were not measured here; they are reported in: {source}."
    if all(section(run.recipe, "train").get("choose") == "last" for run in runs):
        words = (
            "The weights of the last step were taken, whatever the validation scores; the test part was evaluated once."
        )
    else:
        words = (
            "Checkpoints were chosen on the validation part; the test part was evaluated once, with the chosen "
            "checkpoint. Validation scores are therefore the best of several and lean upwards."
        )
    unfinished = [run.name for run in runs if not run.finished]
    return words + (f" **Not finished and left out: {', '.join(unfinished)}.**" if unfinished else "")


def _legend(scores: Scores) -> str:
    of = "scores (CCC, UA of classes)" if scores.targets.classes else "CCCs"
    return (
        "`n`: utterances of the test part. `gap`: validation minus test, averaged over the targets. "
        f"`mean`: of the targets' {of}. The deviation is that of a sample, over folds (seeds averaged first)."
    )


def _flagged(runs: Sequence[Run]) -> str:
    none = "None: no gap over .05, no outlying fold, no NaN, no constant predictions, no slow loading."
    return flagged(flags(runs), none)
