"""The model card: results as the Hub reads them, tables of the experiment, data, use and limits, how to load."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from affect import report, tables
from affect.hub import example, words
from affect.hub.source import Source
from affect.report.rows import Record

_FIRST = ("emoval", "f1", "acc", "mse", "macro_f1", "ccc", "ua")
"""Measures in the order of a table; those of one target (ccc_valence) come after their mean."""


def write(source: Source, recipe: Record, repo: str, last: bool) -> str:
    """Return the card of a run, metadata first; `recipe` is the one without paths, `last` whether last/ is there."""
    fused = "multimodal" in source.config
    data = recipe.get("data") if isinstance(recipe.get("data"), dict) else {}
    corpus = str((data or {}).get("corpus", "unknown"))
    licence, said = words.licence(corpus, source.config)
    name = repo.rsplit("/", 1)[-1]
    sections = [
        f"# {name}",
        _opening(source, fused),
        _state(source, last),
        _results(source),
        _experiment(source),
        _data(source, corpus),
        example.section(source.config, repo, last),
        words.use(corpus).strip(),
        f"## Licence\n\n{said}",
    ]
    metadata = _metadata(source, name, corpus, licence, fused, words.datasets(data or {}))
    return str(ModelCard("---\n" + metadata.to_yaml() + "\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"))


def _metadata(source: Source, name: str, corpus: str, licence: str, fused: bool, datasets: list[str]) -> ModelCardData:
    kind = "multimodal emotion recognition" if fused else "valence and arousal of utterances"
    results = [
        EvalResult(
            task_type="multimodal-emotion-recognition" if fused else "speech-emotion-recognition", task_name=kind,
            dataset_type=corpus, dataset_name=str(source.run.environment.get("corpus", corpus)), dataset_split=part,
            metric_type=measure, metric_name=measure.replace("_", " "), metric_value=round(value, 4),
        )
        for part, values in _tested_first(source.scores) for measure, value in _sorted(values)
    ]  # fmt: skip
    hears = not fused and source.config["model"]["encoder"]["name"] != "none"
    base = [entry for entry in words.pretrained(source.config) if not fused and entry.count("/") == 1]
    named: dict[str, Any] = {"license_name": "corpus-and-pretrained-model"} if licence == "other" else {}
    return ModelCardData(
        model_name=name, eval_results=results or None, license=licence, library_name="affect",
        pipeline_tag="audio-classification" if hears else None, base_model=base or None,
        language=words.language(corpus), datasets=datasets or None,
        tags=["emotion-recognition", "affective-computing", "affect"], **named,
    )  # fmt: skip


def _tested_first(scores: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    """Return the parts that no training saw, validation behind the test parts: the Hub shows the first."""
    parts = [part for part in scores if part not in ("train", "valid")]
    return [(part, scores[part]) for part in [*parts, "valid"] if part in scores]


def _opening(source: Source, fused: bool) -> str:
    environment = source.run.environment
    corpus = tables.escaped(str(environment.get("corpus", "a corpus")))
    if fused:
        streams = source.config["multimodal"]["streams"]
        of = ", ".join(dict.fromkeys(stream[0] for stream in streams))
        what = f"Emotion and valence of an utterance from features of its {of}"
    else:
        what = f"The {' and '.join(source.config['model']['targets'])} of an utterance"
    return (
        f"{what}, trained on {corpus}: seed {source.run.seed}, fold {source.run.fold} of the experiment "
        f"`{source.experiment}`. Read **Limits** below before you use it."
    )


def _state(source: Source, last: bool) -> str:
    lines = []
    if not source.run.finished:
        lines.append(
            f"> **Training goes on: step {source.step}.** The scores are those of the validation part so far; the test "
            "part is predicted once, at the end."
        )
    best = source.place.get("step")
    lines.append(f"The weights at the top are the best by the validation part{f' (step {best})' if best else ''}.")
    if last:
        lines.append("Those in `last/` are the newest ones of training, for going on from or looking into.")
    return "\n\n".join(lines)


def _results(source: Source) -> str:
    """Return the scores of this run, a line a part."""
    found = {part: values for part, values in source.scores.items() if values}
    if not found:
        return ""
    measures = list(dict.fromkeys(name for values in found.values() for name, _ in _sorted(values)))
    rows = [[part, *(tables.number(values.get(name, float("nan"))) for name in measures)]
            for part, values in found.items()]  # fmt: skip
    return f"## Scores of this model\n\n{tables.grid(['part', *measures], rows)}"


def _experiment(source: Source) -> str:
    """Return the scores of all finished folds and seeds of the experiment, and its baselines."""
    runs = source.experiment_runs()
    if not runs:
        return ""
    tests = [part for part in source.scores if part not in ("train", "valid")] or ["valid"]
    found = {run.name: _tested(run, tests) for run in runs}
    measures = list(dict.fromkeys(name for values in found.values() for name in values))
    rows = [[name + (" (this model)" if name == source.run.name else ""),
             *(tables.number(values.get(measure, float("nan"))) for measure in measures)]
            for name, values in found.items()]  # fmt: skip
    told = [f"## All runs of the experiment\n\n{tables.grid(['run', *measures], rows)}"]
    if beside := report.baselines(runs):
        told.append(f"Beside baselines, all runs pooled, with 95 % intervals:\n\n{beside}")
    return "\n\n".join(told)


def _tested(run: report.Run, tests: list[str]) -> dict[str, float]:
    """Return a run's headline scores on the test parts, by "part measure"."""
    scores = run.end.get("scores")
    parts = scores if isinstance(scores, dict) else {}
    return {
        (f"{part} {name}" if len(tests) > 1 else name): float(value)
        for part in tests for name, value in _sorted(parts.get(part) or {})
        if isinstance(value, int | float) and not name.startswith(("pearson", "rmse", "macro"))
    }  # fmt: skip


def _sorted(scores: Record) -> list[tuple[str, Any]]:
    def place(item: tuple[str, Any]) -> tuple[int, int]:
        first = item[0].split("_")[0]
        known = item[0] if item[0] in _FIRST else first
        return (_FIRST.index(known) if known in _FIRST else len(_FIRST), item[0] != known)

    return sorted(scores.items(), key=place)


def _data(source: Source, corpus: str) -> str:
    environment = source.run.environment
    lines = [f"- corpus: {tables.escaped(str(environment.get('corpus', corpus)))} (layout `{corpus}`)"]
    counts = environment.get("utterances")
    if isinstance(counts, dict):
        lines.append("- utterances: " + ", ".join(f"{part} {number}" for part, number in counts.items()))
    scale = environment.get("scale")
    if isinstance(scale, list) and len(scale) == 2:
        lines.append(f"- label scale: {scale[0]:g} to {scale[1]:g}; scores are on this scale")
    if isinstance(environment.get("classes"), list):
        lines.append("- classes: " + ", ".join(map(str, environment["classes"])))
    reasons = environment.get("exclusions")
    if isinstance(environment.get("excluded"), int):
        why = "; ".join(f"{tables.escaped(str(reason))}: {number}" for reason, number in (reasons or {}).items())
        lines.append(f"- left out: {environment['excluded']}{f' ({why})' if why else ''}")
    lines.append("- the whole recipe is in `recipe.json`, what the inputs have to be in `preprocessor_config.json`")
    return "## Training data\n\n" + "\n".join(lines)
