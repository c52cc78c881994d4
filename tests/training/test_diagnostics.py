"""What is recorded of a step, and gradients of terms that are combined otherwise than by their sum."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from affect.errors import AffectError
from affect.findings import Flag
from affect.task import Batch
from affect.training import diagnostics, trainer
from affect.training.distributed import join
from tests.training import toy_task
from tests.training.toy_task import ToyTask, lines, recipe, train

TERMS = ("ccc_valence", "mse_arousal", "contrastive")


class Watched(ToyTask):
    """Counts rows, and means of what it sees."""

    def diagnostics(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        assert not torch.is_grad_enabled()
        assert not any(value.requires_grad for value in outputs.values())
        there = torch.isfinite(batch.targets["valence"])
        return {
            "rows": torch.tensor(float(len(batch.ids))),
            "valence": (outputs["valence"][there].sum(), there.sum()),
            "nothing": (torch.tensor(0.0), torch.tensor(0)),
        }


def test_sums_and_means_over_a_step_do_not_depend_on_its_cut(tmp_path):
    found = []
    for budget, mode in ((100.0, "hold"), (3.0, "hold"), (3.0, "replay")):
        folder = tmp_path / f"{budget}-{mode}"
        train(Watched(recipe(train={"budget": budget, "mode": mode, "diagnostics_every": 2})), folder)
        steps = lines(folder, "step")
        assert ["diagnostics" in line for line in steps] == [False, True] * 3
        found.append([line["diagnostics"] for line in steps if "diagnostics" in line])
    for first, *others in zip(*found, strict=True):
        assert first["rows"] == 8.0
        assert first["nothing"] == 0.0
        assert first["valence"] != 0.0
        for other in others:
            assert other == pytest.approx(first, rel=1e-4, abs=1e-5)


class Concluding(Watched):
    """Finds the same wrong with every step, and from the fourth on something else, too."""

    def conclusions(self, means: Mapping[str, float], share: float) -> tuple[dict[str, float], list[Flag]]:
        signs = [Flag("one kind", "", f"rows {means['rows']:.0f}", "try less"), Flag("one kind", "", "", "try more")]
        return {"twice": 2 * means["mse_arousal"], "share": share}, signs[: 1 + (share > 0.5)]


def test_what_follows_is_recorded_with_them_and_told_once(tmp_path, caplog):
    train(Concluding(recipe(terms=TERMS, train={"diagnostics_every": 1})), tmp_path / "run")
    steps = lines(tmp_path / "run", "step")
    for line in steps:
        assert line["diagnostics"]["twice"] == pytest.approx(2 * line["terms"]["mse_arousal"])
    assert [line["diagnostics"]["share"] for line in steps] == [k / 6 for k in range(1, 7)]
    told = [record.getMessage() for record in caplog.records if "one kind" in record.message]
    assert told == ["step 1: one kind: rows 8; try less", "step 4: one kind: ; try more"]


def test_they_change_no_step(tmp_path):
    for every, name in ((None, "without"), (1, "with")):
        train(Watched(recipe(terms=TERMS, train={"diagnostics_every": every})), tmp_path / name)
    without, watched = (lines(tmp_path / name) for name in ("without", "with"))
    assert [{k: v for k, v in line.items() if k != "diagnostics"} for line in watched] == without


def test_gradients_of_terms_are_told_by_norm_and_cosine(tmp_path):
    train(ToyTask(recipe(terms=TERMS, train={"diagnostics_every": 1, "epochs": 1})), tmp_path / "run")
    for line in lines(tmp_path / "run", "step"):
        found = line["diagnostics"]
        assert list(found) == [
            *(f"gradient_norm/{name}" for name in TERMS),
            *(f"gradient_cosine/{a}/{b}" for a, b in [TERMS[:2], (TERMS[0], TERMS[2]), TERMS[1:]]),
        ]
        norms = [found[f"gradient_norm/{name}"] for name in TERMS]
        assert all(norm > 0 for norm in norms)
        cosines = {pair: found[f"gradient_cosine/{pair[0]}/{pair[1]}"] for pair in [(TERMS[0], TERMS[1])]}
        assert all(-1 <= cosine <= 1 for cosine in cosines.values())
        # |a + b + c|^2 from norms and cosines is the norm of the step itself.
        square = sum(norm**2 for norm in norms)
        for i in range(3):
            for j in range(i):
                square += 2 * norms[i] * norms[j] * found[f"gradient_cosine/{TERMS[j]}/{TERMS[i]}"]
        assert math.sqrt(square) == pytest.approx(line["grad_norm"], rel=1e-4)


def test_norms_and_cosines_by_hand():
    rows = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([4.0, 3.0]), "c": torch.zeros(2)}
    found = diagnostics.of_gradients(rows)
    assert found == pytest.approx({
        "gradient_norm/a": 5.0, "gradient_norm/b": 5.0, "gradient_norm/c": 0.0, "gradient_cosine/a/b": 24 / 25,
        "gradient_cosine/a/c": 0.0, "gradient_cosine/b/c": 0.0,
    })  # fmt: skip
    scaled = diagnostics.of_gradients({name: 8 * row for name, row in rows.items()}, 8.0)
    assert scaled == pytest.approx(found), "under fp16's loss scale"


# Aggregators


class Combined(ToyTask):
    """Combines the terms' gradients by a function of the rows, which are kept."""

    def __init__(self, recipe, combine, shared=None):
        super().__init__(recipe)
        self.combine, self.seen, self.shared = combine, [], shared

    def aggregator(self):
        def combine(rows: Tensor) -> Tensor:
            self.seen.append(rows.clone())
            return self.combine(rows)

        return combine

    def shared_parameters(self, model):
        part = model if self.shared is None else getattr(model, self.shared)
        return super().shared_parameters(part)


