"""Exported models: as exact as they say, smaller where they should be, and kept only where the gate lets them."""

from __future__ import annotations

import inspect
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from affect import tasks
from affect.errors import AffectError
from affect.inference import onnx as graphs
from affect.models import saving
from affect.tasks.talking_face import export, prune
from affect.tasks.talking_face.gate import Limits, RunClips, judge
from affect.tasks.talking_face.model import build
from affect.tasks.talking_face.prune import Shares, pruned
from affect.tasks.talking_face.task import TalkingFaceTask
from tests.inference.asking import ask
from tests.tasks.talking_face import clips as made_up
from tests.tasks.talking_face import small

SCORES = ("overall_score", "audio_quality_score")


@pytest.fixture(scope="module")
def run(clips_root, tmp_path_factory):
    """The folder of a run of two features, two scores and few layers: its graph is quickly written."""
    recipe = small.recipe(clips_root, "uncertainty", steps=4)
    model = replace(recipe.model, encoder_layers=1, temporal_attention=False, pooling=("mean",))
    data = replace(recipe.data, features=("visual", "audio"), scores=SCORES)
    folder = tmp_path_factory.mktemp("export") / "quality" / "seed0" / "fold1"
    small.train(replace(recipe, model=model, data=data), folder)
    return folder


@pytest.fixture
def best(run):
    return run / "checkpoints" / "best"


@pytest.fixture(scope="module")
def graph(run, tmp_path_factory):
    """What is exported of the run as ONNX."""
    return export.onnx(run / "checkpoints" / "best", tmp_path_factory.mktemp("onnx") / "model.onnx", 18)


@pytest.fixture
def written(graph, monkeypatch):
    """Let a graph be that one, written in no time."""
    monkeypatch.setattr(graphs, "write", lambda *given: shutil.copy(graph.path, given[5]))


def test_a_graph_equals_torch_for_any_batch_and_length(graph, best):
    model, session = tasks.load(best), graphs.Session(graph.path)
    assert session.outputs == [*SCORES]
    seen = []
    for seed, frames in enumerate([(1,), (2,), (0, 0, 3), (50, 3), tuple(range(9))]):
        batch = export.example(model, frames, 100 + seed)
        with torch.inference_mode():
            wanted = model(**batch)
        found = session.run({name: value.numpy() for name, value in batch.items()})
        for name in SCORES:
            np.testing.assert_allclose(found[name], wanted[name].numpy(), atol=4e-4)
        seen += found[SCORES[0]].tolist()
    assert np.std(seen) > 1e-3, "the outputs don't depend on the inputs: the comparison says nothing"
    assert [path.name for path in graph.path.parent.iterdir()] == ["model.onnx"]
    assert [line.split(" ")[0].rstrip(":") for line in graph.lines] == ["held", "size", "latency", "largest", "mean",
                                                                          "largest"]  # fmt: skip
    assert graph.size == graph.path.stat().st_size and graph.difference < 4e-4


def test_an_exported_file_predicts_what_its_run_does(graph, run, clips_root):
    (bad, lines), (also, others) = (ask(one, clips_root / "converted") for one in (run, graph.path))
    assert bad == also == 0 and len(lines) == len(others) == 60
    for line, other in zip(lines, others, strict=True):
        assert other["prediction"] == pytest.approx(line["prediction"], abs=2e-4)
        assert other["interval"].keys() == line["interval"].keys() == set(SCORES)
        for name, pair in line["interval"].items():
            assert other["interval"][name] == pytest.approx(pair, abs=5e-4)


def test_int8_has_products_of_integers_and_stays_near(written, graph, best, run, clips_root, tmp_path):
    import onnx

    made = export.int8(best, tmp_path / "model.int8", 18, size=9)
    assert made.path.name == "model.int8.onnx"
    nodes = {node.op_type for node in onnx.load(made.path).graph.node}
    assert "MatMulInteger" in nodes and "MatMulInteger" not in {n.op_type for n in onnx.load(graph.path).graph.node}
    weights = {t.name: t.data_type for t in onnx.load(made.path).graph.initializer}
    assert onnx.TensorProto.INT8 in weights.values()
    assert 0 < made.difference < 0.2, "it is rounded, and not by more than a twentieth of the scale"
    _, lines = ask(made.path, clips_root / "converted")
    _, others = ask(run, clips_root / "converted")
    off = [
        line["prediction"][s] - other["prediction"][s]
        for line, other in zip(lines, others, strict=True)
        for s in SCORES
    ]
    assert 0 < np.abs(off).max() < 0.2


