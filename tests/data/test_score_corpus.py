"""A corpus of clips with scores: what it holds, what of it is asked for, and how it is split."""

from __future__ import annotations

import json
import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest

from affect.data import corpora, score_samples
from affect.data.score_corpus import read_folder, split, way
from affect.data.score_samples import Sample
from affect.data.spread import CONSTANT, SCALED
from affect.errors import AffectError

MISSING = float("nan")


def clips(count: int = 24, parts: dict[int, str] | None = None, **columns) -> list[Sample]:
    """Clips of 8 sources (of 4 identities) and 3 generators, the first of each four with other features and scores."""
    groups = columns or {
        "source": lambda k: f"s{k % 8}", "identity": lambda k: f"p{k % 8 // 2}", "generator": lambda k: f"g{k % 3}",
    }  # fmt: skip
    return [
        Sample(
            id=f"c{k:02d}", part=(parts or {}).get(k % 8, "train") if parts is not None else "",
            groups={name: of(k) for name, of in groups.items()},
            scores={"lip": MISSING if k % 4 == 0 else 1 + k % 4, "all": k / count * 5},
            features={"visual": np.full((2 + k % 3, 3), k, np.float32)} | ({"au": np.ones(2)} if k % 4 else {}),
        )
        for k in range(count)
    ]  # fmt: skip


@pytest.fixture
def made(tmp_path):
    def make(samples, **options):
        score_samples.write(tmp_path / "c", samples, where="f")
        return read_folder(tmp_path / "c", "mine", **options)

    return make


OWN = {6: "valid", 7: "test"}


def test_what_was_written_is_read(made):
    corpus = made(clips(parts=OWN))
    assert corpus.features == {"visual": 3, "au": 2} and corpus.scores == {"lip": (1, 5), "all": (0, 5)}
    assert corpus.groups == ("source", "identity", "generator") and corpus.inferred and corpus.scale == (0, 5)
    row = corpus.utterances[4]
    assert (row["id"], row["row"], row["length"], row["part"], row["source"]) == ("c04", 4, 3.0, "train", "s4")
    assert np.isnan(row["lip"]) and row["all"] == 4 / 24 * 5
    assert corpus.store.read("au", 4) is None and corpus.store.read("au", 5).shape == (1, 2)
    np.testing.assert_array_equal(corpus.store.read("visual", 4), np.full((3, 3), 4))
    text = corpus.describe()
    for words in (
        "mine: 24 clips, 2 features, 2 scores", "by part: train 18, valid 3, test 3", "2 to 4 frames, of 24 of 24",
        "au: 2 numbers a frame (float32), 2 of them the same in all training frames, 1 to 1 frame, of 18 of 24 clips",
        "score lip: scale 1 to 5, inferred",
        "missing for 6 (33 %)", "by generator: g0 8, g1 8, g2 8",
        "train and test share 3 of the generators, 'g0' for one, with 3 of the 3 rows of test",
        "valid and test share 1 of the identities, 'p3' for one, with 3 of the 3 rows of test",
    ):  # fmt: skip
        assert words in text, words


def test_a_part_of_it_and_another_fingerprint(made):
    samples = clips()
    whole = made(samples)
    some = made(samples, features=["au"], scores=["all"], scale=(0, 10), widths={"au": 2})
    assert some.features == {"au": 2} and some.scores == {"all": (0, 10)} and not some.inferred
    assert "visual" not in some.describe()
    seen = {whole.fingerprint, some.fingerprint}
    samples[3] = Sample(id="c03", groups=samples[3].groups, scores={"lip": 1.0}, features=samples[3].features)
    mended = made(samples)
    seen.add(mended.fingerprint)
    assert made(clips(), features=["au"]).identity == whole.identity, "of other features it is the same corpus"
    assert mended.identity != whole.identity, "and of other labels it is not"
    samples[3].features["visual"][0, 0] += 1
    seen.add(made(samples).fingerprint)
    assert len(seen) == 4 and made(samples).fingerprint in seen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": ["audio"]}, "has no feature 'audio': "),
        ({"scores": ["all", "lips"]}, "has no score 'lips': it has lip, all; --data.scores names those to learn$"),
        ({"widths": {"visual": 163}}, "the feature visual of .* has 3 numbers a frame, not the 163 asked for"),
        ({"scale": (1, 5)}, "the score all 0 is not on the scale 1 to 5"),
    ],
)
def test_what_is_not_there(made, options, words):
    with pytest.raises(AffectError, match=words):
        made(clips(), **options)


