"""The subcommand that the task adds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def convert(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    labels: tuple[str, ...] = (),
    unlabelled: bool = False,
) -> None:
    """Convert a pickle of talking faces to a folder to train on, and describe it.

    It is read by a process of its own, which calls nothing that the pickle names and has limits of memory and time. The
    folder has the features (features.arrow), a line a clip (rows.csv: parts, groups and scores may be edited) and
    what is in them (schema.json).

    Args:
        file: The pickle: splits of samples or of columns, or a flat list.
        out: The folder to be made.
        labels: The scores to take, all where none are named; of a table of labels without names its columns.
        unlabelled: Take clips without a label, too: to pretrain on (loss.kind corruption).
    """
    from affect.data import pickle_file

    print(f"{pickle_file.convert(file, out, labels, unlabelled=unlabelled)}\n\nfolder: {out}")
