"""The run's folder: whose it is, and files that are whole or absent, on a full disk too."""

from __future__ import annotations

import json
import math

import pytest

from affect.errors import AffectError
from affect.training import run_dir
from tests.training import disks, runs


@pytest.fixture
def recipe(tmp_path):
    return runs.recipe(tmp_path / "corpus")


def claim(folder, recipe, *, overwrite=False, experiment="demo") -> bool:
    return run_dir.claim(folder, recipe, experiment=experiment, overwrite=overwrite)


def finish(folder) -> None:
    (folder / "metrics.jsonl").write_text('{"event": "step", "step": 1}\n{"event": "end", "step": 1}\n')


# Whose folder it is


def test_a_new_folder_is_claimed_and_says_by_what(tmp_path, recipe):
    folder = tmp_path / "runs" / "demo" / "seed0" / "fold1"
    assert claim(folder, recipe) is False
    assert json.loads((folder / "recipe.json").read_text()) == {"experiment": "demo", **recipe.to_dict()}


def test_the_same_recipe_goes_on_and_is_finished_at_its_end(tmp_path, recipe):
    claim(tmp_path / "run", recipe)
    assert claim(tmp_path / "run", recipe) is False
    finish(tmp_path / "run")
    assert claim(tmp_path / "run", recipe) is True


def test_another_recipe_is_refused_naming_every_field(tmp_path, recipe):
    claim(tmp_path / "run", recipe)
    finish(tmp_path / "run")
    other = runs.with_optim(runs.recipe(tmp_path / "corpus", batch=4, encoder="tiny"), lr=0.5)
    before = (tmp_path / "run" / "recipe.json").read_bytes()
    with pytest.raises(AffectError, match=r"differs in optim\.lr, train\.batch, model\.encoder: give --name") as error:
        claim(tmp_path / "run", other)
    assert "\n" not in str(error.value)
    assert (tmp_path / "run" / "recipe.json").read_bytes() == before
    with pytest.raises(AffectError, match="differs in experiment:"):
        claim(tmp_path / "run", recipe, experiment="emodb")


@pytest.mark.parametrize(
    "change", [{"budget": 3.0}, {"mode": "replay"}, {"workers": 2}, {"world": 2}, {"trackers": ("tensorboard",)}]
)
def test_where_and_how_fast_it_runs_may_change(tmp_path, recipe, change):
    claim(tmp_path / "run", recipe)
    claim(tmp_path / "run", runs.recipe(tmp_path / "corpus", **change))


def test_a_recipe_that_can_not_be_read_is_refused(tmp_path, recipe):
    claim(tmp_path / "run", recipe)
    (tmp_path / "run" / "recipe.json").write_text("{")
    with pytest.raises(AffectError, match="not a readable recipe"):
        claim(tmp_path / "run", recipe)


def test_overwrite_deletes_a_run_and_nothing_else(tmp_path, recipe):
    folder = tmp_path / "run"
    claim(folder, recipe)
    finish(folder)
    (folder / "checkpoints").mkdir()
    beside = tmp_path / "beside.txt"
    beside.write_text("mine")
    assert claim(folder, runs.with_optim(recipe, lr=0.5), overwrite=True) is False
    assert [path.name for path in folder.iterdir()] == ["recipe.json"]
    assert beside.read_text() == "mine"


def test_overwrite_never_deletes_a_folder_that_is_no_run(tmp_path, recipe):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.tex").write_text("years of work")
    with pytest.raises(AffectError, match="not a run's folder: --overwrite does not delete it"):
        claim(folder, recipe, overwrite=True)
    assert (folder / "chapter1.tex").read_text() == "years of work"


def test_experiment_folders(tmp_path):
    assert run_dir.experiment_folder(tmp_path, "demo", None) == tmp_path / "demo"
    assert run_dir.experiment_folder(tmp_path, "demo", "b") == tmp_path / "demo-b"


