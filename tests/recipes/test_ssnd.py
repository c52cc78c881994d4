"""Every experiment of recipes/ssnd.py has the report's values and runs; its command line is frozen."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affect.experiments import definitions
from affect.experiments.definitions import Search, Suite
from affect.metrics import chance
from affect.recipe import field_names
from affect.tables import flat
from affect.tasks import make, read_recipe
from affect.tasks.diarization.config import MEDIUM, SMALL, Diarization
from affect.tasks.diarization.measures import MEASURES
from tests import launching
from tests.launching import assert_one_line

RECIPE = Path(__file__).parents[2] / "recipes" / "ssnd.py"
OWN = [
    "data.voices", "data.root", "data.test_root", "data.name", "data.speaker", "data.separator", "data.table",
    "data.columns", "data.voices_layout", "data.most_seconds",
    "data.generated", "data.voice_seconds", "data.generator_seed", "data.held_out", "data.speeds", "data.block",
    "data.examples",
    "data.valid", "data.valid_seconds", "data.test", "data.test_speakers", "data.test_seconds", "data.test_sound",
    "data.test_seed", "data.recordings", "data.layout", "data.real", "data.shift",
    "model.name", "model.extractor", "model.train_encoder", "model.encoder_layer", "model.norm", "model.channels",
    "model.blocks", "model.frame", "model.width", "model.heads", "model.hidden", "model.kernel", "model.encoder_layers",
    "model.decoder_layers", "model.dropout", "model.slots", "model.pseudo", "model.padding", "model.embedding_divisor",
    "model.activity_query",
    "loss.activity", "loss.alpha", "loss.gamma", "loss.divide_by", "loss.labelled", "loss.arcface", "loss.margin",
    "loss.scale", "loss.contrastive", "loss.temperature", "loss.log_s_bce", "loss.log_s_arcface", "loss.learned",
    "loss.weights_lr", "loss.mask_prob", "loss.masked", "loss.empty", "loss.reference",
    "loss.reference_seconds", "loss.pseudo_weight", "loss.arrival",
    "simulation.speakers", "simulation.turn", "simulation.gap", "simulation.overlap", "simulation.fitted",
    "simulation.distance", "simulation.moves", "simulation.reverberation", "simulation.decay", "simulation.noise",
    "simulation.snr", "simulation.noise_files",
    "online.window", "online.hop", "online.ahead", "online.start", "online.counting", "online.threshold",
    "online.enrol", "online.least", "online.merge", "online.memory", "online.rounds", "online.shortest",
    "online.offline",
]  # fmt: skip
ABLATIONS = {
    "loss_weight": {"loss.log_s_arcface": 4.6052},
    "queries": {"model.name": "improved"},
    "focal": {"loss.activity": "focal"},
    "lr": {"optim.lr": 5e-5},
    "batch": {"train.batch": 32},
    "clipping": {"optim.clip": 1.0},
    "margin": {"loss.margin": 0.1},
    "scale": {"loss.scale": 16.0},
    "mask_prob": {"loss.mask_prob": 0.3},
}
FURTHER = {
    "lower_arcface": {"loss.log_s_arcface": 6.9078},
    "other_focal": {"loss.alpha": 0.75, "loss.gamma": 1.0},
    "other_schedule": {"optim.schedule": "cosine", "optim.warmup": 0.1},
}
PARTS = {
    "by_arrival": {"loss.arrival": 1.0},
    "without_contrast": {"loss.contrastive": 0.0},
    "same_block": {"loss.reference": "same"},
    "never_empty": {"loss.empty": 0.0},
    "four_new": {"model.pseudo": 4, "model.slots": 8, "loss.empty": 0.5},
}
SYSTEMS = [
    "demo", "before", "improved", *(f"ablation_{name}" for name in ABLATIONS), *FURTHER, "ours",
    *(f"ours_{name}" for name in PARTS), "ours_small", "ours_medium", "ours_held_out", "librispeech", "finetune_real",
]  # fmt: skip
GENERATED = [name for name in SYSTEMS if name not in ("ours_held_out", "librispeech", "finetune_real")]
"""Those that need no data, nor more than a few voices."""


experiments = partial(launching.experiments, RECIPE)
launch = partial(launching.launch, recipe=RECIPE)


def options(root: Path) -> list[str]:
    """Return the options of two steps on a few generated voices."""
    data = ["--data.voices", "generated", "--data.root", str(root), "--data.generated", "5", "4",
            "--data.voice-seconds", "5", "--data.block", "1.92", "--online.window", "1.92", "--data.examples", "6",
            "--data.valid", "1", "--data.valid-seconds", "1.5", "--data.test", "1", "--data.test-seconds", "1.5",
            "--simulation.speakers", "2", "3", "--simulation.reverberation", "0"]  # fmt: skip
    model = ["--model.channels", "4", "4", "4", "8", "--model.width", "16", "--model.heads", "2", "--model.hidden",
             "16", "--model.encoder-layers", "1", "--model.decoder-layers", "1", "--model.slots", "6"]  # fmt: skip
    train = ["--train.batch", "3", "--train.epochs", "1", "--train.workers", "0", "--train.trackers", "--no-report"]
    return [*data, *model, *train, "--model.extractor", "convolution", "--train.costs", "linear"]


def test_the_command_line_is_frozen():
    """A field that goes or changes its name breaks commands and old runs: change this list with care."""
    names = field_names(Diarization)
    own = ("data", "model", "loss", "simulation", "online")
    assert sorted(name for name in names if name.split(".")[0] in own) == sorted(OWN)


def test_the_experiments_are_these():
    assert sorted(experiments()) == sorted([*SYSTEMS, "ablations", "our_parts", "search"])
    assert next(iter(experiments())) == "demo"


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_whole(name):
    recipe = experiments()[name]()
    assert Diarization.from_dict(recipe.to_dict()) == recipe
    assert make(recipe).recipe == recipe
    assert recipe.train.diagnostics_every is not None
    assert (experiments()[name].__doc__ or "").strip()


def test_the_reports_two_systems_have_its_values():
    before, after = experiments()["before"](), experiments()["improved"]()
    assert (before.loss.log_s_bce, before.loss.log_s_arcface, after.loss.log_s_arcface) == (0.0, 2.3026, 4.6052)
    assert (before.loss.activity, after.loss.activity) == ("bce", "focal")
    assert (after.loss.alpha, after.loss.gamma) == (0.25, 2.0)
    assert before.loss.learned and before.loss.arcface and not before.loss.contrastive
    assert (before.optim.lr, before.train.batch, before.optim.clip) == (1e-4, 64, None)
    assert (after.optim.lr, after.train.batch, after.optim.clip) == (5e-5, 32, 1.0)
    assert [(r.loss.margin, r.loss.scale, r.loss.mask_prob) for r in (before, after)] == [
        (0.2, 32, 0.5),
        (0.1, 16, 0.3),
    ]
    for recipe in (before, after):
        assert {name: getattr(recipe.model, name) for name in SMALL} == SMALL
        assert (recipe.model.extractor, recipe.model.frame, recipe.model.slots) == ("resnet", 640, 30)
        # The causes of its failure.
        assert (recipe.model.padding, recipe.model.embedding_divisor) == ("pseudo", 16.0)
        assert (recipe.model.activity_query, recipe.loss.empty, recipe.loss.pseudo_weight) == ("mean", 0.0, 1.0)
        assert recipe.loss.weights_lr is None
        # Its BCE of .1 to .2 is a mean over all slots and frames: the sum over 200 frames would be some 33.
        assert (recipe.loss.divide_by, recipe.loss.labelled) == ("frames", "all")


@pytest.mark.parametrize(("name", "sizes"), [("ours_small", SMALL), ("ours_medium", MEDIUM)])
def test_ours_has_the_sizes_of_the_paper(name, sizes):
    """And nothing else that `ours` has not."""
    base, made = (flat(experiments()[key]().to_dict()) for key in ("ours", name))
    named = {f"model.{field}" for field in sizes} | {"model.extractor"}
    assert {key for key, value in made.items() if value != base[key]} <= named
    assert {field: getattr(experiments()[name]().model, field) for field in sizes} == sizes
    assert made["model.extractor"] == "resnet"


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_makes_one_change(name):
    """To what the report's improved model has, and nothing else; all of them together are that model."""
    made = {key: flat(experiments()[key]().to_dict()) for key in ("before", "improved", f"ablation_{name}")}
    changed = {k: v for k, v in made[f"ablation_{name}"].items() if v != made["before"][k]}
    assert changed == ABLATIONS[name]
    assert all(made["improved"][field] == value for field, value in changed.items())


