"""Predicting with whichever model: opened by its name, asked by its task, written as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

from affect.errors import AffectError
from affect.inference import opening
from affect.usage import UserInputs


def predict(name: Path, inputs: UserInputs, output: TextIO) -> int:
    """Write a JSON line for each prediction and return the number of lines with an error.

    `name` is what `opening.find` takes; of an experiment or a seed the predictions of its runs are averaged, as the
    task does. What can't be read gives a line with `error` and the others go on. Raises AffectError where there is no
    such model, or it doesn't take what is given.
    """
    opened = opening.find(name)
    takes = opened.task.takes
    for option in inputs.given:
        if takes and option not in takes:
            raise AffectError(f"{option} is for other models: this one takes {', '.join(takes)}")
    progress = sys.stderr.isatty() and not output.isatty()
    bad = 0
    for line in opened.task.infer(opened, inputs, progress=progress):
        bad += "error" in line
        output.write(json.dumps(line) + "\n")
        output.flush()
    return bad