def gradients(task: ToyTask, folder) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return each parameter's gradient of the first step, and the rows that were combined in it."""
    run = toy_task.make(task, folder)
    taken = trainer.Trainer(run)
    with run:
        taken._gradient(taken._loader().take(len(run.schedule.cut(0).ranks[0])))
    return {name: p.grad.clone() for name, p in run.model.named_parameters()}, getattr(task, "seen", [])


def least_norm(rows: Tensor) -> Tensor:
    """Return the shortest vector between two gradients (MGDA of two tasks; Sener & Koltun 2018)."""
    one, other = rows
    share = ((other - one) @ other / (one - other).square().sum()).clamp(0, 1)
    return share * one + (1 - share) * other


@pytest.mark.parametrize("mode", ["hold", "replay"])
def test_the_sum_and_the_mean_of_the_rows_are_the_plain_gradient(tmp_path, mode):
    base = recipe(terms=TERMS, train={"mode": mode, "budget": 4.0})
    plain, _ = gradients(ToyTask(base), tmp_path / "plain")
    for combine, factor in ((lambda rows: rows.sum(0), 1), (lambda rows: rows.mean(0), 3)):
        found, rows = gradients(Combined(base, combine), tmp_path / str(factor))
        assert [tuple(r.shape) for r in rows] == [(3, sum(p.numel() for p in plain.values()))]
        for name, value in plain.items():
            torch.testing.assert_close(found[name] * factor, value, rtol=1e-4, atol=1e-6)


def test_only_shared_parameters_are_combined(tmp_path):
    base = recipe(terms=TERMS[:2])
    plain, _ = gradients(ToyTask(base), tmp_path / "plain")
    found, (rows,) = gradients(Combined(base, least_norm, "body"), tmp_path / "run")
    wanted, start = least_norm(rows), 0
    for name, value in plain.items():
        if name.startswith("body."):
            torch.testing.assert_close(found[name].flatten(), wanted[start : start + value.numel()])
            start += value.numel()
        else:
            torch.testing.assert_close(found[name], value)
    assert start == rows.shape[1]
    assert float(wanted @ rows[0]) > 0
    assert float(wanted @ rows[1]) > 0
    assert float((wanted - rows.sum(0)).norm()) > 1e-3


def test_a_term_that_took_no_part_is_no_row(tmp_path):
    """A row of zeros would be the shortest of all, and the weights would stand still."""
    base = recipe(terms=TERMS[:2], labels={"train": 2.0})
    _, (rows,) = gradients(Combined(base, lambda rows: rows.mean(0)), tmp_path / "run")
    assert len(rows) == 1
    assert float(rows[0].norm()) > 0


def test_a_run_with_an_aggregator_trains_by_it(tmp_path):
    base = recipe(terms=TERMS[:2])
    train(Combined(base, least_norm), tmp_path / "run")
    plain = tmp_path / "plain"
    train(ToyTask(base), plain)
    norms = [[line["grad_norm"] for line in lines(folder, "step")] for folder in (tmp_path / "run", plain)]
    assert all(mine < its for mine, its in zip(*norms, strict=True))


def test_several_processes_are_one_line(tmp_path, monkeypatch):
    run = toy_task.make(Combined(recipe(), least_norm), tmp_path / "run")
    monkeypatch.setattr(run.engine, "world", 2)
    with pytest.raises(AffectError, match="^gradients of terms are combined in one process alone: launch with --num_p"):
        trainer.Trainer(run)


def test_sums_are_of_all_ranks():
    """Of one process here; of two: tests/distributed/test_trainer.py."""
    sums = diagnostics.Sums(Watched(recipe()))
    assert sums.means(join()) == {}
