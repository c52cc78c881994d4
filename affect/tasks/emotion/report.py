"""What the report shows and advises of valence, arousal and emotion beyond its core. Imports no tensor library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from affect.findings import Flag, Section
from affect.tables import escaped, flat, inside, number
from affect.task import Task
from affect.tasks.emotion.config import Emotion

if TYPE_CHECKING:
    from affect.report.study import Study

PASSED = 0.62
"""Test CCC-V from which report 002 runs all folds."""

FAILED = 0.60
EPOCHS = 20
"""Report 002 calls a lower CCC-V a failure after this many epochs."""

_ROTATING = ("session", "speaker", "script")
"""Splits that hold out each group in turn, so that there is always more than one fold."""
_MAPPED = (
    "> **Labels mapped, not rated.** The dimensional labels were derived from emotion categories: each category has "
    "one point. The scores say how well categories are told apart along these axes; they are not comparable with "
    "scores on rated corpora."
)

_ADVICE = {
    "overfitting": "report 000's remedies (v3): dropout .3, weight_decay 1e-3, a smaller model (prosody_dim 64, "
    "mamba_layers 2){slowly}, patience 15; then augmentation (augmented)",
    "outlying fold": "look at who is in that fold, and repeat it with other seeds: data, or chance? Report 000 held "
    "the training for unstable (v3: lr 5e-5{slowly}, dropout .3, loss ccc unweighted)",
    "NaN loss": "clip gradients at .3 (--optim.clip .3, report 002) and lower {rate}; in fp16 a few norms are "
    "overflows",
    "exploding": "clip gradients at .3 (--optim.clip .3, report 002), halve {rates}, or warm up longer",
    "rising loss": "halve {rates}, or let them fall (--optim.schedule cosine); a loss that rises is learning nothing",
    "falling score": "overfitting: stop earlier (train.patience), more dropout, weight_decay 1e-3",
    "high rates": "lr is too high: a lower one, or more warmup",
    "quick check": "before any full run change lr, or the encoder: a trained or a larger one",
    "data-bound": "more loader workers (--train.workers), a faster disk; with a frozen encoder the cache "
    "(--model.cache)",
    "memory nearly full": "--train.budget at half of what train.log names, or --model.checkpointing: neither changes "
    "the loss",
    "label range": "data.scale (or the corpus's columns) is not that of the labels; CCC needs both sides on one scale",
    "predictions off the scale": "bound the outputs to the scale (--model.sigmoid True)",
    "predictions at the border": "the sigmoid is saturated, its gradient gone: lower lr, or unbounded outputs "
    "(--model.sigmoid False)",
    "constant predictions": "nothing is learned: a higher lr for the head, a larger batch (CCC of few says nothing), "
    "no NaN inputs",
    "NaN predictions": "look at those utterances (silence? a broken file?), then clip at .3 and lower the rates",
    "stands still": "nothing is gained after the first epochs: other features or another encoder (a trained one), lr "
    "three times as high and as low; if it was learned within the first epoch, evaluate more often",
}
_OF_ENCODERS = {
    "falling score": "overfitting, or encoder_lr too high (report 002): stop earlier (train.patience), encoder_lr "
    "5e-6, more dropout",
    "high rates": "the rates are too high: encoder_lr 5e-6 (report 002), a lower lr",
    "stands still": "encoder_lr is too small: 5e-5, or too large for the pretrained weights: 5e-6 (report 002); try "
    "both",
    "quick check": "before any full run change encoder_lr: 5e-5 if it was too small to learn, 5e-6 if it spoilt the "
    "pretrained weights",
}
"""What to try by the kind of flag, and where an encoder is trained."""


class EmotionReport(Task):
    """The part of the task that reports ask."""

    recipe: Emotion

    def sections(self, study: Study) -> Sequence[Section]:
        """Return a warning on labels that nobody rated, and what labels are means of."""
        facts = [fact for run in study.runs for fact in flat(run.environment).items()]
        mapped = any(key.split(".")[-1] == "mapped" and value is True for key, value in facts)
        ratings = study.environment.get("ratings")
        means = f"Labels are {escaped(str(ratings))} (1: raters agree, 0: as chance would have it)."
        return [Section(markdown=words) for words, there in ((_MAPPED, mapped), (means, ratings)) if there]

    def flags(self, study: Study) -> Iterator[Flag]:
        """Yield whether a single fold of a corpus with more of them reached report 002's bar; nothing in between."""
        measure = next((m for m in study.measures if m.name == "ccc_valence"), None)
        folds = {run.fold for run in study.runs}
        if measure is None or not study.finished or len(folds) != 1 or "test" not in study.evaluations:
            return
        # A corpus's own split may have one test part in all.
        if any(inside(run.recipe, "data").get("split") not in _ROTATING for run in study.finished):
            return
        value = study.scored("test", measure).mean
        where = f"fold {min(folds)}"
        words = f"test {measure.shown} {number(value)} on this fold alone"
        if value >= PASSED:
            advice = "run the full one: all folds, 50 epochs (finetune_full)"
            yield Flag("quick check passed", where, f"{words}; report 002 asks for {PASSED:.2f}", advice)
        epochs = min(max((e["step"] for e in run.evals), default=0) * run.pace for run in study.finished)
        if value < FAILED and epochs >= EPOCHS - 0.5:
            words += f" after {epochs:g} epochs; report 002 asks for {FAILED:.2f}"
            yield Flag("quick check failed", where, words, self.advice()["quick check"])

    def advice(self) -> dict[str, str]:
        """Return what reports 000 and 002 advise about flags, by what the recipe trains."""
        encoder = self._trains_encoder()
        words = {
            "rates": "lr and encoder_lr" if encoder else "lr",
            "rate": "encoder_lr" if encoder else "lr",
            "slowly": ", encoder_lr 5e-6" if encoder else "",
        }
        advice = {kind: text.format(**words) for kind, text in _ADVICE.items()}
        return advice | (_OF_ENCODERS if encoder else {})

    def _trains_encoder(self) -> bool:
        """Tell whether the recipe trains an encoder of speech or text, so that optim.encoder_lr decides something."""
        model = self.recipe.model
        hears = model.encoder not in ("none", "mel") and (model.train_encoder != "none" or bool(model.lora))
        return hears or (model.text != "none" and model.train_text != "none")
