"""Predicting from tables: columns by their names, as a corpus of tables reads them; what no names tell is said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import affect as package
from affect import checksums, tasks
from affect.config import to_dict
from affect.data.frame_csv import AU, VISUAL
from affect.errors import AffectError
from affect.models import saving
from affect.tasks.talking_face.config import Data, Signature, TalkingFace
from affect.tasks.talking_face.model import build
from affect.tasks.talking_face.tabled import Order
from tests.inference.asking import ask
from tests.tasks.talking_face import clips as made_up
from tests.tasks.talking_face import small

IDS = [f"{source}_{take}" for source in "abcdef" for take in (1, 2)]
VALUES = np.random.default_rng(0).normal(size=(len(IDS), 3)).astype(np.float32)
COLUMNS = ("sharp", "blur", "hiss")


def table(file, columns, *, split=True, **further):
    """Write the values of clips under `columns`, their order; `further` columns have one cell each."""
    lines = [",".join(["name", *columns, *(["MOS", "split"] if split else []), *further])]
    for k, id in enumerate(IDS):
        own = [str(VALUES[k, COLUMNS.index(column)]) for column in columns]
        part = {"e": "val", "f": "test"}.get(id[0], "train")
        lines.append(",".join([id, *own, *([str(1 + k % 5), part] if split else []), *map(str, further.values())]))
    file.write_text("\n".join(lines) + "\n")
    return file


def frames(path, columns, order=(0, 1, 2)):
    """Write three frames a clip of two numbers, lines in this order."""
    told = {"jaw": 1.0, "lips": -2.0}
    lines = [",".join(["name", "frame", *columns])]
    for k, id in enumerate(IDS):
        for frame in order:
            lines.append(",".join([id, str(frame), *(str(told[c] * (frame + 1) + k / 7) for c in columns)]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on a table and frames beside it."""
    root = tmp_path_factory.mktemp("tables")
    table(root / "mine.csv", COLUMNS)
    frames(root / "frames.csv", ("jaw", "lips"))
    recipe = small.recipe(root, steps=2)
    data = Data(corpus="score_table", root=str(root), table="mine.csv", frames_of="frames.csv", scores=("MOS",),
                pattern="^(?P<source>.)")  # fmt: skip
    folder = root / "run" / "seed0" / "fold1"
    small.train(replace(recipe, data=data), folder)
    return folder


def save(folder, data):
    """Write a model of this signature, whose outputs depend on the order of what it takes."""
    model = build(made_up.config("no_transformer", output="sigmoid"), data)
    saving.save(model.state_dict(), {"task": TalkingFace.task, **model.describe()}, folder)
    return folder


def test_a_run_on_tables_predicts_from_tables_whatever_the_order_of_their_columns(run, tmp_path, caplog):
    config = json.loads((run / "checkpoints" / "best" / "config.json").read_text())
    assert config["data"]["columns"] == [["clip", [*COLUMNS]], ["frames", ["jaw", "lips"]]]
    task = tasks.task_class(TalkingFace.task)
    assert [each["columns"] for each in task.preprocessing(config)["features"]] == [[*COLUMNS], ["jaw", "lips"]]
    assert task.card(config, {}, "you/it").command == "CLIPS.csv"
    rows = [json.loads(text) for text in (run / "predictions-test.jsonl").read_text().splitlines()]
    wanted = {row["id"]: row["prediction"]["MOS"] for row in rows}
    clips = table(tmp_path / "clips.csv", COLUMNS[::-1], split=False, path="x.mp4", loud="9", MOS="bad", split_="later")
    lines = frames(tmp_path / "lines.csv", ("lips", "jaw"), (2, 0, 1))
    caplog.clear()
    for files in ([clips, lines], [lines, clips], [tmp_path]):
        bad, said = ask(run, *files)
        found = {line["id"]: line["prediction"]["MOS"] for line in said}
        assert bad == 0 and [*found] == IDS and wanted.keys() == {"f_1", "f_2"}
        assert {id: found[id] for id in wanted} == pytest.approx(wanted, abs=1e-4)
        assert said[0]["features"] == ["clip", "frames"]
    assert "order" not in caplog.text
    assert {line["id"]: line["prediction"]["MOS"] for line in package.load(run)([clips, lines])} == found
    assert len({*found.values()}) > 6, "the predictions are of the tables"
    (tmp_path / "other.csv").write_text("name,sharp,lips\na_1,1,2\n")
    bad, (line,) = ask(run, tmp_path / "other.csv")
    assert bad == 1 and line["id"] == "other.csv"
    assert "has no column 'blur', 'hiss' (2 of 3) of the feature clip" in line["error"]


def test_lengths_of_training_are_those_of_the_features_that_are_taken(run):
    recipe = tasks.read_recipe(run / "recipe.json")
    config = json.loads((run / "checkpoints" / "best" / "config.json").read_text())
    assert config["lengths"] == [3, 3]
    task = tasks.make(replace(recipe, data=replace(recipe.data, features=("clip",)))).for_fold(0, 1)
    assert task.model_config(task.build_model())["lengths"] == [1, 1]


