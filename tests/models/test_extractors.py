"""The extractors give what transformers gives for each medium alone, also in a batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from affect.errors import AffectError
from affect.models import tiny
from affect.models.extractors import loading, text
from affect.models.extractors.audio import AudioExtractor
from affect.models.extractors.text import TextExtractor
from affect.models.extractors.video import VideoExtractor

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "the", "cat", "sat", "down", "very", "quietly"]
TEXTS = ["the cat sat down very quietly", "cat", "the cat [SEP] sat"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}


def noise(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, length).astype(np.float32) for length in lengths]


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    """A folder of a small HuBERT built like hubert-large, and the model itself."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("hubert")
    config, _ = tiny.architecture("tiny-hubert")
    config.num_hidden_layers = 5
    model = transformers.HubertModel(config).eval()
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder, model


def tokenizer(kind: str) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of whole words: BERT's special tokens at both ends, or a start alone and no padding."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if kind == "bert":
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        )
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 4)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", bos_token="<s>")


@pytest.fixture(scope="module", params=["bert", "llama"])
def language(request, tmp_path_factory):
    """A folder of a small language model, the model, and which of its tokens are special."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "bert":
        config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=8, **SMALL)
        whole = transformers.BertForMaskedLM(config).eval()
        model, special = whole.bert, slice(1, -1)
    else:
        config = transformers.LlamaConfig(
            vocab_size=len(WORDS), num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, **SMALL
        )
        whole = transformers.LlamaForCausalLM(config).eval()
        model, special = whole.model, slice(1, None)
    whole.save_pretrained(folder)
    tokenizer(request.param).save_pretrained(folder)
    return folder, model, special


def clip(folder):
    """Return a small CLIP whose image features are 16 wide, saved to `folder`."""
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    words = {**SMALL, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(3)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=vision, text_config=words, projection_dim=16)
    ).eval()
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return model


def processor():
    side = {"height": 32, "width": 32}
    return transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)


def images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, (40 + 3 * k, 56, 3), np.uint8) for k in range(count)]


@pytest.mark.parametrize("layers", [1, 4])
def test_audio_is_the_sum_of_transformers_last_states(hubert, layers):
    folder, model = hubert
    waves = noise(16000, 5000, 9123)
    found = AudioExtractor.build(str(folder), None, layers)(waves)
    prepare = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    for wave, frames in zip(waves, found, strict=True):
        inputs = prepare(wave, sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            output = model(inputs, output_hidden_states=True)
        # transformers 4 had the state after the final norm here.
        states = (*output.hidden_states[:-1], output.last_hidden_state)
        wanted = torch.stack(states[-layers:]).sum(0)[0].numpy()
        assert frames.shape == wanted.shape
        np.testing.assert_allclose(frames, wanted, atol=2e-5)


@pytest.mark.parametrize("name", ["tiny", "tiny-group", "tiny-whisper"])
def test_a_recording_alone_is_the_recording_in_a_batch(name):
    extractor = AudioExtractor.build(name, None, 2)
    waves = noise(8000, 24000, 300)
    for wave, frames in zip(waves, extractor(waves), strict=True):
        (alone,) = extractor([wave])
        assert alone.shape == frames.shape
        np.testing.assert_allclose(frames, alone, atol=1e-5)
    assert extractor.cost(waves[0]) == pytest.approx(0.5)


@pytest.mark.parametrize("layers", [1, 3])
def test_text_is_the_sum_of_transformers_last_states(language, layers):
    folder, model, special = language
    extractor = TextExtractor.build(str(folder), None, layers)
    read = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = [extractor.tokens(words) for words in TEXTS]
    for words, frames in zip(TEXTS, extractor(tokens), strict=True):
        with torch.no_grad():
            states = model(**read(words, return_tensors="pt"), output_hidden_states=True).hidden_states
        wanted = torch.stack(states[-layers:]).sum(0)[0, special].numpy()
        assert frames.shape == wanted.shape == (len(words.split()), 32)
        np.testing.assert_allclose(frames, wanted, atol=1e-5)


def test_a_blank_text_has_no_tokens(language):
    extractor = TextExtractor.build(str(language[0]), None, 1)
    assert extractor.tokens("") is None
    assert extractor.tokens(" \n\t") is None
    assert extractor.tokens("cat") is not None


def test_a_long_text_is_cut_and_that_is_said_once(tmp_path, caplog):
    transformers.BertModel(
        transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=6, **SMALL)
    ).save_pretrained(tmp_path)
    tokenizer("bert").save_pretrained(tmp_path)
    extractor = TextExtractor.build(str(tmp_path), None, 1)
    cut = [extractor.tokens("the cat sat down very quietly") for _ in range(2)]
    assert [token.numbers for token in cut] == [[2, 5, 6, 7, 8, 3]] * 2
    assert cut[0].counted == [False, True, True, True, True, False]
    assert sum("is cut at 6" in record.getMessage() for record in caplog.records) == 1


def test_tiny_text_alone_is_the_text_in_a_batch():
    extractor = TextExtractor.build("tiny", None, 2)
    tokens = [extractor.tokens(words) for words in ("happy", "a much longer text, 真的")]
    for each, frames in zip(tokens, extractor(tokens), strict=True):
        assert len(frames) == len(each.numbers) - 1
        np.testing.assert_allclose(frames, extractor([each])[0], atol=1e-5)


class Silent:
    """A tokenizer that adds a start and an end and says of neither that it is special."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0
    model_max_length = 1000
    all_special_tokens = ("<s>", "</s>")

    def get_vocab(self):
        return {"<pad>": 0, "<s>": 1, "</s>": 2, "abc": 3, "abcd": 4}

    def __call__(self, text, **_):
        numbers = [1, *(len(word) for word in text.split()), 2]
        return {"input_ids": numbers, "special_tokens_mask": [0] * len(numbers)}