def test_all_changes_together_are_the_reports_improved_model():
    before, improved = (flat(experiments()[name]().to_dict()) for name in ("before", "improved"))
    every = {field: value for change in ABLATIONS.values() for field, value in change.items()}
    assert {k: v for k, v in improved.items() if v != before[k]} == every


@pytest.mark.parametrize("name", FURTHER)
def test_a_further_idea_is_of_the_improved_model(name):
    base, made = (flat(experiments()[key]().to_dict()) for key in ("improved", name))
    assert {k: v for k, v in made.items() if v != base[k]} == FURTHER[name]


@pytest.mark.parametrize("name", PARTS)
def test_ours_without_a_part_of_it_makes_one_change(name):
    base, made = (flat(experiments()[key]().to_dict()) for key in ("ours", f"ours_{name}"))
    assert {k: v for k, v in made.items() if v != base[k]} == PARTS[name]


def test_the_demo_finds_several_new_speakers_at_once():
    """With four pseudo-speakers and empty memories its DER of 8 s is 6 and 7 points lower (docs/experiments.md)."""
    demo = experiments()["demo"]()
    assert (demo.model.pseudo, demo.model.slots, demo.loss.empty) == (4, 8, 0.5)


def test_workflows_name_experiments_that_are_there():
    suite, search = experiments()["ablations"](), experiments()["search"]()
    assert isinstance(suite, Suite) and isinstance(search, Search)
    assert (suite.reference, suite.takes_back) == ("before", False)
    alone = [f"ablation_{name}" for name in ABLATIONS]
    assert list(suite.members) == ["before", "improved", *alone, *FURTHER, "ours"]
    parts = experiments()["our_parts"]()
    assert (parts.reference, list(parts.members)) == ("ours", ["ours", *(f"ours_{name}" for name in PARTS)])
    found = definitions.resolve(search, experiments()[search.of]())
    assert {one.name for one in found} > {"optim.lr", "loss.empty"}
    base, tried = (flat(experiments()[name]().to_dict()) for name in ("ours", search.of))
    assert {key: value for key, value in tried.items() if value != base[key]} == {"data.held_out": 8}


