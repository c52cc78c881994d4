"""THQA-NTIRE: scores by names alone; what a talker's mean reaches, and what its split shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from affect.data import corpora
from affect.data.corpora.labels import UnusableError
from affect.data.corpora.thqa_ntire import groups_of


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("15_dalle3_common_voice_en_36411224_audio2head.mp4", ("dalle3 15", "dalle3", "36411224", "audio2head")),
        ("1_voice_en_35042678_sad.mp4", ("stylegan 1", "stylegan", "35042678", "sad (THQA)")),
        ("002421669_SEN_do_they_make_decisions_audio_lead_0.5.mp4",
         ("real 002421669", "real", "do_they_make_decisions", "audio_lead_0.5")),
        ("7_SEN_on_the_hook_stream_level_-2.mp4", ("real 7", "real", "on_the_hook", "stream_level_-2")),
    ],
)  # fmt: skip
def test_names(name, groups):
    assert tuple(groups_of(name).values()) == groups


def test_a_name_of_no_known_kind():
    with pytest.raises(UnusableError, match="no known kind: clip.mp4"):
        groups_of("clip.mp4")


def test_the_published_labels(real_data, caplog):
    corpus = corpora.read(corpora.SCORES, "thqa_ntire", real_data / "thqa_ntire")
    rows = corpus.utterances.to_pandas()
    assert rows["part"].value_counts().to_dict() == {"train": 8927, "valid": 1714} and corpus.features == {}
    assert corpus.scores == {"Score": (0, 5)} and not corpus.exclusions and set(rows["length"]) == {1.0}
    train, valid = rows[rows["part"] == "train"], rows[rows["part"] == "valid"]
    # The mean of the talker in training, no video watched: what any model has to beat.
    guess = valid["generator"].map(train.groupby("generator")["Score"].mean())
    assert not guess.isna().any()
    assert round(spearmanr(guess, valid["Score"])[0], 3) == 0.742
    assert round(pearsonr(guess, valid["Score"])[0], 3) == 0.794
    assert "11 values of identity, with 700 of the 1714 clips of valid" in corpus.describe()
    assert corpora.detect(real_data / "thqa_ntire") == "thqa_ntire"
    assert np.isclose(train["Score"].mean(), 2.386, atol=1e-3)
