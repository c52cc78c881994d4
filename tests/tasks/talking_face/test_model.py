"""The model of talking-face quality: masks, missing features, scales, and chance that follows the clip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from affect import keyed
from affect.errors import AffectError
from affect.task import SPREAD
from affect.tasks.talking_face.config import FRAMES, HIDDEN, Model
from affect.tasks.talking_face.model import FrameEncoder, TalkingFaceModel, build, masked_max
from tests.tasks.talking_face.clips import COUNTS, DATA, FEATURES, IDS, SCORES, VARIANTS, config, inputs

EVERY = range(len(COUNTS))


def made(name: str, **fields) -> TalkingFaceModel:
    torch.manual_seed(0)
    model = build(config(name, **fields), replace(DATA, log_variances=2))
    keyed.name_places(model)
    return model


def heard(model: TalkingFaceModel, places=EVERY, **named) -> dict[str, Tensor]:
    with torch.no_grad(), keyed.examples(0, 7, [IDS[place] for place in places]):
        return model(**inputs(places, **named))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_clip_is_the_same_alone_in_another_order_and_with_more_padding(name, training):
    model = made(name).train(training)
    together = heard(model)
    padded, turned = heard(model, longer=4, padding=1e4), heard(model, EVERY[::-1])
    alone = [heard(model, [place]) for place in EVERY]
    for output, values in together.items():
        assert torch.isfinite(values).all(), output
        for others in (padded[output], turned[output].flip(0), torch.cat([one[output] for one in alone])):
            torch.testing.assert_close(others, values, atol=2e-4, rtol=1e-5)
    if training and model.config.dropout:
        with keyed.examples(0, 8, IDS):
            other = model(**inputs())
        assert not torch.allclose(other["overall_score"], together["overall_score"])


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("places", [EVERY, [0], [2]])
def test_every_parameter_has_a_gradient_in_every_forward(name, places):
    """Of some of the encoders' tokens it is zero where no clip lacks the feature; DDP wants it to be there."""
    model = made(name).train()
    with keyed.examples(0, 7, [IDS[place] for place in places]):
        outputs = model(**inputs(places))
    torch.stack([(value - 0.3).square().mean() for value in outputs.values()]).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        if len(places) > 1:
            assert parameter.grad.any(), parameter_name


def test_outputs_lie_on_the_scales_of_the_scores():
    outputs = heard(made("everything").eval())
    for name, low, high in SCORES:
        assert ((outputs[name] > low) & (outputs[name] < high)).all()
        assert outputs[name].std() > 0
        assert (outputs[name + SPREAD] > 0).all()
    assert {name + HIDDEN for name, _ in FEATURES} < outputs.keys()
    assert outputs["log_variance"].shape == (len(COUNTS), 2)
    affine = made("no_transformer")
    for head in affine.heads:
        torch.nn.init.zeros_(head.network[-1].weight)
        torch.nn.init.zeros_(head.network[-1].bias)
    assert heard(affine.eval())["overall_score"].tolist() == pytest.approx([50.0] * len(COUNTS))
    for bias, end in ((9.0, 2), (-9.0, 1)):
        for head in affine.heads:
            torch.nn.init.constant_(head.network[-1].bias, bias)
        outputs = heard(affine.eval())
        assert all((outputs[score[0]] == score[end]).all() for score in SCORES)
        outside = heard(affine.train())
        assert all((outside[score[0]] != score[end]).all() for score in SCORES), "gradients reach what lies outside"


def test_a_missing_feature_is_its_token_and_nothing_else():
    model = made("optimized").eval()
    before = heard(model)["overall_score"]
    with torch.no_grad():
        model.encoders[1].token.fill_(2.0)
    moved = heard(model)["overall_score"] != before
    assert moved.tolist() == [audio == 0 for _, audio, _ in COUNTS]


