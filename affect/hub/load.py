"""Loading a pushed model, or a local one: nothing of the run that made it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError
from affect.hub import client
from affect.models import saving

if TYPE_CHECKING:
    from torch import nn

    from affect.models import text

_BEST = Path("checkpoints", "best")
_NEEDED = ("model.safetensors", "config.json", "preprocessor_config.json", "tokenizer/*")
"""What prediction needs of a repo."""


def from_pretrained(name: str | Path, *, revision: str | None = None, subfolder: str | None = None) -> nn.Module:
    """Return a model in evaluation mode, on the CPU, that predicts what its run predicted.

    `name` is a folder (of weights, or a run's: then its best ones) or user/name on the Hub; a folder that is there
    counts first. `revision` is a branch, tag or commit of the Hub's, `subfolder` "last" the newest weights of a pushed
    model. Raises AffectError where there is no such model, or its files are damaged.
    """
    return tasks.load(folder_of(Path(name), revision=revision, subfolder=subfolder))


def tokenizer(name: str | Path, *, revision: str | None = None, subfolder: str | None = None) -> text.Tokenizer:
    """Return what makes texts the tokens [B, W] and token_mask [B, W] of a model that `from_pretrained` gives.

    Raises AffectError where there is no such model, or it takes no text.
    """
    from affect.models import text

    return text.load_tokenizer(folder_of(Path(name), revision=revision, subfolder=subfolder))


def folder_of(name: Path, *, revision: str | None = None, subfolder: str | None = None) -> Path:
    """Return the folder of a model's weights: below `name` where it is a folder, else fetched from the Hub.

    A name that is neither is returned as it is. Raises AffectError where the Hub has no such model, and for a run's
    folder that was copied from another's.
    """
    if name.exists():
        if revision is not None:
            raise AffectError(f"{name} is a folder here, which has no revision {revision!r}: leave it out")
        inside = name if subfolder is None else name / subfolder
        if (inside / _BEST / saving.WEIGHTS).is_file():
            recipes.check_own(inside)
            return inside / _BEST
        if inside.absolute().parts[-2:] == _BEST.parts:
            recipes.check_own(inside.absolute().parents[1])
        return inside
    repo = name.as_posix()
    if not client.is_name(repo):
        return name
    prefix = "" if subfolder is None else f"{subfolder.strip('/')}/"
    try:
        fetched = client.download(repo, revision, [prefix + needed for needed in _NEEDED])
    except AffectError as error:
        raise AffectError(f"{error} (and there is no folder {repo} here)") from error
    folder = fetched / prefix
    if not (folder / saving.WEIGHTS).is_file():
        raise AffectError(f"{repo} holds no {prefix}{saving.WEIGHTS}: it is no model that affect has pushed")
    return folder
