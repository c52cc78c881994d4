"""Attention fusion: the public sizes, a plain restatement, and each switch alone."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from affect.config import from_dict
from affect.errors import AffectError
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.toolkit import Attention, weigh
from tests.tasks.multimodal_emotion.models.checks import PUBLIC, count, runs_side_by_side
from tests.tasks.multimodal_emotion.models.streams import ROBUST, STREAMS, config, inputs, total

VALUES = {
    "softmax": ("none", "plain", "masked"),
    "stand_in": ({}, {"missing": "token"}, {"imputation": 1.0}),
    "drops": ({}, {"modality_dropout": 0.5}, {"modality_dropout": 0.5, "dropout_kind": "balanced"}),
    "normalise": (False, True),
    "fused_dropout": (False, True),
}


def pairwise() -> list[dict]:
    """Return switches such that each two values of two of them meet, few enough to test all of them."""
    left = {(a, x, b, y) for a, b in combinations(range(len(VALUES)), 2)
            for x in range(len([*VALUES.values()][a])) for y in range(len([*VALUES.values()][b]))}  # fmt: skip
    rows = [*product(*(range(len(values)) for values in VALUES.values()))]
    found = []
    while left:
        met = {row: {p for p in left if (row[p[0]], row[p[2]]) == (p[1], p[3])} for row in rows}
        best = max(rows, key=lambda row: len(met[row]))
        left -= met[best]
        softmax, stand_in, drops, normalise, fused = (v[k] for v, k in zip(VALUES.values(), best, strict=True))
        found.append(dict(softmax=softmax, **stand_in, **drops, normalise=normalise, fused_dropout=fused))
    return found


SWITCHES = pairwise()


def named(switches: dict) -> str:
    return "-".join(f"{value}" for value in switches.values())


def model(**switches) -> Attention:
    torch.manual_seed(0)
    return Attention(*config(**switches))


def test_parameters_are_the_public_number():
    for name in ("attention", "attention_robust"):
        assert count(Attention, config(name, streams=PUBLIC, hidden=128)) == 1_067_786


def restated(weights: dict, given: dict, noise: dict, softmax: bool, stays: torch.Tensor | None) -> dict:
    """The public model again, from its description: encoders, attention over the concatenation, two heads."""

    def mlp(x, prefix):
        x = F.linear(x, weights[f"{prefix}.first.weight"], weights[f"{prefix}.first.bias"]).relu()
        for layer in (1, 3):
            x = F.linear(x, weights[f"{prefix}.rest.{layer}.weight"], weights[f"{prefix}.rest.{layer}.bias"]).relu()
        return x

    hidden = []
    for s, key in enumerate(("audio", "text", "video")):
        h = mlp(given[key] * noise.get(key, 1.0), f"encoders.{s}")
        hidden.append(h if stays is None else h * stays[:, s : s + 1])
    joined = mlp(torch.cat(hidden, 1) * noise.get("scorer", 1.0), "scorer")
    scores = F.linear(joined, weights["score.weight"], weights["score.bias"])
    attention = F.softmax(scores, dim=1) if softmax else scores
    fused = torch.einsum("bs,sbh->bh", attention, torch.stack(hidden)) * noise.get("fused", 1.0)
    emotion = F.linear(fused, weights["heads.emotion.weight"], weights["heads.emotion.bias"])
    valence = F.linear(fused, weights["heads.valence.weight"], weights["heads.valence.bias"])[:, 0]
    return {"emotion": emotion, "valence": valence, "attention": attention}


SUBSETS = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]]).float()


@pytest.mark.parametrize("name", ["attention", "attention_robust"])
@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_public_model(name, training):
    torch.manual_seed(1)
    net = Attention(*config(**(ROBUST if name == "attention_robust" else {}))).train(training)
    net.begin(1000)
    batch, noise = inputs(40), net.draw(40)
    assert set(noise) == ({"audio", "text", "video", "scorer"} if training else set()) | (
        {"fused", "modality"} if training and name == "attention_robust" else set()
    )
    stays = None
    if "modality" in noise:
        whole = torch.cat([_in_order(), torch.ones(1, 3)])
        stays = whole[noise["modality"]]
        assert (stays.sum(1) < 3).any()
    wanted = restated(dict(net.named_parameters()), batch, noise, name == "attention_robust", stays)
    found = net(**batch, noise=noise)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, atol=1e-6, rtol=1e-5)


def _in_order() -> torch.Tensor:
    """The six patterns in the order of the draws' numbers, told by what one modality dropout alone does."""
    from affect.tasks.multimodal_emotion.models.modality_dropout import keep, kept_sets

    order = keep(kept_sets(3), torch.arange(6), torch.ones(6, 3))
    assert sorted(order.tolist()) == sorted(SUBSETS.tolist())
    return order


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
def test_alone_is_as_in_a_batch(switches):
    net = model(**switches).eval()
    batch = inputs()
    together = net(**batch)
    for row in range(8):
        alone = net(**{key: value[row : row + 1] for key, value in batch.items()})
        for key, value in alone.items():
            torch.testing.assert_close(together[key][row : row + 1], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
def test_three_at_once_are_three_alone(switches):
    runs_side_by_side(Attention, config(**switches))


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
def test_every_parameter_gets_a_gradient(switches):
    torch.manual_seed(3)
    # Wide enough that a dead ReLU does not silence a whole tensor.
    net = Attention(*config(hidden=16, **switches)).train()
    net.begin(0)
    outputs = net(**inputs(64))
    loss = total({key: outputs[key] for key in ("emotion", "valence")})
    if switches.get("imputation"):
        loss = loss + (outputs["imputed"] - outputs["imputed_truth"]).square().sum()
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
def test_evaluation_ignores_noise_and_draws_none(switches):
    net = model(**switches)
    net.begin(1000)
    noise = net.train().draw(8)
    net.eval()
    assert net.draw(8) == {}
    before = torch.get_rng_state()
    plain, noisy = net(**inputs()), net(**inputs(), noise=noise)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in plain.items():
        assert torch.equal(value, noisy[key])


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
def test_training_draws_where_no_noise_is_given(switches):
    net = model(**switches).train()
    net.begin(1000)
    torch.manual_seed(5)
    noise = net.draw(8)
    given = net(**inputs(), noise=noise)
    torch.manual_seed(5)
    drawn = net(**inputs())
    for key, value in given.items():
        assert torch.equal(value, drawn[key])


def test_masks_keep_the_mean_and_have_the_rate():
    net = model(dropout=0.25, streams=(("audio", "a", 400), ("text", "t", 300), ("video", "v", 200))).train()
    noise = net.draw(200)
    assert {key: tuple(mask.shape) for key, mask in noise.items()} == {
        "audio": (200, 400),
        "text": (200, 300),
        "video": (200, 200),
        "scorer": (200, 18),
    }
    for key in ("audio", "text", "video"):
        assert float((noise[key] == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
        assert float(noise[key].mean()) == pytest.approx(1.0, abs=0.02)
        assert len(noise[key].unique()) == 2
    assert not torch.equal(noise["audio"][:, :200], noise["video"])


def test_without_dropout_nothing_is_drawn():
    net = model(dropout=0.0).train()
    assert net.draw(4) == {}
    for key, value in net(**inputs()).items():
        assert torch.equal(value, net.eval()(**inputs())[key])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=3, max_size=3), st.integers(0, 10_000), st.floats(-60, 60))
def test_masked_weights_are_a_distribution_over_what_is_there(there, seed, scale):
    g = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(1, 3, generator=g)
    kept = torch.tensor([there]).float()
    scores.requires_grad_()
    weights = weigh(scores, kept, "masked")
    (weights * torch.arange(3)).sum().backward()
    assert torch.isfinite(weights).all() and torch.isfinite(scores.grad).all()
    assert (weights[kept == 0] == 0).all()
    assert float(weights.sum().detach()) == pytest.approx(1.0 if any(there) else 0.0, abs=1e-5)
    if any(there):
        wanted = F.softmax(scores.detach()[kept > 0], dim=0)
        torch.testing.assert_close(weights.detach()[kept > 0], wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("softmax", ["none", "plain", "masked"])
def test_weights_are_what_the_switch_says(softmax):
    weights = model(softmax=softmax).eval()(**inputs())["attention"]
    summed = weights.sum(1)
    assert torch.allclose(summed, torch.ones(8), atol=1e-5) == (softmax != "none")
    assert bool((weights[inputs()["present"] == 0] == 0).all()) == (softmax == "masked")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SWITCHES), st.integers(0, 2), st.booleans(), st.integers(0, 1000))
