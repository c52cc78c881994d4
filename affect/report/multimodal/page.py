"""The report of a multimodal emotion experiment: `report.md`, the same as one page `report.html`, and its plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from affect.errors import AffectError
from affect.report import html
from affect.report.experiment import Experiment
from affect.report.multimodal import (
    against,
    attention,
    details,
    goals,
    result,
    robustness,
    training,
)
from affect.report.multimodal.alarms import alarms
from affect.report.multimodal.compare import Comparison, compare
from affect.report.multimodal.goals import Goals
from affect.report.multimodal.names import is_multimodal
from affect.report.multimodal.study import Study, study_of
from affect.report.parts import command, environment, flagged, left_out, replace
from affect.report.scores import section
from affect.report.tables import escaped, settings

Plots = Mapping[str, tuple[str, str]]
_CALM = "None: nothing missing or unreadable, no collapse, no gap over .2, every epoch chosen on its fold."


def publish(
    experiment: Experiment, other: Experiment | None = None, targets: Mapping[str, float] | None = None
) -> tuple[Path, str]:
    """Write the report of an experiment that was read, beside another one.

    Returns the page's path and what the terminal shows of it. Raises AffectError where there is nothing to compare, a
    target names no score, or the folder can't be written.
    """
    # The table printed after a run needs no matplotlib.
    from affect.report.multimodal.plots import draw

    folder = experiment.folder
    path = folder / "report.md"
    left = left_out(path, other, targets)
    study = study_of(experiment)
    beside = study_of(other) if other is not None else None
    if other is not None and not is_multimodal(other.runs):
        raise AffectError(f"{experiment.name} and {other.name} have nothing in common: they are of different tasks")
    # Before anything is written: what can't be compared leaves the earlier report whole.
    found = compare(study, beside) if beside is not None else None
    wanted = goals.resolve(study, targets) if targets and study.parts else {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = page(study, draw(study, folder / "plots", beside, found), comparison=found, wanted=wanted)
        replace(path, content)
        replace(path.with_suffix(".html"), html.render(content, experiment.name, folder))
    except OSError as error:
        raise AffectError(f"the report {str(path)!r} can't be written: {error.strerror or error}") from error
    said = [result.printed(study), *([against.summary(found)] if found else [])]
    said += [goals.distances(study, wanted)] if wanted else []
    return path, "\n\n".join([*said, *([left] if left else [])]).replace("**", "")


def page(
    study: Study, plots: Plots | None = None, *, comparison: Comparison | None = None, wanted: Goals | None = None
) -> str:
    """Return the report in Markdown; `plots` are (caption, path relative to the page) by name, `wanted` goals."""
    drawn = plots or {}
    parts = [f"# {escaped(study.name)}"]
    if not study.parts:
        parts += ["## Result", "No run is finished, so there is no score yet."]
    else:
        parts += ["## Result", *_result(study), *_shown(drawn, "scores")]
        parts += ["## Targets", goals.distances(study, wanted)] if wanted else []
        if comparison is not None:
            parts += [f"## Against {escaped(comparison.name)}", against.section(comparison)]
            parts += _shown(drawn, "differences")
    if not study.reported:
        parts += ["## Flags", flagged(alarms(study, comparison), _CALM)]
    if study.parts and not study.reported:
        parts += _measured(study, drawn)
    elif not study.reported:
        parts += _shown(drawn, "curves")
    if not study.reported:
        parts += ["## Settings", settings(study.recipe) if study.recipe else "No readable recipe.json."]
        parts += ["## Reproduce", command(study.runs, study.recipe), "## Environment", _environment(study)]
    return "\n\n".join(parts) + "\n"


def _result(study: Study) -> list[str]:
    if study.reported:
        source = escaped(str(study.environment.get("source", "")))
        return [result.words(study), result.table(study), f"Not measured here; reported in: {source}."]
    parts = [result.words(study), result.table(study), result.basis(study)]
    if section(study.recipe, "data").get("corpus") == "generated":
        parts = [
            "> **A generated corpus.** Its features were made up: the scores say how systems compare on it, and "
            "nothing about real people.",
            *parts,
        ]
    parts += ["The public toolkit's metric lines:", result.lines(study)]
    left = result.unfinished(study)
    return parts + ([f"**Not finished, or of a seed that is not, and left out: {', '.join(left)}.**"] if left else [])


def _measured(study: Study, drawn: Plots) -> list[str]:
    courses = training.courses(study)
    parts = []
    # Of a mean of other experiments nothing was trained.
    if any(run.evals for run in study.finished):
        parts = ["## Training", training.words(courses), training.table(courses), *_shown(drawn, "curves")]
        parts += [
            "The training scores are as the trainer recorded them; all other scores here are recomputed from "
            "predictions. Epochs count from 1."
        ]
    parts += [
        "## Scores",
        details.scores(study),
        details.LEGEND,
        "### Classes",
        details.classes(study),
        *_shown(drawn, "confusion"),
        *details.confusions(study),
        "## Missing and noisy modalities",
    ]
    there = robustness.presence(study)
    first = f"train and valid: of seed {study.finished[0].seed}, fold {study.finished[0].fold}" if there else ""
    parts += [f"Utterances that have each modality ({first}):", there] if there else []
    parts += robustness.section(study, lambda name: _shown(drawn, name))
    looks = attention.section(study)
    parts += ["## Attention", *looks, *_shown(drawn, "attention")] if looks else []
    parts += ["## Modality dropout", *_shown(drawn, "dropout")] if "dropout" in drawn else []
    return parts


def _shown(drawn: Plots, name: str) -> list[str]:
    if name not in drawn:
        return []
    caption, path = drawn[name]
    return [escaped(caption), f"![{escaped(caption)}]({path})"]


def _environment(study: Study) -> str:
    # Told above, part by part.
    above = ("presence", "utterances", "class_counts", "classes")
    return environment([{k: v for k, v in run.environment.items() if k not in above} for run in study.runs])
