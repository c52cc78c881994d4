"""From a pickle to what is trained on: `affect inspect FILE.pkl`, `affect convert FILE.pkl OUT`."""

from __future__ import annotations

import pytest

from affect.data import corpora
from affect.data.synthetic_scores import GeneratorSettings, generate
from affect.errors import AffectError


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    settings = GeneratorSettings(clips=20, widths=(163, 8, 8, 8), frames=(2, 4))
    return generate(tmp_path_factory.mktemp("ac") / "g", settings)


def test_a_pickle_is_described_and_converted(pickled, tmp_path, affect):
    code, said, _ = affect("convert", pickled, tmp_path / "out", "--labels", "lip_sync_score", "overall_score")
    assert code == 0 and "ac.pkl: 20 clips, 4 features, 2 scores" in said and f"folder: {tmp_path / 'out'}" in said
    corpus = corpora.read(corpora.SCORES, "score_folder", tmp_path / "out", widths={"visual": 163})
    assert tuple(corpus.scores) == ("lip_sync_score", "overall_score") and len(corpus.utterances) == 20
    code, out, _ = affect("inspect", pickled)
    assert code == 0 and out.startswith("ac.pkl: 20 clips, 4 features, 5 scores")
    assert "feature visual: 163 numbers a frame (float32)" in out and "by identity: person00 2" in out
    code, out, _ = affect("inspect", tmp_path / "out")
    assert code == 0 and out.startswith("score_folder: 20 clips, 4 features, 2 scores") and "fingerprint" in out
    code, _, err = affect("inspect", pickled, "--scale", "1", "5")
    assert code == 2 and "--scale has no use for a file" in err
    with pytest.raises(AffectError, match="the feature visual of .* has 163 numbers a frame, not the 2048 asked for"):
        corpora.read(corpora.SCORES, "score_folder", tmp_path / "out", widths={"visual": 2048})
