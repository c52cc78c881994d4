"""The model card: results that the Hub reads, all runs and baselines, data, limits, licence."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from huggingface_hub import ModelCard

from affect import checksums, tasks
from affect.hub import card, contents, push, source
from affect.tasks import card_texts
from tests.tasks.emotion import small

REPO = "someone/model"


def card_of(run) -> ModelCard:
    with push.staged(run, REPO) as folder:
        return ModelCard((folder / "README.md").read_text(encoding="utf-8"))


@pytest.fixture
def run(spoken, tmp_path):
    experiment = shutil.copytree(spoken, tmp_path / "runs" / "spoken")
    return experiment / "seed0" / "fold1"


def end(run) -> dict:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["scores"]


def test_the_results_are_those_of_the_run(run):
    data = card_of(run).data
    assert data.library_name == "affect"
    assert data.pipeline_tag == "audio-classification"
    assert data.model_name == "model"
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in data.eval_results}
    known = {
        (part, name): value for part, values in end(run).items() if part != "train" for name, value in values.items()
    }
    assert found.keys() == known.keys()
    assert found == pytest.approx(known, abs=1e-4)
    assert {one.dataset_type for one in data.eval_results} == {"synthetic"}
    assert list(dict.fromkeys(found_parts(data))) == ["test", "valid"], "the Hub shows the first"
    assert data.language is None
    assert data.datasets is None


def found_parts(data) -> list[str]:
    return [one.dataset_split for one in data.eval_results]


def anonymous(run, **changes):
    """Let the best weights not say whose they are: the recipe beside them is to be another."""
    path = run / "checkpoints" / "best" / "place.json"
    facts = {name: value for name, value in json.loads(path.read_text()).items() if name != "of"}
    path.write_text(json.dumps(facts | changes))
    checksums.write(path.parent)


def test_language_and_data_sets_are_named_where_they_are_known(run):
    path = run / "recipe.json"
    anonymous(run)
    recipe = json.loads(path.read_text())
    for corpus, root, language, named in [
        ("emodb", "x/emodb", "de", None),
        ("hub", "someone/speech", None, ["someone/speech"]),
        ("hub", "here/there/speech", None, None),
        ("hub", str(run), None, None),
    ]:
        path.write_text(json.dumps({**recipe, "data": {**recipe["data"], "corpus": corpus, "root": root}}))
        data = card_of(run).data
        assert (data.language, data.datasets) == (language, named)


def test_all_runs_of_the_experiment_and_its_baselines_are_there(run):
    text = card_of(run).text
    for fold in (1, 2):
        mine = "seed0/fold1 (this model)" if fold == 1 else "seed0/fold2"
        line = next(line for line in text.splitlines() if line.startswith(f"| {mine} "))
        assert f"{end(run.parent / f'fold{fold}')['test']['ccc']:.3f}" in line
    for baseline in ("constant", "ridge", "svr"):
        assert f"| {baseline} " in text


def test_a_run_alone_needs_no_others(run):
    shutil.rmtree(run.parent / "fold2")
    assert "seed0/fold2" not in card_of(run).text


def test_a_fusion_model_has_its_parts_and_modalities(fused):
    card = card_of(fused / "seed0" / "fold1")
    assert list(dict.fromkeys(found_parts(card.data))) == ["test1", "test2", "test3", "valid"]
    assert "majority" in card.text
    assert "audio, text, video" in card.text
    assert "--audio audio.npy --text text.npy --video video.npy" in card.text
    assert "test1 emoval" in card.text


def test_data_and_limits_are_said(run):
    facts = json.loads((run / "environment.json").read_text())
    facts["exclusions"] = {"no label": 3}
    facts["excluded"] = 3
    (run / "environment.json").write_text(json.dumps(facts))
    text = " ".join(card_of(run).text.split())
    assert "train 24, valid 8, test 8" in text
    assert "label scale: 1 to 5" in text
    assert "left out: 3 (no label: 3)" in text
    for said in ("not what a person feels", "Culture and language", "hiring", "policing", "medical", "Article 5(1)(f)"):
        assert said in text


def test_scores_that_are_not_there_are_no_results(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:2]) + "\n")
    (run / "checkpoints" / "best" / "place.json").unlink()
    checksums.write(run / "checkpoints" / "best")
    card = card_of(run)
    assert card.data.eval_results is None
    assert "Training goes on: step 2" in card.text
    assert "All runs" not in card.text


@pytest.mark.parametrize(
    ("corpus", "encoder", "licence"),
    [
        ("synthetic", "tiny", "apache-2.0"),
        ("synthetic", "microsoft/wavlm-large", "other"),
        ("iemocap", "tiny", "other"),
        ("csv_folder", "none", "other"),
    ],
)
def test_a_licence_is_claimed_only_where_it_is_known(corpus, encoder, licence):
    config = {"task": "emotion", **small.model(encoder="none").describe()}
    config["model"]["encoder"] = encoder
    card = tasks.task_class("emotion").card(config, {"data": {"corpus": corpus}}, REPO)
    assert card.licence == licence
    assert "Apache-2.0" in card.licence_note
    assert ("wavlm-large" in card.licence_note) == (encoder == "microsoft/wavlm-large")
    assert card.base_models == (("microsoft/wavlm-large",) if "/" in encoder else ())
    if licence == "other":
        assert corpus in card.licence_note


def test_of_each_corpus_what_it_is_of_is_said():
    assert "acted" in card_texts.use("iemocap")
    assert "Mandarin" in card_texts.use("mer2023")
    assert "whether it was acted" in card_texts.use("csv_folder")
    assert "On spontaneous speech of other people" in card_texts.use("iemocap")
    assert "microphones" not in card_texts.use("emobank")
    for corpus in ("synthetic", "generated"):
        assert "means nothing" in card_texts.use(corpus)
        assert "expect lower scores" not in card_texts.use(corpus)
    for corpus in ("iemocap", "emobank", "synthetic", "csv_folder"):
        assert "{" not in card_texts.use(corpus)
        assert max(map(len, card_texts.use(corpus).splitlines())) <= 120


def test_linked_weights_stay_what_they_were(run, tmp_path):
    contents.write(source.read(run), tmp_path / "out", REPO)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    best = run / "checkpoints" / "best"
    shutil.rmtree(best)
    best.mkdir()
    (best / "model.safetensors").write_bytes(b"others")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


WILD = "a|b`c` <script> *d* [x](javascript:y)\n## not a heading"


def test_every_value_is_escaped(run):
    """What a user called things, or a damaged file holds, makes no table, heading, tag or link of its own."""
    environment = json.loads((run / "environment.json").read_text())
    environment |= {
        "corpus": WILD, "utterances": {WILD: WILD}, "labelled": {WILD: {WILD: 3}, "other": WILD}, "classes": [WILD, 5],
        "exclusions": {WILD: WILD}, "excluded": 7, "scales": {WILD: [0, 1], "b": WILD}, "scale": [WILD, 2],
        "scale_inferred": WILD,
    }  # fmt: skip
    (run / "environment.json").write_text(json.dumps(environment))
    document = json.loads((run / "recipe.json").read_text()) | {"experiment": WILD}
    (run / "recipe.json").write_text(json.dumps(document))
    anonymous(run, step=WILD)
    text = card_of(run).text
    assert not re.search(r"(?<!\\)<script>(?!`)", re.sub("``.*?``", "", text))
    assert "\n## not" not in text
    assert "](javascript" not in re.sub("``.*?``", "", text)
    for value in ([], 3, "x", None, {"a": []}):
        names = ("exclusions", "utterances", "labelled", "scales", "scale", "classes", "scale_inferred")
        (run / "environment.json").write_text(json.dumps(environment | dict.fromkeys(names, value)))
        card_of(run)


def test_names_of_features_stay_inside_the_program():
    streams = [["audio", "a\n```\n# heading", 3], ["audio", "b; rm -rf x", 3]]
    config = {"task": "multimodal_emotion", "model": {}, "data": {"streams": streams, "classes": ["x", "y"]}}
    made = tasks.task_class("multimodal_emotion").card(config, {"data": {"corpus": WILD}}, REPO)
    compile(made.program, "program", "exec")
    assert "'b; rm -rf x'=audio_2.npy" in made.command
    page = card.use(made, REPO, last=False)
    assert "\n# heading" not in re.sub(r"(````+)(.*?)\n\1\n", "", page, flags=re.DOTALL)
    clips = {"task": "talking_face", "model": {}, "data": {"features": [["v\nimport os", 4]], "scores": [["s", 0, 5]]}}
    compile(tasks.task_class("talking_face").card(clips, {}, REPO).program, "program", "exec")