def test_a_line_adds_what_is_linear_in_mean_standardised_frames():
    model, plain = made("linear").eval(), made("no_transformer").eval()
    statistics = [(torch.full((width,), 0.5), torch.full((width,), 2.0)) for _, width in FEATURES]
    model.standardise(statistics)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("lines.")})
    torch.testing.assert_close(heard(model), heard(plain), msg="a new line is 0")
    place, weights = 1, torch.linspace(-0.05, 0.05, sum(width for _, width in FEATURES))
    with torch.no_grad():
        model.lines[1].weight.copy_(weights)
        model.encoders[1].token.fill_(3.0)
        plain.encoders[1].token.fill_(3.0)
    given = inputs([place])
    visual, au = ((given[name][0].mean(0) - 0.5) / 2 for name in ("visual", "au"))
    wanted = 100 * weights @ torch.cat([visual, torch.full((5,), 3.0), au])
    added = {name: value[place] - heard(plain)[name][place] for name, value in heard(model, padding=9.0).items()}
    torch.testing.assert_close(added["overall_score"], wanted, atol=1e-3, rtol=1e-4)
    assert added["lip_sync_score"] == 0


def test_statistics_standardise_valid_frames_alone():
    encoder = FrameEncoder(2, config("original", encoder_dim=4))
    frames = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [9e9, 9e9]]])
    before, mask = encoder(torch.tensor([[[-1.0, -1.0], [1.0, 1.0]]]), torch.tensor([2]))
    encoder.mean.copy_(torch.tensor([2.0, 20.0]))
    encoder.deviation.copy_(torch.tensor([1.0, 10.0]))
    encoder.eval()
    after, mask = encoder(frames, torch.tensor([2]))
    assert mask.tolist() == [[True, True, False]]
    torch.testing.assert_close(after[:, :2], encoder.network(torch.tensor([[[-1.0, -1.0], [1.0, 1.0]]])))
    assert before.shape == (1, 2, 4)


def test_modality_dropout_leaves_one_feature_and_follows_the_clip():
    model = made("everything", modality_dropout=0.9).train()
    counts = torch.tensor(COUNTS).repeat(200, 1)
    with keyed.examples(0, 0, [f"{k}" for k in range(len(counts))]):
        kept = model._kept(counts)
    there = counts > 0
    assert ((kept & there).any(1) == there.any(1)).all()
    lost = 1 - (kept & there)[there.all(1)].float().mean().item()
    assert 0.55 < lost < 0.7, "of three features .9 each, one of which stays where all would go"
    assert model.eval()._kept(counts).all()


def test_features_of_other_rates_meet_at_one_time():
    model = made("optimized")
    frames = torch.zeros(1, 8, 16)
    twice = model._positions(frames, torch.tensor([8]), torch.tensor([8]))
    once = model._positions(frames[:, :4], torch.tensor([4]), torch.tensor([8]))
    torch.testing.assert_close(once, twice[:, ::2])


def test_the_largest_value_is_of_valid_frames():
    frames = torch.tensor([[[1.0], [5.0], [9.0]], [[-3.0], [7.0], [7.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_max(frames, mask).tolist() == [[5.0], [-3.0]]


def test_what_the_model_is_not_for_is_one_line():
    model, given = made("optimized"), inputs()
    with pytest.raises(AffectError, match="visual has 7 numbers a frame, the model takes 6"):
        model(**{**given, "visual": torch.zeros(6, 9, 7)})
    with pytest.raises(AffectError, match="the model takes audio and audio_frames"):
        model(**{name: value for name, value in given.items() if name != "audio" + FRAMES})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoder_dim": 30}, "model.encoder_dim must be even and a multiple of model.heads"),
        ({"pooling": ()}, "model.pooling must name each kind once"),
        ({"pooling": ("mean", "mean")}, "model.pooling must name each kind once"),
        ({"modality_dropout": 1.0}, "model.modality_dropout must lie in"),
        ({"linear": True}, "model.linear must be left out with model.output=sigmoid"),
        ({"layers": -1}, "model.layers must not be negative"),
    ],
)
def test_a_wrong_field_is_named(fields, said):
    with pytest.raises(AffectError, match=said):
        Model(**fields)


def test_a_saved_model_is_the_same(tmp_path):
    from affect.models import saving
    from affect.tasks.talking_face.task import TalkingFaceTask

    model = made("everything").eval()
    saving.save(model.state_dict(), {"task": "talking_face", **model.describe()}, tmp_path)
    again = saving.load(tmp_path, TalkingFaceTask.model_of)
    for name, values in heard(model).items():
        assert torch.equal(heard(again)[name], values)
