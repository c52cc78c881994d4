"""affect: distributed training scripts for affective computing and speaker diarization.

Its front door in Python is `load`, a trained model as a function, and `run`, a recipe as a call (docs/python.md).
Importing it loads no library; each of the two loads what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from affect.front import Model
    from affect.recipe import Recipe

__all__ = ["load", "run"]


def load(
    name: str | Path, *, revision: str | None = None, subfolder: str | None = None, trust_remote_code: bool = False
) -> Model:
    """Return a trained model, to be called with a file, samples and their rate, or a list of either.

    `name` is a run's folder, an experiment's or a seed's (the mean over its runs), a folder of weights, an exported
    file, or user/name on the Hub. Raises AffectError where there is no such model. `trust_remote_code` lets the program
    of an encoder's folder run where one made features of texts.
    """
    from affect import front

    return front.load(name, revision=revision, subfolder=subfolder, trust_remote_code=trust_remote_code)


def run(recipe: Recipe | str | Path, name: str | None = None, **options: Any) -> Path:
    """Run all seeds and folds of a recipe (or of a recipe.json) that are not finished, and return their folder.

    It is runs/<name>, with report.md; without a name it is that of the recipe.json's experiment, or the task's.
    `options` are those of a command line: runs, seeds, folds, resume, overwrite, report. Raises AffectError.
    """
    from affect import front

    return front.run(recipe, name, **options)
