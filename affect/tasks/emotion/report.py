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

EPOCHS = 20
"""Epochs after which a CCC of valence under the corpus's lower bar is a failure."""


_ROTATING = ("session", "speaker", "script")
"""Splits that hold out each group in turn, so that there is always more than one fold."""
_MAPPED = (
    "> **Labels mapped, not rated.** The dimensional labels were derived from emotion categories: each category has "
    "one point. The scores say how well categories are told apart along these axes; they are not comparable with "
    "scores on rated corpora."
)

_ADVICE = {
    "overfitting": "more dropout ({dropout}), more weight_decay ({decay}){smaller}, {sooner}{augment}",
    "outlying fold": "look at who is in that fold, and repeat it with other seeds: data, or chance? Against a training "
    "that is unstable: half of {rates}, dropout {dropout}",
    "NaN loss": "clip gradients at .3 (--optim.clip .3) and lower {rate}; in fp16 a few norms are overflows",
    "exploding": "clip gradients at .3 (--optim.clip .3), halve {rates}, or warm up longer",
    "rising loss": "halve {rates}, or let them fall (--optim.schedule cosine); a loss that rises is learning nothing",
    "falling score": "overfitting: {sooner}, more dropout ({dropout}), more weight_decay ({decay})",
    "high rates": "lr is too high: a lower one, or more warmup",
    "quick check": "before any full run change lr, or the encoder: a trained or a larger one",
    "data-bound": "more loader workers (--train.workers), a faster disk{cached}",
    "memory nearly full": "--train.budget at half of what train.log names{recomputed}: it doesn't change the loss",
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
    "falling score": "overfitting, or encoder_lr too high: {sooner}, encoder_lr {slower}, more dropout ({dropout})",
    "high rates": "the rates are too high: encoder_lr {slower}, a lower lr",
    "stands still": "encoder_lr is too small: 5e-5, or too large for the pretrained weights: 5e-6; try both",
    "quick check": "before any full run change encoder_lr: 5e-5 if it was too small to learn, 5e-6 if it spoilt the "
    "pretrained weights",
}
"""What to try by the kind of flag, and where an encoder is trained; the words follow the recipe."""


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
        """Yield whether a single fold of a corpus that has bars for it reached them; nothing in between."""
        measure = next((m for m in study.measures if m.name == "ccc_valence"), None)
        folds, bars = {run.fold for run in study.runs}, self.recipe.data.layout.bars
        if bars is None or measure is None or not study.finished or len(folds) != 1 or "test" not in study.evaluations:
            return
        # A corpus's own split may have one test part in all.
        if any(inside(run.recipe, "data").get("split") not in _ROTATING for run in study.finished):
            return
        value, (low, high) = study.scored("test", measure).mean, bars
        where = f"fold {min(folds)}"
        words = f"test {measure.shown} {number(value)} on this fold alone"
        if value >= high:
            advice = "run the full one: all folds, 50 epochs (finetune_full)"
            yield Flag("quick check passed", where, f"{words}; the bar is {high:.2f}", advice)
        epochs = min(max((e["step"] for e in run.evals), default=0) * run.pace for run in study.finished)
        if value < low and epochs >= EPOCHS - 0.5:
            words += f" after {epochs:g} epochs; the bar is {low:.2f}"
            yield Flag("quick check failed", where, words, self.advice()["quick check"])

    def advice(self) -> dict[str, str]:
        """Return what to try about flags, by what the recipe trains and has not tried yet."""
        recipe, model, optim = self.recipe, self.recipe.model, self.recipe.optim
        encoder, frozen = self._trains_encoder(), model.train_encoder == "none" and model.encoder not in ("none", "mel")
        mamba, hears = "mamba" in (model.temporal, model.dialogue), model.encoder != "none"
        sizes = [("hidden", 128, True), ("prosody_dim", 64, True), ("mamba_layers", 2, mamba)]
        smaller = [f"{name} {least}" for name, least, there in sizes if there and getattr(model, name) > least]
        words = {
            "rates": "lr and encoder_lr" if encoder else "lr",
            "rate": "encoder_lr" if encoder else "lr",
            "slower": f"{(optim.encoder_lr or optim.lr) / 2:g}".replace("e-0", "e-"),
            "dropout": ".3" if model.dropout < 0.3 else ".5",
            "decay": f"{max(1e-3, 3 * optim.weight_decay):g}",
            "smaller": f", a smaller model ({', '.join(smaller)})" if smaller else "",
            "augment": "; then augmentation (--augment.noise 10 20)" if hears and not recipe.augment.any else "",
            "cached": "; the frozen encoder's states once (--model.cache float16)"
            if frozen and model.cache == "none" else "",
            "recomputed": " or --model.checkpointing" if encoder and not model.checkpointing else "",
            # Filled in by the report.
            "sooner": "{sooner}",
        }  # fmt: skip
        return {kind: text.format(**words) for kind, text in (_ADVICE | (_OF_ENCODERS if encoder else {})).items()}

    def _trains_encoder(self) -> bool:
        """Tell whether the recipe trains an encoder of speech or text, so that optim.encoder_lr decides something."""
        model = self.recipe.model
        hears = model.encoder not in ("none", "mel") and (model.train_encoder != "none" or bool(model.lora))
        return hears or (model.text != "none" and model.train_text != "none")
