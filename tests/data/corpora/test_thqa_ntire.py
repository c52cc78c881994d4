"""THQA-NTIRE: scores by names alone; what a talker's mean reaches, and what its split shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from affect.data import corpora
from affect.data.corpora.labels import UnusableError
from affect.data.corpora.thqa_ntire import groups_of
from affect.errors import AffectError
from tests.data.films import film


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
    assert "train and valid share 11 of the identities, " in (text := corpus.describe())
    assert "with 700 of the 1,714 rows of valid" in text
    assert corpora.detect(real_data / "thqa_ntire") == "thqa_ntire"
    assert np.isclose(train["Score"].mean(), 2.386, atol=1e-3)


def test_videos_and_features_beside_the_labels(tmp_path):
    names = {
        "train": ["1_dalle3_common_voice_en_11_sadtalker", "7_SEN_hi_stream_level_-2.5"],
        "val": ["2_voice_en_12_sad"],
    }
    for part, own in names.items():
        (tmp_path / f"{part}.csv").write_text(
            "Video,Score\n" + "".join(f"{name}.mp4,{k + 1}.5\n" for k, name in enumerate(own))
        )
    every = sum(names.values(), [])
    lines = [f"{name}.mp4,{frame},{k},{frame}" for k, name in enumerate(every) for frame in range(2 + k)]
    (tmp_path / "frames.csv").write_text("clip,frame,a,b\n" + "\n".join(lines) + "\n")
    (tmp_path / "films").mkdir()
    for name in every[:2]:
        (tmp_path / "films" / f"{name}.mp4").write_bytes(film(range(10)))

    def read(**beside):
        return corpora.read(corpora.SCORES, "thqa_ntire", tmp_path, **beside)

    assert read().features == {} and "path" not in read().utterances.column_names
    corpus = read(frames_of="frames.csv")
    assert corpus.features == {"frames": 2} and corpus.utterances["length"][:] == [2, 3, 4]
    assert corpus.store.read("frames", 2).tolist() == [[2, 0], [2, 1], [2, 2], [2, 3]]
    seen = read(frames_of="frames.csv", videos="films")
    assert [row["path"] for row in seen.utterances] == [str(tmp_path / "films" / f"{name}.mp4") for name in every[:2]]
    assert [(each.what, each.reason) for each in seen.exclusions] == [(f"{every[2]}.mp4", "no video of this name")]
    assert seen.features == {"frames": 2} and seen.groups == corpus.groups
    with pytest.raises(AffectError, match="has no features"):
        read(frames_of="features")
