"""What is pushed of a run: weights best and last, what prediction needs, recipe, scores and the model card."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from affect.hub import card, clean
from affect.hub.source import Source
from affect.models.saving import CONFIG, TOKENIZER, WEIGHTS

LAST = "last"
"""The folder of the last weights."""
_NAMED = ("name_or_path", "tokenizer_file", "vocab_file", "merges_file", "name")
"""Fields of a tokenizer's files that may hold a path; its tokens may look like one."""


def write(source: Source, folder: Path, repo: str) -> None:
    """Write all that is pushed of a run to a new folder; weights are linked where the disk allows, else copied.

    Raises AffectError where something of it can't be read.
    """
    folder.mkdir(parents=True)
    _link(source.best / WEIGHTS, folder / WEIGHTS)
    _describe(source, source.pushed, folder)
    last = source.last
    if last is not None:
        (folder / LAST).mkdir()
        _link(last, folder / LAST / WEIGHTS)
        _describe(source, source.config, folder / LAST)
    recipe = clean.scrub(source.run.recipe)
    _json(folder / "recipe.json", recipe)
    _json(folder / "scores.json", {"finished": source.run.finished, "step": source.step,
                                   "best_step": source.place.get("step"), "scores": source.scores})  # fmt: skip
    (folder / "README.md").write_text(
        card.write(source, recipe, repo, last is not None), encoding="utf-8", errors="backslashreplace"
    )


def _describe(source: Source, config: dict[str, Any], folder: Path) -> None:
    """Write beside weights what a model is built and fed by."""
    _json(folder / CONFIG, config)
    _json(folder / "preprocessor_config.json", source.task.preprocessing(config))
    tokenizer = source.best / TOKENIZER
    if tokenizer.is_dir():
        shutil.copytree(tokenizer, folder / TOKENIZER)
        for path in (folder / TOKENIZER).glob("*.json"):
            facts = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(facts, dict) and not facts.keys().isdisjoint(_NAMED):
                _json(path, {name: clean.scrub(value) if name in _NAMED else value for name, value in facts.items()})


def _link(path: Path, to: Path) -> None:
    """Let `to` be what `path` is now: a run replaces its weights and never writes into them."""
    try:
        os.link(path, to)
    except OSError:
        # Another disk, or one without links.
        shutil.copyfile(path, to)


def _json(path: Path, data: Any) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