def test_all_pages_name_the_same_scores_of_real_recordings():
    """Those of the recipe as it is; docs/experiments.md has those of other weights, too."""
    root = RECIPE.parents[1]
    rows = [line for line in (root / "docs" / "experiments.md").read_text().splitlines() if line.startswith("|")]
    first = next(k for k, line in enumerate(rows) if line.startswith("| the recipe with other speeds"))
    scores = [f"{float(line.split('|')[2]):.2f}".lstrip("0") for line in rows[first : first + 2]]
    for page in (root / "README.md", root / "recipes" / "README.md"):
        (row,) = [line for line in page.read_text().splitlines() if "| `finetune_real` |" in line]
        assert {*re.findall(r"(?<!\d)\.\d\d", row)} >= {*scores}
    assert f"excerpts {scores[0]} to {scores[1]}" in (experiments()["finetune_real"].__doc__ or "")


def test_the_real_runs_choose_on_voices_held_out_and_never_on_those_of_tests():
    libri, real = experiments()["librispeech"](), experiments()["finetune_real"]()
    assert libri.data.held_out == 15
    assert libri.data.root != libri.data.test_root is not None
    assert (libri.data.block, libri.model.width, libri.model.encoder_layers) == (8.0, 128, 4)
    assert libri.model.frames_per_second == 12.5
    # Conversations of overlap .2 without rooms and noise, in blocks and on the way.
    assert (libri.data.test_sound, libri.simulation.overlap) == (("plain",), 0.2)
    assert (libri.data.test_speakers, libri.data.test_seconds) == ((2, 3), (8.0, 64.0))
    assert (real.data.real, real.train.init_from) == (0.75, "runs/librispeech")
    # Validation is simulated and gets worse by fine-tuning; the values are those that docs/experiments.md measured.
    assert (libri.train.choose, real.train.choose) == ("best", "last")
    assert (real.optim.lr, real.train.epochs, real.data.examples) == (3e-4, 5, 100)