def test_what_a_missing_stream_holds_changes_nothing(switches, stream, training, seed):
    net = model(**switches).train(training)
    net.begin(1000)
    batch = inputs(seed=seed, missing=0.0)
    batch["present"][:, stream] = 0
    key = STREAMS[stream][0]
    noise = net.draw(8)
    zeros = net(**{**batch, key: torch.zeros_like(batch[key])}, noise=noise)
    junk = net(**{**batch, key: 100 * torch.randn_like(batch[key])}, noise=noise)
    for name, value in zeros.items():
        assert torch.equal(value, junk[name]), name


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
def test_a_row_without_anything_has_finite_outputs_and_gradients(switches):
    net = model(**switches).train()
    net.begin(1000)
    batch = {key: torch.zeros_like(value) for key, value in inputs().items()}
    outputs = net(**batch)
    total(outputs).backward()
    assert all(torch.isfinite(value).all() for value in outputs.values())
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    if switches["softmax"] == "masked":
        assert (outputs["attention"] == 0).all()


def test_normalising_is_scikit_learns_standard_scaler():
    from sklearn.preprocessing import StandardScaler

    torch.manual_seed(0)
    plain, net = model().eval(), model(normalise=True).eval()
    net.load_state_dict(plain.state_dict(), strict=False)
    batch = inputs(50, missing=0.3)
    batch["audio"] = (batch["audio"] * 3 + 20) * batch["present"][:, :1]
    batch["audio"][:, 2] = 4.0 * batch["present"][:, 0]
    scaled = dict(batch)
    for s, (key, _, _) in enumerate(STREAMS):
        there = batch["present"][:, s] > 0
        net.standardise(key, batch[key], batch["present"][:, s])
        values = torch.from_numpy(StandardScaler().fit(batch[key][there]).transform(batch[key])).float()
        scaled[key] = values * there[:, None]
    for key, value in plain(**scaled).items():
        torch.testing.assert_close(net(**batch)[key], value, atol=1e-5, rtol=1e-4)
    assert float(net.deviation_audio[2]) == 1.0, "a constant feature is only centred"
    with pytest.raises(AffectError, match="no training example has audio"):
        net.standardise("audio", batch["audio"], torch.zeros(50))


