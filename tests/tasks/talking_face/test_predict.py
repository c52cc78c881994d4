"""Predicting clips from files: scores with their scales, missing features, bad files, several models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from affect import report, tasks
from affect.config import to_dict
from affect.errors import AffectError
from affect.models import saving
from affect.report import Study
from affect.tasks.talking_face import intervals
from affect.tasks.talking_face.config import SCORES, Signature
from tests.inference.asking import ask
from tests.tasks.talking_face import small


@pytest.fixture(scope="module")
def runs(clips_root, tmp_path_factory):
    """The folder of a run of one step for each of two seeds."""
    from dataclasses import replace

    top = tmp_path_factory.mktemp("predict") / "quality"
    for seed in (0, 1):
        recipe = replace(small.recipe(clips_root, steps=1), seed=seed)
        small.train(recipe, top / f"seed{seed}" / "fold1")
    return top


@pytest.fixture
def clip(clips_root, tmp_path):
    """A test clip's file, and its name."""
    return tmp_path / "clip.npz", small.npz(clips_root, tmp_path / "clip.npz")


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_file_is_predicted_as_the_run_predicted_the_clip(affect, runs, clip):
    file, name = clip
    run = runs / "seed0" / "fold1"
    code, out, err = affect("predict", run, file)
    assert code == 0, err
    (line,) = lines(out)
    kept = map(json.loads, (run / "predictions-test.jsonl").read_text().splitlines())
    wanted = next(row["prediction"] for row in kept if row["id"] == name)
    assert line["prediction"] == pytest.approx(wanted, abs=1e-4)
    assert set(line["scale"]) == set(wanted)


