"""What the report says of runs of diarization, held on runs whose faults are known."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affect import figures, report
from affect.findings import Section
from affect.metrics import chance
from affect.report import Study, page
from affect.report.flags import flags as all_flags
from affect.tasks.diarization import breakdown, claims, learning
from affect.tasks.diarization.config import Data, Loss, Model
from affect.tasks.diarization.timelines import beside_reference
from affect.tasks.diarization.trivial import NAMES, trivially
from tests.tasks.diarization.runs import LEARNED, PARTS, RECIPE, conversation, dump, told, written


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Study:
    """A run without a fault."""
    return written(tmp_path_factory.mktemp("runs") / "plain")


def cells(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose first column is called `head`."""
    table = next(block for block in text.split("\n\n") if block.startswith(f"| {head} "))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [lines[0], *lines[2:]]


def page_of(study: Study) -> str:
    """Return the page in Markdown, without its plots."""
    return page.page(study.name, page.sections(study), {})


def titled(study: Study, title: str) -> Section:
    return next(section for section in study.task.sections(study) if section.title == title)


def test_the_page_has_its_parts_in_order_and_draws_its_plots(tmp_path):
    study = written(tmp_path / "runs", arcface=5.0, recipe=LEARNED)
    sections = study.task.sections(study)
    assert [section.title for section in sections if section.title] == [
        "Beside trivial diarizations", "By number of speakers and overlap", "What limits it", "Recordings",
        "How it learned", "SSND's reported measures and expectations",
    ]  # fmt: skip
    notes = "".join(section.markdown for section in sections if not section.title)
    assert "**DER**" in notes and "Generated voices" in notes and "training voices" not in notes
    plots = [plot for section in sections for plot in section.plots]
    assert set(figures.save(plots, tmp_path / "plots")) == {
        "timeline-best", "timeline-median", "timeline-worst", "learning", "thresholds",
    }  # fmt: skip


def test_notes_say_what_scores_are_of(tmp_path):
    data = Data(root="x", held_out=0)
    study = written(tmp_path / "runs", recipe=replace(RECIPE, data=data))
    notes = "".join(section.markdown for section in study.task.sections(study) if not section.title)
    assert "training voices" in notes and "Generated voices" not in notes
    assert "Plain conversations" not in notes


@pytest.mark.parametrize(("sounds", "validation"), [(("plain",), True), (("trained", "plain"), False)])
def test_a_note_says_how_plain_conversations_sound(tmp_path, sounds, validation):
    study = written(tmp_path / "runs", recipe=replace(RECIPE, data=Data(held_out=4, test_sound=sounds)))
    notes = "".join(section.markdown for section in study.task.sections(study) if not section.title)
    assert "at 1 m, without a room or noise" in notes and "overlap 0.2" in notes
    assert ("and in validation" in notes) == validation


def test_every_trivial_model_is_beside_the_network_in_all_tables(plain):
    lines = cells(titled(plain, "Beside trivial diarizations").markdown, "part")
    models = [line[1] for line in lines[1:]]
    assert models == 4 * ["network", "silence", "one speaker", "all speakers", "oracle speech"]
    silence = next(line for line in lines if line[1] == "silence")
    assert silence[2:7] == ["1.000", "1.000", "0.000", "0.000", "1.000"]
    assert plain.baselines == sorted(NAMES)
    text = report.table(plain.runs)
    assert all(text.count(f"| {name} ") == len(PARTS) for name in NAMES)


def test_rows_without_files_of_trivial_models_have_them_too(tmp_path):
    study = written(tmp_path / "runs")
    before = titled(study, "Beside trivial diarizations").markdown
    for path in (tmp_path / "runs").rglob("baseline-*"):
        path.unlink()
    again = Study(runs=report.read(tmp_path / "runs"), name="runs")
    assert titled(again, "Beside trivial diarizations").markdown == before


def test_report_004s_der_is_beside_the_true_one(tmp_path):
    study = written(tmp_path / "runs", "one")
    words = titled(study, "Beside trivial diarizations").markdown.splitlines()[-1]
    own, none, true = (float(value) for value in re.findall(r"(?<![+-])\d\.\d{3}", words)[:3])
    rows = [row for part in PARTS for row in study.system(part).rows()]
    assert own == pytest.approx(breakdown.rate("counted", rows), abs=1e-3)
    assert none == pytest.approx(breakdown.rate("counted", [trivially(row, "silence") for row in rows]), abs=1e-3)
    assert true == pytest.approx(breakdown.rate("der", rows), abs=1e-3)
    assert own < 0.5 < true + 0.1, "it does not ask who speaks"


