"""Models from the double of the Hub, by the real client: the predictions of the run, without its recipe."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor, WavLMModel

import affect
from affect import checksums, tasks
from affect.errors import AffectError
from affect.experiments import folds
from affect.hub import from_pretrained, push
from affect.hub.load import folder_of
from affect.models import tiny
from affect.options import Options
from tests.inference.asking import ask
from tests.tasks.multimodal_emotion import small
from tests.training import runs

REPO = "someone/model"


@pytest.fixture
def run(spoken):
    return spoken / "seed0" / "fold1"


def heard(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(1)
    wave = 0.1 * torch.randn(2, 8000, generator=noise)
    prosody = torch.randn(2, model.data.prosody_features, generator=noise)
    with torch.inference_mode():
        found = model(waveform=wave, samples=torch.tensor([8000, 6000]), prosody=prosody)
    return {name: value for name, value in found.items()}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert set(first) == set(second)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


def test_best_and_last_predict_as_in_the_run(hub, spoken, tmp_path):
    run = shutil.copytree(spoken / "seed0" / "fold1", tmp_path / "runs" / "spoken" / "seed0" / "fold1")
    best = run / "checkpoints" / "best"
    other = {name: value + 0.01 for name, value in load_file(best / "model.safetensors").items()}
    save_file(other, best / "model.safetensors")
    checksums.write(best)
    push.run(run, REPO)
    pulled = from_pretrained(REPO)
    assert not pulled.training
    known = heard(tasks.load(best))
    assert_same(known, heard(pulled))
    last = heard(from_pretrained(REPO, subfolder="last"))
    newest = tasks.load(best)
    newest.load_state_dict(load_file(max((run / "checkpoints").glob("step-*")) / "average.safetensors"))
    assert_same(heard(newest), last)
    assert any(not torch.allclose(last[name], known[name], atol=1e-4) for name in known), "other weights than the best"


def test_a_fusion_model_gives_the_rows_that_the_run_wrote(hub, fused, tmp_path):
    run = fused / "seed0" / "fold2"
    push.run(run, REPO)
    model = from_pretrained(REPO)
    root = Path(json.loads((run / "recipe.json").read_text())["data"]["root"])
    known = small.read(run / "predictions-test1.jsonl")
    names = [row["id"] for row in known]
    inputs, present = {}, torch.zeros(len(names), 3)
    for place, (key, (_, feature, width)) in enumerate(zip(model.data.keys, model.data.streams, strict=True)):
        values = np.zeros((len(names), width), np.float32)
        for row, name in enumerate(names):
            file = root / "features" / feature / f"{name}.npy"
            if file.is_file() and (loaded := np.load(file)).any():
                values[row] = loaded if loaded.ndim == 1 else loaded.mean(0)
                present[row, place] = 1
        inputs[key] = torch.from_numpy(values)
    whole = [k for k, row in enumerate(known) if len(row["present"]) == present[k].sum()]
    assert len(whole) > len(names) // 2
    with torch.inference_mode():
        found = model(present, **inputs)
        same = tasks.load(run / "checkpoints" / "best")(present, **inputs)
    assert_same(same, found)
    for k in whole:
        assert float(found["valence"][k]) == pytest.approx(known[k]["prediction"]["valence"], abs=1e-5)


def test_the_command_line_predicts_by_the_name_of_the_repo(hub, run, tmp_path, monkeypatch):
    push.run(run, REPO)
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", 0.1 * np.sin(np.arange(16000) / 20), 16000)
    said = {}
    for name in (str(run), REPO):
        bad, said[name] = ask(name, "a.wav")
        assert bad == 0
    assert said[REPO] == said[str(run)]
    # In Python by the same name, and a part of it by the names of the Hub's.
    assert [affect.load(REPO)("a.wav")] == said[REPO]
    assert affect.load(REPO, subfolder="last")("a.wav")["scale"] == said[REPO][0]["scale"]
    # A folder that is there counts first.
    Path(REPO).mkdir(parents=True)
    with pytest.raises(AffectError, match="holds no weights"):
        ask(REPO, "a.wav")


def test_a_local_folder_needs_no_hub(run, tmp_path):
    assert_same(heard(from_pretrained(run)), heard(from_pretrained(run / "checkpoints" / "best")))
    with pytest.raises(AffectError, match="model.safetensors is missing"):
        from_pretrained(tmp_path)
    with pytest.raises(AffectError, match="has no revision 'v1'"):
        from_pretrained(run, revision="v1")


def test_an_older_revision_is_still_there(hub, run):
    first = push.run(run, REPO)
    repo = hub.repos[REPO]
    repo.commit({**repo.files, "config.json": b"{"})
    assert_same(heard(from_pretrained(run)), heard(from_pretrained(REPO, revision=first.commit)))
    with pytest.raises(AffectError, match="damaged"):
        from_pretrained(REPO)
    with pytest.raises(AffectError, match=r"^someone/model: has no revision 'nowhere'"):
        from_pretrained(REPO, revision="nowhere")


def test_what_is_not_there_is_named_in_one_line(hub, run, monkeypatch):
    with pytest.raises(
        AffectError, match=r"^someone/nothing: no such repo on the Hub.*no folder someone/nothing here"
    ) as caught:
        from_pretrained("someone/nothing")
    assert "\n" not in str(caught.value)
    push.run(run, REPO, private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AffectError, match="no such repo on the Hub, or the token may not see it"):
        from_pretrained(REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(AffectError, match=r"^someone/model: .*token"):
        from_pretrained(REPO)
    hub.down = True
    with pytest.raises(AffectError, match=r"^someone/model: no connection to"):
        from_pretrained(REPO)


def test_a_repo_of_something_else_is_said_to_be(hub):
    from tests.hub.double import Repo

    hub.repos["someone/other"] = Repo(files={"README.md": b"words"})
    with pytest.raises(AffectError, match=r"someone/other holds no model.safetensors"):
        from_pretrained("someone/other")


def test_once_fetched_it_is_there_offline(hub, run, monkeypatch):
    from huggingface_hub import constants

    push.run(run, REPO)
    folder = folder_of(Path(REPO))
    assert not (folder / "last").exists(), "what is not asked for is not fetched"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same(heard(from_pretrained(run)), heard(from_pretrained(REPO)))
    with pytest.raises(AffectError, match="unset HF_HUB_OFFLINE"):
        from_pretrained("someone/else")


def test_a_model_of_a_local_encoder_and_text_carries_both(hub, small_corpus, tmp_path):
    secret = tmp_path / "secret-place"
    config, normalised = tiny.architecture("tiny")
    WavLMModel(config).save_pretrained(secret / "wavlm")
    Wav2Vec2FeatureExtractor(do_normalize=normalised, return_attention_mask=True).save_pretrained(secret / "wavlm")
    base = runs.recipe(small_corpus, encoder="tiny", epochs=1, budget=60)
    recipe = replace(base, model=replace(base.model, encoder=str(secret / "wavlm"), text="ngrams"))
    top = folds.run("read", recipe, Options(runs=tmp_path / "runs", report=False), "a command")
    run = top / "seed0" / "fold1"
    push.run(run, REPO)
    files = hub.repos[REPO].files
    assert {"tokenizer/affect_tokenizer.json", "last/tokenizer/affect_tokenizer.json"} <= set(files)
    assert [name for name, data in files.items() if b"secret-place" in data] == []
    assert json.loads(files["recipe.json"])["model"]["encoder"] == "wavlm"
    model, known = from_pretrained(REPO), tasks.load(run / "checkpoints" / "best")
    words = {"tokens": torch.tensor([[1, 2, 3]]), "token_mask": torch.ones(1, 3, dtype=torch.bool)}
    waves = {"waveform": 0.1 * torch.randn(1, 8000), "samples": torch.tensor([8000])}
    prosody = torch.randn(1, known.data.prosody_features)
    with torch.inference_mode():
        assert_same(known(**waves, **words, prosody=prosody), model(**waves, **words, prosody=prosody))
