"""The card's example, run as a reader would: of each kind of model it says what `affect predict` says."""

from __future__ import annotations

import ast
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from affect.models.multimodal import MultimodalConfig

from affect.data import prosody
from affect.hub import clean, example, push
from affect.models import multimodal, text
from affect.models import valence_arousal as models
from affect.models.encoder import EncoderConfig
from affect.models.text import TextConfig
from affect.workflows import multimodal_prediction, prediction

REPO = "someone/model"
NONE = EncoderConfig(name="none")
TINY = EncoderConfig(name="tiny")
P = len(prosody.names("default"))
COMMON = {"prosody_features": P, "prosody_width": 8, "hidden": (8,), "mamba_width": 8, "state_width": 8}
KINDS = {
    "speech and prosody": {"encoder": TINY},
    "speech": {"encoder": TINY, "prosody_width": 0, "targets": ("dominance",), "scale": (-3.0, 3.5)},
    "mel": {"encoder": EncoderConfig(name="mel"), "prosody_width": 0},
    "prosody": {"encoder": NONE},
    "text": {"encoder": NONE, "prosody_width": 0, "text": TextConfig(name="ngrams", buckets=64)},
    "all": {"encoder": TINY, "text": TextConfig(), "gates": True, "targets": ("valence", "emotion"),
            "classes": ("ang", "hap+exc", "neu")},
    "classes": {"encoder": NONE, "targets": ("emotion",), "classes": ("joy", "don't")},
    "dialogue": {"encoder": TINY, "dialogue": "mamba"},
    "embedding": {"encoder": TINY, "speaker": "embedding", "speaker_features": 5},
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a recording and features, as a reader's."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("recording.wav", 0.3 * np.sin(np.arange(11000) ** 1.2 / 50), 22_050)
    return tmp_path


def ran(program: str, capsys) -> list[str]:
    """Return the lines that a program prints."""
    capsys.readouterr()
    exec(compile(program, "the card's example", "exec"), {"__name__": "example"})
    return capsys.readouterr().out.splitlines()


def in_card(folder: Path) -> str:
    """Return the one program of the card in a folder."""
    (found,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return found


def read(lines: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the numbers by target and the probabilities by class that an example has printed of one utterance."""
    numbers, shares = {}, {}
    for line in lines:
        if line.startswith("{"):
            shares = ast.literal_eval(line)
        else:
            name, values = line.split(" ", 1)
            (numbers[name],) = json.loads(values)
    return numbers, shares


def saved(kind: str, folder: Path) -> models.VAModel:
    torch.manual_seed(3)
    model = models.VAModel(models.VAConfig(**{**COMMON, **KINDS[kind]}))
    models.save(model, folder)
    if model.config.text is not None:
        text.save_tokenizer(text.read_tokenizer(model.config.text), folder)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_of_each_kind_of_model_it_runs_and_says_what_predict_says(kind, here, capsys):
    model = saved(kind, here / REPO)
    config = clean.scrub(json.loads((here / REPO / "config.json").read_text()))
    numbers, shares = read(ran(example.python(config, REPO), capsys))
    assert set(numbers) == set(model.config.numbers)
    assert set(shares) == set(model.config.classes)
    if kind == "embedding":
        return  # predict has none to give
    output = io.StringIO()
    files = [Path("recording.wav")] if "recording.wav" in example.section(config, REPO, False) else []
    texts = ["what was said"] if model.text is not None else []
    assert prediction.predict_files(Path(REPO), files, output, texts=texts) == 0
    known = json.loads(output.getvalue())
    predicted = {name: value for name, value in known["prediction"].items() if name != "emotion"}
    assert numbers == pytest.approx(predicted, abs=1e-4)
    assert shares == pytest.approx(known.get("probability", {}).get("emotion", {}), abs=1e-4)


@pytest.mark.parametrize("name", ["attention", "topn"])
def test_of_a_fusion_model_too(name, here, capsys):
    torch.manual_seed(3)
    streams = [("audio", "hubert", 4), ("text", "bert", 3), ("video", "clip", 5)]
    if name == "topn":
        streams.insert(1, ("audio", "wavlm", 2))
    config = MultimodalConfig(name=name, streams=tuple(streams), classes=("happy", "sad"), hidden=8)
    multimodal.save(multimodal.build(config), here / REPO)
    facts = json.loads((here / REPO / "config.json").read_text())
    assert example.keys(facts["multimodal"]["streams"]) == list(config.keys)
    noise = np.random.default_rng(1)
    for key, width in zip(config.keys, config.widths, strict=True):
        np.save(f"{key}.npy", noise.normal(size=width if key == "text" else (7, width)).astype(np.float16))
    numbers, shares = read(ran(example.python(facts, REPO), capsys))
    section = example.section(facts, REPO, False)
    (command,) = re.findall(r"affect predict someone/model (.*)", section)
    given = {part.split()[0]: part.split()[1:] for part in command.removeprefix("--").split(" --")}
    output = io.StringIO()
    assert multimodal_prediction.predict_utterances(Path(REPO), output, **given) == 0
    known = json.loads(output.getvalue())
    assert numbers["valence"] == pytest.approx(known["prediction"]["valence"], abs=1e-5)
    assert max(shares, key=shares.get) == known["prediction"]["emotion"]
    assert sum(shares.values()) == pytest.approx(1)


def test_as_pushed_it_takes_the_model_from_the_hub(hub, spoken, fused, here, capsys):
    for kind, top in (("spoken", spoken), ("fused", fused)):
        run, repo = top / "seed0" / "fold1", f"someone/{kind}"
        push.run(run, repo)
        (here / "README.md").write_bytes(hub.repos[repo].files["README.md"])
        for key, width in (("audio", 48), ("text", 96), ("video", 40)):
            np.save(f"{key}.npy", np.ones(width, np.float32))
        numbers, shares = read(ran(in_card(here), capsys))
        if kind == "spoken":
            output = io.StringIO()
            prediction.predict_files(run, [here / "recording.wav"], output)
            assert numbers == pytest.approx(json.loads(output.getvalue())["prediction"], abs=1e-4)
        else:
            assert set(numbers) == {"valence"}
            assert len(shares) == 6
        assert f"POST /api/models/{repo}/commit/main" in hub.log
        assert any(f"/{repo}/resolve/" in line for line in hub.log)


def test_how_to_install_is_said(spoken, tmp_path):
    config = json.loads((spoken / "seed0" / "fold1" / "checkpoints" / "best" / "config.json").read_text())
    said = example.section(config, REPO, True)
    assert "pip install .\n" in said
    assert 'from_pretrained("someone/model", subfolder="last")' in said
    assert "subfolder" not in example.section(config, REPO, False)
    config["model"]["prosody"] = "egemaps"
    assert 'pip install ".[egemaps]"' in example.section(config, REPO, False)
    lines = [line for line in example.python(config, REPO).splitlines() if len(line) > 120]
    assert lines == [], "a reader scrolls sideways"
