"""The subcommands that take a trained model: predict with it, export it, give it to others."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from affect.errors import AffectError, nearest

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
    utterance, with the probability of each class, the attention and what was present (ATV). An option may name several
    files, one an utterance in the same order ('' for a missing one, as all zeros are), or a folder of features, matched
    by file name. Where a modality has several features, NAME=FILE says which. Raw files and words need the
    manifest.json that recipes/extract_features.py writes.

    A model of clips takes FILES of features: a .npz of frames [T, D] by the features' names, .npy files called by them
    or a folder of those, or a folder that affect convert wrote. One line a clip: each score, its scale, and an interval
    where validation rows of the run calibrate one.

    Of an experiment or a seed the predictions of its runs are averaged, those of classes by their logits or
    probabilities.

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>), one with model.safetensors and config.json, an
            experiment's or a seed's (runs/<experiment>[/seed<S>]), user/name on the Hub, or an exported model
            (model.onnx) or its folder.
        files: Audio files, any rate and number of channels; - is standard input (a wav, or raw samples with --rate).
            Of a model of clips their features.
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
    from affect.inference.opening import predict as write
    from affect.usage import UserInputs

    texts, sounds, videos = (tuple(value for values in given for value in values) for given in (text, audio, video))
    inputs = UserInputs(
        files=tuple(files), window=window, hop=hop, rate=rate, raw=raw, text=texts, audio=sounds, video=videos,
        features=features,
    )  # fmt: skip
    if write(run, inputs, sys.stdout):
        sys.exit(1)


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    format: str = "onnx",
    output: Path | None = None,
    opset: int = 18,
    options: tuple[str, ...] = (),
) -> None:
    """Write a run's best weights in another format, for use without affect; which formats there are, its task says.

    A format's own options, such as how much a score may change, are given as --options NAME=VALUE ...; an unknown name
    lists them.

    onnx, of models of speech: a graph for any batch and length, checked against torch by onnxruntime. Inputs: waveform
    [B, S] float32, samples [B] int64 (valid samples), prosody [B, P] float32 (the raw functionals), speaker [B, E]
    float32 (embeddings of the corpus; an x-vector model is in the graph), those that the model takes. Outputs: each
    target on the scale of the labels, and as target_unit on 0 to 1; the probabilities of classes. A model with a state
    over the dialogue also takes said_speech and said_prosody [N, D], the outputs heard_speech and heard_prosody of the
    N utterances before (N is 0 at the start). A file that differs from torch by more than 1e-4 is not kept. Its
    metadata hold what affect predict has to know (targets, scale, rate, classes), so it can be moved alone (from 1.8 GB
    of weights on with model.onnx.data beside it); config.json says the same to people. Models of text can't be
    exported. Needs pip install 'affect[onnx]'.

    Of models of clips' features: onnx, int8 (a graph with weights of 8 bits) and pruned (a folder of weights, with
    fewer hidden units and heads). Each is held against the run's own test clips: size, latency, errors, fall of SRCC
    are printed, and nothing is kept where one is over its limit.

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>) or one with model.safetensors and config.json.
        format: What to write.
        output: The file to write, config.json beside it; RUN/export/model.FORMAT when not given.
        opset: Version of ONNX's operators.
        options: The format's own numbers, NAME=VALUE each.
    """
    from affect import tasks
    from affect.inference import opening
    from affect.models import saving

    folder = opening.one_of(run)
    task = tasks.task_class(str(saving.read_config(folder)["task"]))
    exporters = task.exporters
    if not exporters:
        raise AffectError(f"models of {task.recipe_class.task} can't be exported: their task has no format for it")
    if format not in exporters:
        raise AffectError(f"unknown format {format!r}; {nearest(format, exporters)}")
    path = run / "export" / f"model.{format}" if output is None else output
    exporter = tasks.attribute(exporters[format])
    made = exporter(folder, path, opset, **_numbers(exporter, format, options))
    for line in made.lines:
        print(line)
    print(f"{made.path}: {made.size / 1e6:.1f} MB, differs from torch by {made.difference:.1g} at most")


def _numbers(exporter: Callable[..., Any], format: str, options: Sequence[str]) -> dict[str, float]:
    """Return NAME=VALUE as the keyword-only arguments of a format's function."""
    given: dict[str, float] = {}
    known = {name: item.default for name, item in inspect.signature(exporter).parameters.items()
             if item.kind is inspect.Parameter.KEYWORD_ONLY}  # fmt: skip
    for option in options:
        name, _, value = option.partition("=")
        if name not in known:
            there = ", ".join(f"{each}={default:g}" for each, default in known.items()) or "none"
            raise AffectError(f"the format {format} has no option {name!r}; its options and their defaults: {there}")
        try:
            given[name] = float(value)
        except ValueError as error:
            raise AffectError(f"--options {option}: {value!r} is no number") from error
    return given


def push(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    repo: str,
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Push a run's weights, best and last, with card, recipe and preprocessing to the Hub; or a metric module.

    No optimiser state goes with it, and no path, host, user or token: a push that holds one stops and names the file.
    `affect predict user/name` and affect.hub.from_pretrained("user/name") then take the model from there. Give hf auth
    login once before, or set HF_TOKEN.

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>); or a metric module of `evaluate`, its folder or name
            (ccc, der, emoval), which becomes a Space.
        repo: user/name on the Hub; made where it is not there yet. A metric module's has the module's name.
        private: Make it private.
        dry_run: Print the files and the card that would be pushed; nothing leaves this machine.
    """
    from affect.hub import push as pushes
    from affect.hub.client import check_name

    check_name(repo)
    module = pushes.module_of(run)
    if dry_run:
        with pushes.staged(run, repo) if module is None else pushes.staged_module(module, repo) as folder:
            for path in sorted(item for item in folder.rglob("*") if item.is_file()):
                print(f"{repo}/{path.relative_to(folder).as_posix()}: {path.stat().st_size / 1e6:.3f} MB")
            print("\n" + (folder / "README.md").read_text(encoding="utf-8"))
        return
    pushed = pushes.run(run, repo, private=private) if module is None else pushes.module(module, repo, private=private)
    print(f"{pushed.url} ({f'commit {pushed.commit[:8]}' if pushed.changed else 'nothing has changed since'})")