def test_what_a_table_lacks_is_told_of_its_line_and_the_others_go_on(tmp_path):
    data = Signature(features=(("clip", 2),), scores=(("s", 1.0, 5.0),), columns=(("clip", ("x", "y")),))
    model = save(tmp_path / "model", data)
    own = tmp_path / "own.csv"
    own.write_text("no;video;y;x\n1;a;1,5;2\n2;b;x;2\n3;c;;2\n4;d;1,25;2\n")
    bad, lines = ask(model, own)
    assert bad == 4, "of decimal commas"
    made = package.load(model)(own, clip="video", decimal=",")
    assert [line["id"] for line in made if "error" not in line] == ["a", "d"]
    told = {line["id"]: line["error"] for line in made if "error" in line}
    assert "feature is no number: y 'x'" in told["b"] and "a number is missing" in told["c"]
    own.write_text("clip,x,y\na,1,2\na,3,4\n")
    assert "several lines of a clip" in ask(model, own)[1][0]["error"]
    listed = tmp_path / "listed.csv"
    np.savez(tmp_path / "a.npz", clip=[[2.0, 1.25]])
    listed.write_text("path,x\na.npz,7\n")
    assert ask(model, listed)[1][0]["prediction"] == made[-1]["prediction"], "a list of files is one still"


@pytest.mark.parametrize(("feature", "columns"), [("visual", VISUAL), ("au", AU)])
def test_files_of_faces_are_clips(tmp_path, feature, columns):
    data = Signature(features=((feature, len(columns)),), scores=(("s", 1.0, 5.0),), columns=((feature, columns),))
    model, folder = save(tmp_path / "model", data), tmp_path / "faces"
    folder.mkdir()
    values = np.random.default_rng(1).normal(size=(4, len(columns))).astype(np.float32)
    order = np.random.default_rng(2).permutation(len(columns))
    for name, sign in (("b", 1), ("a", -1)):
        lines = [",".join(["frame", "extra", *(columns[k] for k in order)])]
        lines += [",".join([str(t), "9", *(str(sign * values[t, k]) for k in order)]) for t in (3, 0, 2, 1)]
        lines += [",".join(["4", "9", *[""] * len(columns)])]
        (folder / f"{name}.csv").write_text("\n".join(lines))
        # Without a face a frame is as the one before, as in training.
        np.savez(tmp_path / f"{name}.npz", **{feature: sign * values[[0, 1, 2, 3, 3]]})
    bad, lines = ask(model, folder)
    assert (bad, [line["id"] for line in lines]) == (0, ["a.csv", "b.csv"])
    wanted = ask(model, tmp_path / "a.npz", tmp_path / "b.npz")[1]
    assert [line["prediction"] for line in lines] == [line["prediction"] for line in wanted]
    assert lines[0]["prediction"] != lines[1]["prediction"]
    (folder / "c.csv").write_text("frame,x\n0,1\n")
    bad, lines = ask(model, folder)
    assert bad == 1 and f"({len(columns)} of {len(columns)}) of the feature {feature}" in lines[2]["error"]


def test_where_no_names_tell_the_order_it_is_said_once(tmp_path, caplog):
    named = Signature(features=(("clip", 2),), scores=(("s", 1.0, 5.0),), columns=(("clip", ("x", "y")),))
    model = save(tmp_path / "named", named)
    np.savez(tmp_path / "one.npz", clip=[[1.0, 2.0]])
    np.savez(tmp_path / "turned.npz", clip=[[2.0, 1.0]])
    (tmp_path / "one.csv").write_text("name,y,x,path\na,2,1,b\n")
    _, lines = ask(model, tmp_path / "one.npz", tmp_path / "turned.npz")
    assert lines[0]["prediction"] != lines[1]["prediction"], "the order matters"
    (words,) = caplog.messages[-1:]
    assert "clip: one.npz comes without the names of its columns" in words and words.endswith("they are taken as x, y")
    assert caplog.text.count("can't be checked") == 1
    assert ask(model, tmp_path / "one.csv")[1][0]["prediction"] == lines[0]["prediction"]
    old = save(tmp_path / "old", replace(named, columns=()))
    config = json.loads((old / "config.json").read_text())
    del config["data"]["columns"]
    (old / "config.json").write_text(json.dumps(config))
    (old / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    caplog.clear()
    (tmp_path / "order.csv").write_text("name,x,y,score\na,1,2,3\n")
    checksums.write(old)
    assert ask(old, tmp_path / "order.csv")[1][0]["prediction"] == lines[0]["prediction"]
    assert "clip: the model was saved without the names of its columns" in caplog.text
    (tmp_path / "wide.csv").write_text("name,x,y,z\na,1,2,3\n")
    assert "clip has 3 columns, the model takes 2" in ask(old, tmp_path / "wide.csv")[1][0]["error"]


def test_columns_of_a_signature_are_of_its_features():
    data = {"features": (("clip", 2),), "scores": (("s", 1.0, 5.0),)}
    for columns in ((("clip", ("x",)),), (("clip", ("x", "x")),), (("other", ("x", "y")),)):
        with pytest.raises(AffectError, match="columns must name each number of a feature once"):
            Signature(**data, columns=columns)
    order = Order(Signature(**data, columns=(("clip", ("x", "y")),)))
    frames = np.array([[1.0, 2.0, 3.0]], np.float32)
    assert order.arranged("clip", frames, ("y", "z", "x"), small.Path("a")).tolist() == [[3.0, 1.0]]
    assert to_dict(order.data)["columns"] == [["clip", ["x", "y"]]]
