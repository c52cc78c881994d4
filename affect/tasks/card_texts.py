"""What the cards of all models of emotion say: what they are for, what they are not, and whose the weights are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from affect import tables
from affect.data import corpora

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

_OWN = "Look at how it was recorded, by whom, and whether it was acted."
_LOWER = "expect lower scores than those above, and scores that differ by group."


def of_corpus(recipe: dict[str, Any], pretrained: Sequence[str], inside: bool) -> dict[str, Any]:
    """Return the fields of a card that follow from the corpus; `pretrained` and `inside` are those of `licence`."""
    corpus = str((recipe.get("data") or {}).get("corpus", "unknown"))
    layout = corpora.known(corpus)
    name, note = licence(corpus, pretrained, inside)
    return {
        "use": use(corpus).strip(),
        "licence": name,
        "licence_note": note,
        # The ISO 639-1 code of what is spoken or written there.
        "language": layout.language if layout is not None else None,
        "tags": ("emotion-recognition", "affective-computing", "affect"),
    }


def loaded(repo: str) -> str:
    """Return the line of a card's program that loads the model."""
    return f'model = from_pretrained("{repo}")  # in evaluation mode, on the CPU'


def use(corpus: str) -> str:
    """Return intended use and limits of a model that was trained on a kind of corpus."""
    layout = corpora.known(corpus)
    about = layout.about if layout is not None and layout.about else _OWN
    if layout is not None and layout.generated:
        limit = (
            "**It is an example.** The corpus is generated and nobody speaks in it: the scores above show that the "
            "code works, and what this model says of real speech, text or faces means nothing."
        )
    elif layout is not None and not layout.has_audio:
        limit = (
            f"**The language is what the corpus has: written.** {about} On other texts, and on transcripts, {_LOWER}"
        )
    else:
        elsewhere = "On spontaneous speech of other people, in other rooms, by other microphones or a telephone"
        limit = f"**The speech is what the corpus has.** {about} {elsewhere}, {_LOWER}"
    lines = textwrap.fill(f"- {limit}", 120, subsequent_indent="  ", break_on_hyphens=False)
    return USE.format(corpus=lines)


def licence(corpus: str, pretrained: Sequence[str], inside: bool) -> tuple[str, str]:
    """Return the Hub's name of a licence, "other" where it is not known, and what there is to say of it.

    `pretrained` are the names of what was pretrained in a model, or with `inside` False of what made its features.
    """
    code = "The code that made and loads it, affect, is under Apache-2.0."
    layout = corpora.known(corpus)
    if layout is not None and layout.generated and not (inside and pretrained):
        return "apache-2.0", f"{code} So are these weights: the corpus is generated and nothing pretrained is in them."
    given = f" and of {', '.join(map(tables.code, pretrained))}" if pretrained else ""
    terms = f", {layout.licence}" if layout is not None and layout.licence else ""
    cite = f" Cite the corpus: {layout.citation}." if layout is not None and layout.citation else ""
    return "other", (
        f"{code} The weights are another matter: they may be used as the licences of the corpus "
        f"({tables.code(corpus)}{terms}){given} allow, several of which are for research alone. Whoever publishes or "
        f"uses them has to read those.{cite}"
    )
