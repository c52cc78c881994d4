import logging
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data import splits
from affect.data.parts import part_of
from affect.errors import AffectError

PAIRS = (("train", "valid"), ("train", "test"), ("valid", "test"))


def dyads(sessions=5, scenes=8, turns=2):
    """A corpus like IEMOCAP: the same scenes in every session, a dialogue a scene, two speakers a session."""
    rows = [
        {
            "id": f"Ses{s:02d}_{scene}_{letter}{turn}",
            "session": f"Ses{s:02d}",
            "dialogue": f"Ses{s:02d}_{scene}",
            "script": scene,
            "speaker": f"Ses{s:02d}{letter}",
            "split": "train" if s > 2 else "Development" if s == 2 else "test1",
        }
        for s in range(1, sessions + 1)
        for scene in (f"scene{i}" for i in range(scenes))
        for turn in range(turns)
        for letter in "FM"
    ]
    return Dataset.from_list(rows)


def shared(parts, key):
    return {pair: set(parts[pair[0]][key]) & set(parts[pair[1]][key]) for pair in PAIRS}


@settings(max_examples=12, deadline=None)
@given(sessions=st.integers(3, 7), scenes=st.integers(1, 5), kind=st.sampled_from(["session", "speaker"]))
def test_each_utterance_is_tested_once_and_nobody_is_on_two_sides(sessions, scenes, kind):
    data = dyads(sessions, scenes)
    tested = []
    for fold, name in enumerate(splits.folds(data, kind), start=1):
        parts = splits.split(data, kind, fold)
        assert set(parts["test"][kind]) == {name}
        assert all(len(parts[part]) for part in splits.PARTS)
        assert sum(len(parts[part]) for part in splits.PARTS) == len(data)
        assert not any(shared(parts, "speaker").values())
        dialogues = shared(parts, "dialogue")
        assert not dialogues[PAIRS[0]] and not dialogues[PAIRS[1]]
        if kind == "session":
            assert not dialogues[PAIRS[2]] and len(set(parts["valid"]["session"])) == 1
        else:
            assert set(parts["valid"]["session"]) == set(parts["test"]["session"])
        tested += parts["test"]["id"][:]
    assert sorted(tested) == sorted(data["id"])


def test_validation_sessions_are_the_next_ones_around():
    data = dyads()
    order = [
        (set(parts["test"]["session"]), set(parts["valid"]["session"]))
        for parts in (splits.split(data, "session", fold) for fold in range(1, 6))
    ]
    assert order == [({f"Ses0{i}"}, {f"Ses0{i % 5 + 1}"}) for i in range(1, 6)]


def test_speakers_without_a_partner_are_validated_by_the_next():
    data = Dataset.from_list(
        [{"id": f"{s}{i}", "session": s, "speaker": s, "dialogue": s} for s in "abcd" for i in range(2)]
    )
    parts = splits.split(data, "speaker", 4)
    assert (set(parts["test"]["speaker"]), set(parts["valid"]["speaker"])) == ({"d"}, {"a"})


def test_rows_and_columns_stay_as_they_were():
    data = dyads()
    parts = splits.split(data, "session", 2)
    by_id = {row["id"]: row for row in data}
    for part in splits.PARTS:
        assert all(row == by_id[row["id"]] for row in parts[part])
        places = [list(data["id"]).index(name) for name in parts[part]["id"]]
        assert places == sorted(places)


def test_a_column():
    parts = splits.split(dyads(), "column", 1)
    assert set(parts["test"]["session"]) == {"Ses01"}
    assert set(parts["valid"]["session"]) == {"Ses02"}
    assert splits.folds(dyads(), "column") == ["test1"] and len(parts["train"]) == 3 * 32
    assert [*parts] == ["train", "valid", "test"], "a single test is called so, whatever its number"


