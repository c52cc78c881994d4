"""The text branch: every tokenizer and encoder against transformers' own, alone and in a padded batch."""

import json
import logging
import pickle
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from affect.errors import AffectError
from affect.models import text
from affect.models.ngrams import NgramEncoder, NgramTokenizer
from affect.models.text import TextConfig, TextEncoder

TEXTS = ["I am so happy!", "", "no", "The old river, the old house; the END of it all? " * 3, "naïve 😀 café"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
KINDS = {
    "bert": lambda n: BertConfig(vocab_size=n, max_position_embeddings=64, **SIZES),
    "roberta": lambda n: RobertaConfig(vocab_size=n, max_position_embeddings=66, pad_token_id=1, **SIZES),
    "xlm-r": lambda n: XLMRobertaConfig(vocab_size=n, max_position_embeddings=66, pad_token_id=1, **SIZES),
    "deberta": lambda n: DebertaV2Config(
        vocab_size=n, max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"], **SIZES
    ),
    "albert": lambda n: AlbertConfig(vocab_size=n, max_position_embeddings=64, embedding_size=16, **SIZES),
    "distilbert": lambda n: DistilBertConfig(
        vocab_size=n, max_position_embeddings=64, dim=32, n_layers=2, n_heads=2, hidden_dim=48
    ),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def make_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: k for k, token in enumerate([*special, *letters])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=1000, **names)


def write_encoders(top: Path, kinds: Iterable[str]) -> None:
    """Write a folder of each kind of encoder into `top`, as the hub would give it."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    for kind in kinds:
        AutoModel.from_config(KINDS[kind](len(tokenizer))).save_pretrained(top / kind)
        tokenizer.save_pretrained(top / kind)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("encoders")
    write_encoders(top, KINDS)
    return {kind: str(top / kind) for kind in KINDS}


def config_of(name, folders, **options) -> TextConfig:
    return TextConfig(name=folders.get(name, name), **options)


EVERY = [*KINDS, "tiny-text", "ngrams"]


@pytest.mark.parametrize("name", EVERY)
def test_alone_equals_batched(name, folders):
    config = config_of(name, folders)
    encoder, tokenizer = TextEncoder.build(config).eval(), text.read_tokenizer(config)
    if name == "ngrams":
        torch.nn.init.normal_(encoder.backbone.vectors.weight)
    tokens, mask = tokenizer(TEXTS)
    assert tokens.dtype == torch.int64
    assert mask.dtype == torch.bool
    assert tokens.shape == mask.shape
    with torch.no_grad():
        vectors = encoder(tokens, mask)
        assert vectors.shape == (len(TEXTS), encoder.width)
        assert bool(torch.isfinite(vectors).all()), "an empty transcript too"
        for row, content in enumerate(TEXTS):
            alone = encoder(*tokenizer([content]))
            torch.testing.assert_close(vectors[row : row + 1], alone, atol=1e-4, rtol=0)
        if name not in ("roberta", "xlm-r"):  # their positions are counted by the padding token, 1 here
            tokens, mask = (torch.nn.functional.pad(part, (0, 7)) for part in tokenizer(TEXTS[:3]))
            torch.testing.assert_close(vectors[:3], encoder(tokens, mask), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_one_text_equals_transformers(name, folders):
    config = config_of(name, folders)
    encoder, tokenizer = TextEncoder.build(config).eval(), text.read_tokenizer(config)
    model = AutoModel.from_pretrained(folders[name]).eval()
    theirs = AutoTokenizer.from_pretrained(folders[name])
    for content in (TEXTS[0], TEXTS[4]):
        with torch.no_grad():
            ours = encoder(*tokenizer([content]))
            states = model(input_ids=theirs(content, return_tensors="pt")["input_ids"]).last_hidden_state
        torch.testing.assert_close(ours, states.mean(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_every_trainable_parameter_gets_a_gradient(name, folders):
    config = config_of(name, folders)
    encoder, tokenizer = TextEncoder.build(config).train(), text.read_tokenizer(config)
    for texts in (TEXTS, [""], ["a"]):
        encoder.zero_grad(set_to_none=True)
        encoder(*tokenizer(texts)).square().sum().backward()
        trainable = {name: entry for name, entry in encoder.named_parameters() if entry.requires_grad}
        assert trainable
        assert [name for name, entry in trainable.items() if entry.grad is None or entry.grad.is_sparse] == []


@pytest.mark.parametrize("name", EVERY)
def test_a_text_is_never_without_effect(name, folders):
    config = config_of(name, folders)
    encoder, tokenizer = TextEncoder.build(config).eval(), text.read_tokenizer(config)
    with torch.no_grad():
        vectors = encoder(*tokenizer(["happy", "sad", "happy sad", ""]))
    assert all(not torch.equal(vectors[i], vectors[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("name", EVERY)
def test_saved_and_rebuilt_without_the_hub(name, folders, tmp_path):
    config = config_of(name, folders)
    encoder, tokenizer = TextEncoder.build(config).eval(), text.read_tokenizer(config)
    facts = json.loads(json.dumps(encoder.to_config()))
    moved = replace(config, name=config.name.replace("/tmp", "/gone"))
    text.save_tokenizer(tokenizer, tmp_path)
    again = TextEncoder.restore(moved, facts)
    again.load_state_dict(encoder.state_dict())
    loaded = text.load_tokenizer(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(*loaded(TEXTS)), encoder(*tokenizer(TEXTS)), atol=1e-6, rtol=0)
    assert again.config.train == config.train


@pytest.mark.parametrize("name", ["roberta", "tiny-text", "ngrams"])
def test_tokenizers_can_be_pickled(name, folders):
    tokenizer = text.read_tokenizer(config_of(name, folders))
    tokens, mask = pickle.loads(pickle.dumps(tokenizer))(TEXTS)
    assert torch.equal(tokens, tokenizer(TEXTS)[0])
    assert torch.equal(mask, tokenizer(TEXTS)[1])


@pytest.mark.parametrize("name", [*KINDS, "tiny-text"])
def test_long_texts_are_cut_at_the_limit_and_told_once(name, folders, caplog):
    config = config_of(name, folders)
    encoder, tokenizer = TextEncoder.build(config).eval(), text.read_tokenizer(config)
    limit = 512 if name == "tiny-text" else 64
    content = "a sentence without end " * 50
    with caplog.at_level(logging.WARNING, logger="affect"):
        tokens, mask = tokenizer([content, "short"])
        tokenizer([content])
    assert tokens.shape[1] == limit
    assert caplog.text.count("cut off at") == 1
    if name != "tiny-text":
        assert tokens[0, -1] == 2, "the token that ends a text is kept"
    assert bool(torch.isfinite(encoder(tokens, mask)).all())


@pytest.mark.parametrize("name", ["bert", "tiny-text"])
def test_a_frozen_encoder_stays_in_evaluation_mode(name, folders):
    config = config_of(name, folders, train="none", dropout=0.5)
    encoder, tokenizer = TextEncoder.build(config).train(), text.read_tokenizer(config)
    assert not any(entry.requires_grad for entry in encoder.parameters())
    assert encoder.pretrained_parameters() == []
    tokens, mask = tokenizer(TEXTS)
    assert torch.equal(encoder(tokens, mask), encoder(tokens, mask))
    assert not encoder(tokens, mask).requires_grad
    assert not any(module.training for module in encoder.backbone.modules())


@pytest.mark.parametrize("name", EVERY)
def test_dropout_replaces_all_rates(name, folders):
    def differs(rate):
        config = config_of(name, folders, dropout=rate)
        encoder, tokenizer = TextEncoder.build(config).train(), text.read_tokenizer(config)
        tokens, mask = tokenizer(TEXTS[:1])
        return not torch.equal(encoder(tokens, mask), encoder(tokens, mask))

    assert differs(0.5)
    assert not differs(0.0)
    assert differs(None) == (name != "albert"), "whose own rates are 0"


def test_ngram_dropout_keeps_the_mean():
    encoder = NgramEncoder(width=4, buckets=50, dropout=0.5)
    torch.nn.init.normal_(encoder.vectors.weight)
    tokens, mask = NgramTokenizer(50)(["some words of a text"])
    whole = encoder.eval()(tokens, mask)
    drawn = torch.stack([encoder.train()(tokens, mask) for _ in range(3000)]).mean(0)
    torch.testing.assert_close(drawn, whole, atol=0.15, rtol=0)
    torch.manual_seed(7)
    once = encoder(tokens, mask)
    torch.manual_seed(7)
    assert torch.equal(once, encoder(tokens, mask)), "a replay draws the same n-grams"


def test_ngrams_are_words_pairs_and_characters():
    tokenizer = NgramTokenizer(1 << 20)
    numbers = tokenizer.numbers("No way")
    words = [number for number in numbers if number <= 1 << 20]
    assert len(words) == 2 + 3
    # " no ": 3 + 2 + 1, " way ": 4 + 3 + 2 + 1
    assert len(numbers) - len(words) == 6 + 10
    assert set(tokenizer.numbers("no way")) == set(numbers), "case is ignored"
    assert len(tokenizer.numbers("NO way")) == len(numbers) + 1, "but capitals are marked"
    assert len(tokenizer.numbers("no way no way")) == len(numbers) + 1, "the pair way no alone is new"
    assert len(set(tokenizer.numbers("no!"))) > len(set(tokenizer.numbers("no")))
    assert tokenizer.numbers("") == tokenizer.numbers(" \n") == []


def test_ngram_numbers_are_the_same_in_every_process():
    # Written down: numbers by Python's own hash() would differ from one run to the next.
    tokenizer = NgramTokenizer(1000)
    assert tokenizer.numbers("Oh") == [462, 90, 506, 1917, 1646, 1401, 1529, 1673, 1937]
    assert tokenizer.numbers("oh")[0] == zlib.crc32(b"word oh") % 1000 + 1
    assert len(tokenizer.numbers(chr(0xD83D))) == 6, "half a character, as broken JSON has"


def test_an_ngram_that_training_never_showed_adds_next_to_nothing():
    encoder = TextEncoder.build(TextConfig(name="ngrams")).eval()
    assert float(encoder(*NgramTokenizer(1 << 16)(TEXTS)).abs().max()) < 0.05
    assert float(encoder(*NgramTokenizer(1 << 16)([""])).abs().max()) == 0


def test_ngrams_learn_what_a_word_says():
    config = TextConfig(name="ngrams", dropout=0.3)
    encoder, tokenizer = TextEncoder.build(config), text.read_tokenizer(config)
    head = torch.nn.Linear(encoder.width, 1)
    words = ["the house", "a river", "old doors", "blue"]
    texts = [f"{start} {mood} {end}" for start in words for end in words for mood in ("good", "bad")]
    labels = torch.tensor([1.0, -1.0] * 16)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)
    tokens, mask = tokenizer(texts)
    for _ in range(100):
        optimiser.zero_grad()
        (head(encoder(tokens, mask)).squeeze(1) - labels).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        unseen = head(encoder.eval()(*tokenizer(["something good happens", "something bad happens"]))).squeeze(1)
    assert unseen[0] > 0.3
    assert unseen[1] < -0.3


def test_pretrained_parameters_are_all_or_none(folders):
    encoder = TextEncoder.build(config_of("bert", folders))
    trained = {id(entry) for entry in encoder.pretrained_parameters()}
    assert trained == {id(entry) for entry in encoder.parameters()}
    assert TextEncoder.build(TextConfig(name="ngrams")).pretrained_parameters() == []
    assert encoder.layer_class == "BertLayer"
    assert TextEncoder.build(TextConfig(name="ngrams")).layer_class is None


def test_stored_halves_are_trained_in_float32(folders, tmp_path):
    BertModel.from_pretrained(folders["bert"]).half().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    encoder = TextEncoder.build(TextConfig(name=str(tmp_path)))
    assert {entry.dtype for entry in encoder.parameters()} == {torch.float32}


def test_bad_encoders(folders, tmp_path):
    def refused(message, make):
        with pytest.raises(AffectError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)

    for make in (TextEncoder.build, text.read_tokenizer):
        refused("did you mean 'ngrams'", lambda make=make: make(TextConfig(name="ngram")))
        refused("no such folder", lambda make=make: make(TextConfig(name=str(tmp_path / "absent"))))
        refused("config.json cannot be read", lambda make=make: make(TextConfig(name=str(tmp_path))))
    facts = TextEncoder.build(TextConfig()).to_config()
    facts["architecture"]["model_type"] = "bertt"
    refused("kind 'bertt' is not known; did you mean 'bert'", lambda: TextEncoder.restore(TextConfig(), facts))
    T5Config(d_model=16, num_layers=1, num_heads=1, d_ff=16).save_pretrained(tmp_path)
    refused("an encoder with a decoder", lambda: TextEncoder.build(TextConfig(name=str(tmp_path))))


def test_a_tokenizer_without_padding_is_refused(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(AffectError, match="no padding token"):
        text.read_tokenizer(TextConfig(name=str(tmp_path)))


def test_bad_saved_tokenizers(tmp_path):
    with pytest.raises(AffectError, match="holds no tokenizer"):
        text.load_tokenizer(tmp_path)
    text.save_tokenizer(NgramTokenizer(10), tmp_path)
    assert text.load_tokenizer(tmp_path).buckets == 10
    file = tmp_path / text.TOKENIZER / "affect_tokenizer.json"
    for damaged in ('{"kind": "ngr', "{}", "[]", '{"kind": "transformers", "limit": 5, "name": "x"}'):
        file.write_text(damaged)
        with pytest.raises(AffectError, match="cannot be read") as caught:
            text.load_tokenizer(tmp_path)
        assert "\n" not in str(caught.value)
