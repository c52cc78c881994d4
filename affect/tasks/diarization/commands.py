"""The subcommands that the task adds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import tyro

from affect.errors import AffectError


def score(
    reference: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="REF")],
    hypothesis: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="HYP")],
    /,
    uem: Path | None = None,
    collar: float = 0.0,
    skip_overlap: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    format: Literal["md", "json"] = "md",
    output: Path | None = None,
) -> None:
    """Score who spoke when against a reference: DER with its parts, JER, and how many speakers there were.

    A line a recording and one for all, whose seconds are added up before they are divided; JER is the mean over all
    speakers of all recordings. Warnings below name recordings that one side lacks, and all else that was dropped or
    joined. Rates are percent in the table and fractions in JSON.

    Args:
        reference: An RTTM file, or a folder of .rttm files, of which one without turns is a silent recording.
        hypothesis: The same of what is scored; channels and the names of speakers do not matter.
        uem: A UEM file or a folder of .uem files: what is scored. Without one all time is.
        collar: Seconds on each side of every boundary of the reference that are not scored (pyannote's is twice that).
        skip_overlap: Leave out time in which several speakers of the reference speak.
        format: A table in Markdown, or JSON.
        output: The file to write instead of the terminal.
    """
    if not 0 <= collar < math.inf:
        raise AffectError(f"--collar must be 0 or more seconds, not {collar:g}")
    from affect.tasks.diarization import scoring

    scores = scoring.score_files(reference, hypothesis, uem, collar=collar, skip_overlap=skip_overlap)
    page = scores.json() if format == "json" else scores.markdown()
    if output is None:
        print(page)
        return
    try:
        output.write_text(page + "\n", encoding="utf-8")
    except OSError as error:
        raise AffectError(f"{output} can't be written: {error.strerror}") from error
    print(f"scores: {output}")


def diarize(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    audio: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="AUDIO")],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    num_speakers: int | None = None,
    exclusive: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Write who speaks when, as RTTM.

    Recordings are read as streams, of any length in the same memory; speakers are numbers, in the order in which they
    are met. Of standard input (-, WAV) each turn is written when it is decided.

    Args:
        run: A run's folder, a folder of weights, or a model on the Hub.
        audio: Recordings, folders of them, or - for standard input.
        output: The file to write instead of the terminal.
        num_speakers: The most speakers that a recording has.
        exclusive: One speaker a moment: where several speak, the one who began last.
    """
    if num_speakers is not None and num_speakers < 1:
        raise AffectError(f"--num-speakers must be at least 1, not {num_speakers}")
    from affect.tasks.diarization import files

    files.diarize(run, audio, output, most=num_speakers, alone=exclusive)
