"""Emotion and valence from features of audio, text and video: the experiments of report 001 (MER2023).

affect launch recipes/mer2023.py [EXPERIMENT] [--field value ...]

The report chose robust_v3 by test2, from one run each; a second run of the same settings fell below the baseline. Here
an epoch is chosen on its fold, the tests are predicted once, and six seeds say what is noise. Any experiment runs on a
small generated corpus of the same layout with `--data.corpus generated --data.root data/mer2023-generated`.
"""

from __future__ import annotations

from dataclasses import replace

from affect.cli import experiments_of, launch
from affect.experiments import Ensemble, Search, Suite
from affect.recipe import Optim, Train
from affect.tasks.multimodal_emotion.config import Data, Model, MultimodalEmotion


def demo() -> MultimodalEmotion:
    """A generated corpus and a model that takes any subset of audio, text and video: five folds, six seeds, minutes."""
    base = robust_ours()
    return replace(
        base,
        data=Data(corpus="generated", root="data/mer2023-generated"),
        train=replace(base.train, epochs=40),
    )


def baseline() -> MultimodalEmotion:
    """The public toolkit's attention model, without a word about missing modalities.

    Report 001: test2 F1 .7450, accuracy .7476, valence MSE .7269; test1 accuracy .7956, test3 .8645, cv .7376. There
    the dropout is drawn at random a run; .35 is the middle of its range.
    """
    return MultimodalEmotion(
        data=Data(),
        model=Model(name="attention", dropout=0.35),
        optim=Optim(algorithm="adam", lr=5e-4, weight_decay=1e-5, schedule="constant", warmup=0.0, clip=None),
        train=Train(batch=32, epochs=100, checkpoint_every=20, workers=0, trackers=()),
    )


def robust_v1() -> MultimodalEmotion:
    """A first remedy against overfitting: much dropout, and modalities dropped from the first epoch on.

    Reported: test2 F1 .7349, accuracy .7403, valence MSE .7216; test1 accuracy .7956, test3 .8777, cv .7450.
    """
    base = baseline()
    return replace(
        base,
        model=Model(name="attention_robust", dropout=0.5, modality_dropout=0.3),
        # torch's scheduler with a patience of 10 halves the rate at the 11th evaluation without a rise.
        optim=replace(
            base.optim, algorithm="adamw", weight_decay=1e-4, clip_value=1.0,
            schedule="plateau", plateau_patience=11, plateau_delta=1e-4, floor=1e-6,
        ),
        train=replace(base.train, patience=20, min_delta=1e-3),
    )  # fmt: skip


def robust_v2() -> MultimodalEmotion:
    """Half of it: less dropout, modalities dropped half as often, half the weight decay.

    Reported: test2 F1 .7284, accuracy .7306, valence MSE .6738; test1 accuracy .8175, test3 .8945, cv .7492.
    """
    base = robust_v1()
    return replace(
        base,
        model=replace(base.model, dropout=0.4, modality_dropout=0.15),
        optim=replace(base.optim, weight_decay=5e-5),
        train=replace(base.train, patience=25),
    )


def robust_v3() -> MultimodalEmotion:
    """No modality dropout for 30 epochs, then a rise over 30 more: the full probability comes at epoch 60.

    Reported: test2 F1 .7609, accuracy .7621, valence MSE .6316; test1 accuracy .8248, test3 .8873, cv .7516. A second
    public run of these settings gave .7404 and .7427 on test2, below the baseline.
    """
    base = robust_v2()
    return replace(
        base,
        model=replace(base.model, dropout=0.35, modality_dropout=0.2, warmup=30),
        optim=replace(base.optim, plateau_patience=16),
        train=replace(base.train, patience=30),
    )


def warmup_40() -> MultimodalEmotion:
    """robust_v3 with a longer warm-up, as the report would try next: full modality dropout at epoch 80 of 100."""
    base = robust_v3()
    return replace(base, model=replace(base.model, warmup=40))


