"""The command line of recipes/extract_features.py: help, exit codes, several processes, encoders of the Hub's cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import transformers

from affect import cli
from affect.extraction import AudioExtraction, Extraction, TextExtraction, VideoExtraction
from affect.models import tiny
from tests import launching
from tests.distributed.launch import ranks_of
from tests.launching import assert_one_line, in_its_own_process

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "extract_features.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


experiments = partial(launching.experiments, RECIPE)
launch = partial(launching.launch, recipe=RECIPE)


def features(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def test_the_experiments_are_the_report_s():
    made = {name: experiment() for name, experiment in experiments().items()}
    assert {name: type(one) for name, one in made.items()} == {
        "demo": AudioExtraction, "audio": AudioExtraction, "text": TextExtraction, "video": VideoExtraction,
        "audio_frames": AudioExtraction, "video_frames": VideoExtraction,
    }  # fmt: skip
    assert {made[name].feature for name in ("audio", "text", "video")} == {
        "chinese-hubert-large-UTT", "Baichuan-13B-Base-UTT", "clip-vit-large-patch14-UTT",
    }  # fmt: skip
    frames = [made[name] for name in ("audio_frames", "video_frames")]
    assert all(one.level == "frame" and one.store for one in frames) and [one.name for one in frames] == [
        "audio",
        "video",
    ]
    assert (made["audio"].layers, made["text"].layers) == (4, 4)
    assert not made["text"].trust_remote_code
    assert all(isinstance(one, Extraction) for one in made.values())


def test_the_demo(capsys, tmp_path):
    code, out, err = launch(capsys, "--output", str(tmp_path))
    assert code == 0, err
    folder = tmp_path / "features" / "tiny-audio-UTT"
    assert f"features: {folder}" in out
    assert "6 written" in err
    found = features(folder)
    assert len(found) == 6
    assert all(values.shape == (32,) and values.any() for values in found.values())
    small = ["--encoder", "tiny", "--layers", "2", "--dtype", "float32", "--name", "words"]
    source = str(tmp_path / "media" / "media.csv")
    code, _, err = launch(capsys, "text", *small, "--source", source, "--output", str(tmp_path))
    assert code == 0, err
    assert "5 written, 0 there already, 1 all zero (empty text)" in err


def test_help_loads_no_tensor_library(tmp_path):
    for arguments in (["--help"], ["video", "--help"], ["audio", "--layer", "3"]):
        start = time.perf_counter()
        done = in_its_own_process(tmp_path, "-X", "importtime", str(RECIPE), *arguments)
        assert time.perf_counter() - start < 20
        loaded = {
            line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")
        }
        assert "affect.extraction" in loaded
        assert not loaded & {"torch", "transformers", "numpy", "av", "datasets"}
    assert done.returncode == 2
    assert "unknown field --layer; did you mean '--layers'?" in done.stderr


def test_mistakes_are_one_line(capsys, tmp_path):
    there = ["--output", str(tmp_path)]
    code, _, err = launch(capsys, "sound", *there)
    assert_one_line(code, err, "unknown experiment 'sound'")
    code, _, err = launch(capsys, "video", *there, "--layers", "3")
    assert_one_line(code, err, "unknown field --layers")
    code, _, err = launch(capsys, "demo", *there, "--level", "word")
    assert_one_line(code, err, "level")
    code, _, err = launch(capsys, "demo", *there, "--layers", "0")
    assert_one_line(code, err, "layers must be positive")
    code, _, err = launch(capsys, "audio", *there, "--source", str(tmp_path / "none.csv"))
    assert_one_line(code, err, "none.csv cannot be read (No such file or directory)")
    code, _, err = launch(capsys, "demo", *there, "--encoder", "nothing")
    assert_one_line(code, err, "nothing", "no such folder")
    # Three layers are asked of weights that have two.
    config, _ = tiny.architecture("tiny")
    transformers.WavLMModel(config).save_pretrained(tmp_path / "encoder")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "encoder")
    config.num_hidden_layers = 3
    config.save_pretrained(tmp_path / "encoder")
    code, _, err = launch(capsys, "demo", *there, "--encoder", str(tmp_path / "encoder"))
    assert_one_line(code, err, "its weights do not fit WavLMModel", "are missing (encoder.layers.2.")


def test_a_dry_run_says_what_there_is_to_do(capsys, tmp_path):
    code, out, _ = launch(capsys, "demo", "--output", str(tmp_path / "out"), "--dry-run")
    assert code == 0
    assert '"encoder": "tiny"' in out
    assert "6 generated media" in out
    assert not (tmp_path / "out").exists()


def test_bad_media_end_with_1(capsys, tmp_path):
    launch(capsys, "demo", "--output", str(tmp_path))
    (tmp_path / "media" / "utterance_3.wav").write_bytes(b"RIFF")
    code, out, err = launch(
        capsys, "demo", "--output", str(tmp_path), "--name", "again", "--source", str(tmp_path / "media/media.csv")
    )
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: 1 of 6 media have no features (utterance_3: ")
    assert str(tmp_path / "features/again/failures.jsonl") in last
    assert "features:" not in out
    assert len(features(tmp_path / "features" / "again")) == 5


@pytest.mark.distributed
def test_two_processes_write_what_one_writes(capsys, tmp_path):
    def begin():
        cli.launch(experiments(), sys.argv[1:])

    code, _, err = launch(capsys, "demo", "--output", str(tmp_path / "one"))
    assert code == 0, err
    done = ranks_of(begin, "demo", "--output", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("features:") == 1
    one, two = (tmp_path / name / "features" / "tiny-audio-UTT" for name in ("one", "two"))
    facts = [json.loads((folder / "manifest.json").read_text()) for folder in (one, two)]
    assert [said["world"] for said in facts] == [1, 2]
    for field in ("weights_sha256", "settings", "preprocessing", "files", "failed", "all_zero", "finished"):
        assert facts[0][field] == facts[1][field]
    wanted, found = features(one), features(two)
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)
    (tmp_path / "two/media/utterance_1.wav").write_bytes(b"")
    (two / "utterance_1.npy").unlink()
    (two / "utterance_4.npy").unlink()
    done = ranks_of(begin, "demo", "--output", str(tmp_path / "two"), "--source", str(tmp_path / "two/media/media.csv"))
    assert done.returncode == 1
    assert done.stderr.count("error: 1 of 6 media have no features (utterance_1: ") == 1
    assert "1 written, 4 there already, 1 failed" in done.stderr
    assert sorted(features(two)) == sorted(wanted.keys() - {"utterance_1"})


def test_an_encoder_of_the_hub_s_cache_is_known_by_its_commit(tmp_path):
    repository = tmp_path / "cache" / "hub" / "models--owner--speech"
    snapshot = repository / "snapshots" / COMMIT
    config, _ = tiny.architecture("tiny")
    transformers.WavLMModel(config).save_pretrained(snapshot)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    work = f"""
from pathlib import Path
from affect.extraction import AudioExtraction
from affect.experiments import extraction
from affect.inference.extractor import Extractor
asked = AudioExtraction(encoder="owner/speech", layers=2, source="generated", output=Path({str(tmp_path)!r}))
made = Extractor.from_manifest(extraction.run(asked, ""))
print(made.settings.revision, made.settings.encoder)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", work], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "features" / "speech-UTT"
    assert json.loads((folder / "manifest.json").read_text())["commit"] == COMMIT
    assert done.stdout.split() == [COMMIT, "owner/speech"]