def test_special_tokens_at_the_ends_are_told_without_the_tokenizer_s_help():
    config = transformers.LlamaConfig(**SMALL)
    found = text.Tokenizer(Silent(), config, "silent")("abc a ab abcd")
    assert found.numbers == [1, 3, 1, 2, 4, 2]
    assert found.counted == [False, True, True, True, True, False]


def test_half_weights_give_nearly_the_same(language):
    folder, _, _ = language
    whole, half = (TextExtractor.build(str(folder), None, 2, dtype=kind) for kind in (torch.float32, torch.bfloat16))
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}
    wanted, found = (each([each.tokens(TEXTS[0])])[0] for each in (whole, half))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=0.1)
    assert np.abs(found - wanted).max() > 1e-6
    assert loading.fingerprint(whole) != loading.fingerprint(half)


def test_video_is_the_projection_of_a_clip(tmp_path):
    model = clip(tmp_path)
    extractor = VideoExtractor.build(str(tmp_path), None)
    assert extractor.width == 16
    shown = images(3)
    found = extractor([extractor.prepare(image) for image in shown])
    for image, vector in zip(shown, found, strict=True):
        with torch.no_grad():
            pixels = processor()(images=[image], return_tensors="pt")
            wanted = model.get_image_features(**pixels).pooler_output[0].numpy()
        np.testing.assert_allclose(vector, wanted, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_image_half_of_a_clip_keeps_its_projection(tmp_path):
    config = transformers.CLIPVisionConfig(**SMALL, image_size=32, patch_size=8, projection_dim=16)
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    extractor = VideoExtractor.build(str(tmp_path), None)
    pixels = extractor.prepare(images(1)[0])
    with torch.no_grad():
        wanted = model(pixel_values=pixels[None]).image_embeds.numpy()
    assert wanted.shape == (1, 16)
    np.testing.assert_allclose(extractor([pixels]), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_other_image_encoders_give_the_mean_of_their_last_state(tmp_path, kind):
    if kind == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)).eval()
    else:
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        model = transformers.ResNetModel(config).eval()
    model.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    extractor = VideoExtractor.build(str(tmp_path), None)
    pixels = extractor.prepare(images(1)[0])
    with torch.no_grad():
        state = model(pixel_values=pixels[None]).last_hidden_state[0].numpy()
    wanted = state.mean(0) if kind == "vit" else state.mean((1, 2))
    assert extractor.width == len(wanted) == (32 if kind == "vit" else 16)
    np.testing.assert_allclose(extractor([pixels])[0], wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_registers_and_the_token_before_them_are_left_out_of_the_mean(tmp_path, kind):
    registers = {**SMALL, "image_size": 32, "patch_size": 8, "num_register_tokens": 3}
    if kind == "dinov2":
        del registers["intermediate_size"]
        model = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**registers)).eval()
    else:
        model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**registers)).eval()
    model.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    extractor = VideoExtractor.build(str(tmp_path), None)
    pixels = extractor.prepare(images(1)[0])
    with torch.no_grad():
        state = model(pixel_values=pixels[None]).last_hidden_state[0].numpy()
    assert len(state) == 1 + 3 + 16
    np.testing.assert_allclose(extractor([pixels])[0], state[4:].mean(0), atol=1e-5)
    assert extractor.facts["special_tokens_left_out"] == 4, "features that had them are others"


