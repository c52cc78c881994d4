"""The subcommands of `affect`: what they take, and what does the work."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from affect.errors import AffectError

_FOLDS = ("devices", "jobs", "precision")

_Values = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]
"""An option that may be given several times, with several values each time."""


def folds(
    recipe: Annotated[Path, tyro.conf.Positional],
    experiment: Annotated[str, tyro.conf.Positional],
    /,
    devices: str | None = None,
    jobs: int | None = None,
    precision: Literal["no", "bf16", "fp16"] | None = None,
    arguments: tyro.conf.Suppress[tuple[str, ...]] = (),
) -> None:
    """Run all folds and seeds of an experiment side by side: one a GPU, or --jobs at a time on a CPU.

    Every other --field goes to the experiment (`python RECIPE EXPERIMENT --help` lists them): --seeds 0 1 2, --runs,
    --name, --overwrite, --dry-run, --train.epochs 20 ... Finished folds are skipped; one that fails leaves the others
    running. The results are those of running the folds one after another.

    Args:
        recipe: A recipe file (recipes/finetune_wavlm.py).
        experiment: One of its experiments.
        devices: GPUs to use, as 0,1,2; all of them when not given.
        jobs: Runs at a time on the CPU, which share its cores out.
        precision: Mixed precision of each run; what ACCELERATE_MIXED_PRECISION says when not given.
        arguments: The fields of the experiment.
    """
    from affect.arguments import experiments_in, parse, recipe_of, without

    chosen, options = parse(experiment, recipe_of(experiment, experiments_in(recipe)), arguments, also=_FOLDS)
    from affect.report import read, table
    from affect.workflows import parallel
    from affect.workflows.folds import dry_run

    places = parallel.slots(devices, jobs)
    if precision == "fp16" and places[0].name == "cpu":
        raise AffectError("--precision fp16 needs a GPU: give no or bf16")
    if options.dry_run:
        print(f"{dry_run(chosen)}\nat a time: {', '.join(place.name for place in places)}")
        return
    command = shlex.join(["affect", *sys.argv[1:]])
    kept = without(arguments, "seeds", "overwrite", "report", "dry_run")
    top, runs = parallel.run(
        recipe, experiment, chosen, options, kept, places=places, precision=precision, command=command
    )
    failed = [run for run in runs if run.state == "failed"]
    if options.report:
        print(f"\n{table(read(top))}\n\nreport: {top / 'report.md'}")
    for run in failed:
        print(f"failed: {run.name}: {run.error}", file=sys.stderr)
    if failed:
        again = "give the command again" + (" without --overwrite" if options.overwrite else "")
        print(f"error: {len(failed)} of {len(runs)} failed; {again} to go on with them alone", file=sys.stderr)
        sys.exit(1)


def own_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of `affect folds ...` that are its own, and those that go to the experiment."""
    from affect.arguments import split

    count = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    mine, rest = split(words[count:], _FOLDS)
    return [*words[:count], *mine], rest


def report(
    runs: Annotated[list[Path], tyro.conf.Positional],
    /,
    against: Path | None = None,
    target: tuple[str, ...] = (),
) -> None:
    """Write report.md, report.html and plots for experiments and print their tables; compare them all.

    The page report.html holds its plots and needs no other file: mail it, or open it anywhere. Beside the
    experiments comparison.md gets a line for each of them; it is printed where several are named. Each page is
    written anew: without --against or --target it has no such part, and a line says so where the earlier one had.

    Args:
        runs: Folders of experiments (runs/<experiment>), a folder of several (runs), or files of reported numbers.
        against: What to compare with: an experiment's folder, its name beside the first one, or a file of reported
            numbers (reported.json: {"name": "v1", "source": "a paper", "mean": {"test": {"valence": 0.59}}}).
        target: Scores to reach, as V=.68 A=.68 or mean=.65.
    """
    if not runs:
        raise AffectError("affect report needs the folder of an experiment (runs/<experiment>), or several")
    from affect import report as reports

    goals = reports.parse_goals(target)
    paths = reports.expand(runs)
    other = None if against is None else reports.load(against, paths[0].resolve().parent, scores_only=True)
    for path in paths:
        try:
            page, said = reports.publish(reports.load(path), other, goals)
        except AffectError as error:
            if path in runs:
                raise
            print(f"left out: {path}: {error}\n", file=sys.stderr)
            continue
        print(f"{said}\n\nreport: {page} (and {page.with_suffix('.html').name})\n")
    for folder in dict.fromkeys(path.resolve().parent for path in paths):
        everything = reports.compare_all(folder)
        if everything is not None and len(paths) > 1:
            print(f"{everything.read_text(encoding='utf-8')}\ncomparison: {everything}\n")


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

    A model of features (recipes/mer2023.py) takes --audio, --text and --video, any of them, and no FILES: one line an
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


def inspect(
    root: Annotated[Path, tyro.conf.Positional],
    /,
    corpus: Literal["auto", "iemocap", "emodb", "msp_podcast", "emobank", "mer2023", "csv_folder", "hub"] = "auto",
    scale: tuple[float, float] | None = None,
    columns: tuple[str, ...] = (),
    labels: str | None = None,
    audio: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    streaming: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    audio_feature: tuple[str, ...] = (),
    text_feature: tuple[str, ...] = (),
    video_feature: tuple[str, ...] = (),
    every: Annotated[bool, tyro.conf.arg(name="all"), tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Describe a corpus: counts, labels, durations, what is left out and why, and its folds.

    Of a corpus of features (mer2023): the features there, and how many vectors of each are missing in each part.

    Args:
        root: The corpus's folder; with --corpus hub also a name on the Hub.
        corpus: Its layout; auto looks.
        scale: Lowest and highest label of csv_folder and hub (1 and 5 when not given).
        columns: OURS=THEIRS for each column that has another name in your csv_folder or hub data.
        labels: The CSV file of a csv_folder; npz or csv for mer2023, which has its labels in both forms.
        audio: The folder of recordings of a csv_folder.
        subset: The configuration of a hub source.
        revision: The version of a source on the Hub.
        limit: Rows of a hub source to read at most.
        streaming: Fetch a hub source row by row.
        audio_feature: Features of mer2023 that are audio's; with no --...-feature the usual three.
        text_feature: Features of mer2023 that are text's.
        video_feature: Features of mer2023 that are video's.
        every: List all that is left out, not the first ten.
    """
    from affect.data import corpora
    from affect.data import inspect as inspection

    if scale is not None and not scale[0] < scale[1]:
        raise AffectError(f"--scale must be low then high, not {scale[0]:g} {scale[1]:g}")
    kind = inspection.detect(root) if corpus == "auto" else corpus
    asked = {
        "scale": scale, "columns": corpora.mapping(columns), "labels": labels, "audio": audio, "subset": subset,
        "revision": revision, "limit": limit, "streaming": streaming,
        "audio_feature": audio_feature, "text_feature": text_feature, "video_feature": video_feature,
    }  # fmt: skip
    # A limit of 0 is a mistake for the reader to name, not one that was not given.
    given = {name: value for name, value in asked.items() if value or value == 0 and name == "limit"}
    listed = None if every else inspection.LISTED
    if kind in corpora.FEATURE_MODULES:
        print(inspection.describe_features(inspection.features_of(kind, root, given), root, listed=listed))
        return
    print(inspection.describe(corpora.read(kind, root, **given), listed=listed))
