"""Exported models against torch, run by onnxruntime itself; what can't be exported is one line and leaves nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from affect import cli, tasks
from affect.cli.commands import export as command
from affect.errors import AffectError
from affect.inference import onnx as graphs
from affect.models import text
from affect.models.speaker import TINY
from affect.tasks.emotion.export import export
from affect.tasks.emotion.model import EmotionModel, encoder_options
from tests.inference.asking import ask
from tests.launching import assert_one_line, exit_code, own_log
from tests.models import encoders
from tests.tasks.emotion import small

RATE = 16_000


def saved(folder: Path, **options) -> EmotionModel:
    """Write a model whose weights are away from their initial values, so that outputs differ from input to input."""
    torch.manual_seed(0)
    section = small.section(prosody_dim=options.pop("prosody_dim", 64), **options)
    encoder = None
    if section.encoder != "none":
        encoder = encoders.moved(encoder_options(section))
    model = EmotionModel(section, small.signature(**options), encoder=encoder).eval()
    with torch.no_grad():
        for head in model.heads.values():
            for parameter in head.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
        # They start at zero, and would leave the speaker and the prosody without effect.
        for started in [*model.gates.values(), *([model.speech.film] if model.speech and model.speech.film else [])]:
            for parameter in started.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        for parameter in encoders.adapters_of(model.encoder) if section.lora else ():
            # With .5 the runtime's rounding, up to 5e-5 of the unit scale, would be all but the tolerance.
            parameter.add_(0.2 * torch.randn_like(parameter))
    if model.prosody is not None:
        features = model.data.prosody_features
        model.prosody.set_statistics(torch.randn(features), 1 + torch.rand(features))
    return small.save(model, folder)


def exported(folder: Path) -> Path:
    """Return the file that a model's folder is exported to."""
    return export(folder, folder / "export" / "model.onnx").path


def batch_of(model: EmotionModel, seconds: list[float]) -> dict[str, torch.Tensor]:
    batch = {}
    if model.speech is not None:
        samples = [round(s * RATE) for s in seconds]
        batch = {"waveform": 0.3 * encoders.speech(samples), "samples": torch.tensor(samples)}
    if model.prosody is not None:
        batch["prosody"] = 2 * torch.randn(len(seconds), model.data.prosody_features)
        batch["prosody"][0, 3] = torch.nan
    if model.config.speaker == "embedding":
        batch["speaker"] = torch.randn(len(seconds), model.data.speaker_features)
    return batch


LENGTHS = [[0.01], [0.025], [0.33], [1.0], [6.1], [1.0, 1.0], [2.3, 0.02, 0.9, 4.7], [21.0, 3.0]]


def assert_equal_to_torch(path: Path, model: EmotionModel, lengths: list[list[float]]) -> None:
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    seen = []
    for seconds in lengths:
        batch = batch_of(model, seconds)
        with torch.inference_mode():
            expected = {name: value.numpy() for name, value in model(**batch).items()}
        found = dict(zip(names, session.run(names, {k: v.numpy() for k, v in batch.items()}), strict=True))
        # One scale and one name, in a graph as in torch: the labels', and from 0 to 1 what is called so.
        told = {name for name in expected if name != "log_variance"}
        assert told <= {*names} and {*model.data.numbers} <= told
        for name in told:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
        seen += found[model.data.numbers[0]].tolist()
    assert np.std(seen) > 1e-2, "the outputs don't depend on the inputs: the comparison says nothing"


