"""Nothing of this machine is pushed: every byte is looked through, and a push that holds something is refused."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect import checksums
from affect.errors import AffectError
from affect.hub import clean, push
from tests.hub.double import TOKEN

REPO = "someone/model"


def named(monkeypatch, host: str, user: str) -> None:
    """Let the machine and its user have names that are found wherever they are."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setenv("LOGNAME", user)
    assert getpass.getuser() == user


@pytest.mark.parametrize("kind", ["spoken", "fused"])
def test_no_byte_that_is_sent_tells_of_this_machine(hub, request, kind, monkeypatch, tmp_path):
    monkeypatch.setenv("LOGNAME", "qxuserqx")
    monkeypatch.setattr(socket, "gethostname", lambda: "qxhostqx")
    home = tmp_path / "home" / "qxuserqx"
    run = shutil.copytree(request.getfixturevalue(kind) / "seed0" / "fold1", home / "runs" / kind / "seed0" / "fold1")
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["root"] = str(home / "corpora" / "mine")
    (run / "recipe.json").write_text(json.dumps(recipe))
    facts = json.loads((run / "environment.json").read_text()) | {"host": "qxhostqx", "command": f"python {home}/x.py"}
    (run / "environment.json").write_text(json.dumps(facts))
    monkeypatch.setattr(Path, "home", lambda: home)
    push.run(run, REPO)
    forbidden = [
        "qxuserqx", "qxhostqx", TOKEN, str(home), str(tmp_path), tempfile.gettempdir() + "/", str(Path.cwd()),
        str(Path(__file__).parents[2]),
    ]  # fmt: skip
    sent = [*hub.sent, *hub.repos[REPO].files.values()]
    assert sum(map(len, sent)) > 10_000
    for word in forbidden:
        assert [data[:80] for data in sent if word.encode() in data] == [], word
    assert json.loads(hub.repos[REPO].files["recipe.json"])["data"]["root"] == "mine"
    names = set(hub.repos[REPO].files)
    assert not [
        name for name in names if "optim" in name or name.endswith((".pt", ".log", ".jsonl")) or "state" in name
    ]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (TOKEN, "the token"),
        ("made on qxhostqx", "the host's name"),
        ("made by qxuserqx", "the user's name"),
        ("/home/qxuserqx/x", "the user's name"),
    ],
)
def test_a_push_that_holds_something_is_refused_naming_the_file(hub, run, monkeypatch, words, what):
    named(monkeypatch, "qxhostqx", "qxuserqx")
    (run / "checkpoints" / "best" / "tokenizer").mkdir()
    (run / "checkpoints" / "best" / "tokenizer" / "notes.txt").write_text(f"... {words} ...")
    with pytest.raises(AffectError) as caught:
        push.run(run, REPO)
    assert what in str(caught.value)
    assert "tokenizer/notes.txt would be pushed with" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert hub.repos == {}, "nothing has left"
    assert not list((run / "checkpoints").glob(".push*"))


def test_the_header_of_weights_is_looked_through_too(hub, run, monkeypatch):
    from safetensors.numpy import load_file, save_file

    named(monkeypatch, "qxhostqx", "qxuserqx")
    file = run / "checkpoints" / "best" / "model.safetensors"
    save_file(load_file(file), file, metadata={"made": "qxhostqx"})
    checksums.write(file.parent)
    with pytest.raises(AffectError, match=r"^model.safetensors would be pushed with the host's name"):
        push.run(run, REPO)


def test_names_that_are_words_stop_nothing(hub, run, monkeypatch):
    named(monkeypatch, "train", "root")
    push.run(run, REPO)
    # The name on the Hub may be the user's, too; a vocabulary has all words.
    named(monkeypatch, "localhost", "someone")
    (run / "checkpoints" / "best" / "tokenizer").mkdir()
    (run / "checkpoints" / "best" / "tokenizer" / "vocab.txt").write_text("anyone\nsomeone\n")
    push.run(run, REPO)
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["push_to_hub"] = "someone/another"
    (run / "recipe.json").write_text(json.dumps(recipe))
    push.run(run, REPO)
    (run / "checkpoints" / "best" / "tokenizer" / "notes.txt").write_text("read from /mnt/someone/model")
    with pytest.raises(AffectError, match=r"notes.txt would be pushed with the user's name"):
        push.run(run, REPO)
    (run / "checkpoints" / "best" / "tokenizer" / "notes.txt").unlink()
    named(monkeypatch, "localhost", "synthetic")
    with pytest.raises(AffectError, match=r"the user's name \(synthetic\)"):
        push.run(run, REPO)


NAME = st.text("abcdefghij-_.0123456789", min_size=1, max_size=8).filter(lambda name: name.strip(".") != "")


@given(st.lists(NAME, min_size=2, max_size=5), st.sampled_from(["/", "~/", "./", "../", "C:\\", "\\\\", "file:///"]))
def test_of_a_path_the_last_component_is_left(parts, start):
    between = "\\" if "\\" in start else "/"
    path = start + between.join(parts)
    assert clean.scrub(path) == parts[-1]
    assert clean.scrub({"root": "/".join(parts)}) == {"root": parts[-1]}
    assert clean.scrub([{"a": path}]) == [{"a": parts[-1]}]


@given(st.lists(NAME, min_size=2, max_size=5))
def test_a_path_inside_a_text_is_found(parts):
    path = "/" + "/".join(parts)
    assert clean.scrub(f"python {path} --x={path} y") == f"python {parts[-1]} --x={parts[-1]} y"


@pytest.mark.parametrize(
    "text", ["microsoft/wavlm-large", "hap+exc", "valence=EmoVal", "mean", "1/2", "", "a b", "https://a.b/c", "n/a"]
)
def test_what_is_no_path_stays(text):
    assert clean.scrub(text) == text
    assert clean.scrub({"encoder": text, "n": 1, "x": None}) == {"encoder": text, "n": 1, "x": None}


def test_a_source_on_the_hub_keeps_its_name():
    assert clean.scrub({"corpus": "hub", "root": "user/speech"}) == {"corpus": "hub", "root": "user/speech"}
    assert clean.scrub({"corpus": "hub", "root": "/home/me/speech"}) == {"corpus": "hub", "root": "speech"}
    assert clean.scrub({"corpus": "iemocap", "root": "me/speech"}) == {"corpus": "iemocap", "root": "speech"}
    assert clean.scrub("/") == clean.scrub("~/") == "local"


def test_a_local_folder_that_looks_like_a_name_of_the_hub_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert clean.scrub("mine/wavlm") == "mine/wavlm"
    (tmp_path / "mine" / "wavlm").mkdir(parents=True)
    assert clean.scrub("mine/wavlm") == "wavlm"
