"""The card's example, run as a reader would: of each kind of model it says what `affect predict` says."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from affect import tasks
from affect.hub import card, clean, push
from affect.models import saving
from affect.usage import Card
from tests.inference.asking import ask
from tests.tasks.emotion import small
from tests.tasks.multimodal_emotion import fusing

REPO = "someone/model"
KINDS = {
    "speech and prosody": {},
    "speech": {"prosody_dim": 0, "targets": ("dominance",), "scale": (-3.0, 3.5)},
    "mel": {"encoder": "mel", "prosody_dim": 0},
    "prosody": {"encoder": "none"},
    "text": {"encoder": "none", "prosody_dim": 0, "text": "ngrams"},
    "all": {"text": "tiny-text", "gates": True, "targets": ("valence", "emotion"), "classes": ("ang", "hap+exc")},
    "classes": {"encoder": "none", "targets": ("emotion",), "classes": ("joy", "don't")},
    "dialogue": {"dialogue": "mamba", "mamba_dim": 8, "state_dim": 8},
    "embedding": {"speaker": "embedding", "speaker_features": 5},
}  # fmt: skip


def card_of(config: dict) -> Card:
    """Return the card of a config.json."""
    return tasks.task_class(config["task"]).card(clean.scrub(config), {}, REPO)


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


@pytest.mark.parametrize("kind", KINDS)
def test_of_each_kind_of_model_it_runs_and_says_what_predict_says(kind, here, capsys):
    torch.manual_seed(3)
    model = small.save(small.model(**KINDS[kind]), here / REPO)
    card = card_of(saving.read_config(here / REPO))
    numbers, shares = read(ran(card.program, capsys))
    assert set(numbers) == set(model.data.numbers)
    assert set(shares) == set(model.data.classes)
    assert [line for line in card.program.splitlines() if len(line) > 120] == [], "a reader scrolls sideways"
    if kind == "embedding":
        return  # predict has none to give
    files = ["recording.wav"] if "recording.wav" in card.command else []
    bad, (known,) = ask(REPO, *files, text=["what was said"] if model.text is not None else [])
    assert bad == 0
    predicted = {name: value for name, value in known["prediction"].items() if name != "emotion"}
    assert numbers == pytest.approx(predicted, abs=1e-4)
    assert shares == pytest.approx(known.get("probability", {}).get("emotion", {}), abs=1e-4)


@pytest.mark.parametrize("name", ["attention", "topn"])
def test_of_a_fusion_model_too(name, here, capsys):
    streams = [("audio", "hubert", 4), ("text", "bert", 3), ("video", "clip", 5)]
    if name == "topn":
        streams.insert(1, ("audio", "wavlm", 2))
    data = fusing.save(here / REPO, name=name, streams=streams, classes=("happy", "sad")).data
    noise = np.random.default_rng(1)
    for key, width in zip(data.keys, data.widths, strict=True):
        np.save(f"{key}.npy", noise.normal(size=width if key == "text" else (7, width)).astype(np.float16))
    card = card_of(saving.read_config(here / REPO))
    numbers, shares = read(ran(card.program, capsys))
    given = {part.split()[0]: part.split()[1:] for part in card.command.removeprefix("--").split(" --")}
    bad, (known,) = ask(REPO, **given)
    assert bad == 0
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
            assert numbers == pytest.approx(ask(run, here / "recording.wav")[1][0]["prediction"], abs=1e-4)
        else:
            assert set(numbers) == {"valence"}
            assert len(shares) == 6
        assert f"POST /api/models/{repo}/commit/main" in hub.log
        assert any(f"/{repo}/resolve/" in line for line in hub.log)


def test_how_to_install_is_said(here):
    for prosody, what in (("default", "pip install .\n"), ("egemaps", 'pip install ".[egemaps]"')):
        config = {"task": "emotion", **small.model(encoder="none", prosody=prosody).describe()}
        said = card.use(card_of(config), REPO, True)
        assert what in said
        assert f"affect predict {REPO} recording.wav" in said
        assert 'from_pretrained("someone/model", subfolder="last")' in said
        assert "subfolder" not in card.use(card_of(config), REPO, False)
