"""One rank: the step's gradient for mixes of terms, modes and cuts, against the whole batch on one machine."""

from __future__ import annotations

import copy
import json

import numpy as np
import torch

from affect.recipe import Optim
from affect.training import step
from affect.training.distributed import join
from affect.training.terms import whole
from tests.training import toy

N = 24
# Micro-batches of ranks 0 and 1; 0 is a filler.
CUTS = [((3, 8, 1), (2, 1, 9)), ((12,), (12,)), ((24, 0), (0, 0)), ((5, 4, 3, 2), (1, 9, 0, 0))]
DRAWN = 40
LABELS = {"some": None, "none": (0, None), "one": (1, None), "constant": (N, 2.0)}
"""Labels of the batch: as drawn, none, one, all the same."""


def drawn() -> list[tuple[str, dict[str, bool], tuple[tuple[int, ...], ...], str]]:
    """Return cases: mixes by name in the fixed cuts, then mixes, cuts and labels by lot, the same on both ranks."""
    cases = [(f"{name} {cut}", mix, cut, "some") for name, mix in toy.MIXES.items() for cut in CUTS]
    lot = np.random.default_rng(0)
    for k in range(DRAWN):
        chosen = [name for name in toy.MAKE if lot.random() < 0.5] or ["ccc_valence"]
        mix = {name: bool(lot.random() < 0.5) for name in chosen}
        micros = int(lot.integers(1, 4))
        bounds = np.sort(lot.integers(0, N + 1, 2 * micros - 1))
        sizes = np.diff([0, *bounds, N]).tolist()
        cut = (tuple(sizes[:micros]), tuple(sizes[micros:]))
        cases.append((f"{k}: {mix} {cut}", mix, cut, tuple(LABELS)[k % 4]))
    return cases


def main() -> None:
    engine = join()
    x, given = toy.data(N)
    errors: dict[str, float] = {}
    undefined: dict[str, tuple[list[str], list[str]]] = {}
    torch.manual_seed(0)
    plain = toy.Toy()
    tables: list[int] = []
    gather = engine.gather

    def counted(table: torch.Tensor) -> tuple[torch.Tensor, int]:
        tables.append(table.shape[1])
        return gather(table)

    engine.gather = counted  # type: ignore[method-assign]
    widths: dict[str, list[int]] = {}
    for mode in ("hold", "replay", 1):
        # One wrapped model for all cuts: a reducer left in a wrong state by one would spoil the next.
        model = copy.deepcopy(plain)
        prepared, _ = engine.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), Optim())
        for name, mix, cut, labels in drawn():
            terms = toy.terms(mix)
            targets = given if LABELS[labels] is None else toy.labelled(given, *LABELS[labels])
            alone = copy.deepcopy(plain)
            loss = whole(terms, alone(x), targets)
            loss.total.backward()
            wanted = toy.gradient(alone)
            model.zero_grad()
            tables.clear()
            start = 0 if engine.rank == 0 else sum(cut[0])
            mine = toy.batches(x, targets, cut[engine.rank], start=min(start, N - 1))
            result = step.accumulate(engine, prepared, terms, mine, mode=mode, key=(0, 0))
            widths[name] = list(tables)
            error = float((toy.gradient(model) - wanted).norm() / max(float(wanted.norm()), 1e-3))
            value = float(loss.total.detach())
            errors[f"{name} {mode}"] = max(error, abs(float(result.loss) - value) / max(abs(value), 1e-3))
            known = [term for term, defined in loss.defined.items() if not defined]
            undefined[f"{name} {mode}"] = (list(result.undefined), known)
    # Short: two ranks' longer lines would be written into each other.
    worst = max(errors, key=lambda name: errors[name])
    named = [known for _, known in undefined.values()]
    said = {
        "rank": engine.rank,
        "world": engine.world,
        "engine": engine.name,
        "cases": len(errors),
        "worst": [worst, errors[worst]],
        "undefined": sum(map(bool, named)),
        "other": [name for name, (mine, known) in undefined.items() if mine != known],
        "widths": {name.removesuffix(" ((12,), (12,))"): widths[name] for name in widths if "((12,), (12,))" in name},
    }
    print(json.dumps(said), flush=True)