def test_latest_points_at_the_newest_and_spares_what_is_not_a_link(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run_dir.point_latest(tmp_path, tmp_path / name)
        assert (tmp_path / "latest").resolve() == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one", "two"]
    (tmp_path / "two").rmdir()
    run_dir.point_latest(tmp_path, tmp_path / "one")  # a dangling link is replaced
    assert (tmp_path / "latest").resolve() == tmp_path / "one"
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").mkdir()
    run_dir.point_latest(tmp_path, tmp_path / "one")
    assert not (tmp_path / "latest").is_symlink()


# Lines


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(run_dir.read_lines(path)) == [{"step": 1}, {"step": 2}]
    path.write_bytes(b'{"step": 1}\n{"event": "end"')
    assert list(run_dir.read_lines(path)) == [{"step": 1}]
    assert not run_dir.finished(tmp_path)
    assert list(run_dir.read_lines(tmp_path / "none.jsonl")) == []


def test_bytes_that_are_no_text_end_the_lines(tmp_path):
    """A block of zeros or noise is what a power cut can leave at a file's end."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\x00\x00\xff\xfe')
    assert list(run_dir.read_lines(path)) == [{"step": 1}]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"event": "st\n', "line 4, is damaged: it holds no JSON object"),
        (b"\x00\x00\xff\n", "line 4, is damaged: it holds no JSON object"),
        (b"\n", "line 4, is damaged"),
        (b"[1]\n", "line 4, is damaged: it holds no JSON object"),
        (b"[" * 9000 + b"\n", "line 4, is damaged"),
        (b'{"event": "step", "step": "4"}\n', "line 4, is damaged: it has '4' for a step"),
        (b'{"event": "step", "step": true}\n', "line 4, is damaged: it has True for a step"),
    ],
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_one_damaged_line_stops_the_run_and_is_left_as_it_is(tmp_path, recipe, name, line, words):
    """What follows it was written, too: seven of ten lines would be gone."""
    claim(tmp_path / "run", recipe)
    content = b"".join(b'{"event": "step", "step": %d}\n' % k for k in (1, 2, 3))
    content += line + b"".join(b'{"event": "step", "step": %d}\n' % k for k in (5, 6, 7))
    path = tmp_path / "run" / name
    path.write_bytes(content)
    with pytest.raises(AffectError, match=words) as error:
        claim(tmp_path / "run", recipe)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert path.read_bytes() == content
    assert claim(tmp_path / "run", recipe, overwrite=True) is False


def test_what_a_line_lacks_is_told_with_its_number(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "step", "step": 1}\n{"event": "end", "step": 2}\n')
    *_, last = run_dir.read_lines(path)
    with pytest.raises(AffectError, match=r"metrics.jsonl, line 2, is damaged: it has no 'scores'"):
        last["scores"]


@pytest.mark.parametrize("name", ["test", "test@snr=5"])
def test_damaged_rows_are_one_line(tmp_path, name):
    row = {"id": "a", "prediction": {"x": 1.0}, "target": {"x": 2.0}}
    run_dir.write_rows(tmp_path, {"test": [row, row], "test@snr=5": [row, row]})
    assert run_dir.predicted(tmp_path) == ["test", "test@snr=5"]
    assert run_dir.read_rows(tmp_path, name) == [row, row]
    path = tmp_path / ("predictions-test.jsonl" if name == "test" else run_dir.CONDITIONS)
    for damage in (lambda d: d[:-9], lambda d: b"\0" * len(d), lambda d: d[:40] + bytes([d[40] ^ 255]) + d[41:]):
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        with pytest.raises(AffectError, match=f"{path}.* is damaged") as error:
            run_dir.predicted(tmp_path)
            run_dir.read_rows(tmp_path, name)
        assert "\n" not in str(error.value)
        path.write_bytes(whole)


def test_lines_round_trip_and_hold_no_nan(tmp_path):
    rows = [{"a": math.nan, "b": [1.0, math.inf], "c": {"d": -math.inf}, "e": "ä\n"}, {"a": 1}]
    run_dir.write_lines(tmp_path / "x.jsonl", rows)
    wanted = [{"a": None, "b": [1.0, None], "c": {"d": None}, "e": "ä\n"}, {"a": 1}]
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == wanted
    assert "NaN" not in (tmp_path / "x.jsonl").read_text()


# Whole or absent


def hidden(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    run_dir.write_text(path, "old")
    with pytest.raises(RuntimeError), run_dir.whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert hidden(tmp_path) == []


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    path = tmp_path / "best"
    for text in ("one", "two"):
        with run_dir.whole(path) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
        assert [item.name for item in path.iterdir()] == [text]
    with pytest.raises(KeyboardInterrupt), run_dir.whole(path) as temporary:
        temporary.mkdir()
        (temporary / "three").write_text("three")
        raise KeyboardInterrupt
    assert [item.name for item in path.iterdir()] == ["two"]
    assert hidden(tmp_path) == []


def test_a_lone_surrogate_is_written_as_json_calls_it(tmp_path):
    row = {"id": "a\ud800", "prediction": {}, "target": {}}
    run_dir.write_rows(tmp_path, {"test": [row], "test@snr=5": [row]})
    assert run_dir.read_rows(tmp_path, "test") == [row]


def test_a_disk_that_says_it_is_full_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    run_dir.write_text(path, "old")
    disks.fill(monkeypatch)
    with pytest.raises(AffectError, match=r"could not write .*file.txt: No space left on device") as error:
        run_dir.write_text(path, "new")
    assert "\n" not in str(error.value)
    assert path.read_text() == "old"
    assert hidden(tmp_path) == []


def test_a_disk_that_is_full_is_one_line(tmp_path):
    with disks.small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "file.txt"
        run_dir.write_text(path, "old")
        with pytest.raises(AffectError, match="No space left on device"):
            run_dir.write_text(path, "x" * 200_000)
        assert path.read_text() == "old"
        assert hidden(disk) == []
        run_dir.write_text(path, "new")
        assert path.read_text() == "new"


def test_a_place_that_can_not_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(AffectError, match="could not write"):
        run_dir.write_text(tmp_path / "file" / "below.txt", "text")
