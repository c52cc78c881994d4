"""IEMOCAP: acted dyads in five sessions, rated for valence, arousal and dominance on 1..5.

Read from `SessionN/dialog/EmoEvaluation/*.txt` (labels), `SessionN/dialog/transcriptions/*.txt` (words) and
`SessionN/sentences/wav/<dialogue>/<utterance>.wav`. Busso et al. 2008, doi 10.1007/s10579-008-9076-6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from affect.data.corpora.labels import UnusableError, within
from affect.data.corpora.layout import Layout
from affect.data.corpora.utterances import Row, corpus_of_rows, verified
from affect.data.corpus import LABELS, Corpus, Exclusion
from affect.data.table_file import number
from affect.errors import reading

SCALE = (1.0, 5.0)
TOLERANCE = 0.5
"""Means of the real corpus lie up to half a step outside 1..5; they are kept, anything beyond is a fault."""

_SESSION = re.compile(r"Session(\d+)$")
_LINE = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\S+)\s+\[([^\]]*)\]\s*$")
_ID = re.compile(r"Ses(\d\d)([FM])_(.+)_([FM])[^_]*$")
_ID_SOMEWHERE = re.compile(r"Ses\d\d[FM]_\w+_[FM]\w*")
_TRANSCRIPT = re.compile(r"(Ses\d\d[FM]_\S+)\s+\[[^\]]*\]\s*:\s*(.*)$")
_SCRIPT = re.compile(r"^(impro\d+|script\d+_\d+)[a-z]?$")


def read(root: str | Path) -> Corpus:
    """Return every rated utterance that has a sound wav (`xxx`, no agreed emotion, included) and all exclusions.

    `speaker` is session and first letter after the id's last underscore; `script` is the scene, the same in all
    sessions. Raises AffectError where `root` is not the corpus.
    """
    folder = CORPUS.find(root)
    rows: list[Row] = []
    exclusions: list[Exclusion] = []
    seen: set[str] = set()
    for session, number_of_session in _sessions(folder):
        files = (path for path in sorted((session / "sentences" / "wav").glob("*/*")) if path.suffix.lower() == ".wav")
        wavs = {path.stem: path for path in files if not path.name.startswith("._")}
        words = _transcripts(session / "dialog" / "transcriptions")
        for numbered, line in _lines(session / "dialog" / "EmoEvaluation"):
            if re.match(r"%|[CA]-", line):
                continue
            place = f"{session.name}/{numbered}"
            match = _LINE.match(line)
            name = _ID.match(match[3]) if match else None
            if match is None or name is None:
                seen.update(_ID_SOMEWHERE.findall(line)[:1])
                exclusions.append(Exclusion(what=place, reason=f"malformed evaluation line: {line[:80]}"))
                continue
            try:
                row = _row(match, name, place, number_of_session, seen)
                if row["id"] not in wavs:
                    raise UnusableError("missing wav")
                rows.append({**row, "transcript": words.get(row["id"]), "path": str(wavs[row["id"]])})
            except UnusableError as error:
                exclusions.append(Exclusion(what=match[3], reason=str(error)))
        exclusions += [Exclusion(what=name, reason="missing evaluation") for name in sorted(wavs.keys() - seen)]
    return corpus_of_rows(CORPUS, *verified(CORPUS.name, rows, exclusions), root=folder)


def _sessions(folder: Path) -> list[tuple[Path, int]]:
    """Return the session folders with their numbers, none where no session has evaluations."""
    folders = [(path, int(match[1])) for path in folder.glob("Session*/") if (match := _SESSION.match(path.name))]
    rated = any((session / "dialog" / "EmoEvaluation").is_dir() for session, _ in folders)
    return sorted(folders, key=lambda pair: pair[1]) if rated else []


def _row(match: re.Match[str], name: re.Match[str], place: str, session: int, seen: set[str]) -> Row:
    """Return the row of a summary line and of the id in it, and add that to those `seen`; raises UnusableError."""
    utterance = match[3]
    if utterance in seen:
        raise UnusableError(f"evaluated more than once: {place}")
    seen.add(utterance)
    try:
        ratings = dict(zip(LABELS, map(number, match[5].split(",")), strict=True))
        start = float(match[1])
    except ValueError:
        raise UnusableError(f"malformed evaluation line: {place} [{match[5]}]") from None
    if not all(value == value and within(value, SCALE, TOLERANCE) for value in ratings.values()):
        raise UnusableError(f"label out of range: [{match[5]}]")
    if int(name[1]) != session:
        raise UnusableError(f"in the folder of another session: {place}")
    prefix = f"Ses{session:02d}"
    return {
        "id": utterance, "session": prefix, "dialogue": utterance.rpartition("_")[0],
        # The scene that sessions share: script01_1b and impro05a are takes of script01_1 and impro05.
        "script": _SCRIPT.sub(r"\1", name[3]),
        "speaker": prefix + name[4], "gender": name[4], "emotion": match[4], "start": start, **ratings,
    }  # fmt: skip


def _lines(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield where a line stands and what it says, for each line that says anything in a folder's text files."""
    # macOS leaves files that start with ._ beside the others.
    for file in sorted(path for path in folder.glob("*.txt") if path.is_file() and not path.name.startswith("._")):
        with reading(file):
            text = file.read_text(encoding="utf-8", errors="replace")
        for index, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{file.name}:{index}", line.strip()


def _transcripts(folder: Path) -> dict[str, str]:
    """Return the words by utterance; lines of nobody's turn (`M:`, `F:`) belong to no utterance."""
    words: dict[str, str] = {}
    for match in (_TRANSCRIPT.match(line) for _, line in _lines(folder)):
        if match:
            words.setdefault(match[1], match[2].strip())
    return words


CORPUS = Layout(
    name="iemocap",
    read=read,
    columns=("session", "dialogue", "script", "speaker", "gender", "emotion", *LABELS, "start", "transcript"),
    holds=_sessions,
    sign="Session1/dialog/EmoEvaluation",
    part=r"Session\d+",
    scale=SCALE,
    bars=(0.60, 0.62),
    # The four classes of nearly all reports: excited counts as happy.
    classes=("ang", "hap+exc", "neu", "sad"),
    language="en",
    about="IEMOCAP is acted and improvised by ten actors in a studio, in American English.",
    licence="given to researchers on request by USC's SAIL, for research",
    citation="Busso et al. 2008, doi 10.1007/s10579-008-9076-6",
)
