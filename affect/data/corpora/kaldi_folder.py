"""A Kaldi data folder, or a folder of them (train, dev, test): wav.scp, utt2spk and, usually, segments.

Without `segments` an utterance is a recording. Nothing is run: a wav.scp that names a command (`... |`) is refused,
with the recording's name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from affect.data.corpora.kaldi_files import SCP, SPEAKERS, lines, utterances
from affect.data.corpora.kinds import RECORDINGS
from affect.data.corpora.layout import Layout
from affect.data.corpus import Exclusion
from affect.data.parts import part_of_names

if TYPE_CHECKING:
    from affect.data.recordings import Annotated, RecordingCorpus
    from affect.data.rttm import Span, Turn

UEM = "uem"


def read(root: str | Path) -> RecordingCorpus:
    """Return the recordings of one or several data folders; a segment that ends at -1 ends with its recording.

    A path that is not absolute is looked for from its wav.scp, from `root` and from the working folder. Raises
    AffectError for a malformed line, and where no recording can be used.
    """
    from affect.data.recordings import corpus_of

    folder = CORPUS.find(root)
    annotated: dict[str, Annotated] = {}
    left_out: list[Exclusion] = []
    for scp in sorted({*folder.glob(SCP), *folder.glob(f"*/{SCP}")}):
        for each in _of_folder(folder, scp.parent, left_out):
            if each.id in annotated:
                reason = f"listed more than once: in {scp.parent.name}, too"
                left_out.append(Exclusion(what=each.id, reason=reason))
            else:
                annotated[each.id] = each
    return corpus_of(CORPUS.name, folder, annotated.values(), left_out)


def _of_folder(root: Path, folder: Path, left_out: list[Exclusion]) -> Iterator[Annotated]:
    """Yield the recordings of a data folder; what can't be used is added to `left_out`."""
    from affect.data.recordings import Annotated, located
    from affect.data.rttm import read_uem

    sources = {name: rest for _, name, rest in lines(folder / SCP)}
    spans: dict[str, list[Span]] = read_uem(folder / UEM) if (folder / UEM).is_file() else {}
    turns = _turns(folder, sources, left_out)
    for name, source in sources.items():
        path = None if source.endswith("|") else located(source, folder, root)
        if source.endswith("|"):
            reason = f"a command in {SCP}, which is not run: {source[:60]}"
        elif path is None:
            reason = f"no audio: {source[:60]}"
        elif name not in turns:
            reason = "no turns: no utterance of it has a speaker"
        else:
            part = part_of_names(*folder.relative_to(root).parts)
            yield Annotated(id=name, path=path, turns=turns[name], uem=spans.get(name), part=part)
            continue
        left_out.append(Exclusion(what=name, reason=reason))


def _turns(folder: Path, sources: dict[str, str], left_out: list[Exclusion]) -> dict[str, list[Turn]]:
    """Return the turns by recording; those of no recording or speaker are added to `left_out`."""
    from affect.data.rttm import Turn

    speakers = {name: rest for _, name, rest in lines(folder / SPEAKERS)}
    turns: defaultdict[str, list[Turn]] = defaultdict(list)
    for name, (recording, start, end) in utterances(folder, sources).items():
        if recording not in sources:
            left_out.append(Exclusion(what=name, reason=f"no recording: {recording} is not in {SCP}"))
        elif name not in speakers:
            left_out.append(Exclusion(what=name, reason=f"no speaker: it is not in {SPEAKERS}"))
        else:
            turns[recording].append(Turn(start, end, speakers[name]))
    return turns


CORPUS = Layout(
    name="kaldi_folder",
    read=read,
    kind=RECORDINGS,
    columns=("part", "turns", "uem"),
    holds=lambda folder: any(folder.glob(SCP)) or any(folder.glob(f"*/{SCP}")),
    sign="wav.scp",
    about="These are recordings of several speakers, a collection of your own.",
)
