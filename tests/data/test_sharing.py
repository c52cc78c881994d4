from affect.data.sharing import shared


def test_what_training_and_validation_share_is_told_and_what_tests_share_is_not():
    parts = {
        "test2": ["c", "d"], "train": ["a", "b", "a", "", None], "test1": ["d", "a", "a", ""], "valid": ["c", "b", ""],
    }  # fmt: skip
    assert shared(parts, "identity") == {
        ("train", "valid"): "train and valid share 1 of the identities, 'b' for one, with 1 of the 3 rows of valid",
        ("train", "test1"): "train and test1 share 1 of the identities, 'a' for one, with 2 of the 4 rows of test1",
        ("valid", "test2"): "valid and test2 share 1 of the identities, 'c' for one, with 1 of the 2 rows of test2",
    }
    assert shared({"test1": ["a"], "test2": ["a"], "train": [""]}, "speaker") == {}