CLASSES = {"targets": ("valence", "arousal", "emotion"), "classes": ("angry", "happy", "sad"), "scale": (1.0, 7.0)}
CASES = {
    "temporal": dict(temporal="mamba", pooling="attention", prosody_dim=8, prosody_attention=4, mamba_dim=8,
                     uncertainty=True, **CLASSES),
    "wavlm": dict(pooling="attention", prosody_dim=8, prosody_attention=2, gates=True, mamba_dim=8, **CLASSES),
    "whisper": dict(encoder="tiny-whisper", prosody_dim=0, pooling="attentive_statistics", layers="weighted"),
    "wavlm-group": dict(encoder="tiny-group", pooling="attentive_statistics", layers="weighted"),
    "hubert": dict(encoder="tiny-hubert", pooling="attentive_statistics"),
    "wav2vec2": dict(encoder="tiny-wav2vec2", pooling="attention", layers=1),
    "xlsr": dict(encoder="tiny-xlsr", prosody_dim=0, sigmoid=False),
    "adapters": dict(lora=2),
}  # fmt: skip
ALWAYS = ("whisper",)
"""An export takes ten seconds, whatever the size: this one and the tiny v3 below differ most and are always tested."""


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k in ALWAYS else [pytest.mark.soak]) for k in CASES])
def test_an_export_equals_torch_at_every_length(kind, tmp_path, capfd):
    model = saved(tmp_path, **CASES[kind])
    made = export(tmp_path, tmp_path / "export" / "model.onnx")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert sorted(path.name for path in made.path.parent.iterdir()) == ["config.json", "model.onnx"]
    assert made.size == made.path.stat().st_size
    assert 0 < made.difference < 1e-4
    assert_equal_to_torch(made.path, model, [*LENGTHS, [30.0], [31.0, 64.0]] if kind == "whisper" else LENGTHS)

    wave = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE)
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    lines = [predict(place, tmp_path / "a.wav") for place in (tmp_path, made.path, made.path.parent)]
    assert lines[1] == lines[2]
    assert [line["start"] for line in lines[0]] == [0.0, 2.0, 4.0]
    for line, other in zip(*lines[:2], strict=True):
        for name in model.data.numbers:
            assert other["prediction"][name] == pytest.approx(line["prediction"][name], abs=1.01e-4)
        assert {**line, "prediction": 0, "probability": 0} == {**other, "prediction": 0, "probability": 0}
        assert line["prediction"].get("emotion") == other["prediction"].get("emotion")
        if "probability" in line:
            assert other["probability"]["emotion"] == pytest.approx(line["probability"]["emotion"], abs=1.01e-4)


def predict(run: Path, *files: Path, **named) -> list[dict]:
    bad, lines = ask(run, *files, window=2.0, **named)
    assert bad == 0
    return lines


def test_a_dialogue_and_its_speakers_go_on_from_what_was_heard(tmp_path):
    """A tiny v3: the graph, fed bit by bit with what it gave before, is the model on the whole dialogue."""
    model = saved(
        tmp_path, speaker=TINY, dialogue="mamba", gates=True, prosody_dim=8, mamba_dim=8, mamba_layers=1, state_dim=8,
        uncertainty=True,
    )  # fmt: skip
    path = exported(tmp_path)
    # Under and over the x-vector's shortest utterance, which is a third of a second.
    batch = batch_of(model, [1.0, 0.1, 2.3, 0.01, 0.4, 3.1, 0.7])
    with torch.inference_mode():
        expected = model(**batch, turns=torch.tensor([7]))
        alone = model(**batch)
        other = model(**batch, speaker=torch.randn(7, 24), turns=torch.tensor([7]))
    for changed in (alone, other):
        assert float((changed["valence"] - expected["valence"])[1:].abs().max()) > 2e-2, "that part has no say"
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    said = {name: np.zeros((0, model.speech.width if name == "said_speech" else 8), np.float32)
            for name in ("said_speech", "said_prosody")}  # fmt: skip
    found = {"valence": [], "arousal": []}
    for part in (slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 7)):
        piece = {name: value[part].numpy() for name, value in batch.items()}
        piece["waveform"] = piece["waveform"][:, : piece["samples"].max()]
        outputs = dict(zip(names, session.run(names, piece | said), strict=True))
        said = {name: np.concatenate([said[name], outputs[name.replace("said", "heard")]]) for name in said}
        for name, values in found.items():
            values += outputs[name].tolist()
    for name, values in found.items():
        assert values == pytest.approx(expected[name].tolist(), abs=1e-4)

    rng = np.random.default_rng(0)
    for name, seconds in (("a.wav", 7.2), ("b.wav", 4.0)):
        soundfile.write(tmp_path / name, 0.1 * rng.standard_normal(round(seconds * RATE)), RATE)
    lines, others = (predict(run, tmp_path / "a.wav", tmp_path / "b.wav") for run in (tmp_path, path))
    assert [line["start"] for line in lines] == [0.0, 2.0, 4.0, 6.0, 0.0, 2.0]
    for line, again in zip(lines, others, strict=True):
        assert again["prediction"] == pytest.approx(line["prediction"], abs=1.01e-4)
    # A recording starts anew, and its later windows know the earlier ones.
    assert predict(path, tmp_path / "b.wav") == others[4:]
    soundfile.write(tmp_path / "end.wav", soundfile.read(tmp_path / "b.wav")[0][2 * RATE :], RATE)
    (end,) = predict(path, tmp_path / "end.wav")
    assert abs(end["prediction"]["valence"] - others[5]["prediction"]["valence"]) > 1e-3


