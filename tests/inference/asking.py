"""Asking models as `affect predict` does: the lines with an error counted, all lines read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from affect.inference.opening import find, predict
from affect.usage import UserInputs


def ask(run: Path, *files: Path | str, **named: Any) -> tuple[int, list[dict[str, Any]]]:
    """Return how many lines have an error, and the lines; `named` are fields of `UserInputs`, values by modality."""
    output = io.StringIO()
    several = {name: tuple(map(str, named.pop(name))) for name in ("text", "audio", "video") if name in named}
    bad = predict(find(Path(run)), UserInputs(files=tuple(map(Path, files)), **several, **named), output)
    return bad, [json.loads(line) for line in output.getvalue().splitlines()]
