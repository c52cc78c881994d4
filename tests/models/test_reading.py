"""Every encoder that is read is held against its configuration: weights, tokenizer, preprocessing, and its program."""

from __future__ import annotations

import builtins
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from affect.errors import AffectError, first_line
from affect.models import text, tiny
from affect.models.encoder import EncoderConfig, SpeechEncoder
from affect.models.extractors.audio import AudioExtractor
from affect.models.extractors.text import TextExtractor
from affect.models.extractors.video import VideoExtractor
from affect.models.image_encoder import ImageEncoder, ImageEncoderConfig
from affect.models.speaker import XVector
from affect.models.text import TextConfig, TextEncoder
from tests.models.encoders import speech
from tests.models.test_extractors import SMALL, processor
from tests.models.test_text import KINDS, make_tokenizer

Weights = dict[str, torch.Tensor]
READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "speech": ("wavlm", lambda name: SpeechEncoder.build(EncoderConfig(name=name))),
    "whisper": ("whisper", lambda name: SpeechEncoder.build(EncoderConfig(name=name))),
    "audio": ("wavlm", lambda name: AudioExtractor.build(name, None, 1)),
    "speaker": ("speaker", XVector.build),
    "words": ("bert", lambda name: TextEncoder.build(TextConfig(name=name))),
    "texts": ("bert", lambda name: TextExtractor.build(name, None, 1)),
    "video": ("vit", lambda name: VideoExtractor.build(name, None)),
    "images": ("vit", lambda name: ImageEncoder.build(ImageEncoderConfig(name=name))),
}
"""Where weights are read, by the kind of folder and how."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind, as the Hub would give it."""
    top = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    wavlm, _ = tiny.architecture("tiny")
    whisper, _ = tiny.architecture("tiny-whisper")
    sizes = {"tdnn_dim": (32, 32, 32, 32, 64), "xvector_output_dim": 24}
    speaker = transformers.WavLMConfig(**tiny.TINY, **tiny.BASE_STYLE, **sizes)
    waves, mel = transformers.Wav2Vec2FeatureExtractor(do_normalize=True), transformers.WhisperFeatureExtractor()
    for name, model, beside in (
        ("wavlm", transformers.WavLMForCTC(wavlm), waves),
        ("whisper", transformers.WhisperModel(whisper), mel),
        ("speaker", transformers.WavLMForXVector(speaker), waves),
        ("bert", transformers.BertForMaskedLM(KINDS["bert"](len(tokenizer))), tokenizer),
        ("vit", transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)), processor()),
    ):
        model.save_pretrained(top / name)
        beside.save_pretrained(top / name)
    return top


def changed(folder: Path, place: Path, change: Callable[[Weights], Weights]) -> str:
    """Return a copy of `folder` at `place` with other weights."""
    shutil.copytree(folder, place)
    file = place / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return str(place)


def refused(build: Callable[[str], object], name: str) -> str:
    with pytest.raises(AffectError) as caught:
        build(name)
    message = str(caught.value)
    assert "\n" not in message and name in message
    return message


def behind_module(weights: Weights) -> Weights:
    return {f"module.{name}": value for name, value in weights.items()}


def without_a_layer(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if ".1." not in name or "layer" not in name}


def with_nan(weights: Weights) -> Weights:
    name = max(name for name in weights if "layer" in name and name.endswith(".weight") and weights[name].ndim == 2)
    weights[name].view(-1)[7] = torch.nan
    return weights


def with_more_layers(weights: Weights) -> Weights:
    more = {name.replace(".1.", ".9.", 1): value.clone() for name, value in weights.items() if ".1." in name}
    return weights | {name: value for name, value in more.items() if "layer" in name and name not in weights}


def wider(weights: Weights) -> Weights:
    name = max(name for name in weights if "layer" in name and name.endswith(".bias"))
    return weights | {name: torch.zeros(len(weights[name]) + 1)}


CHANGES = {
    without_a_layer: "are missing (",
    behind_module: "have no place in it (module.",
    with_nan: "1 hold NaN or infinite values (",
    with_more_layers: "have no place in it (",
    wider: "1 are of another shape (",
}
SHARED = ("whisper", "audio", "images")
"""Readers that share their way with another one here."""


@pytest.mark.parametrize("reader", READERS)
def test_weights_that_do_not_cover_the_model_are_named(reader, folders, tmp_path):
    kind, build = READERS[reader]
    build(str(folders / kind))
    for change in [without_a_layer] if reader in SHARED else CHANGES:
        message = refused(build, changed(folders / kind, tmp_path / change.__name__, change))
        assert "its weights do not fit" in message and CHANGES[change] in message, change


