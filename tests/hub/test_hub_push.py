"""Pushes by the real client to a double of the Hub: what arrives, twice, against somebody else, and what goes wrong."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import constants
from safetensors.numpy import load as weights_in

from affect.errors import AffectError
from affect.hub import push
from tests.hub.double import READER

REPO = "someone/model"
FILES = {
    "README.md", "config.json", "last/config.json", "last/model.safetensors", "last/preprocessor_config.json",
    "model.safetensors", "preprocessor_config.json", "recipe.json", "scores.json",
}  # fmt: skip


@pytest.fixture
def run(spoken):
    return spoken / "seed0" / "fold1"


def test_all_that_prediction_needs_arrives_and_no_more(hub, run):
    pushed = push.run(run, REPO)
    repo = hub.repos[REPO]
    assert set(repo.files) == FILES
    assert pushed.changed
    assert pushed.commit == repo.commits[-1]
    assert len(repo.commits) == 2, "all in one commit"
    assert pushed.url == f"{hub.url}/{REPO}"
    assert not repo.private
    best = (run / "checkpoints" / "best" / "model.safetensors").read_bytes()
    assert repo.files["model.safetensors"] == best
    step = max((run / "checkpoints").glob("step-*"))
    assert repo.files["last/model.safetensors"] == (step / "average.safetensors").read_bytes()
    assert repo.files["last/model.safetensors"] != (step / "model.safetensors").read_bytes(), "the averaged ones"
    assert set(weights_in(best)) == set(weights_in(repo.files["last/model.safetensors"]))
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_the_same_again_makes_no_commit(hub, run):
    first = push.run(run, REPO)
    again = push.run(run, REPO)
    assert not again.changed
    assert again.commit == first.commit
    assert len(hub.repos[REPO].commits) == 2


def test_files_of_others_stay_and_old_last_weights_go(hub, run):
    push.run(run, REPO)
    repo = hub.repos[REPO]
    repo.commit({**repo.files, "last/tokenizer/vocab.txt": b"old", "picture.png": b"theirs"})
    assert push.run(run, REPO).changed
    assert set(repo.files) == FILES | {"picture.png"}


def test_the_repo_is_private_where_asked(hub, run):
    push.run(run, REPO, private=True)
    assert hub.repos[REPO].private


def test_a_public_repo_is_not_taken_for_a_private_one(hub, run):
    push.run(run, REPO)
    with pytest.raises(AffectError, match=r"someone/model is public"):
        push.run(run, REPO, private=True)


def test_somebody_elses_commit_in_between_is_built_upon_once(hub, run):
    hub.rivals = 1
    push.run(run, REPO)
    repo = hub.repos[REPO]
    assert set(repo.files) == FILES | {"rival-0.txt"}
    assert sum(line == f"POST /api/models/{REPO}/commit/main" for line in hub.log) == 2
    hub.rivals = 2
    repo.commit({})
    with pytest.raises(AffectError, match=r"^someone/model: somebody else pushes to it at the same time"):
        push.run(run, REPO)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("hf_wrong", "does not take the token: give hf auth login"),
        (READER, "the token may not write there"),
        (None, "no token for the Hub: give hf auth login once, or set HF_TOKEN"),
    ],
)
def test_a_token_that_does_not_serve_is_named_in_one_line(hub, run, monkeypatch, token, words):
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AffectError) as caught:
        push.run(run, REPO)
    assert str(caught.value).startswith(f"{REPO}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hub.repos == {}


def test_a_cut_upload_is_repeated_by_the_client(hub, run):
    hub.cut = 1
    push.run(run, REPO)
    assert set(hub.repos[REPO].files) == FILES


def test_a_server_that_goes_in_the_middle_leaves_no_half_push(hub, run):
    hub.cut = 1000
    with pytest.raises(AffectError, match=r"^someone/model: no connection to http://127.0.0.1") as caught:
        push.run(run, REPO)
    assert "/upload/" not in str(caught.value), "signed addresses stay out of logs"
    assert hub.repos[REPO].files == {}
    hub.cut = 0
    push.run(run, REPO)
    assert set(hub.repos[REPO].files) == FILES


def test_no_server_and_no_network(hub, run, monkeypatch):
    hub.down = True
    with pytest.raises(AffectError, match=r"^someone/model: no connection to"):
        push.run(run, REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AffectError, match="unset HF_HUB_OFFLINE"):
        push.run(run, REPO)


@pytest.mark.parametrize("repo", ["model", "a/b/c", "some one/model", "/model", ""])
def test_a_name_that_can_not_be_is_refused_before_anything_is_read(run, repo):
    with pytest.raises(AffectError, match="is not user/name"):
        push.run(run, repo)


def test_an_experiment_is_no_run(hub, spoken, tmp_path):
    with pytest.raises(AffectError, match=r"holds several runs: name one, such as .*seed0/fold1"):
        push.run(spoken, REPO)
    with pytest.raises(AffectError, match="holds no best weights yet"):
        push.run(tmp_path, REPO)
    assert hub.repos == {}


def test_recipe_scores_and_preprocessing_are_readable(hub, run):
    push.run(run, REPO)
    files = hub.repos[REPO].files
    recipe = json.loads(files["recipe.json"])
    known = json.loads((run / "recipe.json").read_text())
    assert recipe["data"].pop("root") == "generated"
    assert known["data"].pop("root").endswith("/generated")
    assert recipe == known
    scores = json.loads(files["scores.json"])
    end = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert scores["finished"]
    assert scores["scores"] == end["scores"]
    facts = json.loads(files["preprocessor_config.json"])
    assert facts["sampling_rate"] == 16_000
    assert facts["prosody"]["kind"] == "default"
    assert facts["scales"] == {"valence": [1.0, 5.0], "arousal": [1.0, 5.0]}
    assert facts["targets"] == ["valence", "arousal"]
