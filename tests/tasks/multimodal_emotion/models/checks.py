"""What every fusion model has to stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from affect import keyed
from affect.models.dropout import Dropout
from affect.task import Term
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion

STREAMS = (("audio", "a", 7), ("text", "t", 5), ("video", "v", 6))
CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
PUBLIC = (
    ("audio", "chinese-hubert-large-UTT", 1024),
    ("text", "Baichuan-13B-Base-UTT", 5120),
    ("video", "clip-vit-large-patch14-UTT", 768),
)
ENCODERS = 984_192
"""Parameters of the three encoders of `PUBLIC` at hidden 128."""

Make = Callable[[Model, Signature], Fusion]


class Spec(NamedTuple):
    """What a model is made of: `Attention(*spec)`."""

    model: Model
    data: Signature


def config(name: str, *, streams: Any = STREAMS, **fields: Any) -> Spec:
    return Spec(Model(**{"name": name, "hidden": 8, **fields}), Signature(streams=streams, classes=CLASSES))


def inputs(spec: Spec, rows: int = 6, seed: int = 0, whole: bool = False) -> dict[str, Tensor]:
    """Return features by key and `present`; some streams are missing unless `whole`."""
    g, data = torch.Generator().manual_seed(seed), spec.data
    present = (torch.rand(rows, len(data.streams), generator=g) < (2.0 if whole else 0.7)).float()
    features = {
        key: torch.randn(rows, width, generator=g) * present[:, s : s + 1]
        for s, (key, width) in enumerate(zip(data.keys, data.widths, strict=True))
    }
    return {"present": present, **features}


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Return what a linear layer makes of rows [B, W]."""
    return x @ layer.weight.T + layer.bias


def answers(model: Fusion, x: Tensor) -> dict[str, Tensor]:
    """Return what the heads of a model say of fused vectors [B, W]."""
    return {"emotion": linear(model.heads.emotion, x), "valence": linear(model.heads.valence, x)[:, 0]}


def values_of(terms: Sequence[Term], outputs: Any, targets: Any) -> dict[str, Tensor]:
    """Return the values of terms of a whole batch, by name."""
    found = {}
    for term in terms:
        if term.value is not None:
            found[term.name] = term.value(outputs, targets)
        else:
            found[term.name] = term.sum(outputs, targets) / term.count(targets)
    return found