@pytest.mark.parametrize("name", GENERATED)
def test_a_dry_run_of_every_experiment(capsys, tmp_path, monkeypatch, voices_root, name):
    monkeypatch.chdir(tmp_path)
    code, said, err = launch(capsys, name, *options(voices_root), "--dry-run")
    assert code == 0, err
    assert "train 6, valid 1, test_2_speakers_1.5s 1, test_3_speakers_1.5s 1" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["demo", "improved"])
def test_two_steps_on_generated_voices(capsys, tmp_path, monkeypatch, voices_root, name):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, name, *options(voices_root), "--train.diagnostics-every", "2")
    assert code == 0, err
    folder = tmp_path / "runs" / name / "seed0" / "fold1"
    assert read_recipe(folder / "recipe.json").model.width == 16
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("step") == 2
    assert lines[-1]["scores"]["test_2_speakers_1.5s"]["der"] >= 0
    (diagnosed,) = (line for line in lines if "diagnostics" in line)
    assert diagnosed["step"] == 2
    levels = {kind: value for kind, value in diagnosed["diagnostics"].items() if kind.startswith("chance_")}
    assert levels["chance_bce"] == pytest.approx(chance.entropy(diagnosed["diagnostics"]["positive_rate"]))
    if name == "improved":
        assert levels["chance_arcface"] == chance.arcface(5, 16.0, 0.1) < levels["chance_arcface_random"]
        assert levels["chance_speakers_right"] == 1 / 5
    else:
        assert set(levels) == {"chance_bce", "chance_speakers"}
    for ending in ("", "-silence", "-oracle_speech"):
        kind = "baseline" if ending else "predictions"
        assert (folder / f"{kind}{ending}-test_2_speakers_1.5s.jsonl").exists()


def meetings(root: Path, kind: str) -> Path:
    """Write a meeting of two tones for each part, in Kaldi's layout or in lhotse's, and return the folder."""
    turns = {"Ada": (0.0, 2.0), "Eve": (1.5, 6.0)}
    time = np.arange(96_000) / 16_000
    for k, part in enumerate(("train", "dev", "test")):
        name, folder = f"m{k}", root / part
        folder.mkdir(parents=True)
        soundfile.write(folder / f"{name}.wav", 0.3 * np.sin(2 * np.pi * (500 + 300 * k) * time), 16_000)
        if kind == "kaldi":
            (folder / "wav.scp").write_text(f"{name} {folder / name}.wav\n")
            spoken = [f"{name}-{who} {name} {a} {-1 if b == 6 else b}\n" for who, (a, b) in turns.items()]
            (folder / "segments").write_text("".join(spoken))
            (folder / "utt2spk").write_text("".join(f"{name}-{who} {who}{k}\n" for who in turns))
            continue
        sources = [{"type": "file", "channels": [0], "source": str(folder / f"{name}.wav")}]
        heard = {"id": name, "sources": sources, "sampling_rate": 16_000, "num_samples": 96_000, "duration": 6.0}
        spoken = [
            json.dumps({"id": f"{name}-{who}", "recording_id": name, "start": a, "duration": b - a, "channel": 0,
                        "speaker": f"{who}{k}"}) + "\n"
            for who, (a, b) in turns.items()
        ]  # fmt: skip
        (root / f"talk_recordings_{part}.jsonl").write_text(json.dumps(heard | {"channel_ids": [0]}) + "\n")
        (root / f"talk_supervisions_{part}.jsonl").write_text("".join(spoken))
    return root


