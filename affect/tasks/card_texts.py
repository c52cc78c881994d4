"""What the cards of all models of emotion say: what they are for, what they are not, and whose the weights are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

USE = """## Intended use

Research on how emotion is expressed and annotated: comparing models, studying corpora, prototypes with people who know
of it and agree. What it predicts is **what annotators of the training corpus would have written down**, on average, on
hearing or seeing such an utterance. It is not what a person feels.

## Limits

- **Labels are impressions.** Annotators disagree, and the label is their mean or majority. No expression shows an inner
  state reliably, and people mask, act, joke and are ironic.
{corpus}
- **Culture and language.** How emotion is shown and read depends on both. Outside the corpus's language and culture
  nothing here was measured; nor was it for accents, ages, illnesses or disabilities that change voice or face.
- **Scores are of a test part of the same corpus.** They say nothing on any one person: a correlation over many
  utterances goes with large errors on single ones.

## Do not use it

- to decide on people: hiring, promotion, grading, credit, insurance, policing, border control, asylum, court or medical
  decisions, diagnosis included;
- to watch people at work or in education: Article 5(1)(f) of the EU AI Act (Regulation (EU) 2024/1689) forbids systems
  that infer emotions there from biometric data, save for medical or safety reasons; elsewhere emotion recognition
  counts as high-risk (Annex III) and people have to be told of it (Article 50);
- on recordings of people who have not agreed, and as a lie detector.
"""

_SPEECH = {
    "iemocap": "IEMOCAP is acted and improvised by ten actors in a studio, in American English.",
    "emodb": "EmoDB is ten sentences acted by ten speakers in a studio, in German.",
    "msp_podcast": "MSP-Podcast is podcasts in English, chosen for emotional passages.",
    "mer2023": "MER2023 is scenes of Chinese films and television, so acted, in Mandarin.",
}
_OWN = "Look at how it was recorded, by whom, and whether it was acted."
_LOWER = "expect lower scores than those above, and scores that differ by group."
_ELSEWHERE = f"On spontaneous speech of other people, in other rooms, by other microphones or a telephone, {_LOWER}"
_WRITTEN = f"EmoBank is English from news, letters, fiction and the web. On other texts, and on transcripts, {_LOWER}"

GENERATED = ("synthetic", "generated")
"""Corpora that anybody may generate: they restrict no weights."""

LANGUAGES = {"iemocap": "en", "emodb": "de", "msp_podcast": "en", "emobank": "en", "mer2023": "zh"}
"""ISO 639-1 codes of what is spoken or written in a corpus."""


TAGS = ("emotion-recognition", "affective-computing", "affect")
"""The Hub's tags of all of them."""


def loaded(repo: str) -> str:
    """Return the line of a card's program that loads the model."""
    return f'model = from_pretrained("{repo}")  # in evaluation mode, on the CPU'


def use(corpus: str) -> str:
    """Return intended use and limits of a model that was trained on a kind of corpus."""
    if corpus in GENERATED:
        limit = (
            "**It is an example.** The corpus is generated and nobody speaks in it: the scores above show that the "
            "code works, and what this model says of real speech, text or faces means nothing."
        )
    elif corpus == "emobank":
        limit = f"**The language is what the corpus has: written.** {_WRITTEN}"
    else:
        limit = f"**The speech is what the corpus has.** {_SPEECH.get(corpus, _OWN)} {_ELSEWHERE}"
    lines = textwrap.fill(f"- {limit}", 120, subsequent_indent="  ", break_on_hyphens=False)
    return USE.format(corpus=lines)


def licence(corpus: str, pretrained: Sequence[str], inside: bool) -> tuple[str, str]:
    """Return the Hub's name of a licence, "other" where it is not known, and what there is to say of it.

    `pretrained` are the names of what was pretrained in a model, or with `inside` False of what made its features.
    """
    code = "The code that made and loads it, affect, is under Apache-2.0."
    if corpus in GENERATED and not (inside and pretrained):
        return "apache-2.0", f"{code} So are these weights: the corpus is generated and nothing pretrained is in them."
    given = f" and of {', '.join(f'`{name}`' for name in pretrained)}" if pretrained else ""
    return "other", (
        f"{code} The weights are another matter: they may be used as the licences of the corpus (`{corpus}`){given} "
        "allow, several of which are for research alone. Whoever publishes or uses them has to read those."
    )
