"""IEMOCAP: acted dyads in five sessions, rated for valence, arousal and dominance on 1..5.

Read from `SessionN/dialog/EmoEvaluation/*.txt` (labels), `SessionN/dialog/transcriptions/*.txt` (words) and
`SessionN/sentences/wav/<dialogue>/<utterance>.wav`. Busso et al. 2008, doi 10.1007/s10579-008-9076-6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from affect.data.corpora.labels import number, within
from affect.data.corpora.layout import Layout, find_folder
from affect.data.corpora.utterances import Row, corpus_of_files
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError

SCALE = (1.0, 5.0)
SIGN = "Session1/dialog/EmoEvaluation"
TOLERANCE = 0.5
"""Means of the real corpus lie up to half a step outside 1..5; they are kept, anything beyond is a fault."""

_SESSION = re.compile(r"Session(\d+)$")
_LINE = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\S+)\s+\[([^\]]*)\]\s*$")
_ID = re.compile(r"Ses(\d\d)([FM])_(.+)_([FM])[^_]*$")
_ID_SOMEWHERE = re.compile(r"Ses\d\d[FM]_\w+_[FM]\w*")
_TRANSCRIPT = re.compile(r"(Ses\d\d[FM]_\S+)\s+\[[^\]]*\]\s*:\s*(.*)$")
_SCRIPT = re.compile(r"(impro\d+|script\d+_\d+)[a-z]?$")


@dataclass
class _Reading:
    """What reading finds: rows, what is left out, and the ids that need no further mention."""

    rows: list[Row] = field(default_factory=list)
    exclusions: list[Exclusion] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def leave_out(self, what: str, reason: str) -> None:
        self.exclusions.append(Exclusion(what=what, reason=reason))


def read(root: str | Path) -> Corpus:
    """Return every rated utterance that has a sound wav (`xxx`, no agreed emotion, included) and all exclusions.

    `speaker` is session and first letter after the id's last underscore; `script` is the scene, the same in all
    sessions. Raises AffectError where `root` is not the corpus.
    """
    folder = find_root(root)
    reading = _Reading()
    for session, number_of_session in _sessions(folder):
        _read_session(session, number_of_session, reading)
    return corpus_of_files("iemocap", reading.rows, reading.exclusions, root=folder, scale=SCALE)


def find_root(root: str | Path) -> Path:
    """Return the folder that holds `Session1` ...: `root`, its parent or its only such subfolder.

    Raises AffectError where there is none.
    """
    return find_folder(
        root, lambda folder: bool(_sessions(folder)), title="IEMOCAP", sign=SIGN,
        part=lambda name: bool(_SESSION.match(name)),
    )  # fmt: skip


def _sessions(folder: Path) -> list[tuple[Path, int]]:
    """Return the session folders with their numbers, none where no session has evaluations."""
    try:
        children = [child for child in folder.iterdir() if child.is_dir()]
    except OSError:
        return []
    named = [(child, int(match[1])) for child in children if (match := _SESSION.match(child.name))]
    if not any((session / "dialog" / "EmoEvaluation").is_dir() for session, _ in named):
        return []
    return sorted(named, key=lambda pair: pair[1])


def _read_session(session: Path, number_of_session: int, reading: _Reading) -> None:
    wavs = _wavs(session / "sentences" / "wav")
    words = _transcripts(session / "dialog" / "transcriptions")
    for file in _texts(session / "dialog" / "EmoEvaluation"):
        for where, line in _lines(file):
            if line.startswith("%") or re.match(r"[CA]-", line):
                continue
            row = _row(line, f"{session.name}/{where}", number_of_session, reading)
            if row is None:
                continue
            if row["id"] not in wavs:
                reading.leave_out(row["id"], "missing wav")
                continue
            path = wavs[row["id"]]
            reading.rows.append({**row, "transcript": words.get(row["id"], ""), "path": str(path)})
    for name in sorted(wavs.keys() - reading.seen):
        reading.leave_out(name, "missing evaluation")


def _row(line: str, where: str, session: int, reading: _Reading) -> Row | None:
    """Return the row of a summary line, or None having said why not."""
    match = _LINE.match(line)
    name = _ID.match(match[3]) if match else None
    if match is None or name is None:
        somewhere = _ID_SOMEWHERE.search(line)
        if somewhere:
            reading.seen.add(somewhere[0])
        reading.leave_out(where, f"malformed evaluation line: {line[:80]}")
        return None
    utterance = match[3]
    if utterance in reading.seen:
        reading.leave_out(utterance, f"evaluated more than once: {where}")
        return None
    reading.seen.add(utterance)
    try:
        valence, arousal, dominance = (number(part) for part in match[5].split(","))
        start = float(match[1])
    except ValueError:
        reading.leave_out(utterance, f"malformed evaluation line: {where} [{match[5]}]")
        return None
    if not all(value == value and within(value, SCALE, TOLERANCE) for value in (valence, arousal, dominance)):
        reading.leave_out(utterance, f"label out of range: [{match[5]}]")
        return None
    if int(name[1]) != session:
        reading.leave_out(utterance, f"in the folder of another session: {where}")
        return None
    prefix = f"Ses{session:02d}"
    return {
        "id": utterance,
        "session": prefix,
        "dialogue": utterance.rpartition("_")[0],
        "script": script_of(name[3]),
        "speaker": prefix + name[4],
        "gender": name[4],
        "emotion": match[4],
        "valence": valence,
        "arousal": arousal,
        "dominance": dominance,
        "start": start,
    }


def script_of(scene: str) -> str:
    """Return the scene that sessions share: `script01_1b` and `impro05a` are takes of `script01_1`, `impro05`."""
    match = _SCRIPT.match(scene)
    return match[1] if match else scene


def _texts(folder: Path) -> list[Path]:
    """Return the text files of a folder's top level, without the `._` files that macOS leaves."""
    return sorted(path for path in folder.glob("*.txt") if not path.name.startswith("._") and path.is_file())


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield where a line stands and what it says, for each line that says anything."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise AffectError(f"IEMOCAP: {file} cannot be read ({error.strerror})") from error
    for index, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{file.name}:{index}", line.strip()


def _transcripts(folder: Path) -> dict[str, str]:
    """Return the words by utterance; lines of nobody's turn (`M:`, `F:`) belong to no utterance."""
    found: dict[str, str] = {}
    for file in _texts(folder):
        for _, line in _lines(file):
            match = _TRANSCRIPT.match(line)
            if match:
                found.setdefault(match[1], match[2].strip())
    return found


def _wavs(folder: Path) -> dict[str, Path]:
    """Return the recordings by utterance."""
    paths = (path for path in folder.glob("*/*") if path.suffix.lower() == ".wav")
    return {path.stem: path for path in sorted(paths) if not path.name.startswith("._")}


CORPUS = Layout(
    name="iemocap",
    read=read,
    columns=(
        *("session", "dialogue", "script", "speaker", "gender", "emotion", "valence", "arousal", "dominance"),
        *("start", "transcript"),
    ),
    find=find_root,
    sign=SIGN,
    scale=SCALE,
    # The four classes of nearly all reports: excited counts as happy.
    classes=("ang", "hap+exc", "neu", "sad"),
    language="en",
    about="IEMOCAP is acted and improvised by ten actors in a studio, in American English.",
    licence="given to researchers on request by USC's SAIL, for research",
    citation="Busso et al. 2008, doi 10.1007/s10579-008-9076-6",
)
