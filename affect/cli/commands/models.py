"""The subcommands that take a trained model: predict with it, export it, give it to others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from affect.cli.arguments import named_values
from affect.data.corpora import mapping
from affect.errors import AffectError, nearest

_Values = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]
"""An option that may be given several times, with several values each time."""
_Columns = Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--data.columns",))]
"""Called as training calls it, too."""


def predict(
    run: Annotated[Path, tyro.conf.Positional],
    files: Annotated[list[Path], tyro.conf.Positional],
    /,
    output: Path | None = None,
    window: float | None = None,
    hop: float | None = None,
    rate: int | None = None,
    raw: Literal["s16", "f32"] = "s16",
    text: _Values = (),
    audio: _Values = (),
    video: _Values = (),
    features: Path | None = None,
    trust_remote_code: bool = False,
    columns: _Columns = (),
    options: tuple[str, ...] = (),
) -> None:
    """Predict with a run's best weights, one JSON object a line; a bad file gives one with "error", and exit code 1.

    Of an experiment or a seed the predictions of its runs are averaged, those of classes by their logits or
    probabilities. In Python the same is affect.load(RUN)(FILE).

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>), one with model.safetensors and config.json, an
            experiment's or a seed's (runs/<experiment>[/seed<S>]), user/name on the Hub, or an exported model.onnx.
        files: What to predict: files, folders of them, or a CSV with a line an example and columns path, text, audio,
            video (those that the model takes), id, and start and end (s) of parts of recordings. Audio of any rate and
            number of channels; - is standard input (a wav, or raw samples with --rate).
        output: File to write in place of the terminal: .csv or .tsv, a column a value, or .jsonl.
        window: Longest stretch predicted at once, in seconds; a longer recording gives one line a window. As long as
            the longest recording of training, 60 s at most, when not given; other lengths are warned of.
        hop: Seconds from one window's start to the next; the window when not given.
        rate: Sampling rate in Hz of raw samples on standard input, one channel.
        raw: How a raw sample is written, little-endian: 16-bit integers or 32-bit floats.
        text: For a model that reads: a text for each file, or texts alone where it does not hear. Of a model of
            features: .npy files, folders, .txt files or words.
        audio: Features of audio: .npy files ([D], or [T, D] for their mean) or folders; or sound files, or videos.
        video: Features of video: .npy files or folders (of frames, too); or videos.
        features: Where the manifests are, when not at the run's data.root: the folder of features/NAME/manifest.json.
        trust_remote_code: Run the program of an encoder's folder where one made features of texts. Read it first.
        columns: OURS=THEIRS for each column that has another name in the CSV.
        options: What the run's task alone takes, NAME=VALUE each; an unknown name lists all.
    """
    from affect.inference import opening
    from affect.inference import output as outputs
    from affect.usage import UserInputs

    if output is not None:
        outputs.check_lines(output, files)
    inputs = UserInputs(
        files=tuple(files), window=window, hop=hop, rate=rate, raw=raw, text=_joined(text), audio=_joined(audio),
        video=_joined(video), features=features, trust_remote_code=trust_remote_code, columns=mapping(columns),
    )  # fmt: skip
    opened = opening.find(run)
    own = named_values(options, opened.task.infer, f"a model of {opened.task.recipe_class.task}", but=("progress",))
    bad = opening.predict(opened, inputs, sys.stdout if output is None else output, **own)
    if output is not None:
        print(f"predictions: {output}{f' ({bad} could not be made, see the column error)' if bad else ''}")
    if bad:
        sys.exit(1)


def _joined(given: _Values) -> tuple[str, ...]:
    return tuple(value for values in given for value in values)


def embed(
    run: Annotated[Path, tyro.conf.Positional],
    files: Annotated[list[Path], tyro.conf.Positional],
    /,
    output: Path,
    window: float | None = None,
    hop: float | None = None,
    text: _Values = (),
    audio: _Values = (),
    video: _Values = (),
    features: Path | None = None,
    trust_remote_code: bool = False,
    columns: _Columns = (),
) -> None:
    """Write the pooled states that a run's predictions are made of, a vector a window, text, utterance or clip.

    Of a model of speech they are what its branches (speech, text, prosody) give, side by side; of models of features
    what their heads see. A bad file is told on the terminal, and the exit code is then 1.

    Args:
        run: A run's folder, one with model.safetensors and config.json, or user/name on the Hub.
        files: As those of affect predict: files, folders of them, or a CSV.
        output: File to write: .npz (id [N], embedding [N, D], of windows start and end) or .parquet of these columns.
        window: Longest stretch taken at once, in seconds; when not given training's longest recording, 60 s at most.
        hop: Seconds from one window's start to the next; the window when not given.
        text: As that of affect predict.
        audio: As that of affect predict.
        video: As that of affect predict.
        features: As that of affect predict.
        trust_remote_code: As that of affect predict.
        columns: As that of affect predict.
    """
    from affect.inference import opening
    from affect.inference import output as outputs
    from affect.usage import UserInputs

    outputs.check_vectors(output, files)
    texts, sounds, videos = map(_joined, (text, audio, video))
    inputs = UserInputs(
        files=tuple(files), window=window, hop=hop, text=texts, audio=sounds, video=videos, features=features,
        trust_remote_code=trust_remote_code, columns=mapping(columns),
    )  # fmt: skip
    lines = [*opening.embedded(opening.find(run), inputs, progress=sys.stderr.isatty())]
    bad = [line for line in lines if "error" in line]
    if len(lines) > len(bad):
        outputs.write_vectors(output, [line for line in lines if "error" not in line])
    for line in bad:
        print(f"error: {line['error']}", file=sys.stderr)
    count = len(lines) - len(bad)
    print(f"{count} vector{'s' if count > 1 else ''}: {output}" if count else "no vector, no file")
    if bad:
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
    made = exporter(folder, path, opset, **named_values(options, exporter, f"the format {format}"))
    for line in made.lines:
        print(line)
    print(f"{made.path}: {made.size / 1e6:.1f} MB, differs from torch by {made.difference:.1g} at most")


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