def test_a_score_off_the_scale_that_training_has_is_told(made, caplog):
    samples = clips(parts=OWN)
    samples[7] = Sample(id="c07", part="test", scores={"lip": 7.0, "all": 1.0}, features=samples[7].features)
    corpus = made(samples)
    assert corpus.scores["lip"] == (1, 5)
    assert "the score lip 7 is not on the scale 1 to 5 of the clips to train on" in caplog.text
    with pytest.raises(AffectError, match="the score lip 7 is not on the scale 0 to 5"):
        made(samples, scale=(0, 5))
    each = made(samples, scale={"lip": (0, 10)})
    assert each.scores == {"lip": (0, 10), "all": corpus.scores["all"]} and each.inferred
    with pytest.raises(AffectError, match="the score lip 7 is not on the scale 0 to 6"):
        made(samples, scale={"lip": (0, 6)})
    with pytest.raises(AffectError, match="has no score 'lib': did you mean 'lip'"):
        made(samples, scale={"lib": (0, 6)})


def test_rows_may_be_edited_and_a_damaged_folder_is_one_line(made, tmp_path):
    made(clips())
    rows = tmp_path / "c" / "rows.csv"
    text = rows.read_text()
    first, *others = text.splitlines()
    rows.write_text("\n".join([f"{first},room", *(f"{line},r{k % 4}" for k, line in enumerate(others))]))
    corpus = read_folder(tmp_path / "c", "mine")
    assert corpus.groups[-1] == "room" and way(corpus, "room").folds == 4 and "by room: r0 6" in corpus.describe()
    rows.write_text(text.replace("g2,2,", "g2,-1,"))
    assert np.isnan(read_folder(tmp_path / "c", "mine").utterances[5]["lip"])
    for damaged, words in (
        (text.replace("c05", "c55"), "are of other clips"),
        (text.replace(",,", ",x,", 1), "is no number|has the part 'x'"),
        (text.replace("lip", "lap"), "has no column 'lip'"),
    ):
        rows.write_text(damaged)
        with pytest.raises(AffectError, match=words):
            read_folder(tmp_path / "c", "mine")
    rows.write_text(text)
    schema = tmp_path / "c" / "schema.json"
    for said in ("{", "[]", json.dumps({"format": "affect.scores.9"})):
        schema.write_text(said)
        with pytest.raises(AffectError, match="another version"):
            read_folder(tmp_path / "c", "mine")


def of(parts, name):
    return {part: sorted(set(rows[name])) for part, rows in parts.items()}


def test_labels_of_minus_one_on_a_scale_that_has_it_are_told(made, caplog):
    def rated(*values):
        return [Sample(id=f"c{k}", **score_samples.given({"lip": value})) for k, value in enumerate(values)]

    words = "2 labels of -1 are taken as missing, though this scale has it"
    corpus = made(rated(-1, -0.5, 0.5, -1))
    assert f"the score lip on the scale -1 to 1: {words}" in caplog.text and words in corpus.describe()
    assert np.isnan(corpus.utterances["lip"]).sum() == 2
    caplog.clear()
    made(rated(-1, 2, 3, -1))
    made(rated(-2, 1))
    assert "labels of -1" not in caplog.text
    made(rated(-1, 2, 3), scale=(-3.0, 3.0))
    assert "the score lip on the scale -3 to 3: 1 label of -1 is taken" in caplog.text


def test_its_own_split_and_what_it_shares(made, caplog):
    corpus = made(clips(parts=OWN))
    how = way(corpus)
    assert (how.column, how.folds) == ("part", 1)
    with caplog.at_level(logging.WARNING):
        parts = split(corpus, how, 1)
    assert of(parts, "source") == {"train": [f"s{k}" for k in range(6)], "valid": ["s6"], "test": ["s7"]}
    assert [r.getMessage() for r in caplog.records] == [
        "mine: valid and test share 1 of the identities, 'p3' for one, with 3 of the 3 rows of test"
    ]