@pytest.mark.soak
def test_embeddings_of_the_corpus_are_an_input_and_a_file_alone_has_none(tmp_path):
    model = saved(tmp_path, prosody_dim=0, speaker="embedding", speaker_features=6)
    path = exported(tmp_path)
    assert_equal_to_torch(path, model, LENGTHS)
    with pytest.raises(AffectError, match="takes speaker embeddings of the corpus: a file alone can't be"):
        ask(path, "a.wav")


@pytest.fixture(scope="module")
def prosody_only(tmp_path_factory):
    """The folder of a model without encoder: an export takes a second."""
    folder = tmp_path_factory.mktemp("prosody")
    return folder, saved(folder, encoder="none", prosody_dim=16)


def test_config_says_what_the_numbers_mean(prosody_only, tmp_path):
    folder, model = prosody_only
    path = tmp_path / "there" / "va.onnx"
    made = export(folder, path, opset=20)
    facts = json.loads((path.parent / "config.json").read_text())
    assert facts["file"] == "va.onnx"
    assert facts["targets"] == ["valence", "arousal"]
    assert facts["scale"] == [1.0, 5.0]
    assert facts["sampling_rate"] == RATE
    assert facts["prosody"] == "default"
    assert facts["opset"] == 20
    assert facts["largest_difference"] == made.difference
    assert list(facts["inputs"]) == ["prosody"]
    assert list(facts["outputs"]) == ["valence", "arousal", "valence_unit", "arousal_unit"]
    import onnx

    assert {entry.domain: entry.version for entry in onnx.load(path).opset_import}[""] == 20
    assert_equal_to_torch(path, model, LENGTHS)
    # Again over its own, and never over something else's configuration.
    export(folder, path)
    with pytest.raises(AffectError, match="config.json tells of something else"):
        export(folder, folder / "model.onnx")
    assert not (folder / "model.onnx").exists()
    assert tasks.load(folder)


