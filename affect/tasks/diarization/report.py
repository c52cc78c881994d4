"""What the report shows of diarization beyond its core. Imports no tensor library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from affect.findings import Flag, Section
from affect.tables import inside, number, signed
from affect.task import Row, Task
from affect.tasks.diarization import breakdown, claims, learning
from affect.tasks.diarization.breakdown import rate, rows_of, tested
from affect.tasks.diarization.config import Diarization, are_generated
from affect.tasks.diarization.measures import compared, errors_of
from affect.tasks.diarization.trivial import ORACLE_SPEECH, SILENCE, trivially

if TYPE_CHECKING:
    from affect.report.study import Study

QUIET = 0.1
"""Share of the reference's speech under which what is told is silence."""
ALIKE = 0.02
"""By how much the DER by counts is below silence's that it tells nothing."""
MISCOUNTED = 0.5
"""Speakers of a recording that are told too many or too few, on average."""
LONGER = 0.1
"""By how much the DER of long recordings is above that of short ones of as many speakers."""

_GENERATED = (
    "> **Generated voices.** Nobody speaks in what this was trained and tested on: the scores show that the code works "
    "and how systems compare on it, and nothing about real recordings."
)
_SAME_VOICES = (
    "> **Validation's conversations are of training voices** (data.held_out 0): the checkpoint was chosen by them, and "
    "no design should be; `--data.held_out 15` leaves voices out for it."
)
_PLAIN = (
    "> **Plain conversations.** In parts whose names end in `_plain`{valid} all speakers are at 1 m, without a room or "
    "noise, and take turns as in training ({turns}): how training's sound is in the recipe's `simulation`."
)
_WORDS = (
    "> A row is a whole recording or conversation, diarized as a stream that begins without any known speaker. "
    "**DER**, the diarization error rate, is the time that is wrong (speech missed, speech where there is none, speech "
    "given to another) divided by the time of speech, after the best one-to-one mapping of speakers: 0 is perfect, "
    "silence has 1, and it can be more. Collar 0, overlap scored. **JER**, the Jaccard error rate, is the mean over "
    "speakers of this share: of the time in which a speaker or the one who is meant speaks, that in which not both do. "
    "Lower is better."
)


class DiarizationReport(Task):
    """The part of the task that reports ask."""

    recipe: Diarization

    def sections(self, study: Study) -> Sequence[Section]:
        """Return trivial diarizations, where errors are, what limits, timelines, learning, and report 004's claims."""
        notes = [note for note in (self._generated(study), self._voices(), self._plain(), _WORDS) if note]
        sections = [Section(markdown=note) for note in notes]
        predicted = bool(tested(study))
        if predicted:
            sections += [
                breakdown.beside_trivial(study), breakdown.by_kind(study), breakdown.limits(study),
                breakdown.examples(study),
            ]  # fmt: skip
        sections.append(learning.section(study, self.recipe))
        return [*sections, *([claims.section(study, self.recipe)] if breakdown.simulated(study) else [])]

    def _generated(self, study: Study) -> str:
        data = inside(study.recipe, "data")
        example = are_generated(data.get("voices"), data.get("root")) and not data.get("recordings")
        return _GENERATED if example else ""

    def _voices(self) -> str:
        return _SAME_VOICES if not self.recipe.data.held_out else ""

    def _plain(self) -> str:
        sounds, rules = self.recipe.data.test_sound, self.recipe.simulation
        turns = f"overlap {rules.overlap:g}" if rules.fitted is None else f"fitted to {rules.fitted}"
        valid = ", and in validation," if sounds[0] == "plain" else ""
        return _PLAIN.format(valid=valid, turns=turns) if "plain" in sounds else ""

    def flags(self, study: Study) -> Iterator[Flag]:
        """Yield diarizations that know nothing, losses at chance, and speakers that are split, joined or lost."""
        for part in tested(study):
            yield from _of_rows(part, rows_of(study, part), rows_of(study, part, ORACLE_SPEECH))
        yield from _longer(study)
        yield from learning.flags(study, self.recipe)

    def advice(self) -> dict[str, str]:
        """Return what to try about flags, by what the recipe has not tried yet."""
        model, optim, simulation = self.recipe.model, self.recipe.optim, self.recipe.simulation
        clip, dropout = min(1.0, (optim.clip or 2.0) / 2), ".2" if model.dropout < 0.2 else ".4"
        harder = "" if simulation.noise >= 0.8 else ", more noise (--simulation.noise .8)"
        return {
            "overfitting": f"more voices, more dropout (--model.dropout {dropout}){harder}",
            "stands still":
                "a rate three times as high; look below whether losses are at chance and the output is constant",
            "exploding": f"clip gradients (--optim.clip {clip:g}) and lower the rate (--optim.lr {optim.lr / 2:g})",
            "data-bound": "more loader workers (--train.workers): conversations are simulated on the fly",
        }  # fmt: skip


