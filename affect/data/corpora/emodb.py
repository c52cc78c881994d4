"""EmoDB, the Berlin Database of Emotional Speech: ten actors, ten sentences, seven acted emotions.

A file name says all: `03a01Fa.wav` is speaker 03, sentence a01, emotion F (happiness), version a.
Burkhardt et al. 2005, "A Database of German Emotional Speech", Interspeech.
"""

from __future__ import annotations

import re
from pathlib import Path

from affect.data.corpora.layout import Layout
from affect.data.corpora.utterances import Row, corpus_of_rows, verified
from affect.data.corpus import Corpus, Exclusion
from affect.data.endings import SOUND

EMOTIONS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"
}  # fmt: skip
"""The emotion by its letter in the file name (of the German word: Wut, Langeweile, Ekel, Angst ...)."""

VALENCE_AROUSAL = {
    "anger": (-0.51, 0.59), "boredom": (-0.65, -0.62), "disgust": (-0.60, 0.35), "fear": (-0.64, 0.60),
    "happiness": (0.81, 0.51), "sadness": (-0.63, -0.27), "neutral": (0.0, 0.0),
}  # fmt: skip
"""Where an emotion's word lies on valence and arousal (-1..1): a mapping, nobody rated these recordings."""

GENDERS = dict.fromkeys(("03", "10", "11", "12", "15"), "M") | dict.fromkeys(("08", "09", "13", "14", "16"), "F")

SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z]?)$")


def read(root: str | Path) -> Corpus:
    """Return every recording with valence and arousal mapped from its emotion (`mapped` is True).

    `script` is the sentence; `root` is the folder `wav` or the one that holds it. Raises AffectError for any other.
    """
    folder = CORPUS.find(root)
    rows: list[Row] = []
    exclusions: list[Exclusion] = []
    for path in _recordings(folder):
        match = _NAME.match(path.stem)
        if match is None or match[3] not in EMOTIONS:
            reason = f"unknown emotion letter: {match[3]}" if match else "not an EmoDB file name"
            exclusions.append(Exclusion(what=path.name, reason=reason))
            continue
        speaker, sentence, emotion = match[1], match[2], EMOTIONS[match[3]]
        valence, arousal = VALENCE_AROUSAL[emotion]
        rows.append({
            "id": path.stem, "script": sentence, "speaker": speaker, "gender": GENDERS.get(speaker), "emotion": emotion,
            "valence": valence, "arousal": arousal, "transcript": SENTENCES.get(sentence), "path": str(path),
        })  # fmt: skip
    return corpus_of_rows(CORPUS, *verified(CORPUS.name, rows, exclusions), root=folder)


def _recordings(root: Path) -> list[Path]:
    """Return the recordings in `root`/wav or else in `root`, none where none is named as EmoDB's are."""
    for folder in (root / "wav", root):
        paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SOUND and path.name[0] != ".")
        if any(_NAME.match(path.stem) for path in paths):
            return paths
    return []


CORPUS = Layout(
    name="emodb",
    read=read,
    columns=("session", "dialogue", "script", "speaker", "gender", "emotion", "valence", "arousal", "transcript"),
    holds=_recordings,
    sign="recording named like 03a01Fa.wav or wav/03a01Fa.wav",
    scale=(-1.0, 1.0),
    mapped=True,
    language="de",
    about="EmoDB is ten sentences acted by ten speakers in a studio, in German.",
    licence="CC0-1.0, as audEERING publishes it",
    citation="Burkhardt et al. 2005, A Database of German Emotional Speech, Interspeech",
)