def test_errors_by_speakers_and_where_several_speak(plain):
    text = titled(plain, "By number of speakers and overlap").markdown
    lines = cells(text, "recordings")
    assert [line[0] for line in lines[1:]] == [
        "test_2_speakers_8s: 2 speakers", "test_2_speakers_32s: 2 speakers", "test_3_speakers_8s: 3 speakers",
    ]  # fmt: skip
    column = lines[0].index("DER")
    for line, part in zip(lines[1:], PARTS, strict=True):
        assert line[column] == f"{breakdown.rate('der', plain.system(part).rows()):.3f}"
    assert [line[lines[0].index("speakers found")] for line in lines[1:]] == ["2.0", "2.0", "3.0"]
    assert [line[0] for line in cells(text, "overlap of the recording")[1:]] == ["20 % to 30 %"]
    shares = [int(line[-1].split()[0]) for line in cells(text, "moments of all tests")[1:]]
    assert sum(shares) == 100
    # What is told late is missed: by the second speaker while the first goes on.
    assert shares[1] > 80


@pytest.mark.parametrize(("fault", "limit"), [("one", "who it is that speaks"), ("", "when and how many speak")])
def test_what_limits_it_is_what_is_wrong(tmp_path, fault, limit):
    section = titled(written(tmp_path / "runs", fault), "What limits it")
    assert limit in section.markdown
    for line in cells(section.markdown, "part")[1:]:
        der, activity, assignment = (float(line[place]) for place in (1, 2, 4))
        gone, left = (assignment, activity) if fault else (activity, assignment)
        assert gone < der and left <= der + 1e-9
        if not fault:
            assert activity < 0.1 and left == der


def test_timelines_are_of_the_best_the_middle_and_the_worst(plain):
    captions = {plot.name: plot.caption for plot in titled(plain, "Recordings").plots}
    rows = [row for part in PARTS for row in plain.system(part).rows()]
    ordered = sorted((breakdown.rate("der", [row]), row["id"]) for row in rows)
    assert f"{ordered[-1][0]:.3f}" in captions["timeline-worst"] and "missed" in captions["timeline-worst"]
    assert f"{ordered[0][0]:.3f}" in captions["timeline-best"]
    assert f"{ordered[len(ordered) // 2][0]:.3f}" in captions["timeline-median"]


def test_a_timeline_has_the_reference_above_the_hypothesis_and_the_errors():
    figure = beside_reference(conversation("a", 2, 8.0, "split", late=0.5))
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == ["reference s0", "reference s1"]
    assert len(names) == 2 + 4 + 3 and all(name.startswith("hypothesis") for name in names[2:6])
    colours = [lane.get_facecolor()[0].tolist() for lane in axes.collections if len(lane.get_paths())]
    # Half of the predicted speakers are those who are meant; the others are nobody's.
    assert colours[2] == colours[0] and colours[3] == colours[1] and colours[4] == colours[5]
    assert colours[4] not in colours[:2]
    missed = axes.collections[names.index("error missed")]
    lengths = [np.ptp(path.vertices[:, 0]) for path in missed.get_paths()]
    assert lengths == pytest.approx([0.5] * len(lengths)), "each turn is told half a second late"


def test_silence_has_a_timeline():
    names = [
        label.get_text() for label in beside_reference(conversation("a", 2, 8.0, "silent")).axes[0].get_yticklabels()
    ]
    assert "hypothesis nobody" in names