def test_a_graph_that_differs_is_not_kept(prosody_only, tmp_path, monkeypatch):
    folder, _ = prosody_only
    original = graphs.write

    def wrong(graph, *args):
        head = graph.model.heads["arousal"].network[-1]
        head.bias.data += 1e-3
        original(graph, *args)
        head.bias.data -= 1e-3

    monkeypatch.setattr(graphs, "write", wrong)
    with pytest.raises(AffectError, match=r"the graph's arousal differs from torch by .* nothing is kept"):
        export(folder, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_reads_cannot_be_exported(tmp_path):
    saved(tmp_path, text="ngrams")
    with pytest.raises(AffectError, match=re.escape("a text branch (model.text) can't be exported")):
        exported(tmp_path)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_it_is_one_line(prosody_only, monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(AffectError, match=rf"{name} is not installed: pip install 'affect\[onnx\]'"):
        export(prosody_only[0], Path("model.onnx"))


def test_wrong_options_are_one_line(prosody_only, tmp_path):
    folder, _ = prosody_only
    for opset in (17, 99):
        with pytest.raises(AffectError, match=f"opset is {opset}: it has to be from 18 to"):
            export(folder, tmp_path / "model.onnx", opset)
    with pytest.raises(AffectError, match="has to end in .onnx"):
        export(folder, tmp_path / "model")
    with pytest.raises(AffectError, match="holds no weights"):
        command(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(AffectError, match="cannot be written"):
        export(folder, tmp_path / "file" / "model.onnx")


def test_a_file_that_is_no_export_is_one_line(prosody_only, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.zeros(RATE), RATE)
    other = tmp_path / "other.onnx"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), other)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(other.read_bytes()[:30])
    for run, words in (
        (other, "was not written by affect export"),
        (damaged, "is no model that onnxruntime can run"),
        (tmp_path / "gone.onnx", "no such file"),
        (tmp_path, "holds several exported models"),
    ):
        with pytest.raises(AffectError, match=words) as error:
            predict(run, wav)
        assert "\n" not in str(error.value)


def test_texts_are_predicted(tmp_path):
    """A model that only reads, and one that hears and reads: the numbers are the model's own."""
    said = ["What a lovely day!", "I hate this."]
    reads = saved(tmp_path / "reads", encoder="none", prosody_dim=0, text="ngrams")
    both = saved(tmp_path / "both", prosody_dim=0, text="ngrams")
    tokenizer = text.load_tokenizer(tmp_path / "reads")
    tokens, mask = tokenizer(said)
    with torch.inference_mode():
        expected = reads(tokens=tokens, token_mask=mask)["valence"]
    lines = predict(tmp_path / "reads", text=said)
    assert [line["text"] for line in lines] == said
    assert [line["prediction"]["valence"] for line in lines] == pytest.approx(expected.tolist(), abs=1e-4)
    assert abs(float(expected[0] - expected[1])) > 1e-3
    bad, (empty, line, blank) = ask(tmp_path / "reads", text=["", said[0], " "])
    assert bad == 2
    assert (empty, line, blank["error"]) == ({"text": "", "error": "empty text"}, lines[0], "empty text")

    wave = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    wav = tmp_path / "a.wav"
    soundfile.write(wav, wave, RATE, subtype="FLOAT")
    with torch.inference_mode():
        heard = {"waveform": torch.from_numpy(wave)[None].expand(2, -1), "samples": torch.tensor([RATE, RATE])}
        expected = both(**heard, tokens=tokens, token_mask=mask)["arousal"]
    lines = predict(tmp_path / "both", wav, wav, text=said)
    assert [line["prediction"]["arousal"] for line in lines] == pytest.approx(expected.tolist(), abs=2e-4)
    for run, files, texts, words in (
        ("both", [wav], (), "with a text for each of the 1 files, not 0"),
        ("both", [wav], said, "with a text for each of the 1 files, not 2"),
        ("both", [], said, "this model hears: no audio file is given"),
        ("reads", [wav], said[:1], "this model reads texts alone"),
    ):
        with pytest.raises(AffectError, match=words):
            predict(tmp_path / run, *files, text=texts)


def test_classes_alone_have_no_scale(tmp_path):
    saved(tmp_path, encoder="none", prosody_dim=0, text="ngrams", targets=("emotion",), classes=("angry", "happy"))
    (line,) = predict(tmp_path, text=["hello"])
    assert list(line) == ["text", "prediction", "probability", "order"]


def test_texts_are_refused_by_a_model_that_does_not_read(prosody_only, tmp_path):
    with pytest.raises(AffectError, match="this model reads no text"):
        predict(prosody_only[0], tmp_path / "a.wav", text=["hello"])


def test_a_model_of_speaker_embeddings_is_refused_before_any_file(tmp_path):
    saved(tmp_path, speaker="embedding", speaker_features=4)
    with pytest.raises(AffectError, match="takes speaker embeddings of the corpus"):
        ask(tmp_path, "absent.wav")


def test_the_command_says_size_and_difference(prosody_only, tmp_path, capsys, monkeypatch):
    path = tmp_path / "model.onnx"
    monkeypatch.setattr("sys.argv", ["affect", "export", str(prosody_only[0]), "--output", str(path)])
    with own_log():
        assert exit_code(cli.main) == 0
    said = capsys.readouterr()
    assert re.fullmatch(rf"{re.escape(str(path))}: \d+\.\d MB, differs from torch by \S+ at most\n", said.out)
    monkeypatch.setattr("sys.argv", ["affect", "export", str(tmp_path / "none")])
    with own_log():
        code = exit_code(cli.main)
    assert_one_line(code, capsys.readouterr().err, "holds no weights")