def test_an_own_split_without_a_part_to_validate_on(made):
    corpus = made(clips(parts={7: "test", 6: "test"}))
    parts = split(corpus, way(corpus), 1)
    told = of(parts, "identity")
    assert told["test"] == ["p3"] and len(told["valid"]) == 1 and not {*told["train"]} & {*told["valid"], "p3"}
    with pytest.raises(AffectError, match="no part to validate on, and no identity or source"):
        alone = made(clips(parts={7: "test"}, generator=lambda k: f"g{k % 3}"))
        split(alone, way(alone), 1)


def test_groups_are_held_out_where_nothing_else_is_said(made):
    corpus = made(clips())
    how = way(corpus)
    assert (how.column, how.folds) == ("identity", 4)
    tested = []
    for fold in range(1, 5):
        parts = split(corpus, how, fold)
        told = of(parts, "identity")
        assert len({*told["train"], *told["valid"], *told["test"]}) == 4 == sum(map(len, told.values()))
        assert sum(len(rows) for rows in parts.values()) == 24
        tested += parts["test"]["id"]
    assert sorted(tested) == corpus.utterances["id"][:]
    with pytest.raises(AffectError, match="fold 5 does not exist: a split by identity has folds 1 to 4"):
        split(corpus, how, 5)


def test_groups_are_dealt_as_scikit_learn_deals_them(made):
    from sklearn.model_selection import GroupKFold

    corpus = made(clips(40, identity=lambda k: f"p{(k * k) % 13 % 9}"))
    groups = corpus.utterances["identity"][:]
    theirs = [test.tolist() for _, test in GroupKFold(4).split(groups, groups=groups)]
    assert [split(corpus, way(corpus, None, 4), fold)["test"]["row"][:] for fold in range(1, 5)] == theirs


def test_a_generator_is_left_out(made):
    corpus = made(clips(parts=OWN))
    how = way(corpus, "generator")
    assert (how.column, how.folds) == ("generator", 3)
    assert [of(split(corpus, how, fold), "generator")["test"] for fold in (1, 2, 3)] == [["g2"], ["g1"], ["g0"]]
    assert way(corpus, "source", 2).folds == 2 and way(corpus, "source").folds == 8


@pytest.mark.parametrize(
    ("groups", "kind", "folds", "words"),
    [
        (
            {"identity": lambda k: "p0"},
            None,
            None,
            r"has 1 value of identity \(p0\): to train, choose and test takes three",
        ),
        ({"identity": lambda k: f"p{k % 2}"}, "identity", None, "has 2 values of identity"),
        ({"room": lambda k: f"r{k % 4}"}, None, None, "no identity or source to hold out; its groups are: room"),
        ({"source": lambda k: f"s{k % 4}"}, "sorce", None, "no column 'sorce' .*did you mean 'source'"),
        ({"source": lambda k: f"s{k % 4}" if k else ""}, None, None, "the source of 1 of 24 clips is empty"),
        ({"source": lambda k: f"s{k % 4}"}, None, 9, "9 folds of 4 values of source: give from 2 to 4"),
        ({"source": lambda k: f"s{k % 4}"}, "own", None, "names no parts to train and to test on"),
    ],
)
def test_splits_that_can_not_be(made, groups, kind, folds, words):
    with pytest.raises(AffectError, match=words):
        way(made(clips(**groups)), kind, folds)


def test_parts_of_its_own_have_no_folds(made):
    corpus = made(clips(parts=OWN))
    for kind in (None, "own"):
        with pytest.raises(AffectError, match="names its parts: folds are of a split by groups"):
            way(corpus, kind, 3)
    assert way(corpus, "source", 3).folds == 3
    with pytest.raises(AffectError, match="fold 2 does not exist: mine names its parts, which are one fold"):
        split(corpus, way(corpus), 2)


def drawn(samples: list[Sample]) -> list[Sample]:
    """The samples with other numbers in each: what holds one or two alone is no sign of a copy."""
    rows = enumerate(samples)
    return [replace(one, features={"visual": np.random.default_rng(k).normal(size=(4, 3))}) for k, one in rows]


