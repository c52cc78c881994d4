"""Whether runs train an encoder: only then its rate can be to blame."""

from __future__ import annotations

from collections.abc import Sequence

from affect.report.runs import Run
from affect.report.scores import section

_ABSENT = (None, "", "none", "mel")


def trained(run: Run) -> bool:
    """Say whether a run trains an encoder of speech or text, so that optim.encoder_lr decides something."""
    model = section(run.recipe, "model")
    hears = model.get("encoder") not in _ABSENT and (model.get("train_encoder") != "none" or bool(model.get("lora")))
    return hears or (model.get("text") not in _ABSENT and model.get("train_text") != "none")


def either(runs: Sequence[Run], there: str, absent: str = "") -> str:
    """Return one advice where a run trains an encoder (or is a paper's, who did), else the other."""
    return there if any(run.reported or trained(run) for run in runs) else absent