def test_over_a_limit_nothing_is_kept(written, affect, run):
    code, out, err = affect("export", run, "--format", "int8", "--options", "size=9", "max_error=1e-9")
    assert code != 0 and out == "" and err.count("\n") == 1
    assert "over the limit of max_error, so nothing is kept: held against 12 clips (test); size: " in err
    assert not (run / "export").exists()
    code, out, err = affect("export", run, "--format", "int8", "--options", "size=9")
    assert code == 0, err
    assert "latency: " in out and [path.name for path in (run / "export").iterdir()] == ["model.int8.onnx"]
    shutil.rmtree(run / "export")


def test_a_graph_of_another_model_is_not_kept(written, best, tmp_path, monkeypatch):
    other = build(tasks.load(best).config, tasks.load(best).data).eval()
    monkeypatch.setattr(tasks, "load", lambda folder: other)
    with pytest.raises(AffectError, match=r"the graph's overall_score differs from torch by .* not kept"):
        export.onnx(best, tmp_path / "new" / "model.onnx", 18)
    assert list(tmp_path.iterdir()) == []


NONE = Limits(max_error=9, mean_error=9, srcc_drop=9, size=9, latency=1e9)


@pytest.mark.parametrize(
    ("change", "limits", "over"),
    [
        (lambda score: score, {"max_error": 0, "mean_error": 0, "srcc_drop": 0}, None),
        (lambda score: 6 - score, {"srcc_drop": 1.99}, "srcc_drop"),
        (lambda score: 6 - score, {"srcc_drop": 2.01}, None),
        (lambda score: 3.0, {"srcc_drop": 0.99}, "srcc_drop"),
        (lambda score: score + 0.4, {"max_error": 0.11, "mean_error": 0.11, "srcc_drop": 0}, None),
        (lambda score: score + 0.4, {"max_error": 0.09, "mean_error": 0.09}, "max_error, mean_error"),
        (lambda score: float("nan"), {}, "max_error, mean_error"),
        (lambda score: score, {"size": 0.49}, "size"),
        (lambda score: score, {"size": 0.51}, None),
        (lambda score: score, {"latency": 1e-9}, "latency"),
    ],
)
def test_the_gate_measures_what_it_says(best, change, limits, over):
    """A model that knows the labels, on scales of 1 to 5, and one that says something else."""
    clips = RunClips(best)
    known = {}
    for row in clips.rows("test"):
        known[row["row"]] = {name: row[name] if row[name] == row[name] else 3.0 for name in SCORES}
    order = iter(row for row in known for _ in range(2))
    data = replace(clips_data(best), scores=tuple((name, 1.0, 5.0) for name in SCORES))

    def before(_):
        return known[next(order)]

    def after(_):
        return {name: change(value) for name, value in known[next(order)].items()}

    held = (clips, data, before, after, (100, 50), replace(NONE, **limits))
    if over is None:
        assert len(judge(*held).lines) == 6
    else:
        with pytest.raises(AffectError, match=f"^over the limit of {over}, so nothing is kept: held against 12 clips"):
            judge(*held)


def clips_data(best):
    return tasks.load(best).data


def test_a_pruned_model_is_smaller_loads_and_predicts(best, run, clips_root, affect):
    options = ("srcc_drop=2", "heads=.5", "fused=.5", "level=.5")
    code, out, err = affect("export", run, "--format", "pruned", "--options", *options)
    assert code == 0, err
    folder = run / "export" / "model.pruned"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    section = json.loads((folder / "config.json").read_text())["model"]
    assert (section["heads"], section["head_width"], section["hidden"]) == (1, 8, 8)
    model, whole = tasks.load(folder), tasks.load(best)
    block = model.blocks[0]
    assert block.attention.project.weight.shape == (24, 16) and block.network[1].weight.shape == (8, 16)
    sizes = [sum(value.numel() for value in one.parameters()) for one in (model, whole)]
    # Half of four matrices of attention, three quarters of two of a block's layers, and their biases; half of what 32
    # pooled numbers are fused to, and of two heads behind it a half of what they read and of their units.
    attention, hidden = 3 * 8 * 17 + 8 * 16, 24 * 17 + 24 * 16
    assert sizes[1] - sizes[0] == attention + hidden + 8 * (32 + 3) + 2 * (16 * 8 - 8 * 4 + 4 * 4)
    assert (folder / "model.safetensors").stat().st_size < (best / "model.safetensors").stat().st_size
    bad, (line, *_) = ask(folder, clips_root / "converted")
    assert bad == 0 and line["interval"].keys() == set(SCORES), "calibrated anew"
    assert line["level"] == 0.5
    # Again over its own, and never over something else.
    export.pruned(best, folder, 18, srcc_drop=2, hidden=0.5)
    assert (tasks.load(folder).config.hidden, tasks.load(folder).config.fused) == (16, 16)
    (run / "export" / "notes").mkdir()
    with pytest.raises(AffectError, match="is there and holds no model"):
        export.pruned(best, run / "export" / "notes", 18)
    shutil.rmtree(run / "export")