@pytest.mark.parametrize("prefix", ["backbone.model.", "speech_encoder."])
def test_names_behind_any_prefix_are_refused(prefix, folders, tmp_path):
    place = changed(folders / "wavlm", tmp_path / "model", lambda weights: {prefix + k: v for k, v in weights.items()})
    message = refused(READERS["speech"][1], place)
    assert "are missing (encoder." in message and f"have no place in it ({prefix}" in message


def old_names(weights: Weights) -> Weights:
    """The gains and directions of weight norm as torch named them before its parametrizations."""
    ends = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, value in weights.items():
        for new, old in ends.items():
            name = name.replace(new, old)
        renamed[name] = value
    assert renamed.keys() != weights.keys()
    return renamed


def test_old_names_bin_files_halves_and_what_is_not_read_are_right(folders, tmp_path):
    wave, samples = speech([8000]), torch.tensor([8000])
    build = READERS["speech"][1]
    wanted = build(str(folders / "wavlm")).eval()(wave, samples)[0]
    weights = load_file(folders / "wavlm" / "model.safetensors")
    masked = [name for name in weights if name.endswith("masked_spec_embed")]
    assert masked
    half = {name: value.half() for name, value in weights.items()}
    lacking = {name: value for name, value in weights.items() if name not in masked}
    plain = {name.removeprefix("wavlm."): value for name, value in weights.items()}
    given = [(old_names(weights), 0, True), (half, 5e-2, False), (lacking, 0, False), (plain, 0, True)]
    for number, (other, tolerance, binary) in enumerate(given):
        place = shutil.copytree(folders / "wavlm", tmp_path / str(number))
        if binary:
            (place / "model.safetensors").unlink()
            torch.save(other, place / "pytorch_model.bin")
        else:
            save_file(other, place / "model.safetensors", metadata={"format": "pt"})
        found = build(str(place)).eval()(wave, samples)[0]
        torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)


def test_parts_that_nothing_reads_may_be_missing(folders, tmp_path):
    for reader, part in (("whisper", "decoder."), ("speaker", "objective."), ("video", "pooler.")):
        kind, build = READERS[reader]
        weights = load_file(folders / kind / "model.safetensors")
        place = shutil.copytree(folders / kind, tmp_path / reader)
        left = {name: value for name, value in weights.items() if not name.startswith((part, f"model.{part}"))}
        assert len(left) < len(weights), part
        save_file(left, place / "model.safetensors", metadata={"format": "pt"})
        build(str(place))


@pytest.mark.parametrize(
    "content", [[1, 2], torch.ones(3), {"model": {"a": torch.ones(2)}, "epoch": 3}, pickle.Pickler, None, b"no pickle"],
    ids=["list", "tensor", "nested", "class", "nothing", "bytes"],
)  # fmt: skip
@pytest.mark.parametrize("reader", ["speech", "speaker", "words", "video"])
def test_a_pickle_that_is_no_state_dict_is_a_line(reader, content, folders, tmp_path):
    kind, build = READERS[reader]
    place = shutil.copytree(folders / kind, tmp_path / "model")
    (place / "model.safetensors").unlink()
    file = place / "pytorch_model.bin"
    if content is None or isinstance(content, bytes):
        file.write_bytes(content or b"")
    else:
        torch.save(content, file)
    message = refused(build, str(place))
    assert "its weights" in message and "weights_only" not in message, "no advice to run it"


TOKENS = ("bert", lambda name: text.read_tokenizer(TextConfig(name=name)))


def bring_program(file: Path, program: Path) -> None:
    """Let a JSON file of a folder name classes of a program beside it, which leaves a file behind when it runs."""
    (file.parent / "own.py").write_text(f"open({str(program)!r}, 'w').close()\n")
    autos = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoFeatureExtractor", "AutoImageProcessor")
    facts = json.loads(file.read_text())
    facts |= {"model_type": "own", "tokenizer_class": "Own", "feature_extractor_type": "Own"}
    facts |= {"image_processor_type": "Own", "auto_map": {auto: "own.Own" for auto in autos}}
    facts["auto_map"]["AutoTokenizer"] = ["own.Own", None]
    file.write_text(json.dumps(facts))


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """A terminal on which nothing may be asked, and a program's traces."""

    def asked(*_):
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "ran"


@pytest.mark.parametrize("reader", [*READERS, "tokens"])
def test_no_program_runs_and_nothing_is_asked(reader, folders, tmp_path, terminal):
    kind, build = {**READERS, "tokens": TOKENS}[reader]
    for part in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        place = shutil.copytree(folders / kind, tmp_path / part.removesuffix(".json"))
        if (place / part).exists():
            bring_program(place / part, terminal)
            try:
                build(str(place))
            except AffectError as error:
                assert "\n" not in str(error)
                assert "brings a program of its own along: read it" in str(error)
            else:
                assert part != "config.json", "transformers knows another class for the others"
            assert not terminal.exists()


