"""Continual learning: what each stage trains on, and what is said to be forgotten."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from affect.errors import AffectError
from affect.report import load
from affect.tasks.talking_face.config import Continual
from affect.tasks.talking_face.continual import batches_of, flags, section, summary, table_of
from tests.tasks.talking_face import small
from tests.tasks.talking_face.test_report import SCORES, written


def parts(root, **settings):
    task = small.task(root, continual=Continual(by="generator", **settings))
    return rows(task), batches_of(task.corpus, task.recipe.continual)


def rows(task) -> dict[str, list[dict[str, str]]]:
    """Return the ids and generators of each part's rows."""
    return {
        name: [{"id": row["id"], "generator": row["generator"]} for row in part]
        for name, part in task.datasets().items()
    }


def test_a_stage_trains_on_its_batch_and_a_share_of_the_earlier_ones(clips_root):
    whole = rows(small.task(clips_root))
    replayed: set[str] = set()
    for stage in (1, 2, 3):
        found, batches = parts(clips_root, arrived=stage, replay=0.4)
        assert len(batches) == 3 and sum(batches, []) == sorted({row["generator"] for row in whole["train"]})
        earlier, newest = sum(batches[: stage - 1], []), batches[stage - 1]
        assert [row for row in found["train"] if row["generator"] in newest] == [
            row for row in whole["train"] if row["generator"] in newest
        ]
        old = {row["id"] for row in found["train"] if row["generator"] not in newest}
        possible = {row["id"] for row in whole["train"] if row["generator"] in earlier}
        assert old <= possible and (stage == 1 or 0 < len(old) < len(possible))
        assert replayed <= old, "what was replayed before is replayed again"
        replayed = old
        assert {row["generator"] for row in found["valid"]} <= {*earlier, *newest}
        assert found["test"] == whole["test"]
    everything, _ = parts(clips_root, arrived=3, replay=1.0)
    assert everything == whole
    assert {row["generator"] for row in parts(clips_root, arrived=2)[0]["train"]} <= set(batches[1])


def test_what_can_not_arrive_is_refused_in_a_line(clips_root):
    corpus = small.task(clips_root).corpus
    with pytest.raises(AffectError, match=r"no column 'generatr' \(did you mean 'generator'"):
        batches_of(corpus, Continual(by="generatr"))
    with pytest.raises(AffectError, match="values of generator, not the 99 batches"):
        batches_of(corpus, Continual(by="generator", batches=99))
    for settings, field in (
        ({"by": "x", "arrived": 4}, "arrived"),
        ({"by": "x", "replay": 1.5}, "replay"), ({"by": "x", "batches": 1}, "batches"), ({"by": ""}, "by"),
    ):  # fmt: skip
        with pytest.raises(AffectError, match=rf"continual\.{field} must"):
            Continual(**settings)


def test_forgetting_and_transfer_are_those_of_the_field():
    scores = np.array([[0.8, 0.3, 0.1], [0.6, 0.7, 0.2], [0.5, 0.75, 0.9]])
    assert summary(scores) == pytest.approx({
        "average": 2.15 / 3,
        "forgetting": ((0.8 - 0.5) + (0.7 - 0.75)) / 2,
        "backward": ((0.5 - 0.8) + (0.75 - 0.7)) / 2,
        "unseen": (0.3 + 0.2) / 2,
    })  # fmt: skip
    assert math.isnan(summary(np.array([[0.5]]))["forgetting"])


def chained(stages, batches, before):
    """Make stages, in place, those of these batches, the first of which started from `before`."""
    for number, stage in enumerate(stages, start=1):
        folder = stage.folder / stage.name / str(number)
        before = stages[number - 1] = replace(stage, before=lambda earlier=before: earlier, folder=folder)
        settings = {"by": "generator", "batches": len(batches), "arrived": number, "replay": 0.2}
        before.recipe.update(continual=settings, data={**before.recipe["data"], "scores": [*SCORES]})
        before.environment["batches"] = batches


def test_the_last_stage_s_report_tells_all_stages(tmp_path):
    stages = [written(tmp_path / "worse", alike=1.0), written(tmp_path / "better"), written(tmp_path / "last", alike=1)]
    batches = [["g0", "g1"], ["g2"], ["g3"]]
    chained(stages, batches, None)
    scores, names = table_of(stages[-1])
    assert names == ["g0, g1", "g2", "g3"] and scores.shape == (3, 3)
    assert (scores[1] > scores[0]).all() and scores[2] == pytest.approx(scores[0])
    (shown,) = section(stages[-1])
    assert "forgotten" in shown.markdown and "20 % of earlier clips" in shown.markdown
    (flag,) = flags(stages[-1])
    assert flag.kind == "forgets" and flag.size == pytest.approx(summary(scores)["forgetting"])
    assert "forgotten" not in section(stages[1])[0].markdown, "not all batches have arrived"
    assert section(written(tmp_path / "none")) == [] and not list(flags(stages[1]))


def test_what_is_no_stage_is_named_and_what_is_not_there_is_said(tmp_path):
    other = replace(written(tmp_path / "other"), name="pretrain", folder=tmp_path / "pretrain")
    stages = [replace(written(tmp_path / name), name=name) for name in ("one", "two")]
    chained(stages, [["g0", "g1"], ["g2", "g3"]], other)
    (shown,) = section(stages[1])
    assert table_of(stages[1])[0].shape == (2, 2) and "At the end" in shown.markdown
    assert "one started from pretrain, which is no stage" in shown.markdown and "| one " in shown.markdown
    alone = replace(stages[1], before=lambda: other, _held={})
    (shown,) = section(alone)
    assert "two started from pretrain" in shown.markdown and "Not all earlier stages are there" in shown.markdown
    assert "At the end" not in shown.markdown


def test_experiments_go_back_by_the_weights_that_they_started_from(tmp_path):
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder in folders:
        written(folder)

    def starts(name, source):
        path = tmp_path / name / "seed0" / "fold1" / "recipe.json"
        recipe = json.loads(path.read_text())
        path.write_text(json.dumps({**recipe, "train": {**recipe["train"], "init_from": source}}))

    # Where it was trained is not where it is read: it lies beside.
    starts("second", "runs/first")
    starts("third", str(folders[1]))
    assert [study.name for study in load(folders[2]).earlier] == ["first", "second"]
    starts("first", str(folders[2]))
    assert [study.name for study in load(folders[2]).earlier] == ["first", "second"], "a circle ends"
    starts("third", "owner/model")
    assert load(folders[2]).earlier == []