def test_several_tests_are_parts_of_one_fold(caplog):
    """A fold is what is trained anew: three tests of one training are one run."""
    names = {"Ses01": "Test1", "Ses02": "val", "Ses03": "Test2"}
    data = dyads().map(lambda row: {"split": names.get(row["session"], "train")})
    assert splits.folds(data, "column") == ["test1, test2"]
    with caplog.at_level(logging.INFO, logger="affect"):
        parts = splits.split(data, "column", 1)
    assert {part: set(rows["session"]) for part, rows in parts.items()} == {
        "train": {"Ses04", "Ses05"}, "valid": {"Ses02"}, "test1": {"Ses01"}, "test2": {"Ses03"},
    }  # fmt: skip
    assert "in no part" not in caplog.text
    with pytest.raises(AffectError, match="fold 2 does not exist: a split by column has one fold, whose tests are"):
        splits.split(data, "column", 2)
    odd = data.map(lambda row: {"split": row["split"].replace("Test2", "test/2")})
    with pytest.raises(AffectError, match="column 'split' has the value 'test/2': of several tests each is a file's"):
        splits.folds(odd, "column")


def test_two_tests_may_share_a_speaker_and_training_none_with_either():
    names = {"Ses01": "test1", "Ses02": "val"}
    data = dyads().map(lambda row: {"split": names.get(row["session"], "train")})
    both = data.map(lambda row: {"split": "test2" if row["id"].startswith("Ses01_scene0") else row["split"]})
    parts = splits.split(both, "column", 1)
    assert set(parts["test1"]["speaker"]) == set(parts["test2"]["speaker"])
    leaking = data.map(lambda row: {"split": "test2" if row["id"] == "Ses04_scene0_F0" else row["split"]})
    with pytest.raises(AffectError, match="train and test2 share 1 of the speakers"):
        splits.split(leaking, "column", 1)


def test_any_column_is_held_out_group_by_group():
    rows = [
        {"id": f"{source}{k}", "speaker": source, "source": source, "take": float(number), "score": 0.5 * k}
        for number, source in enumerate("pqrs")
        for k in range(3)
    ]
    data = Dataset.from_list(rows)
    for kind, test, valid in (("source", "s", "p"), ("take", 3.0, 0.0)):
        parts = splits.split(data, kind, 4)
        assert set(parts["test"][kind]) == {test} and set(parts["valid"][kind]) == {valid}
    assert splits.folds(data, "take") == ["0", "1", "2", "3"]
    with pytest.raises(AffectError, match="column 'score' holds 0.5, which is no name of a group"):
        splits.folds(data, "score")
    with pytest.raises(AffectError, match="such a column: did you mean 'source'"):
        splits.folds(data, "sourc")
    with pytest.raises(AffectError, match="empty for 1 of 12"):
        splits.folds(data.map(lambda row: {"take": None if row["id"] == "p0" else row["take"]}), "take")


def test_a_column_that_crosses_speakers_leaks():
    data = dyads(5, 3).map(lambda row: {"generator": row["script"]})
    with pytest.raises(AffectError, match="a split by generator leaks: train and valid share 10 of the speakers"):
        splits.split(data, "generator", 1)
    assert set(splits.split(data, "generator", 1, allow_shared=True)["test"]["script"]) == {"scene0"}


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(st.sampled_from("abcdef"), min_size=8, max_size=24).filter(lambda names: len(set(names)) > 2))
def test_groups_of_a_column_are_tested_once_each(groups):
    data = Dataset.from_dict({"id": [str(k) for k in range(len(groups))], "own": groups, "speaker": groups})
    tested = []
    for fold, name in enumerate(splits.folds(data, "own"), start=1):
        parts = splits.split(data, "own", fold)
        assert set(parts["test"]["own"]) == {name} and len(set(parts["valid"]["own"])) == 1
        assert not any(shared(parts, "own").values())
        assert sum(len(parts[part]) for part in splits.PARTS) == len(groups)
        tested += parts["test"]["id"][:]
    assert sorted(tested) == sorted(data["id"])


