"""The model card: results as the Hub reads them, tables of the experiment, data, use and limits, how to load."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from affect import report, tables, tasks
from affect.data import corpora
from affect.hub.source import Source
from affect.report.rows import Record
from affect.task import TRAIN, VALID
from affect.usage import Card


def write(source: Source, recipe: Record, repo: str, last: bool) -> str:
    """Return the card of a run, metadata first; `recipe` is the one without paths, `last` whether last/ is there."""
    data = tables.inside(recipe, "data")
    # Where a recipe names no layout it is the corpus's own name.
    corpus = str(data.get("corpus", str(source.run.environment.get("corpus", "unknown")).partition("@")[0]))
    card = source.task.card(source.pushed, recipe, repo)
    name = repo.rsplit("/", 1)[-1]
    sections = [
        f"# {name}", _opening(source, card), _state(source, last), _results(source), _experiment(source),
        _data(source, data.get("corpus")), use(card, repo, last), card.use, f"## Licence\n\n{card.licence_note}",
    ]  # fmt: skip
    metadata = _metadata(source, card, name, corpus, data)
    return str(ModelCard("---\n" + metadata.to_yaml() + "\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"))


def _metadata(source: Source, card: Card, name: str, corpus: str, data: Record) -> ModelCardData:
    unseen = {part: values for part, values in source.plain.items() if part not in (TRAIN, VALID)}
    results = [
        EvalResult(
            task_type=card.task_type, task_name=card.task_name, dataset_type=corpus,
            dataset_name=str(source.run.environment.get("corpus", corpus)), dataset_split=part,
            metric_type=measure, metric_name=measure.replace("_", " "), metric_value=round(value, 4),
            metric_args=card.metric_args.get(measure),
        )
        # Validation behind the test parts: the Hub shows the first.
        for part, values in [*unseen.items(), (VALID, source.plain.get(VALID, {}))]
        for measure, value in values.items()
    ]  # fmt: skip
    named: dict[str, Any] = {"license_name": "corpus-and-pretrained-model"} if card.licence == "other" else {}
    root, layout = str(data.get("root", "")), corpora.known(corpus)
    read_from = [root] if layout is not None and layout.on_hub and root.count("/") == 1 else None
    return ModelCardData(
        model_name=name, eval_results=results or None, license=card.licence, library_name="affect",
        pipeline_tag=card.pipeline_tag, base_model=list(card.base_models) or None, language=card.language,
        datasets=read_from, tags=list(card.tags), **named,
    )  # fmt: skip


def _opening(source: Source, card: Card) -> str:
    corpus = tables.escaped(str(source.run.environment.get("corpus", "a corpus")))
    return (
        f"{tables.escaped(card.title)}, trained on {corpus}: seed {source.run.seed}, fold {source.run.fold} of the "
        f"experiment {tables.code(source.experiment)}.{' Read **Limits** below before you use it.' if card.use else ''}"
    )


def _state(source: Source, last: bool) -> str:
    lines = []
    if not source.run.finished:
        lines.append(
            f"> **Training goes on: step {source.step}.** The scores are those of the validation part so far; the test "
            "part is predicted once, at the end."
        )
    best = source.place.get("step") if isinstance(source.place.get("step"), int) else None
    lines.append(f"The weights at the top are the best by the validation part{f' (step {best})' if best else ''}.")
    if last:
        lines.append("Those in `last/` are the newest ones of training, for going on from or looking into.")
    return "\n\n".join(lines)


def _results(source: Source) -> str:
    """Return the scores of this run, a line a part."""
    scored = {part: values for part, values in source.plain.items() if values}
    return f"## Scores of this model\n\n{_grid('part', scored)}" if scored else ""


def _grid(head: str, scores: dict[str, dict[str, float]]) -> str:
    measures = list(dict.fromkeys(name for values in scores.values() for name in values))
    rows = [[name, *(tables.number(values.get(measure, math.nan)) for measure in measures)]
            for name, values in scores.items()]  # fmt: skip
    return tables.grid([head, *measures], rows)


def _experiment(source: Source) -> str:
    """Return the scores of all finished folds and seeds of the experiment, and its baselines."""
    if not source.run.finished:
        return ""
    runs = [run for run in report.read(source.folder.absolute().parents[1]) if run.finished]
    tests = [part for part in source.plain if part not in (TRAIN, VALID)] or [VALID]
    chosen, *others = tasks.make(tasks.read_recipe(source.run.recipe)).measures
    headline = [chosen.name, *(measure.name for measure in others if measure.headline)]
    scores = {
        run.name + (" (this model)" if run.name == source.run.name else ""): _tested(run, tests, headline)
        for run in runs
    }
    parts = [f"## All runs of the experiment\n\n{_grid('run', scores)}"]
    if beside := report.baselines(runs):
        parts.append(f"Beside baselines, all runs pooled, with 95 % intervals:\n\n{beside}")
    return "\n\n".join(parts)


def _tested(run: report.Run, tests: list[str], measures: list[str]) -> dict[str, float]:
    """Return a run's scores on the test parts, by "part measure"."""
    parts = {part: tables.inside(tables.inside(run.end, "scores"), part) for part in tests}
    return {
        (f"{part} {name}" if len(tests) > 1 else name): float(parts[part][name])
        for part in tests for name in measures
        if isinstance(parts[part].get(name), int | float)
    }  # fmt: skip