def test_an_interval_is_that_of_the_validation_rows(affect, runs, clip, tmp_path):
    import shutil

    run = tmp_path / "fold1"
    shutil.copytree(runs / "seed0" / "fold1", run)
    rows = [{"id": f"v{k}", "prediction": dict.fromkeys(SCORES, 3.0), "target": dict.fromkeys(SCORES, 3.0 + k / 100)}
            for k in range(1, 20)]  # fmt: skip
    rows[0]["target"]["overall_score"] = float("nan")
    for row in rows[:12]:
        row["target"]["lip_sync_score"] = float("nan")
    (run / "predictions-valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (line,) = lines(affect("predict", run, clip[0])[1])
    assert line["level"] == 0.9
    assert set(line["interval"]) == set(SCORES) - {"lip_sync_score"}
    low, high = line["interval"]["expression_score"]
    assert (high - low) / 2 == pytest.approx(0.18, abs=1e-4), "the 18th of 19 errors"
    assert (low + high) / 2 == pytest.approx(line["prediction"]["expression_score"], abs=1e-4)


def test_a_level_is_asked_for_and_a_generator_has_its_own_interval(affect, runs, clip, tmp_path, caplog):
    """By 19 rows, of which 9 are of a generator that errs more; another one has too few for a width of its own."""
    import shutil

    run = tmp_path / "fold1"
    shutil.copytree(runs / "seed0" / "fold1", run)
    off = [k / 100 if k < 10 else 1 + k / 100 for k in range(19)]
    rows = [{"id": f"v{k}", "prediction": dict.fromkeys(SCORES, 3.0), "target": dict.fromkeys(SCORES, 3.0 + by),
             "generator": "loud" if by > 1 else "few" if k < 3 else "quiet"} for k, by in enumerate(off)]  # fmt: skip
    (run / "predictions-valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def half(*options: str) -> tuple[dict, float]:
        code, out, err = affect("predict", run, clip[0], *(("--options", *options) if options else ()))
        assert code == 0, err
        (line,) = lines(out)
        stored = intervals.of_folder(run / "checkpoints" / "best", json.loads(config), line["level"])
        own = {o.partition("=")[0]: o.partition("=")[2] for o in options}.get("generator")
        groups = stored["overall_score"]["groups"]
        return line, groups.get(own, stored["overall_score"]["half_width"])

    config = (run / "checkpoints" / "best" / "config.json").read_text()
    line, width = half()
    assert (line["level"], width) == (0.9, pytest.approx(1.17)) and "interval_of" not in line
    line, width = half("level=0.5")
    assert (line["level"], width) == (0.5, pytest.approx(0.09))
    line, width = half("level=0.5", "generator=loud")
    assert width == pytest.approx(1.14) and set(line["interval_of"].values()) == {"loud"}
    low, high = line["interval"]["overall_score"]
    assert high == pytest.approx(min(5, line["prediction"]["overall_score"] + 1.14), abs=2e-4)
    assert "those of all generators" not in caplog.text
    line, width = half("generator=loub")
    assert width == pytest.approx(1.17) and set(line["interval_of"].values()) == {"all"}
    assert "loub: intervals of lip_sync_score, " in caplog.text
    assert "are those of all generators (did you mean 'loud'?)" in caplog.text
    code, _, err = affect("predict", run, clip[0], "--options", "level=90")
    assert code == 2 and err.count("\n") == 1 and "the level of an interval lies between 0 and 1, not at 90" in err


def test_stored_intervals_have_their_level_and_a_card_says_it():
    rows = [{"id": str(k), "prediction": {"s": 3.0}, "target": {"s": 3.0 + k / 10}, "generator": "ab"[k % 2]}
            for k in range(19)]  # fmt: skip
    data = Signature(features=(("clip", 1),), scores=(("s", 1.0, 5.0),))
    stored = intervals.of_rows(rows, data, 0.75)
    assert sorted(stored["s"]["groups"]) == ["a", "b"]
    said = intervals.words(stored)
    assert said.startswith("A 75 % interval") and "Clips of a, b have their generator's own" in said
    for level in (None, 0.75):
        assert intervals.of_folder(Path("anywhere"), {intervals.FIELD: stored}, level) == stored
    for damaged in ({"s": "x"}, {"s": {}}, {"s": {"level": None}}, [1]):
        with pytest.raises(AffectError, match="the stored intervals are damaged"):
            intervals.of_folder(Path("anywhere"), {intervals.FIELD: damaged}, None)
    with pytest.raises(AffectError, match="these intervals are of a level of 0.75, not of 0.9"):
        intervals.of_folder(Path("anywhere"), {intervals.FIELD: stored}, 0.9)


def test_the_models_of_an_experiment_are_averaged(affect, runs, clip):
    each = [lines(affect("predict", runs / f"seed{seed}" / "fold1", clip[0])[1])[0]["prediction"] for seed in (0, 1)]
    (line,) = lines(affect("predict", runs, clip[0])[1])
    assert line["prediction"] == pytest.approx({n: (each[0][n] + each[1][n]) / 2 for n in each[0]}, abs=2e-4)
    apart = {n: abs(each[0][n] - each[1][n]) / 2**0.5 for n in each[0]}
    assert line["deviation"] == pytest.approx(apart, abs=2e-4) and max(apart.values()) > 1e-3


def test_what_can_not_be_read_is_a_line_and_the_others_go_on(affect, runs, clip, tmp_path):
    np.savez(tmp_path / "narrow.npz", visual=np.zeros((4, 5)))
    np.savez(tmp_path / "nan.npz", visual=np.full((4, 12), np.nan))
    np.savez(tmp_path / "other.npz", syncnet=np.zeros((4, 5)))
    np.savez(tmp_path / "object.npz", visual=np.array([None]))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "batch.npz", visual=np.zeros((1, 4, 12)))
    np.savez(tmp_path / "one.npz", audio=np.ones(9))
    names = ["narrow", "nan", "other", "object", "text", "absent", "batch", "one"]
    code, out, _ = affect("predict", runs / "seed0" / "fold1", *(tmp_path / f"{name}.npz" for name in names), clip[0])
    found = {line["id"]: line for line in lines(out)}
    assert code == 1
    assert [name for name in names if "error" in found[f"{name}.npz"]] == names[:-1]
    for name, shape in (("narrow", "[4, 5]"), ("batch", "[1, 4, 12]")):
        words = f"visual has the shape {shape}, the model takes [T, 12] or [12]"
        assert found[f"{name}.npz"]["error"].endswith(words)
    assert found["one.npz"]["features"] == ["audio"]
    assert "prediction" in found["clip.npz"]


def test_features_come_in_several_ways(affect, runs, clip, clips_root, tmp_path):
    """An archive, a folder of arrays, arrays alone and a converted folder give one line."""
    run, (file, name) = runs / "seed0" / "fold1", clip
    folder = tmp_path / "arrays"
    folder.mkdir()
    with np.load(file) as arrays:
        for feature in arrays:
            np.save(folder / f"{feature}.npy", arrays[feature])
    np.save(folder / "notes.npy", np.array([None]), allow_pickle=True)
    code, out, err = affect("predict", run, file, folder, *sorted(folder.glob("*.npy")), clips_root / "converted")
    assert code == 0, err
    one, two, three, *many = lines(out)
    assert (one["id"], two["id"], three["id"]) == ("clip.npz", "arrays", "arrays")
    four = next(line for line in many if line["id"] == name)
    assert len(many) == 60
    for other in (two, three, four):
        assert {**other, "id": ""} == {**one, "id": ""}
    (folder / "visual.npy").write_bytes(b"no array")
    code, out, _ = affect("predict", run, folder)
    assert code == 1 and "visual.npy is no readable npy file" in lines(out)[0]["error"]


def test_a_pickle_is_refused_with_the_command_that_converts_it(affect, runs, clips_root):
    code, out, err = affect("predict", runs / "seed0" / "fold1", clips_root / "ac.pkl")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and f"affect convert {clips_root}/ac.pkl {clips_root}/ac" in err


def test_an_interval_is_of_all_that_is_labelled_and_its_lack_is_told(affect, runs, clip, caplog):
    """Half a width is the ceil(.9 (n + 1))-th smallest error; a score with too few labels has none, which is said."""
    run = runs / "seed0" / "fold1"
    _, out, _ = affect("predict", run, clip[0])
    (line,) = lines(out)
    rows = [json.loads(text) for text in (run / "predictions-valid.jsonl").read_text().splitlines()]
    told = 0
    for score, value in line["prediction"].items():
        off = sorted(abs(row["prediction"][score] - row["target"][score])
                     for row in rows if row["target"][score] is not None)  # fmt: skip
        if len(off) < 9:
            told += 1
            assert score not in line["interval"]
            assert f"no interval of {score}: an interval of 90 % needs 9 calibration rows with a label" in caplog.text
            continue
        half = off[int(np.ceil(0.9 * (len(off) + 1) - 1e-9)) - 1]
        low, high = line["scale"][score]
        assert line["interval"][score] == pytest.approx([max(low, value - half), min(high, value + half)], abs=2e-4)
    assert line["level"] == 0.9
    assert 0 < told < 5, "both kinds are tested"


def test_intervals_of_models_and_of_spreads():
    """Errors are those of a clip's mean over the runs, in units of the model's own spread where it has one."""
    rows = [[{"id": str(k), "prediction": {"s": 3.0 + k / 10 + sign}, "target": {"s": 3.0}, "spread": {"s": 2.0}}
             for k in range(1, 10)] for sign in (-0.5, 0.5)]  # fmt: skip
    mean = intervals._averaged([*rows, [{**rows[0][0], "id": "alone"}]])
    assert [row["id"] for row in mean] == [*map(str, range(1, 10)), "alone"]
    found = intervals.calibrated(mean[:9], "s", (1.0, 5.0))
    assert (found.rows, found.normalised) == (9, True)
    assert found.half_width == pytest.approx(0.45)
    stored = {"s": found.to_dict()}
    assert intervals.bounds(json.loads(json.dumps(stored)), {"s": 4.0}, {"s": 1.0})["s"] == pytest.approx([3.55, 4.45])
    assert "0.45 spreads that the model predicts" in intervals.words(stored)
    assert intervals.words({}) == ""


def test_an_ensemble_is_predicted_by_its_members_whose_deviation_its_report_tells(
    affect, runs, clip, clips_root, tmp_path
):
    import shutil

    from affect import checksums
    from affect.experiments import ensemble
    from affect.options import Options
    from affect.recipe import whose

    members = {name: tmp_path / name for name in ("one", "two")}
    for seed, place in enumerate(members.values()):
        run = shutil.copytree(runs / f"seed{seed}" / "fold1", place / "seed0" / "fold1")
        path = run / "recipe.json"
        document = {**json.loads(path.read_text()), "seed": 0}
        path.write_text(json.dumps(document))
        best = run / "checkpoints" / "best"
        own = json.loads((best / "place.json").read_text()) | {"of": whose(document)}
        (best / "place.json").write_text(json.dumps(own))
        checksums.write(best)
        (run / "environment.json").write_text(json.dumps(small.task(clips_root).describe()))
    top = ensemble.run("mean", members, Options(runs=tmp_path / "runs", report=False), "")
    code, out, err = affect("predict", top, clip[0])
    assert code == 0, err
    each = [lines(affect("predict", place, clip[0])[1])[0]["prediction"] for place in members.values()]
    for place in (top, top / "seed0", top / "seed0" / "fold1"):
        (line,) = lines(affect("predict", place, clip[0])[1])
        for score, value in line["prediction"].items():
            one, two = (own[score] for own in each)
            assert value == pytest.approx((one + two) / 2, abs=2e-4)
            assert line["deviation"][score] == pytest.approx(abs(one - two) / 2**0.5, abs=2e-4)
    rows = [json.loads(text) for text in (top / "seed0" / "fold1" / "predictions-test.jsonl").read_text().splitlines()]
    study = Study(runs=report.read(top), name="mean")
    head, *table = study.task.sections(study)[1].markdown.splitlines()
    assert "deviation of the members" in head
    shown = next(line for line in table if line.startswith("| overall_score")).rstrip("| ").rpartition("|")[2]
    assert float(shown) == pytest.approx(np.mean([row["deviation"]["overall_score"] for row in rows]), abs=6e-4)


def test_where_validation_was_trained_on_the_test_rows_of_all_folds_calibrate(tmp_path):
    """A clip is tested by one fold, and predicted by that one of each seed: the mean of these has its error."""
    data = Signature(features=(("audio", 3),), scores=(("s", 1.0, 5.0),))
    folders = []
    for seed in (0, 1):
        for fold in (1, 2):
            run = tmp_path / f"seed{seed}" / f"fold{fold}"
            run.mkdir(parents=True)
            folders.append(run / "checkpoints" / "best")
            (run / "recipe.json").write_text(json.dumps({"data": {"train_all": True}}))
            errors = {k: k / 10 + (0.05 if seed else -0.05) for k in range(1, 11) if k % 2 == fold % 2}
            rows = [{"id": f"c{k}", "prediction": {"s": 3 + e}, "target": {"s": 3.0}, "source": f"p{k % 5}"}
                    for k, e in errors.items()]  # fmt: skip
            (run / "predictions-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            wrong = [{**row, "prediction": {"s": 3.0}} for row in rows]
            (run / "predictions-valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in wrong))
    stored = intervals.of_folders(folders, {"data": to_dict(data)})["s"]
    assert (stored["rows"], stored["sources"]) == (10, 5)
    assert stored["half_width"] == pytest.approx(1.0), "the tenth of ten errors"


def test_weights_without_their_run_have_no_interval_and_say_so(affect, runs, clip, tmp_path, caplog):
    import shutil

    alone = shutil.copytree(runs / "seed0" / "fold1" / "checkpoints" / "best", tmp_path / "x" / "y" / "alone")
    code, out, _ = affect("predict", alone, clip[0])
    assert code == 0 and "no intervals: " in caplog.text
    assert {"interval", "level"}.isdisjoint(lines(out)[0])


def test_the_program_on_a_card_runs(runs, clip, capsys, monkeypatch):
    from affect import hub
    from affect.tasks.talking_face.task import TalkingFaceTask

    folder = runs / "seed0" / "fold1" / "checkpoints" / "best"
    card = TalkingFaceTask.card(json.loads((folder / "config.json").read_text()), {}, "user/name")
    monkeypatch.setattr(hub, "from_pretrained", lambda name: tasks.load(folder))
    monkeypatch.chdir(clip[0].parent)
    exec(card.program.replace("CLIP.npz", "clip.npz"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5 and "on a scale of" in said[0]
    assert torch.is_grad_enabled()


def test_a_clip_of_another_length_than_all_of_training_is_warned_of(runs, clips_root, tmp_path, caplog):
    shortest, longest = saving.read_config(runs / "seed0" / "fold1" / "checkpoints" / "best")["lengths"]
    task = small.task(clips_root)
    lengths = task.parts["train"]["length"]
    assert (shortest, longest) == (min(lengths), max(lengths))
    for frames, told in ((int(longest), 0), (3 * int(longest), 1), (1, 1)):
        for name in ("a.npz", "b.npz"):
            np.savez(tmp_path / name, **{name: np.ones((frames, width), np.float32) for name, width in task.features})
        caplog.clear()
        bad, lines = ask(runs, tmp_path / "a.npz", tmp_path / "b.npz")
        words = [message for message in caplog.messages if "predicted at once" in message]
        assert (bad, len(lines), len(words)) == (0, 2, told)
        assert all(f"a.npz: {frames} frames are predicted at once, the model was trained on" in one for one in words)