def test_losses_are_beside_chance_with_their_weights(tmp_path):
    study = written(tmp_path / "runs", arcface=5.0, recipe=LEARNED)
    text = titled(study, "How it learned").markdown
    (_, bce, arcface, contrastive) = cells(text, "loss")
    assert bce[3] == f"{chance.entropy(0.2):.3f}"
    level = chance.arcface(40, 32.0, 0.2)
    random = chance.random_arcface(40, 32.0, 0.2, LEARNED.model.width)
    assert arcface[1:6] == ["5.000", "5.000", f"{level:.3f}", f"{500 / level:.0f} %", f"{random:.3f}"]
    assert arcface[6:] == ["0.107", "0.2"]
    level = chance.contrastive(2.5 * LEARNED.train.batch, 40)
    assert contrastive == ["contrastive", "1.900", "0.500", f"{level:.3f}", f"{50 / level:.0f} %", "–", "1", "1"]
    statistics = {line[0]: line[1:] for line in cells(text, "labels and predictions in training")}
    assert statistics["of these nearest to their own row"] == ["0.100", "0.100"]
    assert statistics["the same by chance"] == ["0.025", "0.025"]
    assert statistics["speakers of a block whose embeddings from two blocks are compared"] == ["2.500", "2.500"]
    lines = cells(text, "term")
    assert [line[0] for line in lines[1:]] == ["bce (activity)", "speakers (contrastive)"]
    assert [line[4] for line in lines[1:]] == ["28 %", "72 %"], "of .213 and .550"
    thresholds = cells(text, "threshold")
    assert dict(zip(thresholds[0][1:], thresholds[1][1:], strict=True))["0.5"] == "0.300"
    assert "least 0.300 at 0.5" in text


def test_without_diagnostics_it_says_how_to_get_them(tmp_path):
    study = written(tmp_path / "runs", diagnosed=False)
    text = titled(study, "How it learned").markdown
    assert "--train.diagnostics_every" in text and "chance |" not in text
    assert [flag.kind for flag in study.task.flags(study)] == []


def test_the_learning_curve_is_beside_trivial_diarizations_and_chance(plain):
    figure = learning.curves(plain, plain.task.recipe)
    errors, loss, contrastive = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in errors.lines}
    assert list(drawn) == ["train", "valid", "silence", "one speaker", "oracle speech"], "not those far above"
    assert drawn["silence"][0] == 1 and list(drawn["valid"]) == [0.9, 0.45, 0.4]
    rows = [trivially(row, "oracle_speech") for row in plain.system("valid").rows()]
    assert drawn["oracle speech"][0] == pytest.approx(breakdown.rate("der", rows))
    for axes in (loss, contrastive):
        assert {line.get_label() for line in axes.lines} == {"loss", "chance"}


@pytest.mark.parametrize("real", [0.0, 0.75])
def test_with_recordings_the_five_measures_are_of_what_is_simulated(tmp_path, real):
    title = "SSND's reported measures and expectations"
    before = titled(written(tmp_path / "without"), title).markdown
    recipe = replace(RECIPE, data=replace(RECIPE.data, recordings="meetings", real=real))
    study = written(tmp_path / "runs", recipe=recipe)
    path = tmp_path / "runs" / "seed0" / "fold1"
    dump(path / "predictions-real_test.jsonl", [conversation("meeting", 3, 60.0, "one")])
    study = Study(runs=report.read(study.folder), name="runs", folder=study.folder)
    assert "real_test" in breakdown.tested(study)
    section = titled(study, title).markdown
    assert "simulated conversations alone" in section and "(meetings)" in section
    assert ("75 % of the examples are windows" in section) == bool(real)
    for head in ("measure", "expectation"):
        assert cells(section, head) == cells(before, head)
    for other in path.glob("predictions-test*"):
        other.unlink()
    study = Study(runs=report.read(study.folder), name="runs", folder=study.folder)
    assert title not in {each.title for each in study.task.sections(study)}, "there is nothing that it would be of"


def test_the_five_measures_say_what_the_run_has(tmp_path):
    loss = Loss(
        activity="focal", arcface=True, learned=True, contrastive=0.0, log_s_arcface=4.6052, scale=16, margin=0.1
    )
    recipe = replace(RECIPE, model=Model(name="improved"), loss=loss)
    study = written(tmp_path / "runs", recipe=recipe, arcface=5.0)
    lines = cells(claims.section(study, recipe).markdown, "measure")
    assert [line[0][0] for line in lines[1:]] == list("12345")
    assert lines[1][2] == "log s 4.6052 (weight 0.01), learned" and lines[1][3].startswith("of the loss at last: bce")
    assert lines[2][2].startswith("learned") and "0.5" in lines[2][3]
    assert lines[3][2] == "focal, alpha 0.25, gamma 2" and "best threshold 0.5" in lines[3][3]
    assert "scale 16" in lines[4][2] and "gradient norm 1.03" in lines[4][3]
    assert lines[5][3] == "15 records"


