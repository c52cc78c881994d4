"""The subcommands that the task adds."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from affect.errors import AffectError, refuse_overwriting, writing


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
        reference: An RTTM file, or a folder with .rttm files in it or below; one without turns is a silent recording.
        hypothesis: The same of what is scored; channels and the names of speakers do not matter.
        uem: A UEM file or a folder of .uem files: what is scored. Without one all time is.
        collar: Seconds on each side of every boundary of the reference that are not scored (pyannote's is twice that).
        skip_overlap: Leave out time in which several speakers of the reference speak.
        format: A table in Markdown, or JSON.
        output: The file to write instead of the terminal.
    """
    if not 0 <= collar < math.inf:
        raise AffectError(f"--collar must be 0 or more seconds, not {collar:g}")
    from affect.data.rttm import files_of
    from affect.tasks.diarization import scoring

    spans = [] if uem is None else files_of(uem, "UEM")
    refuse_overwriting({"--output": output}, [*files_of(reference, "RTTM"), *files_of(hypothesis, "RTTM"), *spans])
    scores = scoring.score_files(reference, hypothesis, uem, collar=collar, skip_overlap=skip_overlap)
    page = scores.json() if format == "json" else scores.markdown()
    if output is None:
        print(page)
        return
    with writing(output):
        output.write_text(page + "\n", encoding="utf-8")
    print(f"scores: {output}")


def diarize(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    audio: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="AUDIO")],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    uem: Path | None = None,
    num_speakers: int | None = None,
    exclusive: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    offline: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    plot: Path | None = None,
    embeddings: Path | None = None,
    rate: int | None = None,
    raw: Literal["s16", "f32"] = "s16",
    start: Annotated[float | None, tyro.conf.arg(name="online.start")] = None,
) -> None:
    """Write who speaks when, as RTTM; a bad recording gives a line on the terminal, and exit code 1.

    Recordings of any length are read as streams, in the same memory; speakers are numbers, in the order in which they
    are met. What comes on standard input (-) is diarized while it comes: each turn is written when it is decided, and
    the first ones when a window (8 s as a rule) or --online.start is heard. How long after their ends turns were told,
    by the sound that was heard, and the share of real time that it took are told at the end. A known speaker's turn
    takes about a second; where somebody new is heard, what follows waits for who it is, at most as long as a window.

    Args:
        run: A run's folder, a folder of weights, or a model on the Hub.
        audio: Recordings, folders of them, or - for standard input: a wav, or raw samples with --rate.
        output: The file to write instead of the terminal.
        uem: A UEM file, or a folder of .uem files: the turns inside of it are written, and recordings that it does not
            name are passed over.
        num_speakers: How many speakers a recording has: at most so many are told, and it is said where fewer are found.
        exclusive: One speaker a moment, as a transcript has it: where several speak, the one who began last.
        offline: Decode once more when all is heard, with the speakers as they are known then; it is read twice.
        plot: A folder for a timeline of each recording, RECORDING.png.
        embeddings: An .npz file for what tells speakers apart, to name people across recordings: `embeddings` [K, D] of
            length 1, whose dot product is likeness, and `recordings`, `speakers` and `seconds` of speech [K].
        rate: Sampling rate in Hz of raw samples on standard input, one channel.
        raw: How a raw sample is written, little-endian: 16-bit integers or 32-bit floats.
        start: Seconds that are heard before anything is told; a window when not given, in which newcomers are known
            best.
    """
    from affect.tasks.diarization import files

    wanted = files.Wanted(
        output=output, uem=uem, most=num_speakers, alone=exclusive, offline=offline or None, plots=plot,
        embeddings=embeddings, rate=rate, raw=raw, start=start,
    )  # fmt: skip
    if files.diarize(run, audio, wanted):
        sys.exit(1)