@pytest.mark.parametrize("kind", ["kaldi", "lhotse"])
def test_some_steps_on_windows_of_recordings_in_other_layouts(capsys, tmp_path, monkeypatch, voices_root, kind):
    monkeypatch.chdir(tmp_path)
    real = ["--data.recordings", str(meetings(tmp_path / "meetings", kind)), "--data.real", "0.5"]
    code, _, err = launch(capsys, "demo", *options(voices_root), *real, "--data.shift", "0.64")
    assert code == 0, err
    folder = tmp_path / "runs" / "demo" / "seed0" / "fold1"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("step") == 4
    assert lines[-1]["scores"]["real_test"]["der"] >= 0
    (row,) = map(json.loads, (folder / "predictions-real_test.jsonl").read_text().splitlines())
    assert row["target"]["turns"] == [[0.0, 2.0, "Ada2"], [1.5, 6.0, "Eve2"]]
    sizes = json.loads((folder / "environment.json").read_text())["utterances"]
    assert (sizes["train"], sizes["real_valid"], sizes["real_test"]) == (12, 1, 1), "a half of them are windows"


def test_the_demo_is_tried_on_a_folder_of_speech(capsys, tmp_path, monkeypatch, voices_root):
    monkeypatch.chdir(tmp_path)
    given = ["--data.root", str(voices_root / "seen"), "--data.test-root", str(voices_root / "unseen")]
    code, said, err = launch(capsys, "demo", *given, "--dry-run")
    assert code == 0, err
    assert "test_3_speakers_64s 20" in said


def test_what_can_not_be_is_one_line(capsys, tmp_path, monkeypatch, voices_root):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "demo", *options(voices_root), "--simulation.speakers", "2", "6")
    assert_one_line(code, err, "simulation.speakers asks for 6 speakers of 5 training voices")
    for name in ("librispeech", "demo"):
        code, _, err = launch(capsys, name, "--data.root", "nowhere")
        assert_one_line(code, err, "nowhere: no such folder of voices")
    code, _, err = launch(capsys, "demo", "--data.root", str(voices_root))
    assert_one_line(code, err, "holds generated voices: --data.voices generated takes them")
    assert not (tmp_path / "nowhere").exists()
    assert not list(tmp_path.glob("runs/*/seed0"))


TINY = [
    "--model.extractor", "convolution", "--model.channels", "16", "32", "64", "64", "--model.width", "64",
    "--model.heads", "4", "--model.hidden", "128", "--model.encoder-layers", "2", "--model.decoder-layers", "2",
    "--simulation.speakers", "2", "3", "--simulation.reverberation", "0", "--data.examples", "640", "--data.valid",
    "12", "--data.test", "20", "--train.epochs", "12",
]  # fmt: skip
"""The size of the table in docs/experiments.md."""


def run_whole(folder: Path, experiment: str, *options: str) -> dict[str, dict[str, dict[str, float]]]:
    """Run an experiment and return the scores of tests by part and model: the network, and each trivial one."""
    done = launching.in_its_own_process(folder, str(RECIPE), experiment, *options, timeout=3000)
    assert done.returncode == 0, done.stderr
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for path in folder.glob(f"runs/{experiment}/seed0/fold1/*-test_*.jsonl"):
        model, _, part = path.stem.partition("-test_")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        scores.setdefault(part, {})[model] = {measure.name: measure.score(rows) for measure in MEASURES}
    assert len(scores) == 4
    return scores


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_on_unseen_voices_the_demo_is_ten_points_below_oracle_speech_as_one_speaker(tmp_path):
    scores = run_whole(tmp_path, "demo")
    for part, of in scores.items():
        assert of["predictions"]["der"] <= of["baseline-oracle_speech"]["der"] - 0.10, part
        # It leaves what the report takes for a DER, too.
        assert of["predictions"]["counted"] < 0.7 * of["baseline-silence"]["counted"], part
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ours_leaves_silence_at_the_same_size(tmp_path):
    fewer = ["--data.valid", "4", "--data.test", "6", "--train.epochs", "6"]
    for part, of in run_whole(tmp_path, "ours", *TINY, *fewer).items():
        assert of["predictions"]["der"] < 0.7 < of["baseline-silence"]["der"], part
        assert of["predictions"]["counted"] < 0.7 * of["baseline-silence"]["counted"], part


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_reports_model_stays_at_what_silence_scores(tmp_path):
    for part, of in run_whole(tmp_path, "before", *TINY).items():
        assert of["predictions"]["counted"] == pytest.approx(of["baseline-silence"]["counted"], abs=0.02), part
        assert of["predictions"]["der"] > 0.9, part