def warmup_50() -> MultimodalEmotion:
    """robust_v3 with a warm-up of 50: the full probability would come at epoch 100, after the last."""
    base = robust_v3()
    return replace(base, model=replace(base.model, warmup=50))


def contrastive() -> MultimodalEmotion:
    """robust_v3 with a contrastive term that aligns the modalities of an utterance, the report's third next step."""
    base = robust_v3()
    return replace(base, model=replace(base.model, contrastive=0.1))


def robust_ours() -> MultimodalEmotion:
    """A model that knows what is missing, looked at by each utterance twice: whole, and with less than it has.

    What is missing gets a learned vector; the second look takes modalities away as if they were missing, each as
    often, and the epoch is kept that is best over all seven subsets. Rates and switches were chosen by the folds of
    one generated corpus (noise 1, generator seed 0): softmax over what is there was 1 point worse in the mean over the
    subsets, imputation and the contrastive term no better.
    """
    base = baseline()
    return replace(
        base,
        model=Model(
            name="attention", dropout=0.2, missing="token", dropout_kind="balanced", modality_dropout=0.9, views=1.0,
            normalise=True,
        ),
        optim=replace(
            base.optim, algorithm="adamw", lr=1e-3, weight_decay=1e-2, clip_value=1.0, schedule="cosine",
        ),
        train=replace(base.train, epochs=60),
        choose="subsets",
    )  # fmt: skip


def targeted() -> MultimodalEmotion:
    """robust_ours aimed at a part: it loses modalities as often as that part does, and hears noise in training.

    Report 001's next step, for test2 is noise and lacks what its recordings lack. The frequencies are those that
    `affect inspect` prints of the part (its inputs, never its labels); those here are of the generated corpus's test2.
    Noise between 0 and 20 dB is added to training features, drawn anew in each epoch.
    """
    base = robust_ours()
    return replace(
        base,
        model=replace(base.model, modality_dropout=1.0, patterns=("ATV=.82", "AV=.10", "AT=.08")),
        noise=(0.0, 20.0),
    )


def own_data() -> MultimodalEmotion:
    """Your own features of audio, text and video: any classes, a number or both, any parts; robust_ours on them.

    FOLDER has labels.csv (name, emotion, part), or a CSV a part, and features/<name>/, which --data.audio, --data.text
    and --data.video name (nothing after one leaves that modality out); a column of .npy files does as well.
    `affect inspect FOLDER` shows what is read. Training and, where there is one, validation (dev) are what the parts
    say, else five folds of training validate, each of some speakers alone where a column names them (without, of
    utterances at random: the same people may then be in both); each other part is a test. `--targets valence` is
    regression, on `--data.scale -3 3`. Other columns: `--data.columns name=id emotion=Emotion valence=label part=mode`.
    """
    return replace(
        robust_ours(),
        data=Data(corpus="feature_table", root="data/own", audio=("audio",), text=("text",), video=("video",)),
        targets=("emotion",),
    )


def ensemble() -> Ensemble:
    """The mean of the raw logits and valences of two systems, fold by fold, seed by seed."""
    return Ensemble(members=("robust_v3", "robust_ours"))


def search() -> Search:
    """The toolkit's search space over robust_ours, judged on the folds alone (by emoval's mean over the subsets).

    The toolkit takes the best of 50 random draws, then averages 6 repeats of it: run the best once more with six
    seeds, as the search's report says.
    """
    ranges = (
        "model.hidden=64|128|256", "model.dropout=.2..0.5", "optim.lr=1e-4..3e-3 log", "model.modality_dropout=.2..0.8",
    )  # fmt: skip
    return Search(of="robust_ours", ranges=ranges, trials=50)


def all() -> Suite:
    """All of the report's systems and ours, one after another, and a page that compares them."""
    return Suite(
        members=(
            "baseline", "robust_v1", "robust_v2", "robust_v3", "warmup_40", "warmup_50", "contrastive", "robust_ours",
            "targeted",
        )
    )  # fmt: skip


if __name__ == "__main__":
    launch(experiments_of(globals(), __name__))