@pytest.mark.parametrize(
    ("ders", "fault", "met"),
    [
        ((0.9, 0.45, 0.4), "", ["yes", "yes", "–", "yes"]),
        ((0.9, 0.9, 0.9), "", ["no", "yes", "–", "–"]),
        ((0.4, 0.05, 0.01), "one", ["no", "yes", "–", "no"]),
    ],
)
def test_the_four_expectations_beside_what_is_measured(tmp_path, ders, fault, met):
    study = written(tmp_path / "runs", fault, ders=ders)
    lines = cells(claims.section(study, study.task.recipe).markdown, "expectation")
    assert [line[2] for line in lines[1:]] == met
    assert "not below oracle speech" in lines[1][3] if fault else "all below oracle speech" in lines[1][3]


def test_convergence_is_told_against_another_experiment(tmp_path):
    slow = written(tmp_path / "slow", ders=(0.9, 0.8, 0.45))
    fast = written(tmp_path / "fast", ders=(0.9, 0.45, 0.4))
    for study, other, met in ((fast, slow, "yes"), (slow, fast, "no")):
        text = claims.section(replace(study, other=other), study.task.recipe).markdown
        line = cells(text, "expectation")[3]
        assert line[2] == met
        assert f"Beside {other.name}: DER" in text
    assert "the least of slow (0.450) after 2.0 epochs, there 3.0" in claims.section(
        replace(fast, other=slow), fast.task.recipe
    ).markdown  # fmt: skip


def test_an_unstable_run_is_no_stable_training(tmp_path):
    study = written(tmp_path / "runs")
    study.runs[0].steps[7]["grad_norm"] = 1e5
    line = cells(claims.section(study, study.task.recipe).markdown, "expectation")[2]
    assert line[2] == "no" and line[3].startswith("1 of 30 steps")


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("", set()),
        ("silent", {"silence", "DER by counts tells nothing"}),
        ("one", {"speakers are not told apart", "speakers miscounted"}),
        ("split", {"speakers miscounted"}),
        ("joined", {"speakers are not told apart", "speakers miscounted"}),
        ("long", {"long recordings are worse", "speakers are not told apart", "speakers miscounted"}),
        ("chance", {"a loss at chance"}),
        ("alike", {"a loss at chance"}),
        ("constant", {"constant output"}),
        ("threshold", {"another threshold is better"}),
    ],
)
def test_flags_tell_the_faults(tmp_path, fault, kinds):
    study = written(tmp_path / "runs", fault)
    signs = list(study.task.flags(study))
    if fault == "split":
        signs = [flag for flag in signs if flag.kind != "speakers are not told apart"]
    assert {flag.kind for flag in signs} == kinds
    assert all(flag.evidence and flag.advice for flag in signs)
    if kinds:
        assert {flag.kind for flag in all_flags(study)} >= kinds


def test_arcface_at_chance_is_flagged_where_it_is(tmp_path):
    level = chance.arcface(40, 32.0, 0.2)
    random = chance.random_arcface(40, 32.0, 0.2, LEARNED.model.width)
    values = {"random": (random, 0.03, 1), "lower": (0.66 * random, 0.04, 1), "right": (0.66 * random, 0.3, 0)}
    for name, (value, right, count) in (values | {"below": (0.5 * level, 0.03, 0)}).items():
        study = written(tmp_path / name, recipe=LEARNED, arcface=value, right=right)
        signs = [flag for flag in study.task.flags(study) if flag.kind == "a loss at chance"]
        assert len(signs) == count
        assert all(flag.evidence.startswith("arcface") for flag in signs)


@pytest.mark.parametrize(("fault", "kinds"), [("weights", ["learned weights barely move"]), ("", [])])
def test_learned_weights_that_barely_move_are_flagged(tmp_path, fault, kinds):
    study = written(tmp_path / "runs", fault, recipe=LEARNED, arcface=5.0)
    signs = list(study.task.flags(study))
    assert [flag.kind for flag in signs] == kinds
    assert all("arcface 0.1 to 0.1" in flag.evidence and "weights_lr" in flag.advice for flag in signs)