def test_what_says_nothing_is_what_is_cut():
    """A head that reaches no output, and units that are constant, can be cut without a change of any score."""
    torch.manual_seed(0)
    model = build(made_up.config("optimized", layers=2), made_up.DATA).eval()
    with torch.no_grad():
        for k, block in enumerate(model.blocks):
            block.network[1].weight[k::2] = 0
            block.network[1].bias.normal_()
        for name, module in model.named_modules():
            if name.endswith("attention"):
                first = slice(8) if "blocks.0" in name else slice(8, 16)
                module.output.weight[:, first] = 0
    batch = made_up.inputs()
    one = [{name: value[k : k + 1] for name, value in batch.items()} for k in range(4)]
    made = pruned(model, one, Shares(hidden=0.5, heads=0.5, encoders=1, fused=1))
    assert made.config.heads == 1 and made.blocks[1].network[4].weight.shape == (16, 16)
    with torch.inference_mode():
        for name, value in model(**batch).items():
            torch.testing.assert_close(made(**batch)[name], value, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("norm", [True, False])
def test_what_is_left_is_fitted_to_what_was_there(norm, monkeypatch):
    torch.manual_seed(0)
    model = build(made_up.config("optimized", heteroscedastic=True, norm=norm, encoder_layers=3), made_up.DATA).eval()
    batch = made_up.inputs()
    one = [{name: value[k : k + 1] for name, value in batch.items()} for k in range(4)]
    half = Shares(hidden=0.5, heads=0.5, encoders=0.5, fused=0.5)
    made = pruned(model, one, half)
    assert [made.encoders[0].network[k].weight.shape for k in (0, 3 + norm)] == [(8, 6), (8, 8)]
    assert made.fusion[0].weight.shape[0] == 8 and made.heads[0].network[0].weight.shape == (4, 8)
    weights = [sum(value.numel() for value in each.parameters()) for each in (made, model)]
    assert weights[0] < 0.62 * weights[1]
    monkeypatch.setattr(prune, "_RIDGE", 1e9)
    cut = pruned(model, one, half)
    with torch.inference_mode():
        errors = [
            sum(float((each(**batch)[name] - value).abs().mean()) for name, value in model(**batch).items())
            for each in (made, cut)
        ]
    assert errors[0] < 0.8 * errors[1]


def test_wrong_asks_are_one_line(best, tmp_path, monkeypatch):
    with pytest.raises(AffectError, match="over 0 and up to 1"):
        export.pruned(best, tmp_path / "small", 18, hidden=0)
    with pytest.raises(AffectError, match="opset is of ONNX's files"):
        export.pruned(best, tmp_path / "small", 20)
    pooled = build(made_up.config("no_transformer", temporal_attention=False), made_up.DATA)
    with pytest.raises(AffectError, match="nothing of this model is cut"):
        pruned(pooled, [made_up.inputs([0])], Shares(hidden=0.5, heads=0.5, encoders=1.0, fused=1.0))
    with pytest.raises(AffectError, match="has to end in .onnx"):
        export.onnx(best, tmp_path / "model", 18)
    alone = tmp_path / "a" / "b" / "model"
    alone.mkdir(parents=True)
    for name in (saving.WEIGHTS, saving.CONFIG):
        shutil.copy(best / name, alone / name)
    with pytest.raises(AffectError, match="is of no run's folder"):
        export.pruned(alone, tmp_path / "small", 18)
    assert not (tmp_path / "small").exists()
    monkeypatch.setattr(tasks, "load", lambda folder: torch.nn.Linear(1, 1))
    with pytest.raises(AffectError, match="as onnx or int8, its encoders are not pruned"):
        export.pruned(best, tmp_path / "small", 18)


def test_help_tells_that_latency_has_no_limit_unless_one_is_given():
    for format in (export.onnx, export.int8, export.pruned):
        parameters = inspect.signature(format).parameters
        assert parameters["latency"].default == math.inf
        assert (parameters["size"].default == math.inf) == (format is export.onnx)
    words = "Latency has none unless one is given (--options latency=1: "
    assert words in TalkingFaceTask.helps["export"]


def test_a_limit_that_is_no_number_is_refused():
    """Nothing is over NaN: the gate would let everything through."""
    with pytest.raises(AffectError, match="srcc_drop is a limit, and NaN is none"):
        Limits(max_error=1, mean_error=1, srcc_drop=float("nan"), size=1, latency=1)