def test_the_tokenizer_of_a_model_from_the_hub_runs_no_program(folders, tmp_path, terminal):
    text.save_tokenizer(TOKENS[1](str(folders / "bert")), tmp_path)
    bring_program(tmp_path / text.TOKENIZER / "tokenizer_config.json", terminal)
    with pytest.raises(AffectError, match=r"^[^\n]*brings a program of its own along: read it[^\n]*$"):
        text.load_tokenizer(tmp_path)
    assert not terminal.exists()


def test_a_tokenizer_of_special_tokens_alone_is_refused(folders, tmp_path):
    for kind in ("bert", "roberta", "xlm-r", "deberta"):
        place = tmp_path / kind
        transformers.AutoModel.from_config(KINDS[kind](300)).save_pretrained(place)
        for build in (TOKENS[1], READERS["texts"][1]):
            message = refused(build, str(place))
            assert "its tokenizer knows no word, only" in message or "its tokenizer cannot be read" in message
    model = tmp_path / "model"
    text.save_tokenizer(TOKENS[1](str(folders / "bert")), model)
    (model / text.TOKENIZER / "tokenizer.json").unlink()
    with pytest.raises(AffectError, match=r"tokenizer (knows no word|cannot be read)"):
        text.load_tokenizer(model)


def test_a_tokenizer_larger_than_the_embedding_is_refused(folders, tmp_path):
    place = shutil.copytree(folders / "bert", tmp_path / "small")
    config = KINDS["bert"](100)
    transformers.BertModel(config).save_pretrained(place)
    for build in (TOKENS[1], READERS["texts"][1]):
        assert "tokens 0 to 259, its config.json a vocab_size of 100" in refused(build, str(place))
    model = tmp_path / "model"
    text.save_tokenizer(TOKENS[1](str(folders / "bert")), model)
    facts = {"task": "emotion", "text": {"architecture": json.loads(config.to_json_string(use_diff=False))}}
    (model / "config.json").write_text(json.dumps(facts))
    with pytest.raises(AffectError, match="a vocab_size of 100"):
        text.load_tokenizer(model)


@pytest.mark.parametrize(
    ("reader", "change"),
    [
        ("speech", transformers.WhisperFeatureExtractor().to_dict()),
        ("speech", {"sampling_rate": 0}),
        ("speech", {"sampling_rate": "16k"}),
        ("speech", {"sampling_rate": 10**9}),
        ("whisper", {"hop_length": 0}),
        ("speech", {"do_normalize": None}),
        ("speech", {"feature_size": 2}),
        ("speaker", transformers.WhisperFeatureExtractor().to_dict()),
        ("whisper", {"feature_size": 128}),
        ("whisper", transformers.Wav2Vec2FeatureExtractor().to_dict()),
        ("video", {"image_processor_type": "NoSuchProcessor"}),
        ("video", {"crop_size": {"height": 64, "width": 64}, "size": {"shortest_edge": 64}}),
    ],
)
def test_a_processor_that_is_not_the_encoder_s_is_refused(reader, change, folders, tmp_path):
    kind, build = READERS[reader]
    place = shutil.copytree(folders / kind, tmp_path / "model")
    file = place / "preprocessor_config.json"
    kept = {} if "feature_extractor_type" in change else json.loads(file.read_text())
    file.write_text(json.dumps(kept | change))
    refused(build, str(place))


@pytest.mark.parametrize(
    ("reader", "file", "change"),
    [
        ("speech", "config.json", None),
        ("speech", "config.json", {"num_attention_heads": 0}),
        ("speaker", "config.json", {"architectures": 3}),
        ("texts", "tokenizer.json", {"version": True}),
        ("texts", "tokenizer_config.json", {"model_max_length": 0}),
        ("texts", "tokenizer_config.json", {"model_max_length": [512]}),
        ("images", "preprocessor_config.json", {"image_std": 0.5}),
    ],
)
def test_fields_of_another_kind_are_a_line(reader, file, change, folders, tmp_path):
    kind, build = READERS[reader]
    place = shutil.copytree(folders / kind, tmp_path / "model")
    facts = json.loads((place / file).read_text())
    (place / file).write_text(json.dumps([] if change is None else facts | change))
    refused(build, str(place))


def test_an_error_that_begins_with_an_empty_line_is_shown(folders, monkeypatch):
    def fails(*_, **__):
        raise ImportError("\n\nThe processor needs torchvision\nand more")

    monkeypatch.setattr("affect.models.extractors.video.AutoImageProcessor.from_pretrained", fails)
    assert refused(READERS["video"][1], str(folders / "vit")).endswith("The processor needs torchvision and more")
    assert first_line(ImportError("\n \n  A processor\nis needed")) == "A processor"
    assert first_line(ValueError("\n")) == "ValueError"
