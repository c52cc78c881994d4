"""Of a folder that is read as `datasets` lays sources out no row is lost: what is not read is told."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
from datasets import Dataset, DatasetDict
from iemocap_tree import write_wav

from affect.data.corpora import UTTERANCES, hub_dataset, hub_source, read
from affect.errors import AffectError

HEAD = "file_name,speaker,valence,arousal"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf_cache")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    write_wav(path, 0.05)
    return path


@pytest.fixture
def folder(tmp_path, sound):
    """Make a folder of files: a recording for each wav, else the text."""

    def make(files, name="corpus"):
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                shutil.copy(sound, path)
            else:
                path.write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


def lines(*names, head=HEAD):
    return head + "\n" + "".join(f"{name},s{k},2,3\n" for k, name in enumerate(names))


def held(root):
    """Return the recordings of a folder."""
    return {os.path.relpath(os.path.join(place, name), root) for place, _, names in os.walk(root, followlinks=True)
            for name in names if name.endswith(".wav")}  # fmt: skip


TEST_NAMES = [f"{k:02d}.wav" for k in range(37)] + ["mic_test_07.wav", "dev.wav", "my train.wav"]
FOLDERS = {
    "a name that says test": TEST_NAMES,
    "a fourth folder": [f"{part}/{k}.wav" for part in ("train", "validation", "test", "studio") for k in range(3)],
    "folders of speakers": [f"{who}/{k}.wav" for who in ("anna", "dev", "ben") for k in range(2)],
    "parts inside": [f"{who}/{part}/{k}.wav" for who in "ab" for part in ("trn", "tst") for k in range(2)],
}


@pytest.mark.parametrize("described", ["without metadata", "metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("names", FOLDERS.values(), ids=FOLDERS)
def test_rows_and_exclusions_are_what_the_folder_holds(folder, names, described):
    files = dict.fromkeys(names)
    # One that metadata doesn't name, and one that is not there.
    told = [*names[1:], "gone.wav"]
    if described == "metadata.csv":
        files["metadata.csv"] = lines(*told)
    elif described == "metadata.jsonl":
        rows = [{"file_name": name, "speaker": f"s{k}", "valence": 2, "arousal": 3} for k, name in enumerate(told)]
        files["metadata.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows)
    corpus = hub_dataset.read(folder(files))
    ids = corpus.utterances["id"][:]
    left_out = {each.what: each.reason for each in corpus.exclusions}
    if described == "without metadata":
        assert sorted(ids) == sorted(names) and not left_out
    else:
        assert sorted(ids) == sorted(names[1:])
        reasons = {names[0]: "recording that no metadata names", "gone.wav": "missing audio file: "}
        assert left_out.keys() == reasons.keys()
        assert all(left_out[name].startswith(reason) for name, reason in reasons.items())


def test_parts_are_those_of_folders(folder):
    corpus = hub_dataset.read(folder(dict.fromkeys(FOLDERS["a fourth folder"])))
    parts = {row["id"]: row["split"] for row in corpus.utterances}
    assert {name.partition("/")[0]: part for name, part in parts.items()} == {
        "train": "train", "validation": "validation", "test": "test", "studio": "studio",
    }  # fmt: skip
    many = {f"{part}/a.wav": None for part in ("train-clean", "Test1", "test2", "dev")}
    assert hub_dataset.read(folder(many, "many")).utterances["split"][:] == ["test1", "validation", "test2", "train"]
    names = hub_dataset.read(folder(dict.fromkeys(TEST_NAMES), "plain"))
    assert set(names.utterances["split"]) == {"train"}


def test_folders_of_classes_are_labels(folder):
    corpus = hub_dataset.read(folder({f"train/{c}/{k}.wav": None for c in ("sad", "glad") for k in range(2)}),
                              columns={"emotion": "label"})  # fmt: skip
    assert corpus.utterances["emotion"][:] == ["glad", "glad", "sad", "sad"]


def test_what_else_lies_there_is_told(folder, tmp_path):
    root = folder({
        "a.wav": None, "b.wav": None, "metadata.csv": lines("a.wav", "a.wav", "../out.wav", "") + "b.wav,s,2,3,more\n",
        "labels.csv": "x\n", "more.zip": "PK", "notes.txt": "-", "below/metadata.csv": lines("c.wav"),
    })  # fmt: skip
    (root / "d.wav").symlink_to("nowhere")
    corpus = hub_dataset.read(root)
    assert corpus.utterances["id"][:] == ["a.wav"]
    left_out = [(each.what, each.reason.partition(":")[0]) for each in corpus.exclusions]
    assert sorted(left_out) == [
        ("a.wav", "listed more than once"), ("b.wav", "recording that no metadata names"),
        ("below/c.wav", "missing audio file"), ("d.wav", "dangling link"),
        ("labels.csv", "table that is no metadata.csv"),
        ("metadata.csv:4", "outside of the folder"), ("metadata.csv:5", "no audio"),
        ("metadata.csv:6", "more cells than columns"), ("more.zip", "archive"),
    ]  # fmt: skip


def test_links_are_followed(folder, tmp_path):
    other = folder({"c.wav": None, "deep/d.wav": None}, "other")
    root = folder({"a.wav": None})
    (root / "linked").symlink_to(other)
    (other / "deep" / "up").symlink_to(root)
    corpus = hub_dataset.read(root)
    assert corpus.utterances["id"][:] == ["a.wav", "linked/c.wav", "linked/deep/d.wav"]
    assert [(each.what, each.reason.partition(":")[0]) for each in corpus.exclusions] == [
        ("linked/deep/up", "loop of links")
    ]


TEXTS = ["None", "null", "NA", "nan", "N/A", "true", "1.0", "007", "say \u2028 it", "x\x0by\x1cz\x85",
         "2024-03-01", "2024-03-01T10:00:00"]  # fmt: skip


def test_csv_is_the_twin_of_jsonl(folder):
    """Also where all ids and groups are dates, which `datasets` would make of texts of JSON."""
    head = ("file_name", "id", "speaker", "room", "transcript", "valence", "arousal")
    dates = [f"2024-03-{k:02d}" for k in range(1, len(TEXTS) + 1)]
    rows = [
        dict(zip(head, (f"{k}.wav", date, f"00{k}", date, text, "2", "3"), strict=True))
        for k, (date, text) in enumerate(zip(dates, TEXTS, strict=True))
    ]
    wavs = dict.fromkeys(row["file_name"] for row in rows)
    table = ",".join(head) + "\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    for name in ("metadata", "table"):
        twins = []
        texts = {".csv": table, ".jsonl": "".join(json.dumps(row) + "\n" for row in rows)}
        if name == "table":
            texts[".json"] = json.dumps(rows, indent=1)
        for ending, text in texts.items():
            root = folder({**wavs, f"{name}{ending}": text}, f"{name}{ending}")
            twins.append(hub_dataset.read(root if name == "metadata" else root / f"{name}{ending}"))
        for corpus in twins:
            assert corpus.utterances["transcript"][:] == [text.strip() for text in TEXTS]
            assert corpus.utterances["id"][:] == corpus.utterances["room"][:] == dates
            assert corpus.utterances["speaker"][:] == [f"00{k}" for k in range(len(TEXTS))]
        assert len({corpus.fingerprint for corpus in twins}) == 1


def test_cells_of_json_may_differ_in_kind_and_be_missing(folder):
    rows = [{"audio": "a.wav", "id": 1, "valence": 2}, {"audio": "b.wav", "id": "001", "valence": 2.5, "room": "x"}]
    root = folder({"a.wav": None, "b.wav": None, "t.json": json.dumps(rows)})
    table = hub_dataset.read(root).utterances
    assert [table[name][:] for name in ("id", "valence", "room")] == [["001", "1"], [2.5, 2.0], ["x", ""]]
    for text, reason in (("[1]", "t.json: entry 1: it is no object"), ("[\n{}\n,]", "t.json: it is no JSON"),
                         ('{"audio": "a.wav", "id": 1' + "0" * 30 + "}", "cannot read")):  # fmt: skip
        (root / "t.json").write_text(text)
        with pytest.raises(AffectError, match=reason):
            hub_dataset.read(root / "t.json")


def test_tables_of_a_folder_are_all_read(folder):
    tables = {
        f"{part}.csv": lines(f"{part}.wav", head="path,speaker,valence,arousal")
        for part in ("train", "dev_1", "studio")
    }
    root = folder({**tables, "train.wav": None, "studio.wav": None, "more.wav": None, "odd.jsonl": "{}\n"})
    corpus = hub_dataset.read(root)
    assert corpus.utterances["split"][:] == ["studio", "train"]
    assert {each.what: each.reason for each in corpus.exclusions} == {
        "validation-000000": "missing audio file: dev_1.wav",
        "more.wav": "recording that no table names",
        "odd.jsonl": "table of another kind: csv is read",
    }
    for name in ("train.wav", "studio.wav"):
        (root / name).unlink()
    with pytest.raises(AffectError, match="no utterance of .*3 missing audio file, .*; for example .*dev_1.wav"):
        hub_dataset.read(root)


@pytest.mark.parametrize("name", ["csv", "parquet", "text", "json", "audiofolder", "train[1]*"])
def test_a_path_that_exists_is_a_path(folder, tmp_path, monkeypatch, name):
    """Also where `datasets` has a builder of that name, which would read the working folder, or a pattern matches."""
    monkeypatch.chdir(tmp_path)
    folder({"train1.csv": lines("x.wav"), "metadata.csv": lines("x.wav"), "x.wav": None}, ".")
    own = folder({"mine.wav": None, "metadata.csv": lines("mine.wav")}, name)
    corpus = read(UTTERANCES, "hub", name)
    assert corpus.utterances["path"][:] == [str(own / "mine.wav")] and not corpus.exclusions
    (own / "metadata.csv").unlink()
    Dataset.from_dict({"audio": ["mine.wav"], "speaker": ["s"], "valence": [2.0]}).to_parquet(own / "t[1].parquet")
    assert read(UTTERANCES, "hub", f"{name}/t[1].parquet").utterances["speaker"][:] == ["s"]
    shutil.rmtree(own)
    if "[" not in name:
        with pytest.raises(AffectError, match=f"^{name}: no such folder or file"):
            read(UTTERANCES, "hub", name)


@pytest.mark.parametrize("depth", [1, 100_000])
def test_lines_of_metadata_that_are_none(folder, depth):
    text = '{"file_name": "a.wav", "x": ' + "[" * depth
    with pytest.raises(AffectError, match=r"metadata.jsonl:1: it is no JSON") as caught:
        hub_dataset.read(folder({"a.wav": None, "metadata.jsonl": text + "\n"}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_a_table_that_is_nested_too_deeply_is_one_line(folder, name):
    """Given it, the parser of `datasets` ends the process."""
    root = folder({name: '[{"audio": "a.wav", "x": ' + "[\n" * 100_000 if name == "t.json" else "[" * 100_000})
    for source in (root, root / name):
        with pytest.raises(AffectError, match=r"t.jsonl?: it is no JSON"):
            hub_dataset.read(source)


def test_what_a_card_leaves_out_is_told(folder):
    card = "---\nconfigs:\n- config_name: default\n  data_files: own.parquet\n---\n"
    root = folder({"a.wav": None, "README.md": card})
    for name in ("own", "other"):
        Dataset.from_dict({"audio": ["a.wav"], "speaker": [name], "valence": [2.0]}).to_parquet(
            root / f"{name}.parquet"
        )
    corpus = hub_dataset.read(root)
    assert corpus.utterances["speaker"][:] == ["own"]
    assert {each.what for each in corpus.exclusions} == {"other.parquet"}


def test_what_no_configuration_names_is_told(folder):
    """Each of several has its own files; one whose files are not there changes nothing of it."""
    named = {"one": "one.csv", "two": "in/*.csv", "gone": "gone.csv"}
    configs = "".join(f"- config_name: {name}\n  data_files: {file}\n" for name, file in named.items())
    tables = {name: lines("a.wav", head="path,speaker,valence,arousal") for name in ("one.csv", "in/2.csv", "more.csv")}
    root = folder({
        "a.wav": None, "mic@1.wav": None, "more.zip": "PK", "README.md": f"---\nconfigs:\n{configs}---\n", **tables,
    })  # fmt: skip
    for subset in ("one", "two"):
        corpus = hub_dataset.read(root, subset=subset)
        assert len(corpus.utterances) == 1
        assert {each.what for each in corpus.exclusions} == {"mic@1.wav", "more.csv", "more.zip"}


def test_cells_of_a_configured_table_stay_texts(folder, monkeypatch):
    """What a README names is read as any table is, on this disk and on the Hub."""
    row = {"audio": "a.wav", "id": "001", "speaker": "2024-03-01", "transcript": "None", "valence": "2"}
    tables = {"own.csv": ",".join(row) + "\n" + ",".join(row.values()) + "\n", "own.jsonl": json.dumps(row) + "\n"}
    for name, table in tables.items():
        card = f"---\nconfigs:\n- config_name: default\n  data_files: {name}\n---\n"
        root = folder({"a.wav": None, name: table, "README.md": card}, f"of {name}")
        corpus = hub_dataset.read(root)
        assert [corpus.utterances[name][0] for name in ("id", "speaker", "transcript")] == ["001", "2024-03-01", "None"]
    root = root.parent / "of own.csv"
    asked = []

    def download(*given, **named):
        asked.append((*given, *named.values()))
        return str(root / "own.csv")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert hub_source._fetched("hf://datasets/who/what@abc/in/own.csv") == root / "own.csv"
    assert asked == [("who/what", "in/own.csv", "dataset", "abc")]


def test_parts_of_a_recording_are_rows_of_their_own(folder):
    table = "file_name,speaker,valence,arousal,start,end\na.wav,s,1,2,0,0.02\na.wav,t,2,2,0.02,0.05\n"
    corpus = hub_dataset.read(folder({"a.wav": None, "metadata.csv": table}))
    assert corpus.utterances["id"][:] == ["a.wav@0-0.02", "a.wav@0.02-0.05"] and not corpus.exclusions


@pytest.mark.parametrize("reached", [True, False])
def test_what_the_rules_leave_of_a_source_on_the_hub_is_told(sound, monkeypatch, caplog, reached):
    rows = Dataset.from_dict({"audio": [str(sound)], "speaker": ["s"], "valence": [2.0]})
    builder = SimpleNamespace(
        config=SimpleNamespace(data_files={"train": ["hf://datasets/who/what@abc/mic@test.wav"]}), builder_configs={},
        download_and_prepare=lambda: None, as_dataset=lambda: DatasetDict(test=rows),
    )  # fmt: skip
    names = [
        SimpleNamespace(rfilename=name)
        for name in ("README.md", "mic@test.wav", "in/more.flac", "config.json", "2.zip")
    ]

    def info(self, root, revision):
        if not reached:
            raise ConnectionError("no network")
        return SimpleNamespace(sha="abc", siblings=names)

    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_, **__: builder)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", info)
    corpus = hub_dataset.read("who/what")
    assert corpus.utterances["split"][:] == ["test"]
    left_out = [(each.what, each.reason) for each in corpus.exclusions]
    assert left_out == [(name, hub_source.UNNAMED) for name in ("in/more.flac", "2.zip")] * reached
    assert ("cannot be told (no network)" in caplog.text) != reached
