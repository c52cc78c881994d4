"""Imputation: what a stream is predicted from, and where the prediction is used."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from affect.tasks.multimodal_emotion.models.fusion import Imputation, others
from affect.tasks.multimodal_emotion.models.toolkit import Attention
from tests.tasks.multimodal_emotion.models.streams import config, inputs


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 1000))
def test_a_stream_is_predicted_from_the_mean_of_the_others(kept, seed):
    hidden = np.random.default_rng(seed).normal(size=(1, 4, 3)).astype("f4")
    found = others(torch.from_numpy(hidden), torch.tensor([kept]).float())[0].numpy()
    for s in range(4):
        rest = [hidden[0, o] for o in range(4) if o != s and kept[o]]
        wanted = np.mean(rest, axis=0) if rest else np.zeros(3)
        np.testing.assert_allclose(found[s], wanted, atol=1e-6)


def test_each_stream_has_a_predictor_of_its_own():
    torch.manual_seed(0)
    module = Imputation(3, 4)
    hidden = torch.randn(2, 3, 4)
    found = module(hidden, torch.ones(2, 3))
    for s, mlp in enumerate(module.predictors):
        mean = (hidden.sum(1) - hidden[:, s]) / 2
        torch.testing.assert_close(found[:, s], mlp(mean))


def test_predictions_stand_in_for_what_is_missing_alone():
    torch.manual_seed(0)
    net = Attention(*config(imputation=1.0, softmax="plain")).eval()
    batch = inputs()
    present = batch["present"]
    own = [net.encoders[s](batch[key], present[:, s : s + 1]) for s, key in enumerate(net.data.keys)]
    own = torch.stack(own, dim=1)
    outputs = net(**batch)
    assert torch.equal(outputs["imputed_truth"], own)
    used = torch.where(present[..., None] > 0, own, outputs["imputed"])
    fused = (used * outputs["attention"][..., None]).sum(1)
    torch.testing.assert_close(net.heads(fused)["emotion"], outputs["emotion"])
    assert (present == 0).any()


def test_the_truth_has_no_gradient_and_the_prediction_has():
    net = Attention(*config(imputation=1.0)).train()
    outputs = net(**inputs())
    assert not outputs["imputed_truth"].requires_grad
    assert outputs["imputed"].requires_grad


def test_a_dropped_stream_is_predicted_from_what_was_kept():
    torch.manual_seed(0)
    net = Attention(*config(imputation=1.0, dropout=0.0, modality_dropout=0.5, dropout_kind="balanced")).train()
    batch = inputs(missing=0.0)
    dropped = net(**batch, noise={"modality": torch.zeros(8, dtype=torch.int64)})
    own = dropped["imputed_truth"]
    audio_only = torch.tensor([[1.0, 0, 0]]).expand(8, 3)
    only = [bool(torch.allclose(dropped["imputed"], net.imputation(own, audio_only.roll(s, 1)))) for s in range(3)]
    assert sum(only) == 1
    assert (own[:, 1] != 0).any(), "the truth is known though it was dropped"