def flatter(model: nn.Module) -> nn.Module:
    """Make biases as large as weights, so that a forgotten one shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def mlp(model: Fusion, stream: int, x: Tensor) -> Tensor:
    """Return an encoder's output, layer by layer."""
    linears = [module for module in model.encoders[stream].modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 3
    for linear in linears:
        x = torch.relu(x @ linear.weight.T + linear.bias)
    return x


def encoded(model: Fusion, batch: dict[str, Tensor], noise: dict[str, Tensor]) -> list[Tensor]:
    """Return the hidden vectors of all streams, by `mlp`."""
    return [mlp(model, s, batch[key] * noise.get(key, 1.0)) for s, key in enumerate(model.data.keys)]


def is_restated(
    make: Make, facts: Spec, restate: Callable[[Fusion, dict[str, Tensor], dict[str, Tensor]], Any]
) -> None:
    """The forward is `restate(model, batch, noise)`, outputs by name, with dropout and without."""
    torch.manual_seed(0)
    model = make(*facts)
    flatter(model)
    batch = inputs(facts)
    for noise in (model.train().draw(6), {}):
        model.train(bool(noise))
        outputs = model(**batch, noise=noise)
        wanted = restate(model, batch, noise)
        assert {"emotion", "valence"} <= wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(outputs[name], value, rtol=1e-4, atol=1e-5, msg=named(f"{name} {bool(noise)}"))
    assert outputs["emotion"].shape == (6, 6)
    assert outputs["valence"].shape == (6,)


def named(name: str) -> Callable[[str], str]:
    """Return what puts a name before an assertion's message."""
    return lambda message: f"{name}: {message}"


def stands_everything(make: Make, facts: Spec) -> None:
    """Run all checks that hold for any model."""
    torch.manual_seed(0)
    _is_the_same_alone(make, facts)
    runs_side_by_side(make, facts)
    _learns_everywhere(make, facts)
    _draws_all_that_is_random(make, facts)
    _never_looks_at_what_is_missing(make, facts)


def _is_the_same_alone(make: Make, facts: Spec) -> None:
    model, batch, ids = make(*facts), inputs(facts), list("abcdef")
    keyed.name_places(model)
    for training in (True, False):
        model.train(training)
        with keyed.examples(0, 0, ids):
            together = model(**batch)
        for row in range(6):
            with keyed.examples(0, 0, ids[row : row + 1]):
                alone = model(**{name: value[row : row + 1] for name, value in batch.items()})
            for name, value in alone.items():
                torch.testing.assert_close(value[0], together[name][row], rtol=1e-5, atol=1e-5)
    nobody = model(**{name: value[:0] for name, value in batch.items()})
    assert nobody["emotion"].shape == (0, 6)


def runs_side_by_side(make: Make, facts: Spec) -> None:
    """Outputs and gradients of three models by vmap are those of each, with noise and data of its own."""
    models = [make(*facts).train() for _ in range(3)]
    batches, noises = [inputs(facts, seed=k) for k in range(3)], [model.draw(6) for model in models]
    weights: list[dict[str, Tensor]] = [dict(model.named_parameters()) for model in models]
    buffers = dict(models[0].named_buffers())

    def run(parameters: dict[str, Tensor], batch: dict[str, Tensor], noise: dict[str, Tensor]) -> Any:
        return functional_call(models[0], (parameters, buffers), kwargs={**batch, "noise": noise})

    def total(parameters: dict[str, Tensor], batch: dict[str, Tensor], noise: dict[str, Tensor]) -> Tensor:
        return torch.stack([value.square().sum() for value in run(parameters, batch, noise).values()]).sum()

    stacked = [{name: torch.stack([d[name].detach() for d in t]) for name in t[0]} for t in (weights, batches, noises)]
    together, slopes = vmap(run)(*stacked), vmap(grad(total))(*stacked)
    for k, model in enumerate(models):
        alone = model(**batches[k], noise=noises[k])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][k], value, rtol=1e-5, atol=1e-6, msg=named(name))
        torch.stack([value.square().sum() for value in alone.values()]).sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(slopes[name][k], parameter.grad, rtol=1e-4, atol=1e-4, msg=named(name))


def _learns_everywhere(make: Make, facts: Spec) -> None:
    model = make(*facts).train()
    outputs = model(**inputs(facts, rows=64))
    torch.stack([(value - torch.randn_like(value)).square().sum() for value in outputs.values()]).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert bool((parameter.grad != 0).any()), name


def _draws_all_that_is_random(make: Make, facts: Spec) -> None:
    model, batch = make(*facts).train(), inputs(facts)
    noise = model.draw(6)
    assert all(len(mask) == 6 for mask in noise.values())
    first = model(**batch, noise=noise)
    torch.testing.assert_close(model(**batch, noise=noise)["emotion"], first["emotion"], rtol=0, atol=0)
    assert not torch.equal(model(**batch)["emotion"], first["emotion"])
    for name in noise:
        other = model(**batch, noise={**noise, name: torch.rand_like(noise[name])})
        assert not torch.equal(other["emotion"], first["emotion"]), f"the masks of {name} change nothing"
    assert not any(
        isinstance(module, nn.Dropout | Dropout | nn.modules.batchnorm._BatchNorm) for module in model.modules()
    )
    model.eval()
    assert model.draw(6) == {}
    torch.testing.assert_close(model(**batch, noise=noise)["emotion"], model(**batch)["emotion"], rtol=0, atol=0)


def _never_looks_at_what_is_missing(make: Make, facts: Spec) -> None:
    model, batch = make(*facts).eval(), inputs(facts)
    assert bool((batch["present"] == 0).any())
    other = dict(batch)
    for s, key in enumerate(facts.data.keys):
        other[key] = batch[key] + (1 - batch["present"][:, s : s + 1]) * 1e3
    torch.testing.assert_close(model(**other)["emotion"], model(**batch)["emotion"])


def count(make: Make, facts: Spec) -> int:
    """Return the number of parameters, without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make(*facts).parameters())
