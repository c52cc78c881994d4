"""The subcommands that take a trained model: what they take, and what does the work."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from affect.errors import AffectError

_Values = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]
"""An option that may be given several times, with several values each time."""


def predict(
    run: Annotated[Path, tyro.conf.Positional],
    files: Annotated[list[Path], tyro.conf.Positional],
    /,
    window: float = 30.0,
    hop: float | None = None,
    rate: int | None = None,
    raw: Literal["s16", "f32"] = "s16",
    text: _Values = (),
    audio: _Values = (),
    video: _Values = (),
    features: Path | None = None,
) -> None:
    """Predict with a run's best weights, one JSON object a line; a bad file gives one with "error", and exit code 1.

    A model of sound takes FILES: one line a window, scale and order stated. Files are read bit by bit and each window
    is printed at once: a recording may be of any length.

    A model of features takes --audio, --text and --video, any of them, and no FILES: one line an
    utterance, with the probability of each class, the attention and what was present (ATV). Of an experiment or seed
    the raw outputs of its runs are averaged. An option may name several files, one an utterance in the same order (''
    for a missing one, as all zeros are), or a folder of features, matched by file name. Where a modality has several
    features, NAME=FILE says which. Raw files and words need the manifest.json that recipes/extract_features.py writes.

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>), one with model.safetensors and config.json, or an
            exported model (model.onnx) or its folder; of models of features also runs/<experiment>[/seed<S>].
        files: Audio files, any rate and number of channels; - is standard input (a wav, or raw samples with --rate).
        window: Longest stretch predicted at once, in seconds; a longer recording gives one line a window.
        hop: Seconds from one window's start to the next; the window when not given.
        rate: Sampling rate in Hz of raw samples on standard input, one channel.
        raw: How a raw sample is written, little-endian: 16-bit integers or 32-bit floats.
        text: For a model that reads: a text for each file, or texts alone where it does not hear. Of a model of
            features: .npy files, folders, .txt files or words.
        audio: Features of audio: .npy files ([D], or [T, D] for their mean) or folders; or sound files, or videos.
        video: Features of video: .npy files or folders (of frames, too); or videos.
        features: Where the manifests are, when not at the run's data.root: the folder of features/NAME/manifest.json.
    """
    from affect.workflows import multimodal_prediction

    said, heard, seen = (tuple(value for values in given for value in values) for given in (text, audio, video))
    if multimodal_prediction.fuses(run):
        others = {"FILES": bool(files), "--window": window != 30.0, "--hop": hop is not None,
                  "--rate": rate is not None, "--raw": raw != "s16"}  # fmt: skip
        _refuse(others, "models of sound: this one takes --audio, --text and --video")
        named = {"audio": heard, "text": said, "video": seen}
        bad = multimodal_prediction.predict_utterances(run, sys.stdout, **named, features=features)
    else:
        from affect.workflows import prediction, predictor

        others = {"--audio": bool(heard), "--video": bool(seen), "--features": features is not None}
        if any(others.values()):
            # What `run` is has to be said first, where it is no model at all.
            predictor.open_predictor(run)
        _refuse(others, "models of features: this one takes FILES (affect predict RUN a.wav)")
        bad = prediction.predict_files(run, files, sys.stdout, window=window, hop=hop, rate=rate, raw=raw, texts=said)
    if bad:
        sys.exit(1)


def _refuse(options: Mapping[str, bool], why: str) -> None:
    """Raise AffectError for the first option that is given."""
    for name in (name for name, given in options.items() if given):
        raise AffectError(f"{name} is for {why}")


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    output: Path | None = None,
    opset: int = 18,
) -> None:
    """Write a run's best weights as an ONNX file for any batch and length, checked against torch by onnxruntime.

    Inputs: waveform [B, S] float32, samples [B] int64 (valid samples), prosody [B, P] float32 (the raw functionals),
    speaker [B, E] float32 (embeddings of the corpus; an x-vector model is in the graph), those that the model takes.
    Outputs: each target on the scale of the labels, and as target_unit on 0 to 1; the probabilities of emotion's
    classes. A model with a state over the dialogue also takes said_speech and said_prosody [N, D], the outputs
    heard_speech and heard_prosody of the N utterances before (N is 0 at the start). A file that differs from torch by
    more than 1e-4 is not kept. Its metadata hold what affect predict has to know (targets, scale, rate, classes), so
    it can be moved alone (from 1.8 GB of weights on with model.onnx.data beside it); config.json says the same to
    people. Models of text can't be exported. Needs pip install 'affect[onnx]'.

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>) or one with model.safetensors and config.json.
        output: The file to write, config.json beside it; RUN/export/model.onnx when not given.
        opset: Version of ONNX's operators.
    """
    from affect.workflows import export as exports

    made = exports.export(run, output, opset)
    print(f"{made.path}: {made.size / 1e6:.1f} MB, differs from torch by {made.difference:.1g} at most")