def test_clips_with_the_same_features_in_two_parts_are_refused_unless_that_is_allowed(made, caplog):
    samples = drawn(clips(parts=OWN))
    for other, one in ((7, 5), (13, 5)):
        samples[other] = replace(samples[other], features=samples[one].features)
    corpus = made(samples)
    words = "1 clips with the very same features are in two parts under two names: c05 (train) = c07 (test)"
    assert f"copies: {words}" in corpus.describe()
    assert "copies: 1 clips with the very same features are there under two names: c05 (train) = c13 (train)" in (
        corpus.describe()
    )
    with pytest.raises(AffectError) as caught:
        split(corpus, way(corpus), 1)
    assert str(caught.value) == f"mine leaks: {words} (allow_shared accepts it)"
    assert len(split(corpus, way(corpus), 1, allow_shared=True)["test"]) == 3 and words in caplog.text
    # The rest of a clip tells it from one that begins as it does.
    samples[7] = replace(samples[7], features={"visual": samples[7].features["visual"] + [[0], [0], [0], [1]]})
    assert "in two parts" not in made(samples).describe()


def test_constant_clips_and_what_many_have_are_no_copies(made):
    samples = [replace(one, features={"au": np.full((9, 3), 0.5), "clip": np.arange(4.0)}) for one in clips(parts=OWN)]
    assert len(split(made(samples), way(made(samples)), 1)["test"]) == 3
    silence = np.random.default_rng(0).normal(size=(9, 3))
    samples = [replace(one, features={"au": silence}) if k % 4 else one for k, one in enumerate(drawn(samples))]
    corpus = made(samples)
    assert len(split(corpus, way(corpus), 1)["test"]) == 3 and "copies" not in corpus.describe()


def test_clips_whose_feature_never_changes_are_a_sign(made):
    samples = drawn(clips())
    samples[3] = replace(samples[3], features={"visual": np.tile(np.arange(3.0), (4, 1)), "au": np.ones((1, 9))})
    corpus = made(samples)
    words = "1 of 24 clips have the same visual in all frames: c03"
    assert corpus.signs() == [{"kind": "constant clips", "evidence": words}]
    assert f"constant clips: {words}\n" in corpus.describe()
    assert not made(samples, features=["au"]).signs()


