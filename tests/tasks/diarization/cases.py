"""Fifty small cases that public scorers disagree about, each with what is to come out, and the files that say it.

A row: number, case, reference, hypothesis, UEM, options, seconds (missed, false alarm, confusion, speech), DER % and
JER % (None where there is none), words of the warnings. "f: A 0-10, B 4-5/2; g:" are the turns of two recordings, /2 a
turn of channel 2; the only recording needs no name. The values are those of md-eval-22 and dscore e02f949, as both were
run; where they differ, or give none, those of the rules of affect.tasks.diarization.scoring.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

COLLAR, SKIP = {"collar": 0.25}, {"skip_overlap": True}
TEN = ", ".join(f"{{0}} {k}-{k}.4" for k in range(10))


class Case(NamedTuple):
    number: int
    name: str
    reference: str
    hypothesis: str
    uem: str
    options: dict[str, Any]
    seconds: tuple[float, float, float, float]
    der: float | None
    jer: float | None
    warnings: tuple[str, ...] = ()


OWN = "reference: a speaker's own overlaps were merged: f 1"
EMPTY = "reference: turns without length were dropped: f 1"
NO_SPEECH = "no scored speech: "
LEFT_OUT = "md-eval and dscore leave these out: 5.000 s"

CASES = [
    Case(1, "plain", "A 0-6, B 4-10", "X 0-5, Y 5-10", "", {}, (2, 0, 0, 12), 16.6667, 16.6667),
    Case(2, "one speaker for two", "A 0-5, B 5-10", "X 0-10", "", {}, (0, 0, 5, 10), 50, 75),
    Case(3, "optimal, not greedy", "A 0-9, B 9-13", "X 0-5, Y 5-9, X 9-13", "", {}, (0, 0, 5, 13), 38.4615, 55.5556),
    Case(4, "unmapped speaker", "A 0-10", "X 0-6, Y 6-10", "", {}, (0, 0, 4, 10), 40, 40),
    Case(5, "extra speaker in overlap", "A 0-10", "X 0-10, Y 5-10", "", {}, (0, 5, 0, 10), 50, 0),
    Case(6, "over 100", "A 0-2", "X 0-10, Y 0-10", "", {}, (0, 18, 0, 2), 900, 80),
    Case(7, "hypothesis longer", "A 0-10", "X 0-15", "", {}, (0, 5, 0, 10), 50, 33.3333, ("no UEM",)),
    Case(8, "hypothesis earlier", "A 5-10", "X 0-10", "", {}, (0, 5, 0, 5), 100, 50, ("no UEM",)),
    Case(9, "turn partly outside UEM", "A 0-10", "X 1-12", "2-8", {}, (0, 0, 0, 6), 0, 0),
    Case(10, "two regions", "A 0-10", "X 0-6, Y 6-10", "0-4, 8-10", {}, (0, 0, 2, 6), 33.3333, 33.3333),
    Case(11, "regions that overlap", "A 0-10", "X 0-9", "0-6, 4-10", {}, (1, 0, 0, 10), 10, 10,
         ("UEM: regions that overlap were joined: f",)),
    Case(12, "speaker outside UEM", "A 0-10, B 20-30", "X 0-10", "0-10", {}, (0, 0, 0, 10), 0, 0),
    Case(13, "collar each side", "A 0-10", "X 0-9.8", "", COLLAR, (0, 0, 0, 9.5), 0, 2),
    Case(14, "half the collar", "A 0-10", "X 0-9.8", "", {"collar": 0.125}, (0.075, 0, 0, 9.75), 0.7692, 2),
    Case(15, "collar at UEM edge", "A 0-10", "X 2.2-8", "2-8", COLLAR, (0.2, 0, 0, 6), 3.3333, 3.3333),
    Case(16, "boundary outside UEM", "A 1.9-8", "X 0-10", "2-10", COLLAR, (0, 1.75, 0, 5.6), 31.25, 25),
    Case(17, "collar at a seam", "A 0-5, A 5-10", "X 0-4.9, X 5.1-10", "", COLLAR, (0, 0, 0, 9), 0, 2),
    Case(18, "seam without collar", "A 0-5, A 5-10", "X 0-4.9, X 5.1-10", "", {}, (0.2, 0, 0, 10), 2, 2),
    Case(19, "gap under two collars", "A 0-5, A 5.3-10", "X 0-10", "", COLLAR, (0, 0, 0, 8.7), 0, 3),
    Case(20, "backchannel in collars", "A 0-10, B 4-4.4", "X 0-10", "", COLLAR, (0, 0, 0, 8.6), 0, 50),
    Case(21, "own overlap in reference", "A 0-6, A 4-10", "X 0-10", "", {}, (0, 0, 0, 10), 0, 0, (OWN,)),
    Case(22, "own overlap, collar", "A 0-6, A 4-10", "X 0-4.2, X 4.3-10", "", COLLAR, (0.1, 0, 0, 9.5), 1.0526, 1,
         (OWN,)),
    Case(23, "own overlap, overlap out", "A 0-6, A 4-10", "X 0-8", "", SKIP, (2, 0, 0, 10), 20, 20, (OWN,)),
    Case(24, "own overlap in hypothesis", "A 0-10", "X 0-6, X 4-10", "", {}, (0, 0, 0, 10), 0, 0,
         ("hypothesis: a speaker's own overlaps were merged: f 1",)),
    Case(25, "same line twice", "A 0-10, A 0-10", "X 0-10", "", {}, (0, 0, 0, 10), 0, 0,
         ("reference: lines that repeat another were dropped: f 1",)),
    Case(26, "zero turn in hypothesis", "A 0-10", "X 0-10, Y 5-5", "", {}, (0, 0, 0, 10), 0, 0,
         ("hypothesis: turns without length were dropped: f 1",)),
    Case(27, "zero turn in reference", "A 0-10, B 5-5", "X 0-10", "", {}, (0, 0, 0, 10), 0, 0, (EMPTY,)),
    Case(28, "zero turn, collar", "A 0-10, B 5-5", "X 0-10", "", COLLAR, (0, 0, 0, 9.5), 0, 0, (EMPTY,)),
    Case(29, "mapping and collar", f"{TEN.format('A')}, A 20-23.5", f"{TEN.format('X')}, Y 20-23.5", "", COLLAR,
         (0, 0, 3, 3), 100, 46.6667),
    Case(30, "mapping, overlap out", "A 0-6, B 0-6, A 10-14, C 20-23", "X 0-6, Y 10-14, X 20-23", "", SKIP,
         (0, 0, 3, 7), 42.8571, 64.4444),
    Case(31, "overlap out, silence in", "A 0-4, B 3-8", "X 0-10", "0-10", SKIP, (0, 2, 3, 7), 71.4286, 75),
    Case(32, "overlap out, collar", "A 0-6, B 4-10", "X 0-5, Y 5-10", "", COLLAR | SKIP, (0, 0, 0, 7), 0, 16.6667),
    Case(33, "collar eats everything", "A 0-0.4", "X 0-0.4", "", COLLAR, (0, 0, 0, 0), None, 0, (f"{NO_SPEECH}f",)),
    Case(34, "speech outside UEM", "A 20-30", "X 0-5", "0-10", {}, (0, 5, 0, 0), None, None,
         (f"{NO_SPEECH}f", LEFT_OUT)),
    Case(35, "silent reference", "f: A 0-10; g:", "f: X 0-10; g: X 0-5", "f: 0-10; g: 0-10", {}, (0, 5, 0, 10), 50, 0,
         (f"{NO_SPEECH}g", LEFT_OUT)),
    Case(36, "both silent", "", "", "0-10", {}, (0, 0, 0, 0), None, None, (f"{NO_SPEECH}f",)),
    Case(37, "empty hypothesis", "A 0-10", "", "", {}, (10, 0, 0, 10), 100, 100,
         ("not in the hypothesis, so all missed: f",)),
    Case(38, "hypothesis lacks a file", "f: A 0-10; g: A 0-10", "f: X 0-10", "", {}, (10, 0, 0, 20), 50, 50,
         ("not in the hypothesis, so all missed: g",)),
    Case(39, "reference lacks a file", "f: A 0-10", "f: X 0-10; g: X 0-10", "", {}, (0, 0, 0, 10), 0, 0,
         ("not in the reference, so left out: g",)),
    Case(40, "UEM lacks a file", "f: A 0-10; g: A 0-10", "f: X 0-10; g: X 0-5", "f: 0-10", {}, (0, 0, 0, 10), 0, 0,
         ("not in the UEM, so left out: g",)),
    Case(41, "names of two files", "f: A 0-10; g: A 0-10", "f: X 0-10; g: Y 0-10", "", {}, (0, 0, 0, 20), 0, 0),
    Case(42, "JER over speakers", "f: A 0-5, B 5-10; g: A 0-10", "f: X 0-10; g: X 0-10", "", {}, (0, 0, 5, 20), 25, 50),
    Case(43, "JER maps for itself", "A 0-10", "X 0-4, Y 4-10, Y 15-35", "", {}, (0, 20, 4, 10), 240, 60),
    Case(44, "channels differ", "A 0-10", "X 0-10/2", "", {}, (0, 0, 0, 10), 0, 0),
    Case(45, "two channels", "A 0-10, A 5-15/2", "X 0-15", "", {}, (0, 0, 0, 15), 0, 0,
         ("reference: channels were joined: f (1, 2)", OWN)),
    Case(46, "no frames", "A 0-1.004", "X 0-1", "", {}, (0.004, 0, 0, 1.004), 0.3984, 0.3984),
    Case(47, "times under 1 ms", "A 0-1.0004", "X 0-1", "", {}, (0.0004, 0, 0, 1.0004), 0.04, 0.04),
    Case(48, "100 hours", "A 0-5, A 360000-360010", "X 0-5, X 360000-360009.999", "", {}, (0.001, 0, 0, 15),
         0.0067, 0.0067),
    Case(49, "dot in the name", "a.b: A 0-10", "a.b: X 0-15", "a.b: 0-15", {}, (0, 5, 0, 10), 50, 33.3333),
    Case(50, "lines of other types", "A 0-10", "X 0-10 + others", "", {}, (0, 0, 0, 10), 0, 0),
]  # fmt: skip

OTHERS = """\
NON-SPEECH f 1 4 2 <NA> other <NA> <NA> <NA>
SPKR-INFO f 1 <NA> <NA> <NA> unknown X <NA> <NA>
LEXEME f 1 .5 .2 word lex W .9 <NA>
"""


def files(folder: Path, case: Case) -> tuple[Path, Path, Path | None]:
    """Write the files of a case: reference, hypothesis and UEM."""
    sides = []
    for name, text in (("ref.rttm", case.reference), ("hyp.rttm", case.hypothesis)):
        path = folder / name
        path.write_text(rttm(text), encoding="utf-8")
        sides.append(path)
    uem = folder / "all.uem" if case.uem else None
    if uem:
        lines = [f"{recording} 1 {' '.join(span.split('-'))}\n" for recording, span in items(case.uem)]
        uem.write_text("".join(lines), encoding="utf-8")
    return sides[0], sides[1], uem


def rttm(text: str) -> str:
    """Return an RTTM of turns, onset and duration with the digits of their ends."""
    lines = []
    for recording, turn in items(text.removesuffix(" + others")):
        speaker, times = turn.split()
        span, _, channel = times.partition("/")
        start, end = map(float, span.split("-"))
        where = f"{recording} {channel or 1} {start:g} {round(end - start, 6):g}"
        lines.append(f"SPEAKER {where} <NA> <NA> {speaker} <NA> <NA>\n")
    return "".join(lines) + OTHERS * text.endswith("others")


def items(text: str) -> list[tuple[str, str]]:
    """Return what stands between commas, with its recording."""
    pairs = []
    for part in filter(None, text.split(";")):
        name, colon, rest = part.rpartition(":")
        pairs += [(name.strip() or "f", item.strip()) for item in rest.split(",") if item.strip()]
        assert colon or name == ""
    return pairs
