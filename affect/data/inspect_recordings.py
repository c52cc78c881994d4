"""What a corpus of recordings with turns holds, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affect.data import copies, corpora, signs
from affect.data.activity import in_samples
from affect.data.files import leaving
from affect.data.inspect import exclusions
from affect.data.recordings import RecordingCorpus, turns_of
from affect.data.turn_taking import overlap_ratio
from affect.tables import counted


def recordings(name: str, root: Path, options: Mapping[str, Any], listed: int | None) -> str:
    """Return what `affect inspect` prints of the corpus `name`; `options` are its reader's. Raises as that does."""
    corpus = corpora.read(corpora.RECORDINGS, name, root, **options)
    return "\n".join([describe(corpus, listed), *leaving(root, corpus.recordings["path"])])


def describe(corpus: RecordingCorpus, listed: int | None) -> str:
    """Return what `affect inspect` prints; of the exclusions the first `listed` (None: all) are named."""
    rows: list[dict[str, Any]] = corpus.recordings.to_list()
    lines = [f"{corpus.name}: {counted(len(rows), 'recording')}, fingerprint {corpus.fingerprint}"]
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part]
        turns = [turns_of(row) for row in own]
        minutes = sum(row["seconds"] for row in own) / 60
        spoken = sum(turn.end - turn.start for each in turns for turn in each) / 60
        counts = sorted({len({turn.speaker for turn in each}) for each in turns})
        lines.append(
            f"{part or '(no part)'}: {counted(len(own), 'recording')}, {minutes:.1f} min, {spoken:.1f} min of speech "
            f"in {counted(sum(map(len, turns)), 'turn')} of "
            f"{counted(len({turn.speaker for each in turns for turn in each}), 'speaker')}, "
            f"{counts[0]} to {counts[-1]} a recording"
        )
        ratios = [overlap_ratio(in_samples(each)) for each in turns if each]
        if ratios:
            lines.append(f"  overlap: {100 * sum(ratios) / len(ratios):.1f} % of the speech, mean of the recordings")
    lines += copies.lines(copies.by_part(corpus.recordings), "recordings")
    lines += signs.words_of(signs.still(corpus.still, len(rows)))
    return "\n".join([*lines, *exclusions(corpus.exclusions, listed)])