def _data(source: Source, layout: str | None) -> str:
    environment = source.run.environment
    read_as = f" (layout {tables.code(layout)})" if layout is not None else ""
    lines = [f"- corpus: {tables.escaped(str(environment.get('corpus', layout or 'unknown')))}{read_as}"]
    counts = environment.get("utterances")
    if isinstance(counts, dict):
        lines.append("- utterances: " + ", ".join(_counts(counts)))
    lines += _scales(environment)
    for part, labels in tables.inside(environment, "labelled").items():
        counts = _counts(labels if isinstance(labels, dict) else {})
        lines.append(f"- labels ({tables.escaped(part)}): {', '.join(counts)}")
    if isinstance(environment.get("classes"), list):
        lines.append("- classes: " + ", ".join(tables.escaped(str(name)) for name in environment["classes"]))
    reasons = tables.inside(environment, "exclusions")
    if isinstance(environment.get("excluded"), int):
        why = "; ".join(_counts(reasons, ": "))
        lines.append(f"- left out: {environment['excluded']}{f' ({why})' if why else ''}")
    lines.append("- the whole recipe is in `recipe.json`, what the inputs have to be in `preprocessor_config.json`")
    return "## Training data\n\n" + "\n".join(lines)


def _counts(numbers: Mapping[str, Any], between: str = " ") -> list[str]:
    return [f"{tables.escaped(str(name))}{between}{tables.escaped(str(number))}" for name, number in numbers.items()]


def _is_scale(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(end, int | float) for end in pair)


def _scales(environment: Mapping[str, Any]) -> list[str]:
    """Return the line on what scale labels have, each score its own where they are told by name."""
    named, guessed = (tables.inside(environment, name) for name in ("scales", "scale_inferred"))
    named = {name: pair for name, pair in named.items() if _is_scale(pair)}
    if named:
        marks = {name: " (inferred)" if guessed.get(name) else "" for name in named}
        each = (f"{tables.escaped(name)} {low:g} to {high:g}{marks[name]}" for name, (low, high) in named.items())
        return [f"- label scales: {', '.join(each)}; scores are on these"]
    scale = environment.get("scale")
    if not isinstance(scale, list) or not _is_scale(scale):
        return []
    mark = " (inferred from the labels)" if environment.get("scale_inferred") is True else ""
    return [f"- label scale: {scale[0]:g} to {scale[1]:g}{mark}; scores are on this scale"]


def use(card: Card, repo: str, last: bool) -> str:
    """Return the section on using a model, whose command and program run as they are beside the files they name."""
    what = f'".[{",".join(card.extras)}]"' if card.extras else "."
    parts = [
        "## How to use it",
        "It needs affect, the code that trained it: clone its repository (a package of that name on PyPI may be "
        "another one) and give, in the clone:",
        tables.fenced(f"pip install {what}"),
    ]
    if card.command:
        parts += ["Then, in a shell:", tables.fenced(f"affect predict {repo} {card.command}"), "Or in Python:"]
    parts.append(tables.fenced(card.program, "python"))
    if last:
        parts.append(f'The newest weights are `from_pretrained("{repo}", subfolder="last")`.')
    return "\n\n".join(parts)