def test_diagnostics_are_averaged_over_the_ends():
    records = [(step, told(share=step / 40)) for step in range(1, 41)]
    first, last = learning.ends(records)
    assert first["bce"] == pytest.approx(np.mean([means["bce"] for _, means in records[:4]]))
    assert last["bce"] == pytest.approx(np.mean([means["bce"] for _, means in records[-4:]]))
    assert learning.series([{"step": 1, "diagnostics": {"bce": math.nan}}, {"step": 2}]) == []


def test_unfinished_runs_have_a_page(tmp_path):
    study = written(tmp_path / "runs")
    path = tmp_path / "runs" / "seed0" / "fold1" / "metrics.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:-1]))
    for predicted in (tmp_path / "runs").rglob("predictions-*"):
        predicted.unlink()
    text = page_of(Study(runs=report.read(study.folder), name="runs"))
    assert "## How it learned" in text and "Beside trivial" not in text


def test_the_whole_page_is_light_and_loads_no_tensor_library(tmp_path):
    written(tmp_path / "runs", seeds=2)
    program = (
        "import sys; from pathlib import Path; from affect import report; "
        f"report.write(Path({str(tmp_path / 'runs')!r})); "
        "print([name for name in ('torch', 'datasets', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    text = (tmp_path / "runs" / "report.md").read_text()
    assert "Over the seeds" in text and "nan" not in text
    assert "rows name neither" not in text
    assert "DER (lower is better): train" in text
    assert Path(tmp_path / "runs" / "report.html").stat().st_size < 1_000_000


def test_recordings_without_speech_or_longer_than_a_page(tmp_path):
    study = written(tmp_path / "runs")
    path = tmp_path / "runs" / "seed0" / "fold1" / "predictions-real_test.jsonl"
    silent = conversation("nobody", 2, 8.0, "silent")
    silent |= {"target": {"turns": []}, "speakers": 0, "overlap": 0.0}
    long = conversation("long", 3, 300.0)
    dump(path, [silent, long])
    study = Study(runs=report.read(tmp_path / "runs"), name="runs", folder=study.folder)
    sections = {section.title: section for section in study.task.sections(study)}
    lines = cells(sections["By number of speakers and overlap"].markdown, "recordings")
    assert [line[0] for line in lines[1:3]] == ["real_test: 0 speakers", "real_test: 3 speakers"]
    assert lines[1][lines[0].index("DER")] == "–"
    captions = [plot.caption for plot in sections["Recordings"].plots]
    assert all("nobody" not in caption for caption in captions)
    assert beside_reference(long).axes[0].get_xlim() == (0, 120)
    assert [flag.where for flag in study.task.flags(study)] == []
    alone = [*path.parent.glob("predictions-test*"), *path.parent.glob("baseline-*")]
    for other in alone:
        other.unlink()
    dump(path, [silent])
    study = Study(runs=report.read(tmp_path / "runs"), name="runs", folder=study.folder)
    assert "What limits it" not in page_of(study) and "## Beside trivial" in page_of(study)


def test_recorded_scores_alone_have_a_page(tmp_path):
    study = written(tmp_path / "runs")
    for predicted in (tmp_path / "runs").rglob("predictions-*"):
        predicted.unlink()
    path = tmp_path / "runs" / "seed0" / "fold1" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"scores": {"train"', '"scores": {"test": {"der": 0.4}, "train"'))
    text = page_of(Study(runs=report.read(study.folder), name="runs"))
    assert "0.400" in text and "Beside trivial" not in text


def test_a_table_of_experiments_has_both_ders_and_losses_beside_chance(tmp_path):
    written(tmp_path / "before", "silent", recipe=LEARNED, arcface=9.0, seeds=2)
    written(tmp_path / "ours", seeds=2)
    script = Path(__file__).parents[3] / "benchmarks" / "diarization_table.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True)
    head, before, ours = cells(done.stdout, "experiment")
    assert head[2:6] == ["DER", "oracle speech", "report 004's DER", "silence's"]
    assert before[2] == "1.000 ± 0.000" and before[4] == before[5], "which is what silence has"
    assert ours[4] != ours[5] and ours[8:] == ["–", "–"]
    random = chance.random_arcface(40, 32.0, 0.2, LEARNED.model.width)
    assert before[8].startswith("9.000") and before[9] == f"{chance.arcface(40, 32.0, 0.2):.1f} to {random:.1f}"
    assert ours[7] == f"{chance.entropy(0.2):.3f} ± 0.000"