def _of_rows(part: str, rows: Sequence[Row], oracle: Sequence[Row]) -> Iterator[Flag]:
    errors, der, known_speech = errors_of(rows), rate("der", rows), rate("der", oracle)
    told = errors.speech - errors.missed + errors.false_alarm
    if told < QUIET * errors.speech:
        words = f"{100 * told / errors.speech:.0f} % as much speech is told as there is"
        advice = "look at the loss beside chance and at the threshold (--online.threshold): is it learning at all?"
        yield Flag("silence", part, words, advice, 1 - told / errors.speech, grave=True)
    elif der >= known_speech:
        words = f"DER {number(der)}, one speaker who speaks whenever somebody does has {number(known_speech)}"
        advice = "speakers are not told apart: longer training, more voices, see what limits it"
        yield Flag("speakers are not told apart", part, words, advice, der - known_speech)
    own = rate("counted", rows)
    none = rate("counted", [trivially(row, SILENCE) for row in rows])
    if own >= none - ALIKE:
        words = f"{number(own)}, silence has {number(none)}; the true DER is {number(der)}"
        yield Flag("DER by counts tells nothing", part, words, "judge by the true DER", own - none)
    extra = [compared(row).predicted_speakers - len(compared(row).jaccard) for row in rows]
    mean = sum(extra) / len(extra)
    if abs(mean) > MISCOUNTED and told >= QUIET * errors.speech:
        speakers = sum(len(compared(row).jaccard) for row in rows) / len(rows)
        words = f"{speakers + mean:.1f} found a recording, where {speakers:.1f} speak ({signed(mean)})"
        many = "one person is several: lower --online.merge, raise --online.enrol"
        few = "several are one, or never enrolled: raise --online.merge, lower --online.enrol"
        yield Flag("speakers miscounted", part, words, many if mean > 0 else few, abs(mean))


def _longer(study: Study) -> Iterator[Flag]:
    """Yield numbers of speakers whose long recordings are far worse than short ones."""
    rows = [row for part in tested(study) for row in rows_of(study, part)]
    for speakers in sorted({int(row["speakers"]) for row in rows}):
        lengths = sorted({float(row["seconds"]) for row in rows if row["speakers"] == speakers})
        if len(lengths) < 2 or lengths[-1] < 2 * lengths[0]:
            continue
        middle = math.sqrt(lengths[0] * lengths[-1])
        sides = [[row for row in rows if row["speakers"] == speakers and (row["seconds"] > middle) is late]
                 for late in (False, True)]  # fmt: skip
        short, long = (rate("der", side) for side in sides)
        if long > short + LONGER:
            words = f"{speakers} speakers: DER {number(short)} up to {middle:.0f} s, {number(long)} beyond"
            advice = "speakers are lost or split over windows: --online.memory, --online.merge, --online.enrol"
            yield Flag("long recordings are worse", "tests", words, advice, long - short)
