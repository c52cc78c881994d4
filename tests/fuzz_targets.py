"""What reads a user's files: a small sound one each, to be damaged."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from affect.errors import AffectError
from tests.fuzzing import Target

Make = Callable[[Path], Target]
ALL: dict[str, Make] = {}


def target(make: Make) -> Make:
    ALL[make.__name__.removesuffix("_file")] = make
    return make


def wav(path: Path, seconds: float = 0.2, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(round(seconds * rate)) / 9), rate, subtype="PCM_16")
    return path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


# Tables


@target
def csv_folder(folder: Path) -> Target:
    from affect.data.corpora import csv_folder as layout

    for name in "abcd":
        wav(folder / f"{name}.wav")
    table = put(folder / "labels.csv", "path,speaker,valence,arousal,emotion,text\n" + "".join(
        f'{name}.wav,s{k},{k}.5,{4 - k},happy,"well, yes"\n' for k, name in enumerate("abcd", 1)))  # fmt: skip
    return Target(lambda: layout.read(folder), (table,))


@target
def score_table(folder: Path) -> Target:
    from affect.data import corpora

    parts = enumerate(("train", "train", "val", "test"), 1)
    lines = "".join(f"{k}_x,{k % 5},3.{k},{part},A,.{k}\n" for k, part in parts)
    table = put(folder / "mine.csv", "name,lip_score,MOS,split,room,blur\n" + lines)
    return Target(lambda: corpora.read(corpora.SCORES, "score_table", folder), (table,))


@target
def faces_of_pyfeat(folder: Path) -> Target:
    from affect.data.faces import read_boxes
    from affect.data.frame_csv import AU, VISUAL, read_faces

    names = ["frame", "FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore", *AU, *VISUAL]
    names = list(dict.fromkeys(names))
    table = put(folder / "faces.csv", "\n".join([",".join(names), *(
        ",".join(map(str, [k, *range(1, len(names))])) for k in range(3))]) + "\n")  # fmt: skip

    def read() -> None:
        read_boxes(table)
        read_faces(table)

    return Target(read, (table,))


@target
def media_table(folder: Path) -> Target:
    from affect.data.media import read_media

    wav(folder / "a.wav")
    table = put(folder / "media.csv", 'name,audio,text\na1,a.wav,"well, yes"\nb1,a.wav,no\n')
    return Target(lambda: list(read_media(str(table))), (table,))


@target
def emobank(folder: Path) -> Target:
    from affect.data.corpora import emobank as layout

    table = put(folder / "emobank.csv", "id,split,V,A,D,text\n" + "".join(
        f'doc{k}_{k}_9,{part},3.0,3.1,2.9,"a sentence, {k}"\n'
        for k, part in enumerate(("train", "train", "dev", "test"))))  # fmt: skip
    return Target(lambda: layout.read(folder), (table,))


@target
def msp_podcast(folder: Path) -> Target:
    from affect.data.corpora import msp_podcast as layout

    lines = []
    for k, part in enumerate(("Train", "Development", "Test1")):
        name = f"MSP-PODCAST_{k:04d}_0001.wav"
        wav(folder / "Audios" / name)
        lines.append(f"{name},N,4,3,5,{k},Male,{part}\n")
    head = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
    table = put(folder / "Labels" / "labels_consensus.csv", head + "".join(lines))
    return Target(lambda: layout.read(folder), (table,))


@target
def iemocap(folder: Path) -> Target:
    from affect.data.corpora import iemocap as layout

    files = []
    for session in (1, 2):
        name = f"Ses0{session}F_impro01"
        own = folder / f"Session{session}"
        for turn in ("F000", "M001"):
            wav(own / "sentences" / "wav" / name / f"{name}_{turn}.wav")
        files.append(put(own / "dialog" / "EmoEvaluation" / f"{name}.txt", "% head\n\n" + "".join(
            f"[6.2901 - 8.2357]\t{name}_{turn}\tneu\t[2.5000, 3.0000, 2.0000]\nC-E2:\tNeutral;\t()\n"
            for turn in ("F000", "M001"))))  # fmt: skip
        files.append(put(own / "dialog" / "transcriptions" / f"{name}.txt",
                         f"{name}_F000 [006.2901-008.2357]: Excuse me.\n"))  # fmt: skip
    return Target(lambda: layout.read(folder), tuple(files))


@target
def mer2023(folder: Path) -> Target:
    from affect.data import corpora

    usual = corpora.layout("mer2023").usual
    names = {part: [f"{part}_{k}" for k in range(3)] for part in ("train", "test1", "test2", "test3")}
    tables = [put(folder / f"{part}-label.csv", "name,discrete,valence\n" + "".join(
        f"{name},happy,1.5\n" for name in own)) for part, own in names.items()]  # fmt: skip
    arrays = []
    for feature in usual.values():
        for name in (name for own in names.values() for name in own):
            path = folder / "features" / feature / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.ones(4, np.float32))
            arrays.append(path)
    asked = {modality: [feature] for modality, feature in usual.items()}
    return Target(
        lambda: corpora.read(corpora.FEATURES, "mer2023", folder, labels="csv", **asked), (*tables, *arrays[:3])
    )


@target
def feature_table(folder: Path) -> Target:
    from affect.data import corpora

    rows = [(f"{part}_{k}", ("calm", "sad")[k % 2], part) for part in ("train", "valid", "far") for k in range(2)]
    arrays = []
    for name, _, _ in rows:
        arrays.append(folder / "features" / "audio" / f"{name}.npy")
        arrays[-1].parent.mkdir(parents=True, exist_ok=True)
        np.save(arrays[-1], np.ones(4, np.float32))
    lines = "".join(f"{name},{emotion},.5,{part}\n" for name, emotion, part in rows)
    table = put(folder / "labels.csv", "name,emotion,valence,part\n" + lines)
    asked = {"audio": ["audio"], "text": [], "video": []}
    return Target(lambda: corpora.read(corpora.FEATURES, "feature_table", folder, **asked), (table, arrays[0]))


@target
def recordings_with_metadata(folder: Path) -> Target:
    from affect.data.corpora import hub_dataset

    for name in "ab":
        wav(folder / f"{name}.wav")
    head = "file_name,speaker,transcript,valence,arousal\n"
    table = put(folder / "metadata.csv", head + "".join(f"{n}.wav,{n},well,{k},2\n" for k, n in enumerate("ab", 1)))
    return Target(lambda: hub_dataset.read(folder), (table, folder / "a.wav"))


@target
def audformat_database(folder: Path) -> Target:
    from affect.data import corpora

    for k in range(2):
        wav(folder / "wav" / f"{k}.wav")
    columns = "{speaker: {scheme_id: speaker}, valence: {}, arousal: {}}"
    header = put(
        folder / "db.yaml",
        f"name: toy\nschemes:\n  speaker: {{dtype: str}}\ntables:\n  files: {{type: filewise, columns: {columns}}}\n",
    )
    table = put(folder / "db.files.csv", "file,speaker,valence,arousal\nwav/0.wav,a,4,3\nwav/1.wav,b,1,2\n")
    return Target(lambda: corpora.read(corpora.UTTERANCES, "audformat_database", folder), (header, table))


@target
def thqa_ntire(folder: Path) -> Target:
    from affect.data import corpora

    def line(k: int) -> str:
        return f"{k}_voice_en_{k}_sad.mp4,{k}.5\n"

    head = "Video,Score\n"
    tables = put(folder / "train.csv", head + line(1) + line(2)), put(folder / "val.csv", head + line(3))
    return Target(lambda: corpora.read(corpora.SCORES, "thqa_ntire", folder), tables)


@target
def table_to_predict(folder: Path) -> Target:
    from affect.inference.given import expanded
    from affect.tasks.emotion.task import EmotionTask
    from affect.usage import UserInputs

    table = put(folder / "these.csv", 'path,text\na.wav,"well, yes"\nb.wav,no\n')
    return Target(lambda: expanded(EmotionTask, UserInputs(files=(table,))), (table,))


@target
def voices_table(folder: Path) -> Target:
    from affect.data.voices import read

    for name in "ab":
        wav(folder / f"{name}.wav", 1.5, 16_000)
    table = put(folder / "who.csv", "path,speaker\na.wav,Ada\nb.wav,Eve\n")
    return Target(lambda: read(folder, table="who.csv"), (table,))


@target
def embeddings_jsonl(folder: Path) -> Target:
    from datasets import Dataset

    from affect.data import embeddings

    rows = Dataset.from_dict({"id": ["a", "b"]})
    table = put(folder / "table.jsonl", "".join(json.dumps({"id": n, "embedding": [1.0, 2.0]}) + "\n" for n in "ab"))
    return Target(lambda: embeddings.add(rows, table), (table,))


@target
def embeddings_parquet(folder: Path) -> Target:
    from datasets import Dataset

    from affect.data import embeddings

    rows = Dataset.from_dict({"id": ["a", "b"]})
    table = put_rows(folder / "table.parquet", [{"id": name, "embedding": [1.0, 2.0]} for name in "ab"])
    return Target(lambda: embeddings.add(rows, table), (table,))


def put_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a table in the format that its name says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    return put(path, json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))


def source(folder: Path, name: str, column: str = "path") -> Target:
    """Return a target of two recordings beside a table that `datasets` reads."""
    from affect.data.corpora import hub_dataset

    rows = [{"id": n, column: str(wav(folder / f"{n}.wav")) if column == "path" else wav(folder / f"{n}.wav").name,
             "speaker": n, "transcript": "well", "valence": float(k), "arousal": 2.0}
            for k, n in enumerate("ab", 1)]  # fmt: skip
    table = put_rows(folder / name, rows)
    return Target(lambda: hub_dataset.read(folder), (table,))


@target
def source_json(folder: Path) -> Target:
    return source(folder, "rows.json")


@target
def source_jsonl(folder: Path) -> Target:
    return source(folder, "rows.jsonl")


@target
def source_parquet(folder: Path) -> Target:
    return source(folder, "rows.parquet")


@target
def metadata_jsonl(folder: Path) -> Target:
    return source(folder, "metadata.jsonl", "file_name")


@target
def audformat_parquet(folder: Path) -> Target:
    read = audformat_database(folder).read
    (folder / "db.files.csv").unlink()
    rows = [{"file": f"wav/{k}.wav", "speaker": "ab"[k], "valence": 4.0, "arousal": 3.0} for k in range(2)]
    return Target(read, (put_rows(folder / "db.files.parquet", rows),))


# Turns


def rttm_lines() -> str:
    return ";; a comment\n" + "".join(
        f"SPEAKER a 1 {k}.5 1.25 <NA> <NA> {who} <NA> <NA>\n" for k, who in enumerate(("Ada", "Eve", "Ada"))
    )


@target
def rttm_file(folder: Path) -> Target:
    from affect.data.rttm import read_rttm, read_uem

    turns, spans = put(folder / "x.rttm", rttm_lines()), put(folder / "x.uem", "a 1 0 2\na 1 2.5 3.5\n")

    def read() -> None:
        read_rttm(turns)
        read_uem(spans)

    return Target(read, (turns, spans))


@target
def rttm_folder(folder: Path) -> Target:
    from affect.data import corpora

    wav(folder / "a.wav", 4.0)
    files = put(folder / "x.train.rttm", rttm_lines()), put(folder / "x.train.uem", "a 1 0 2\na 1 2.5 3.5\n")
    return Target(lambda: corpora.read(corpora.RECORDINGS, "rttm_folder", folder), files)


@target
def kaldi_folder(folder: Path) -> Target:
    from affect.data import corpora

    wav(folder / "wav" / "a.wav", 4.0)
    files = (
        put(folder / "wav.scp", "rec-a wav/a.wav\n"), put(folder / "utt2spk", "u1 Ada\nu2 Eve\n"),
        put(folder / "segments", "u1 rec-a 0.5 2\nu2 rec-a 1 -1\n"), put(folder / "uem", "rec-a 1 0 3\n"),
    )  # fmt: skip
    return Target(lambda: corpora.read(corpora.RECORDINGS, "kaldi_folder", folder), files)


@target
def lhotse_manifests(folder: Path) -> Target:
    from affect.data import corpora

    sound = wav(folder / "a.wav", 4.0, 4000)
    files = (
        put(folder / "x_recordings_train.jsonl", json.dumps({
            "id": "a", "sources": [{"type": "file", "channels": [0], "source": str(sound)}], "sampling_rate": 4000,
            "num_samples": 16000, "duration": 4.0, "channel_ids": [0]}) + "\n"),
        put(folder / "x_supervisions_train.jsonl", "".join(json.dumps({
            "id": f"s{k}", "recording_id": "a", "start": k, "duration": 1.5, "channel": 0, "speaker": who}) + "\n"
            for k, who in enumerate(("Ada", "Eve")))),
    )  # fmt: skip
    return Target(lambda: corpora.read(corpora.RECORDINGS, "lhotse_manifests", folder), files)


# Arrays


@target
def npy_frames(folder: Path) -> Target:
    from affect.data.feature_corpus import read_frames

    path = folder / "a.npy"
    np.save(path, np.ones((3, 4), np.float32))
    return Target(lambda: read_frames(path), (path,))


@target
def embeddings_npy(folder: Path) -> Target:
    from datasets import Dataset

    from affect.data import embeddings

    rows, own = Dataset.from_dict({"id": ["a", "b"]}), folder / "arrays"
    own.mkdir()
    for name in "ab":
        np.save(own / f"{name}.npy", np.ones(3))
    return Target(lambda: embeddings.add(rows, own), (own / "a.npy",))


@target
def label_npz(folder: Path) -> Target:
    from affect.data.label_file import read_labels

    path = folder / "label-6way.npz"
    np.savez(path, train_corpus=np.array({"a": {"emo": "happy", "val": 1.5}}, dtype=object))
    return Target(lambda: read_labels(path), (path,))


@target
def clip_npz(folder: Path) -> Target:
    from affect.tasks.talking_face.config import Signature
    from affect.tasks.talking_face.predict import read
    from affect.tasks.talking_face.tabled import Order

    path = folder / "clip.npz"
    np.savez(path, visual=np.ones((3, 4), np.float32))
    data = Signature(features=(("visual", 4),), scores=(("lip", 0.0, 5.0),))
    return Target(lambda: read(path, Order(data)), (path,))


@target
def features_to_predict(folder: Path) -> Target:
    from affect.errors import AffectError
    from affect.tasks.talking_face.config import Signature
    from affect.tasks.talking_face.tabled import Order, clips_of

    lines = "".join(f"{id},{k},.{k},x\n" for id in "ab" for k in (2, 1))
    frames = put(folder / "frames.csv", "name,frame,blur,mood\n" + lines)
    clips = put(folder / "clips.csv", "name;blur;sharp;mood\na;.5;1;x\nb;.25;;y\n")
    data = Signature(features=(("clip", 2), ("frames", 1)), scores=(("lip", 0.0, 5.0),),
                     columns=(("clip", ("sharp", "blur")), ("frames", ("blur",))))  # fmt: skip

    def read() -> None:
        for _, clip in clips_of([clips, frames], data, Order(data), clip=None, decimal="."):
            if isinstance(clip, str):
                raise AffectError(clip)

    return Target(read, (clips, frames))


@target
def store_arrow(folder: Path) -> Target:
    from affect.data import store

    path = folder / "features.arrow"
    rows = [(f"r{k}", {"x": np.ones((k, 3), np.float32)}) for k in range(4)]
    store.write(path, {"x": store.Feature("float32", 2)}, rows)

    def read() -> None:
        opened = store.Store(path)
        try:
            opened.check()
            for name in opened.features:
                for row in range(len(opened.ids)):
                    opened.read(name, row)
        finally:
            opened.release()

    return Target(read, (path,))


@target
def score_folder(folder: Path) -> Target:
    from affect.data import score_samples
    from affect.data.score_corpus import read_folder

    clips = [score_samples.Sample(id=f"c{k}", part="train" if k else "test", groups={"source": f"s{k}"},
                                  scores={"lip": 1.0 + k}, features={"visual": np.ones((2, 3), np.float32)})
             for k in range(4)]  # fmt: skip
    own = folder / "c"
    score_samples.write(own, clips, where="f")
    return Target(lambda: read_folder(own, "mine"), (own / "rows.csv", own / "schema.json"))


@target
def cached_features(folder: Path) -> Target:
    from affect.data.features import FeatureStore

    kept = FeatureStore(folder / "kept", {"a": 1})
    digest = "0" * 64
    kept.write(digest, np.ones((3, 4), np.float32))

    def read() -> None:
        kept.missing([digest])
        kept.read(digest)

    return Target(read, (kept.path(digest),))


# Sound and pictures


@target
def sound_file(folder: Path) -> Target:
    from affect.data import audio

    path = wav(folder / "a.wav")

    def read() -> None:
        audio.check(path)
        audio.load(path)

    return Target(read, (path,))


@target
def piped_wav(folder: Path) -> Target:
    from affect.data import stream

    path = wav(folder / "a.wav")
    return Target(lambda: list(stream.pipe_blocks(io.BytesIO(path.read_bytes()), None, 16_000, "input")), (path,))


@target
def film_file(folder: Path) -> Target:
    from affect.data import video
    from tests.data.films import film

    path = folder / "a.mp4"
    path.write_bytes(film([50, 100, 150], sound=np.zeros((1, 4800), np.int16), sound_codec="aac"))

    def read() -> None:
        video.seconds_of(path)
        list(video.frames(path, 5.0))
        video.audio_of(path)

    return Target(read, (path,))


# What affect itself wrote


def run_of(folder: Path) -> Path:
    """Write a finished run of the task of speech as the trainer does, two folds of it, and return the first."""
    from affect import tasks
    from affect.training import run_dir

    for fold in (1, 2):
        run = folder / "runs" / "one" / "seed0" / f"fold{fold}"
        recipe = tasks.task_class("emotion").recipe_class().to_dict() | {"experiment": "one"}
        recipe["data"]["fold"] = fold
        run_dir.write_json(run / "recipe.json", recipe)
        facts = {
            "corpus": "mine@1",
            "scale": [1, 5],
            "started": "2026-01-01T00:00:00+00:00",
            "packages": {},
            "world": 1,
        }
        run_dir.write_json(run / "environment.json", facts)
        scores = {part: {"ccc_valence": 0.5, "ccc_arousal": 0.4, "ccc": 0.45} for part in ("valid", "test")}
        steps = [{"event": "step", "step": k, "epoch": 0, "loss": 1.0 / k, "terms": {"ccc": 1.0 / k}, "grad_norm": 1.0,
                  "lr": {"others": 1e-3}} for k in (1, 2)]  # fmt: skip
        found = [*steps, {"event": "eval", "evaluation": "valid", "step": 2, "epoch": 0, "scores": scores["valid"]},
                 {"event": "selection", "step": 2, "epoch": 0, "score": 0.45, "kept": True},
                 {"event": "end", "step": 2, "best_step": 2, "best_epoch": 0, "scores": scores}]  # fmt: skip
        run_dir.write_lines(run / "metrics.jsonl", found)
        run_dir.write_lines(
            run / "timing.jsonl", [{"step": k, "seconds": 0.1, "units_per_second": 9.0} for k in (1, 2)]
        )
        rows = [{"id": f"u{k}", "prediction": {"valence": k / 9, "arousal": k / 8}, "speaker": f"s{k % 2}",
                 "target": {"valence": k / 9 + 0.1, "arousal": k / 7}} for k in range(6)]  # fmt: skip
        run_dir.write_rows(run, {"valid": rows, "test": rows, "test@snr=5": rows})
        run_dir.write_lines(run / "exclusions.jsonl", [])
    return folder / "runs" / "one" / "seed0" / "fold1"


_OF_RUNS = ("recipe.json", "environment.json", "metrics.jsonl", "timing.jsonl", "predictions-test.jsonl",
            "predictions-conditions.zip")  # fmt: skip


@target
def run_that_goes_on(folder: Path) -> Target:
    from affect import tasks
    from affect.experiments import folds
    from affect.experiments.progress_table import Progress
    from affect.training import run_dir

    run = run_of(folder)
    recipe = tasks.read_recipe(run / "recipe.json")

    def read() -> None:
        Progress(seed=0, fold=1, folder=run, steps=2, epochs=1, unit="s", shown=("ccc",), state="running").look()
        if run_dir.claim(run, recipe, experiment="one", overwrite=False):
            folds.scores_of(run)
        for name in run_dir.predicted(run):
            run_dir.read_rows(run, name)
        run_dir.write_json(run / "recipe.json", recipe.to_dict() | {"experiment": "one"})

    return Target(read, tuple(run / name for name in _OF_RUNS if name not in ("environment.json",)))


@target
def run_that_is_reported(folder: Path) -> Target:
    from affect import report

    run = run_of(folder)

    def read() -> None:
        for each in report.read(run.parents[1]):
            for rows in (*each.predictions, *each.baselines):
                list(each.predictions.get(rows, {}))
            assert each.pace >= 0 and each.course("valid", "ccc") is not None
            each.recorded("test", "ccc")
        report.table(report.read(run.parents[1]))

    return Target(read, tuple(run / name for name in _OF_RUNS))


@target
def suites_json(folder: Path) -> Target:
    from affect.report import suites

    suites.keep(folder, "ablations", suites.Compared(reference="a", members=("a", "b")))
    return Target(lambda: suites.read(folder), (folder / suites.FILE,))


@target
def reported_json(folder: Path) -> Target:
    from affect.report.reported import read

    scores = {"test": {"valence": 0.6, "arousal": 0.7}}
    facts = {"name": "v2", "source": "a paper", "corpus": "iemocap", "date": "2026-01-14", "scores": {"1": scores}}
    path = put(folder / "reported.json", json.dumps(facts))
    return Target(lambda: read(path), (path,))


@target
def checkpoint_folder(folder: Path) -> Target:
    from affect.training import checkpoint, memory
    from tests.training.part import Part

    where = folder / "checkpoints"
    for step in (2, 4):
        Part(steps=1).save(where, step, keep=9, best=None)
    files = [path for name in ("step-0000002", "step-0000004") for path in (where / name).iterdir()]
    limit = put(where / "budget.json", '{"budget": 4.0, "failed": 8.0}')

    def read() -> None:
        memory._limit(limit)
        path = checkpoint.find("auto", where, str)
        assert path is None or Part(steps=0).load(path).step in (2, 4)

    return Target(read, (*files, limit))


@target
def unsealed_checkpoint(folder: Path) -> Target:
    """Without checksums nothing tells of a damage but the files themselves."""
    from tests.training.part import Part

    where = folder / "checkpoints"
    Part(steps=1).save(where, 2, best=None)
    path = where / "step-0000002"
    return Target(lambda: Part(steps=0).load(path), tuple(path.glob("*.safetensors")) + (path / "state.json",))


def model_folder(folder: Path, task: str) -> Path:
    """Write an untrained small model of a task and return its folder."""
    import torch

    from affect import tasks
    from affect.config import to_dict
    from affect.models import saving

    if task == "multimodal_emotion":
        from affect.tasks.multimodal_emotion.config import Model, Signature

        model = Model(hidden=4)
        data = Signature(streams=(("audio", "a", 3), ("text", "b", 4)), classes=("x", "y"))
    else:
        from affect.tasks.talking_face.config import Model, Signature  # type: ignore[assignment]

        model = Model(encoder_dim=8, encoder_layers=1, layers=1, heads=2)  # type: ignore[call-arg]
        data = Signature(features=(("visual", 4),), scores=(("lip", 0.0, 5.0),))  # type: ignore[call-arg]
    config = {"task": task, "model": to_dict(model), "data": to_dict(data)}
    torch.manual_seed(0)
    saving.save(tasks.model_of(config).state_dict(), config, folder / "model")
    return folder / "model"


@target
def fusion_model(folder: Path) -> Target:
    from affect import tasks
    from affect.models import saving

    own = model_folder(folder, "multimodal_emotion")
    return Target(lambda: tasks.load(own), (own / saving.CONFIG, own / saving.WEIGHTS))


@target
def clip_model(folder: Path) -> Target:
    from affect import tasks
    from affect.models import saving

    own = model_folder(folder, "talking_face")
    return Target(lambda: tasks.load(own), (own / saving.CONFIG, own / saving.CONFIG, own / saving.WEIGHTS))


@target
def speech_model(folder: Path) -> Target:
    from affect import tasks
    from affect.models import saving
    from tests.tasks.emotion import small

    own = folder / "model"
    small.save(small.model(encoder="none"), own)
    return Target(lambda: tasks.load(own), (own / saving.CONFIG, own / saving.CONFIG, own / saving.WEIGHTS))


@target
def diarization_model(folder: Path) -> Target:
    from affect import tasks
    from affect.models import saving
    from affect.tasks.diarization.config import Signature
    from affect.tasks.diarization.models import build
    from tests.tasks.diarization import small

    own = folder / "model"
    made = build(small.recipe(folder).model, Signature())
    saving.save(made.state_dict(), {"task": "diarization", **made.describe()}, own)
    return Target(lambda: tasks.load(own), (own / saving.CONFIG, own / saving.CONFIG, own / saving.WEIGHTS))


@target
def exported_facts(folder: Path) -> Target:
    """What an exported model says of itself, of both tasks that export; the graph is another's matter."""
    from affect.inference import opening
    from affect.inference.onnx import METADATA
    from affect.usage import UserInputs
    from tests.tasks.emotion import small

    onnx = pytest.importorskip("onnx")
    from affect.config import to_dict
    from affect.tasks.emotion.predict import Facts

    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value],
                                   [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])])  # fmt: skip
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)])
    speech = {"task": "emotion", **to_dict(Facts.of(small.model(encoder="none")))}
    clips = {"task": "talking_face", "data": {"features": [["visual", 4]], "scores": [["lip", 0.0, 5.0]]},
             "media": {}, "intervals": {}}  # fmt: skip
    files = [put(folder / f"{name}.json", json.dumps(facts)) for name, facts in (("a", speech), ("b", clips))]

    def read() -> None:
        for path in files:
            del model.metadata_props[:]
            onnx.helper.set_model_props(model, {METADATA: path.read_bytes().decode("utf-8", "replace")})
            onnx.save(model, folder / "model.onnx")
            found = opening.find(folder / "model.onnx")
            try:
                list(opening.lines(found, UserInputs(files=(folder / "none.wav",))))
            except AffectError as error:
                assert "\n" not in str(error)

    return Target(read, tuple(files))


