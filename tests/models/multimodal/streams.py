"""Small fusion models and inputs that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from affect.models.multimodal.config import MultimodalConfig
from affect.models.multimodal.fusion import Fusion

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
STREAMS = (("audio", "a", 5), ("text", "t", 7), ("video", "v", 4))
PUBLIC = (("audio", "hubert", 1024), ("text", "baichuan", 5120), ("video", "clip", 768))


def config(name: str = "attention", **named: Any) -> MultimodalConfig:
    return MultimodalConfig(**{"name": name, "streams": STREAMS, "classes": CLASSES, "hidden": 6, **named})


def inputs(rows: int = 8, streams: Any = STREAMS, seed: int = 0, missing: float = 0.3) -> dict[str, Tensor]:
    """Return random streams and a presence mask; the first row is whole, every row has something."""
    g = torch.Generator().manual_seed(seed)
    present = (torch.rand(rows, len(streams), generator=g) >= missing).float()
    present[0] = 1
    present[present.sum(1) == 0, 0] = 1
    keys = MultimodalConfig(name="topn", streams=streams, classes=CLASSES).keys
    found = {"present": present}
    for s, (key, (_, _, width)) in enumerate(zip(keys, streams, strict=True)):
        found[key] = torch.randn(rows, width, generator=g) * present[:, s : s + 1]
    return found


def total(outputs: dict[str, Tensor]) -> Tensor:
    """Return a number that depends on every output; weights of three sorts keep parts from cancelling."""
    return sum(((i + 1) * value.sin()).sum() for i, value in enumerate(outputs.values()))


def together(models: list[Fusion], given: list[dict[str, Tensor]], noise: list[dict[str, Tensor]]) -> Any:
    """Return the outputs and the parameters' gradients of `total`, stacked, with all models run by one vmap."""
    params, buffers = stack_module_state(models)

    def loss(params: Any, buffers: Any, given: Any, noise: Any) -> Any:
        outputs = functional_call(models[0], (params, buffers), (given["present"], noise), _features(given))
        return total(outputs), outputs

    each = torch.func.grad(loss, has_aux=True)
    stack = lambda dicts: {key: torch.stack([d[key] for d in dicts]) for key in dicts[0]}  # noqa: E731
    gradients, outputs = vmap(each)(params, buffers, stack(given), stack(noise))
    return outputs, gradients


def _features(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in given.items() if key != "present"}


def check_vmap(build: Any, given_streams: Any = STREAMS) -> None:
    """Assert that three models by one vmap are the three alone: outputs and gradients."""
    models, given, noise = [], [], []
    for k in range(3):
        torch.manual_seed(k)
        model = build().train()
        model.begin(1000)
        models.append(model)
        given.append(inputs(streams=given_streams, seed=k))
        noise.append(model.draw(8))
    outputs, gradients = together(models, given, noise)
    for k, model in enumerate(models):
        alone = model(given[k]["present"], noise[k], **_features(given[k]))
        total(alone).backward()
        assert alone.keys() == outputs.keys()
        for key, value in alone.items():
            torch.testing.assert_close(outputs[key][k], value, atol=1e-6, rtol=1e-5)
        for name, parameter in model.named_parameters():
            wanted = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            torch.testing.assert_close(gradients[name][k], wanted, atol=1e-5, rtol=1e-5)