@pytest.mark.parametrize(
    "build", [lambda: AudioExtractor.build("tiny", None, 2), lambda: TextExtractor.build("tiny", None, 2),
              lambda: VideoExtractor.build("tiny", None)], ids=["audio", "text", "video"]
)  # fmt: skip
def test_tiny_is_the_same_every_time(build):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = build()
    assert loading.fingerprint(first) == loading.fingerprint(second)
    assert not first.training
    assert not any(value.requires_grad for value in first.parameters())
    with torch.no_grad():
        next(second.parameters()).view(-1)[0] += 1
    assert loading.fingerprint(first) != loading.fingerprint(second)


def test_a_fingerprint_is_that_of_the_weights_wherever_they_are_read(hubert, tmp_path):
    folder, _ = hubert
    first = AudioExtractor.build(str(folder), None, 1)
    model = transformers.AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "copy")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "copy")
    second = AudioExtractor.build(str(tmp_path / "copy"), None, 2)
    assert loading.fingerprint(first) == loading.fingerprint(second)


def test_weights_that_the_file_lacks_are_an_error(tmp_path):
    config = transformers.BertConfig(vocab_size=len(WORDS), **SMALL)
    transformers.BertModel(config).save_pretrained(tmp_path)
    config.num_hidden_layers = 4
    config.save_pretrained(tmp_path)
    tokenizer("bert").save_pretrained(tmp_path)
    with pytest.raises(AffectError, match=r"do not fit BertModel: 16 of \d+ are missing \(encoder\.layer\.3"):
        TextExtractor.build(str(tmp_path), None, 1)


def test_a_program_in_the_folder_runs_only_if_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = tmp_path / "own_model"
    config = transformers.BertConfig(vocab_size=len(WORDS), **SMALL)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer("bert").save_pretrained(folder)
    facts = json.loads((folder / "config.json").read_text())
    facts |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(facts))
    lines = ["from transformers import BertConfig, BertModel", "class OwnConfig(BertConfig):", "    model_type = 'own'"]
    lines += ["class OwnModel(BertModel):", "    config_class = OwnConfig", ""]
    (folder / "own.py").write_text("\n".join(lines))
    with pytest.raises(AffectError, match="brings a program of its own along: .* --trust-remote-code"):
        TextExtractor.build(str(folder), None, 1)
    trusted = TextExtractor.build(str(folder), None, 1, trust=True)
    assert type(trusted.model).__name__ == "OwnModel"
    assert trusted([trusted.tokens("the cat")])[0].shape == (2, 32)


def test_mistakes_are_named(tmp_path, language):
    folder = str(language[0])
    for wrong in ("nothing", "./nothing", "a/b/c"):
        for build in (AudioExtractor.build, TextExtractor.build):
            with pytest.raises(AffectError, match="no such folder"):
                build(wrong, None, 1)
        with pytest.raises(AffectError, match="no such folder"):
            VideoExtractor.build(wrong, None)
    with pytest.raises(AffectError, match="revision 'main' does nothing here"):
        TextExtractor.build(folder, "main", 1)
    with pytest.raises(AffectError, match="layers is 4, but .* has 3: give --layers 3 or less"):
        TextExtractor.build(folder, None, 4)
    with pytest.raises(AffectError, match="layers is 3, but 'tiny' has 2"):
        AudioExtractor.build("tiny", None, 3)
    with pytest.raises(AffectError, match=r"its preprocessor_config\.json cannot be read"):
        VideoExtractor.build(folder, None)
    with pytest.raises(AffectError, match="cannot be read"):
        TextExtractor.build(str(tmp_path), None, 1)
    t5 = transformers.T5Config(vocab_size=20, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    transformers.T5Model(t5).save_pretrained(tmp_path / "t5")
    with pytest.raises(AffectError, match="with a decoder"):
        TextExtractor.build(str(tmp_path / "t5"), None, 1)
    vit = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    transformers.ResNetModel(vit).save_pretrained(tmp_path / "image")
    with pytest.raises(AffectError, match="reads no text"):
        TextExtractor.build(str(tmp_path / "image"), None, 1)
    transformers.AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "words")
    processor().save_pretrained(tmp_path / "words")
    with pytest.raises(AffectError, match="makes no vector of an image"):
        VideoExtractor.build(str(tmp_path / "words"), None)