@target
def launch_file(folder: Path) -> Target:
    from affect import launcher

    files = [put(folder / path.name, path.read_text(encoding="utf-8")) for path in
             sorted((Path(__file__).parents[1] / launcher.CONFIGURATIONS).glob("*.yaml"))
             if path.stem in ("cpu", "ddp", "zero2", "fsdp2")]  # fmt: skip
    where = {"WORLD_SIZE": 1, "GROUP_WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0}

    def read() -> None:
        for path in files:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                launcher.environment_of(path, folder / "x.py", (), where, {"MASTER_ADDR": "a", "MASTER_PORT": "1"})

    return Target(read, tuple(files))


@target
def recipe_json(folder: Path) -> Target:
    from affect import tasks

    files = [put(folder / name / "recipe.json", json.dumps(tasks.task_class(name).recipe_class().to_dict()))
             for name in sorted(tasks.TASKS)]  # fmt: skip

    def read() -> None:
        for path in files:
            tasks.read_recipe(path)

    return Target(read, tuple(files))


@target
def manifest_json(folder: Path) -> Target:
    from affect.inference import manifest

    facts = {"modality": "audio", "weights_sha256": "0", "width": 4, "mixed_precision": "no", "commit": None,
             "settings": {"encoder": "tiny", "revision": None, "layers": 4, "level": "utterance"},
             "preprocessing": {}}  # fmt: skip
    path = put(folder / "manifest.json", json.dumps(facts))
    return Target(lambda: manifest.settings_of(manifest.read(path), path), (path,))


@target
def tokenizer_json(folder: Path) -> Target:
    from affect.models import text
    from affect.models.saving import TOKENIZER

    path = put(folder / TOKENIZER / text._FACTS, '{"kind": "ngrams", "buckets": 64}')
    return Target(lambda: text.load_tokenizer(folder), (path,))


@target
def strings(folder: Path) -> Target:
    """What a command line gives as a text with a grammar of its own."""
    from affect.data import conditions, corpora
    from affect.experiments.definitions import parse
    from affect.report import goals
    from affect.tasks.talking_face.config import Data

    given = ["snr=5", "subset=AT", "test2.mean=.65", "optim.lr=1e-5..1e-3 log", "a=1|2|None", "valence=EmoVal",
             "lip=1,5", "visual=512"]  # fmt: skip
    path = put(folder / "strings.txt", "\n".join(given))
    readers = (
        conditions.parse, lambda word: goals.parse([word]), parse, lambda word: corpora.mapping([word]),
        lambda word: Data(scores=("lip",), scale=(word,)), lambda word: Data(features=(word,)),
    )  # fmt: skip

    def read() -> None:
        from affect.errors import AffectError

        for word in path.read_bytes().decode("utf-8", "surrogateescape").split("\n"):
            for each in readers:
                try:
                    each(word)
                except AffectError as error:
                    assert "\n" not in str(error)

    return Target(read, (path,))