def test_views_are_the_streams_own_hidden_vectors():
    net = model(missing="token").eval()
    batch = inputs()
    outputs = net(**batch)
    assert torch.equal(outputs["text_h"], net.encoders[1](batch["text"], batch["present"][:, 1:2]))


def test_views_of_several_streams_are_the_mean_of_those_present():
    streams = (("audio", "a", 5), ("audio", "b", 6), ("text", "t", 7))
    net = model(name="topn", streams=streams).eval()
    batch = inputs(streams=streams)
    assert set(batch) == {"present", "audio", "audio_2", "text"}
    batch["present"] = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1.0]]).repeat(3, 1)[:8]
    outputs = net(**batch)
    first = net.encoders[0](batch["audio"], batch["present"][:, :1])
    second = net.encoders[1](batch["audio_2"], batch["present"][:, 1:2])
    torch.testing.assert_close(outputs["audio_h"][0], (first[0] + second[0]) / 2)
    torch.testing.assert_close(outputs["audio_h"][1], second[1])
    assert (outputs["audio_h"][2] == 0).all()


def test_inputs_that_do_not_fit_are_named():
    net = model().eval()
    batch = inputs()
    with pytest.raises(AffectError, match="takes text"):
        net(**{key: value for key, value in batch.items() if key != "text"})
    with pytest.raises(AffectError, match="video has 9 features, the model takes 4"):
        net(**{**batch, "video": torch.zeros(8, 9)})
    with pytest.raises(AffectError, match="takes no audio_2"):
        net(**batch, audio_2=torch.zeros(8, 5))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (dict(name="atention"), "model.name must be"),
        (dict(hidden=0), "model.hidden must be positive"),
        (dict(dropout=1.0), "model.dropout must lie in"),
        (dict(modality_dropout=-0.1), "model.modality_dropout must lie in"),
        (dict(warmup=-1), "model.warmup must not be negative"),
        (dict(dropout_kind="even"), "model.dropout_kind must be"),
        (dict(softmax="soft"), "model.softmax must be"),
        (dict(missing="mean"), "model.missing must be"),
        (dict(name="lmf", softmax="masked"), "model.softmax must be left out: lmf has no attention"),
        (dict(name="lmf", fused_dropout=True), "model.fused_dropout must be left out"),
        (dict(rank=8), "model.rank must be left out: attention has none"),
        (dict(imputation=1.0, missing="token"), "model.missing must be zeros with model.imputation"),
    ],
)
def test_fields_that_cannot_be_are_named(named, words):
    with pytest.raises(AffectError, match=words) as caught:
        from_dict(Model, named, "model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (dict(streams=()), "streams must be 1 to 18"),
        (dict(streams=(("sound", "a", 3),)), "streams must be of audio, text, video, in this order, not .'sound'"),
        (dict(streams=(("audio", "a", 0),)), "streams must have positive widths"),
        (dict(streams=(("text", "t", 3), ("audio", "a", 3))), "streams must be of audio, text, video, in this order"),
        (dict(streams=(("audio", "a", 3), ("audio", "a", 3))), "streams must name each feature once"),
        (dict(streams=tuple(("audio", f"a{i}", 3) for i in range(19))), "streams must be 1 to 18"),
        (dict(classes=("happy",)), "classes must be at least two different names"),
        (dict(classes=("happy", "happy")), "classes must be at least two different names"),
    ],
)
def test_data_that_cannot_be_are_named(named, words):
    with pytest.raises(AffectError, match=words):
        Signature(**{"streams": STREAMS, "classes": ("happy", "sad"), **named})


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (dict(streams=(("audio", "a", 3), ("audio", "b", 3))), "model.name must be topn with several features"),
        (dict(streams=STREAMS[:1], modality_dropout=0.1), "model.modality_dropout must be 0 with one modality"),
        (dict(streams=STREAMS[:1], imputation=1.0), "model.imputation must be 0 with one feature"),
    ],
)
def test_models_that_do_not_fit_their_streams_are_named(named, words):
    with pytest.raises(AffectError, match=words):
        Attention(*config(**named))


def test_each_name_has_its_own_defaults():
    plain, robust = config().model, config("attention_robust").model
    assert (plain.score_softmax, plain.drops_fused) == ("none", False)
    assert (robust.score_softmax, robust.drops_fused) == ("plain", True)
    assert config("attention_robust", softmax="none", fused_dropout=False).model.score_softmax == "none"