def test_numbers_that_never_change_in_training_or_are_wildly_scaled_are_a_sign(made, tmp_path):
    samples = drawn(clips(parts=OWN))
    trained = sum(one.part == "train" for one in samples)
    for k, one in enumerate(samples):
        flat, wild = one.features["visual"].copy(), one.features["visual"] * 1e6
        # What only another part has changes nothing.
        flat[:, :2] = 0.1 if one.part == "train" else k
        samples[k] = replace(one, features={"flat": flat, "wild": wild, "fine": one.features["visual"]})
    corpus = made(samples)
    frames = np.concatenate([one.features["wild"] for one in samples if one.part == "train"]).astype(np.float32)
    deviations = frames.std(0, dtype=np.float64)
    same = f"flat: 2 of its 3 numbers are the same in all {trained} training clips"
    scale = f"median {np.median(deviations):.3g}, largest {deviations.max():.3g}"
    scale = f"wild: deviations of its numbers over training: {scale}"
    assert corpus.signs() == [{"kind": CONSTANT, "evidence": same}, {"kind": SCALED, "evidence": scale}]
    text = corpus.describe()
    assert f"{CONSTANT}: {same}\n{SCALED}: {scale}\n" in text and text.count("2 of them the same in all") == 1
    schema = json.loads((tmp_path / "c" / "schema.json").read_text())
    schema["features"]["flat"]["spread"]["same"] = "2"
    (tmp_path / "c" / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(AffectError, match="of another program"):
        read_folder(tmp_path / "c", "mine")
    for feature in schema["features"].values():
        del feature["spread"]
    (tmp_path / "c" / "schema.json").write_text(json.dumps(schema))
    assert not read_folder(tmp_path / "c", "mine").signs(), "a folder of an earlier version"


def test_copies_are_said_in_whatever_parts_the_clips_come_to_be(made, caplog):
    samples = drawn(clips())
    for other, one in ((7, 5), (13, 5), (9, 1)):
        samples[other] = replace(samples[other], features=samples[one].features)
    corpus = made(samples)
    assert "copies: 3 clips with the very same features are there under two names: c05 = c07, c01 = c09" in (
        corpus.describe()
    )
    for fold in range(1, 9):
        caplog.clear()
        parts = split(corpus, way(corpus, "source"), fold, allow_shared=True)
        part_of = {name: part for part, own in parts.items() for name in own["id"]}
        # c05 and c13 are of one source, c07 of another; c09 and c01 are of one.
        told = [record.getMessage() for record in caplog.records if "leaks" in record.getMessage()]
        assert bool(told) == (part_of["c05"] != part_of["c07"])
        assert all(f"c05 ({part_of['c05']})" in line and f"c07 ({part_of['c07']})" in line for line in told)
        assert f"c05 ({part_of['c05']}) = c13 ({part_of['c13']})" in caplog.text


def test_forms_of_a_generated_file_are_one_corpus_and_its_shares_are_asked_for(tmp_path):
    options = {"clips": 20, "frames": (2, 4), "generated_widths": (9, 8, 8, 8), "scores": ("overall_score",)}
    forms = [corpora.read(corpora.SCORES, "generated_scores", tmp_path / form, **options, generated_form=form)
             for form in ("rows", "columns", "flat")]  # fmt: skip
    rows, columns, flat = forms
    assert rows.identity == flat.identity and len({corpus.store.digest for corpus in forms}) == 1
    assert columns.utterances["id"] == rows.utterances["id"] and columns.parts == rows.parts
    # A column of labels is of float32.
    scores = [np.array(each.utterances["overall_score"]) for each in (rows, columns)]
    np.testing.assert_allclose(*scores, rtol=1e-6)
    assert {type(pickle.loads((tmp_path / form / "ac.pkl").read_bytes())) for form in ("rows", "flat")} == {dict, list}
    own = {"generated_syncnet": 8, "generated_missing": 0.5, "generated_absent": 0.0, "generated_sources": 10,
           "generated_generators": 3}  # fmt: skip
    corpus = corpora.read(corpora.SCORES, "generated_scores", tmp_path / "own", **options, **own)
    assert corpus.features == dict(visual=9, audio=8, keypoint=8, au=8, syncnet=8)
    assert [len(set(corpus.utterances[name])) for name in ("source", "generator")] == [10, 3]
    assert all(feature["clips"] == 20 for feature in corpus.schema["features"].values())
    lost = [sum(value != value for value in each.utterances["overall_score"]) for each in (rows, corpus)]
    assert lost[0] < 7 <= lost[1]


def test_a_generated_corpus_is_made_once_and_read(tmp_path):
    options = {"clips": 20, "frames": (2, 4), "generated_widths": (9, 8, 8, 8)}
    corpus = corpora.read(corpora.SCORES, "generated_scores", tmp_path / "g", **options, scores=("overall_score",))
    assert corpus.parts == ("train", "valid", "test") and corpus.features == dict(visual=9, audio=8, keypoint=8, au=8)
    before = (tmp_path / "g" / "ac.pkl").stat().st_mtime_ns
    again = corpora.read(corpora.SCORES, "generated_scores", tmp_path / "g", **options, scores=("overall_score",))
    assert again.identity == corpus.identity and (tmp_path / "g" / "ac.pkl").stat().st_mtime_ns == before
    assert corpora.detect(tmp_path / "g" / "converted") == "score_folder"
    for place in ("g", "g/ac.pkl"):
        with pytest.raises(AffectError, match=r"is a pickle, which is not trained on: .*affect convert .*ac.pkl"):
            corpora.read(corpora.SCORES, "score_folder", tmp_path / place)
    with pytest.raises(AffectError, match="has no schema.json"):
        corpora.read(corpora.SCORES, "score_folder", tmp_path)
    with pytest.raises(AffectError, match="not of the clips with scores"):
        corpora.read(corpora.SCORES, "iemocap", tmp_path)
