"""What launch files and recipes disagree about: one line each, which names both sides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from affect.errors import AffectError
from affect.recipe import Recipe
from affect.training.distributed import launch_settings
from tests.training import runs

FILE = "ACCELERATE_DEEPSPEED_CONFIG_FILE"
OF_LAUNCHERS = ("ACCELERATE_", "FSDP_", "SLURM_", "WORLD_SIZE", "RANK", "LOCAL_")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(OF_LAUNCHERS):
            monkeypatch.delenv(name)


def made(settings: dict[str, Any] | None, world: int = 2, precision: str = "no") -> Any:
    """Return what stands for an Accelerator whose DeepSpeed was told `settings`."""
    plugin = None if settings is None else SimpleNamespace(deepspeed_config=settings, zero_stage=2)
    state = SimpleNamespace(deepspeed_plugin=plugin)
    return SimpleNamespace(num_processes=world, mixed_precision=precision, state=state)


def recipe(clip: float | None = 1.0, **train: Any) -> Recipe:
    base = runs.recipe(Path("nowhere"), **train)
    return replace(base, optim=replace(base.optim, clip=clip))


def line(error: pytest.ExceptionInfo[AffectError]) -> str:
    said = str(error.value)
    assert "\n" not in said
    return said


# The recipe and what DeepSpeed was told

AGREED: list[tuple[dict[str, Any], float | None]] = [
    ({}, 1.0),
    ({"gradient_clipping": 1.0}, 1.0),
    ({"gradient_clipping": 1}, 1.0),
    ({"gradient_clipping": 0.0}, None),
    ({"gradient_clipping": "auto"}, 3.0),
    ({"train_batch_size": 8, "train_micro_batch_size_per_gpu": "auto"}, 1.0),
    ({"train_batch_size": "auto", "gradient_accumulation_steps": "auto"}, None),
    ({"gradient_accumulation_steps": 1}, None),
]


@pytest.mark.parametrize(("settings", "clip"), AGREED)
def test_what_agrees_is_silent_and_unchanged(settings, clip):
    before = dict(settings)
    launch_settings.agree(made(settings), recipe(clip, world=2))
    assert settings == before


@pytest.mark.parametrize(
    ("settings", "clip", "said"),
    [
        ({"gradient_clipping": 0.5}, 1.0, "says gradient_clipping 0.5, the recipe optim.clip 1.0: keep one"),
        ({"gradient_clipping": 0.5}, None, "says gradient_clipping 0.5, the recipe optim.clip None: keep one"),
        ({"gradient_clipping": 0}, 1.0, "says gradient_clipping 0, the recipe optim.clip 1.0: keep one"),
        ({"train_batch_size": 64}, 1.0, "says train_batch_size 64, the recipe train.batch 8: keep one"),
        ({"gradient_accumulation_steps": 4}, 1.0, "says gradient_accumulation_steps 4, the recipe train.batch 8, whi"),
        ({"train_micro_batch_size_per_gpu": 4}, 1.0, "says train_micro_batch_size_per_gpu 4, the recipe train.batch 8"),
        ({"optimizer": {"type": "Lamb"}}, 1.0, "has an optimizer (Lamb), the recipe optim.algorithm adamw: keep the"),
        ({"scheduler": {"type": "OneCycle"}}, 1.0, "scheduler (OneCycle), the recipe optim.schedule cosine: keep the"),
        ({"optimizer": {}}, 1.0, "has an optimizer (optimizer), the recipe optim.algorithm adamw"),
    ],
)
def test_a_conflict_names_both_sides(settings, clip, said):
    with pytest.raises(AffectError) as error:
        launch_settings.agree(made(settings), recipe(clip))
    assert said in line(error)
    assert line(error).startswith("the launch file ")


@pytest.mark.parametrize("name", ["clip_value", "clip_percentile"])
def test_what_needs_whole_gradients_is_refused_where_they_are_not(name):
    asked = replace(recipe(), optim=replace(recipe().optim, **{name: 0.5}))
    launch_settings.agree(made(None), asked)
    with pytest.raises(AffectError, match=rf"optim\.{name} needs whole gradients, which ZeRO does not keep") as error:
        launch_settings.agree(made({}), asked)
    line(error)


@pytest.mark.parametrize("settings", [None, {}])
def test_another_number_of_processes_is_refused(settings):
    launch_settings.agree(made(settings, world=3), recipe(world=3))
    with pytest.raises(AffectError, match="^train.world asks for 3 processes, but 2 joined$"):
        launch_settings.agree(made(settings), recipe(world=3))


def test_without_deepspeed_there_is_nothing_else_to_agree_on():
    launch_settings.agree(made(None, world=1), recipe(None))


# Precision


@pytest.mark.parametrize("settings", [None, {}])
@pytest.mark.parametrize("asked", [None, "no", "bf16", "fp16"])
@pytest.mark.parametrize("here", ["no", "bf16"])
def test_the_recipes_precision_is_held_against_the_launch_file(settings, asked, here):
    given = made(settings, precision=here)
    if asked in (None, here):
        launch_settings.agree(given, recipe(precision=asked))
        return
    with pytest.raises(AffectError) as error:
        launch_settings.agree(given, recipe(precision=asked))
    assert line(error) == (f"the launch file says mixed_precision {here}, the recipe train.precision {asked}: keep one")


BOTH = "the launch file says mixed_precision bf16, its DeepSpeed configuration bf16 disabled: keep one"


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, "no"),
        ({"bf16": {"enabled": True}}, "no"),
        ({"bf16": {"enabled": True}}, "bf16"),
        ({"bf16": {"enabled": True}, "torch_autocast": {"enabled": True}}, "no"),
        ({"bf16": {"enabled": False}, "fp16": {"enabled": False}, "torch_autocast": {"enabled": False}}, "no"),
    ],
)
def test_bf16_of_a_file_of_deepspeeds_is_the_runs(monkeypatch, settings, asked):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    launch_settings._check_precision(settings)


@pytest.mark.parametrize(
    ("settings", "asked", "said"),
    [
        (
            {"fp16": {"enabled": True}},
            "no",
            "configuration enables fp16, which is for one process and DDP: enable bf16",
        ),
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "no", "configuration enables fp16, which is for one"),
        (
            {"torch_autocast": {"enabled": True}},
            "no",
            "configuration enables torch_autocast: enable bf16 there instead",
        ),
        ({"bf16": {"enabled": False}}, "bf16", BOTH),
    ],
)
def test_another_precision_of_a_file_of_deepspeeds_is_refused(monkeypatch, settings, asked, said):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    with pytest.raises(AffectError) as error:
        launch_settings._check_precision(settings)
    assert said in line(error)


# What can be told before there is an engine


@pytest.mark.parametrize(
    ("environment", "engines", "said"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, (True, False, False), "mixed_precision fp8 is not supported: use"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, (False, False, False), "fp16 needs a GPU and none is here"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, (True, True, False), "fp16 is for one process and DDP: launch ZeRO"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, (True, False, True), "fp16 is for one process and DDP: launch ZeRO"),
        ({}, (True, False, True), "the launch file asks for the first FSDP: say fsdp_version: 2"),
        ({"FSDP_VERSION": "1"}, (True, False, True), "the launch file asks for the first FSDP: say fsdp_version: 2"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"}, (True, False, False),
         "accumulates 2 steps (gradient_accumulation_steps), but the recipe's train.batch is the global batch"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"}, (True, True, False), "accumulates 2 steps"),
    ],
)  # fmt: skip
def test_what_a_launcher_may_not_ask_for(monkeypatch, environment, engines, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AffectError) as error:
        launch_settings._check(*engines)
    assert said in line(error)


@pytest.mark.parametrize(
    ("environment", "engines"),
    [
        ({}, (False, False, False)),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, (True, False, False)),
        ({"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}, (True, True, False)),
        ({"FSDP_VERSION": "2", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "auto"}, (True, False, True)),
    ],
)
def test_what_a_launcher_may_ask_for(monkeypatch, environment, engines):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    launch_settings._check(*engines)


def test_deepspeed_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(launch_settings, "find_spec", lambda name: None)
    launch_settings._check(True, False, False)
    with pytest.raises(AffectError, match=r"asks for DeepSpeed: pip install 'affect\[deepspeed\]'") as error:
        launch_settings._check(True, True, False)
    line(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "can't be read: No such file or directory"),
        ('{"zero_optimization": ', "can't be read: Expecting value: line 1"),
        ("", "can't be read: Expecting value"),
        ("[1, 2]", "must hold a JSON object, not a list"),
        ('{"zero_optimization": {"stage": 2}, "bf16": true}', ": bf16 must be a JSON object, not True"),
        ('{"zero_optimization": 2}', ": zero_optimization must be a JSON object, not 2"),
    ],
)
def test_a_file_of_deepspeeds_that_is_none_is_named(monkeypatch, tmp_path, text, said):
    path = tmp_path / "zero.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv(FILE, str(path))
    launch_settings._check(True, False, False)
    with pytest.raises(AffectError) as error:
        launch_settings._check(True, True, False)
    assert line(error).startswith(f"deepspeed_config_file {path}")
    assert said in line(error)


def test_a_folder_is_no_file_of_deepspeeds(monkeypatch, tmp_path):
    monkeypatch.setenv(FILE, str(tmp_path))
    with pytest.raises(AffectError, match="can't be read: Is a directory"):
        launch_settings._check(True, True, False)


# With Accelerate's own reading of the file


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a process without a GPU")
@pytest.mark.parametrize(
    ("settings", "asked", "precision"),
    [
        ({"zero_optimization": {"stage": 2}}, "no", "no"),
        ({"zero_optimization": {"stage": 2}}, "bf16", "bf16"),
        ({"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}, "no", "bf16"),
        ({"zero_optimization": {"stage": 2}, "bf16": {"enabled": "auto"}}, "bf16", "bf16"),
        ({"zero_optimization": {"stage": 2}, "bf16": {"enabled": "auto"}}, "no", "no"),
        ({"zero_optimization": {"stage": 2}, "bf16": {"enabled": False}}, "bf16", None),
        ({"zero_optimization": {"stage": 2}, "fp16": {"enabled": True}}, "no", None),
    ],
)
def test_accelerate_reads_a_file_as_it_is_held_to(monkeypatch, tmp_path, settings, asked, precision):
    from accelerate.utils import DeepSpeedPlugin

    path = tmp_path / "zero.json"
    path.write_text(json.dumps(settings))
    monkeypatch.setenv(FILE, str(path))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    launch_settings._check(True, True, False)
    plugin = DeepSpeedPlugin()
    plugin.set_mixed_precision(asked)
    said = plugin.deepspeed_config
    if precision is None:
        with pytest.raises(AffectError):
            launch_settings._check_precision(said)
        return
    launch_settings._check_precision(said)
    launch_settings.agree(made(said), recipe())
    assert (said["bf16"]["enabled"], said["fp16"]["enabled"]) == (precision == "bf16", False)