@settings(max_examples=12, deadline=None)
@given(sessions=st.integers(3, 6), scenes=st.integers(3, 9), turns=st.integers(1, 2))
def test_scripts_are_disjoint(sessions, scenes, turns):
    data = dyads(sessions, scenes, turns)
    for fold, name in enumerate(splits.folds(data, "script"), start=1):
        parts = splits.split(data, "script", fold)
        for key in ("speaker", "dialogue", "session", "script"):
            assert not any(shared(parts, key).values())
        assert set(parts["test"]["session"]) == {name}


def test_how_much_a_script_disjoint_fold_leaves_out(caplog):
    data = dyads(5, 15)
    with caplog.at_level(logging.INFO, logger="affect"):
        parts = splits.split(data, "script", 1)
    assert [len(parts[part]) / len(data) for part in splits.PARTS] == pytest.approx([0.36, 0.04, 0.04])
    assert "168 of 300 utterances are in no part" in caplog.text
    tested = Counter()
    for fold in range(1, 6):
        tested.update(splits.split(data, "script", fold)["test"]["script"])
    assert len(tested) == 15


@pytest.mark.parametrize("key", ["speaker", "dialogue"])
@pytest.mark.parametrize("kind", ["session", "column"])
def test_shared_groups_are_refused(key, kind, caplog):
    def leak(row):
        return {
            key: "the same" if row["id"].endswith("scene0_F0") and row["session"] in ("Ses01", "Ses04") else row[key]
        }

    data = dyads().map(leak)
    with pytest.raises(AffectError, match=f"train and test share 1 of the {key}s, 'the same' for one") as caught:
        splits.split(data, kind, 1)
    assert "\n" not in str(caught.value)
    parts = splits.split(data, kind, 1, allow_shared=True)
    assert shared(parts, key)["train", "test"] == {"the same"}
    assert "leaks, as allowed" in caplog.text


def test_a_speaker_split_may_not_share_dialogues_with_training():
    data = dyads().map(lambda row: {"dialogue": "d" if row["session"] in ("Ses01", "Ses02") else row["dialogue"]})
    with pytest.raises(AffectError, match="train and valid share 1 of the dialogues, 'd'"):
        splits.split(data, "speaker", 1)


def test_a_speaker_split_without_dyads_may_not_share_dialogues_at_all():
    rows = [{"id": s, "session": "one", "speaker": s, "dialogue": "x" if s in "ab" else s} for s in "abcd"]
    with pytest.raises(AffectError, match="valid and test share 1 of the dialogues"):
        splits.split(Dataset.from_list(rows), "speaker", 1)


@pytest.mark.parametrize(
    ("kind", "fold", "message"),
    [
        ("sesion", 1, "'sesion' is none of session, .*, nor is there such a column: did you mean 'session'"),
        ("scrpt", 1, "did you mean 'script'"),
        ("id", 1, "column 'id' is another in each of the 160 utterances"),
        ("session", 0, "fold 0 does not exist: a split by session has folds 1 to 5"),
        ("session", 6, "folds 1 to 5"),
        ("speaker", 11, "folds 1 to 10"),
    ],
)
def test_what_cannot_be_split(kind, fold, message):
    with pytest.raises(AffectError, match=message):
        splits.split(dyads(), kind, fold)


def test_columns_that_are_no_split():
    with pytest.raises(AffectError, match="a split by column needs the column 'split'; there are: id, session"):
        splits.split(dyads().remove_columns("split"), "column", 1)
    with pytest.raises(AffectError, match=r"needs the column 'speaker'.*\(data.split column takes the parts"):
        splits.split(dyads().remove_columns("speaker"), "speaker", 1)
    with pytest.raises(AffectError, match="has the value 'scene0'"):
        splits.split(dyads().map(lambda row: {"split": row["script"]}), "column", 1)


