"""A tiny IEMOCAP on disk: the real layout with all its traps, and dialogues between two speakers a session."""

import zlib
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def write_wav(path: Path, seconds: float = 0.2, frequency: float | None = None) -> None:
    """Write a tone, another one for each name unless `frequency` says which."""
    frequency = frequency or 200 + zlib.crc32(path.name.encode()) % 10_000 / 10
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    soundfile.write(path, samples.astype(np.float32), RATE, subtype="PCM_16")


def line(utterance: str, labels: str = "2.5000, 3.0000, 2.0000", emotion: str = "neu") -> str:
    return f"[6.2901 - 8.2357]\t{utterance}\t{emotion}\t[{labels}]"


def evaluation(*lines: str) -> str:
    """The text of an EmoEvaluation file: header, and each summary line with its evaluators' lines."""
    text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    for each in lines:
        text += each + "\nC-E2:\tNeutral;\t()\nC-F1:\tNeutral; Anger;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n"
        text += "A-E4:\tval 2; act 3; dom  3;\t(mildly aggravated but staying polite, attitude)\n\n"
    return text


def write_dialogue(root: Path, session: int, dialogue: str, text: str, transcript: bytes, wavs: list[str]) -> None:
    folder = root / f"Session{session}"
    for part in ("EmoEvaluation", "transcriptions"):
        (folder / "dialog" / part).mkdir(parents=True, exist_ok=True)
    (folder / "dialog" / "EmoEvaluation" / f"{dialogue}.txt").write_bytes(text.encode("latin-1"))
    (folder / "dialog" / "transcriptions" / f"{dialogue}.txt").write_bytes(transcript)
    for index, name in enumerate(wavs):
        write_wav(folder / "sentences" / "wav" / dialogue / f"{name}.wav", 0.1 + 0.01 * index)


def write_trap_dialogue(root: Path) -> None:
    """Session 1: one dialogue with every trap; kept are F000, M001 (a man's turn), F002 (xxx) and M003 (5.5)."""
    name = "Ses01F_impro01"
    text = evaluation(
        line(f"{name}_F000"),
        line(f"{name}_M001", "1.5000, 4.5000, 3.5000", "ang"),
        line(f"{name}_F002", "2.0000, 2.0000, 2.0000", "xxx"),
        line(f"{name}_M003", "5.5000, 0.5000, 3.0000"),
        line(f"{name}_F004", "9.0000, 3.0000, 3.0000"),
        line(f"{name}_F005"),
        f"[1.0 - 2.0\t{name}_F006 neu [2.5, 2.5, 2.5]",
        line(f"{name}_F007", "2.5000, 2.5000"),
        line(f"{name}_F000", "1.0000, 1.0000, 1.0000"),
        line(f"{name}_F009", "nan, 3.0000, 3.0000"),
        line("Ses02F_impro01_F010"),
        "an \xe9vent nobody rated",
    )
    transcript = (
        f"{name}_F000 [006.2901-008.2357]: Excuse me.\n"
        "M: Yes.\n"
        f"{name}_M001 [008.0000-009.0000]: It\x92s caf\xe9.\n"
        "F: [LAUGHTER]\n"
    ).encode("latin-1")
    numbers = ("F000", "M001", "F002", "M003", "F004", "F006", "F007", "F008", "F009")
    write_dialogue(root, 1, name, text, transcript, [f"{name}_{number}" for number in numbers])
    session = root / "Session1"
    write_wav(session / "sentences" / "wav" / name / "Ses02F_impro01_F010.wav")
    junk = b"\x00\x05\x16\x07\x00\x02Mac OS X"
    (session / "dialog" / "EmoEvaluation" / f"._{name}.txt").write_bytes(junk)
    (session / "dialog" / "transcriptions" / f"._{name}.txt").write_bytes(junk)
    (session / "sentences" / "wav" / name / f"._{name}_F000.wav").write_bytes(junk)
    # Deeper folders hold single evaluators' ratings in another format.
    (session / "dialog" / "EmoEvaluation" / "Categorical").mkdir()
    (session / "dialog" / "EmoEvaluation" / "Categorical" / f"{name}_e1_cat.txt").write_text(f"{name}_F000 :Anger;\n")


def write_tree(
    root: Path, sessions: int = 5, scenes: tuple[str, ...] = ("impro02", "script01_1", "script02_1")
) -> Path:
    """Write a corpus without faults: each scene in each session, two turns a speaker; session 1 also has the traps."""
    write_trap_dialogue(root)
    for session in range(1, sessions + 1):
        for scene in scenes:
            dialogue = f"Ses{session:02d}{'FM'[session % 2]}_{scene}"
            names = [f"{dialogue}_{letter}{number:03d}" for number in range(2) for letter in "FM"]
            words = "".join(f"{name} [000.0000-001.0000]: Turn {i}.\n" for i, name in enumerate(names))
            write_dialogue(root, session, dialogue, evaluation(*map(line, names)), words.encode(), names)
    return root
