"""The subcommands that read what is there: runs, and corpora."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from affect import tasks
from affect.cli.arguments import named_values
from affect.data import corpora
from affect.data.corpora.kinds import LISTED
from affect.errors import AffectError

if TYPE_CHECKING:
    LayoutName = str
else:
    # Help and errors list what there is.
    LayoutName = Literal[("auto", *corpora.INSPECTED)]


def report(
    runs: Annotated[list[Path], tyro.conf.Positional], /, against: Path | None = None, target: tuple[str, ...] = ()
) -> None:
    """Write report.md, report.html and plots for experiments and print their tables; compare them all.

    The page report.html holds its plots and needs no other file: mail it, or open it anywhere. Beside the
    experiments comparison.md gets a line for each of them; it is printed where several are named. Each page is
    written anew: without --against or --target it has no such part, and a line says so where the earlier one had.

    Args:
        runs: Folders of experiments (runs/<experiment>), a folder of several (runs), or files of reported numbers.
        against: What to compare with: an experiment's folder, its name beside the first one, or a file of reported
            numbers (reported.json: {"name": "v1", "source": "a paper", "mean": {"test2": {"f1": 0.76}}}).
        target: Scores to reach, as V=.68 A=.68 or mean=.65.
    """
    if not runs:
        raise AffectError("affect report needs the folder of an experiment (runs/<experiment>), or several")
    from affect import report as reports

    goals = reports.parse_goals(target)
    paths = reports.expand(runs)
    other = None if against is None else reports.load(against, paths[0].resolve().parent, scores_only=True)
    for path in paths:
        try:
            page, tables = reports.publish(reports.load(path), other, goals)
        except AffectError as error:
            if path in runs:
                raise
            print(f"left out: {path}: {error}\n", file=sys.stderr)
            continue
        print(f"{tables}\n\nreport: {page} (and {page.with_suffix('.html').name})\n")
    for folder in dict.fromkeys(path.resolve().parent for path in paths):
        everything = reports.compare_all(folder)
        if everything is not None and len(paths) > 1:
            print(f"{everything.read_text(encoding='utf-8')}\ncomparison: {everything}\n")


def inspect(
    root: Annotated[Path, tyro.conf.Positional],
    /,
    corpus: LayoutName = "auto",
    scale: tuple[float, float] | None = None,
    columns: tuple[str, ...] = (),
    raters: Literal["mean"] | None = None,
    decimal: Literal[".", ","] = ".",
    labels: str | None = None,
    audio: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    streaming: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    options: tuple[str, ...] = (),
    audio_feature: tuple[str, ...] = (),
    text_feature: tuple[str, ...] = (),
    video_feature: tuple[str, ...] = (),
    every: Annotated[bool, tyro.conf.arg(name="all"), tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Describe a corpus: counts, labels, durations, what is left out and why, and its folds.

    Of a corpus of features: the features there, how many vectors of each are missing in each part, and how often
    each set of modalities is there. Of clips with scores, also in a pickle, which is read without trusting it: their
    features, scores and groups, and which groups its parts share.

    Args:
        root: The corpus's folder, a pickle, or the name of a source on the Hub.
        corpus: Its layout; auto looks.
        scale: Lowest and highest label of your own data; inferred from the labels when not given.
        columns: OURS=THEIRS for each column that has another name in your own data.
        raters: Of your own data with a row a rater: mean averages them.
        decimal: The sign before decimals in your own data.
        labels: The file with the labels, where a folder has several; npz or csv where they are there in both forms.
        audio: The folder of recordings, where it is not that of the labels.
        subset: The configuration of a source on the Hub.
        revision: The version of a source on the Hub.
        limit: Rows of a source on the Hub to read at most.
        streaming: Fetch a source on the Hub row by row.
        options: What else the layout's reader takes, NAME=VALUE each (a,b for several); an unknown name lists all.
        audio_feature: Features that are audio's; with no --...-feature the usual ones.
        text_feature: Features that are text's.
        video_feature: Features that are video's.
        every: List all that is left out, not the first ten.
    """
    if scale is not None and not -math.inf < scale[0] < scale[1] < math.inf:
        raise AffectError(f"--scale must be low then high, both finite, not {scale[0]:g} {scale[1]:g}")
    asked: dict[str, Any] = {
        "scale": scale, "columns": corpora.mapping(columns), "raters": raters, "labels": labels, "audio": audio,
        "subset": subset,
        "revision": revision, "limit": limit, "streaming": streaming,
        "audio_feature": audio_feature, "text_feature": text_feature, "video_feature": video_feature,
    }  # fmt: skip
    # A limit of 0 is a mistake for the reader to name, not one that was not given.
    given = {name: value for name, value in asked.items() if value or value == 0 and name == "limit"}
    given |= {"decimal": decimal} if decimal != "." else {}
    print(_described(corpus, root, given, options, None if every else LISTED))


def _described(corpus: str, root: Path, given: dict[str, Any], options: tuple[str, ...], listed: int | None) -> str:
    if corpus == "auto" and root.is_file():
        for layout in map(corpora.layout, corpora.INSPECTED):
            if layout.describe_file is not None and (text := layout.describe_file(root)) is not None:
                for name in [*given, *["options"] * bool(options)]:
                    raise AffectError(f"--{name.replace('_', '-')} has no use for a file, which is described as it is")
                return text
    name = corpora.detect(root) if corpus == "auto" else corpus
    layout = corpora.layout(name)
    own = named_values(options, layout.read, f"corpus {name!r}", but=given)
    described: str = tasks.attribute(layout.kind.describe)(name, root, {**given, **own}, listed)
    return described