def test_empty_parts_and_columns():
    with pytest.raises(AffectError, match="empty train part"):
        splits.split(dyads(2), "session", 1)
    with pytest.raises(AffectError, match=r"empty train part \(1 group\)"):
        splits.split(dyads(1), "session", 1)
    with pytest.raises(AffectError, match="at least 3 sessions and 3 scripts; here are 5 and 2"):
        splits.split(dyads(5, 2), "script", 1)
    with pytest.raises(AffectError, match="empty for 1 of 160"):
        splits.split(
            dyads().map(lambda row: {"session": "" if "01_scene0_F0" in row["id"] else row["session"]}), "session", 1
        )
    with pytest.raises(AffectError, match="no utterance has a speaker: whether parts share one cannot be told"):
        splits.split(dyads().map(lambda row: {"speaker": ""}), "session", 1)
    with pytest.raises(AffectError, match="16 of 160 utterances have no speaker"):
        splits.split(dyads().map(lambda row: {"speaker": row["speaker"].replace("Ses01F", "")}), "session", 1)
    with pytest.raises(AffectError, match="no column 'speaker'"):
        splits.split(dyads().remove_columns("speaker"), "session", 1)
    with pytest.raises(AffectError, match="names no test part; its values are: 'train'"):
        splits.folds(dyads().map(lambda row: {"split": "train"}), "column")


@pytest.mark.parametrize("speakers", ["none", "some", "no column"])
def test_an_official_split_needs_no_speakers_and_says_what_cannot_be_told(speakers, caplog):
    data = dyads()
    if speakers == "no column":
        data = data.remove_columns("speaker")
    else:
        kept = "" if speakers == "none" else "Ses02"
        data = data.map(lambda row: {"speaker": row["speaker"] if kept and kept not in row["speaker"] else ""})
    assert set(splits.split(data, "column", 1)["test"]["session"]) == {"Ses01"}
    assert "a split by column: " in caplog.text and "whether parts share one cannot be told" in caplog.text
    told = splits.unnamed(data, range(len(data)))
    assert told.startswith(
        {"none": "no utterance has a speaker", "some": "32 of 160", "no column": "the corpus"}[speakers]
    )


def test_known_speakers_are_held_apart_beside_unknown_ones():
    data = dyads().map(lambda row: {"speaker": "x" if "scene0" in row["id"] else ""})
    with pytest.raises(AffectError, match="share 1 of the speakers, 'x'"):
        splits.split(data, "column", 1)


@pytest.mark.parametrize(
    ("value", "part"),
    [("train", "train"), ("TRN", "train"), (" Training ", "train"), ("dev", "valid"), ("Development", "valid"),
     ("val", "valid"), ("devel", "valid"), ("tst", "test"), ("eval", "test"), ("Evaluation", "test"), ("Test1", "test"),
     ("test-clean", "test"), ("testing", "test"), ("eval2", "test"), ("tst_b", "test"), ("evaluated", ""),
     ("trained", ""), ("", ""), ("fold1", "")],
)  # fmt: skip
def test_words_for_parts(value, part):
    assert part_of(value) == part


@pytest.mark.parametrize("kind", ["session", "speaker", "column", "script"])
def test_the_same_recording_in_two_parts_is_refused_with_its_pairs(kind, caplog):
    data = dyads()
    parts = splits.split(data, kind, 1, allow_shared=kind == "column")
    pairs = [(parts["train"]["id"][k], parts["test"]["id"][k]) for k in range(2)]
    same = {name: "".join(pair) for pair in pairs for name in pair}
    copied = data.add_column("digest", [same.get(name, name) for name in data["id"]])
    told = ", ".join(f"{one} (train) = {other} (test)" for one, other in pairs)
    words = f"a split by {kind} leaks: 2 recordings are in two parts under two names: {told}"
    if kind != "column":
        with pytest.raises(AffectError) as caught:
            splits.split(copied, kind, 1)
        assert str(caught.value) == f"{words} (allow_shared accepts it)"
    assert len(splits.split(copied, kind, 1, allow_shared=True)["test"]) and words in caplog.text
    # Of texts alone the same words are said, and may be meant.
    texts = copied.rename_column("digest", "transcript").add_column("digest", [""] * len(copied))
    caplog.clear()
    splits.split(texts, kind, 1, allow_shared=kind == "column")
    assert words.replace("recordings", "texts") in caplog.text
