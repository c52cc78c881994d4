"""A smaller model of a trained one: units between a block's layers, and heads of attention, that say least, cut out.

What a unit adds beyond its mean is what is lost: the mean goes into the bias behind it. Legend: N frames, G groups (of
units, or the heads), K numbers of a group, D outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.models.transformer import SelfAttention
from affect.tasks.talking_face.model import TalkingFaceModel, build


@dataclass
class Pair:
    """Two linear layers, of which `second` reads groups that `first` computes, each in `parts` (query, key, value)."""

    first: str
    second: nn.Linear
    name: str
    groups: int
    parts: int
    kept: int
    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def see(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        """Take in what the second layer is given, as a hook of it."""
        x = inputs[0].double().reshape(-1, self.groups, self.second.in_features // self.groups)
        self.count += len(x)
        self.total = self.total + x.sum(0)
        self.squares = self.squares + torch.einsum("ngk,ngl->gkl", x, x)

    def cut(self, state: dict[str, Tensor]) -> None:
        """Cut the groups that add least out of the weights in `state`."""
        mean = torch.as_tensor(self.total) / self.count
        spread = torch.as_tensor(self.squares) / self.count - mean[:, :, None] * mean[:, None]
        weight = self.second.weight.detach().double().reshape(-1, *mean.shape)
        added = torch.einsum("dgk,gkl,dgl->g", weight, spread, weight)
        kept = added.topk(self.kept).indices.sort().values
        lost = torch.ones(self.groups, dtype=torch.bool)
        lost[kept] = False
        bias = state[f"{self.name}.bias"]
        state[f"{self.name}.bias"] = (bias + torch.einsum("dgk,gk->d", weight[:, lost], mean[lost])).to(bias.dtype)
        state[f"{self.name}.weight"] = state[f"{self.name}.weight"].reshape(-1, *mean.shape)[:, kept].flatten(1)
        for kind in ("weight", "bias"):
            rows = state[f"{self.first}.{kind}"]
            split = rows.reshape(self.parts, *mean.shape, *rows.shape[1:])
            state[f"{self.first}.{kind}"] = split[:, kept].flatten(0, 2)


def pruned(
    model: TalkingFaceModel, clips: Iterable[Mapping[str, Tensor]], hidden: float, heads: float
) -> TalkingFaceModel:
    """Return a model with these shares of a block's hidden units and of all heads, one at least of each.

    Which are kept is chosen by `clips`, inputs of one clip each, which should be of training.
    Raises AffectError where it has neither.
    """
    config, width = model.config, model.config.encoder_dim
    units = config.hidden or 2 * width
    small = replace(
        config, hidden=max(1, round(hidden * units)), heads=max(1, round(heads * config.heads)),
        head_width=config.head_width or width // config.heads,
    )  # fmt: skip
    pairs = [
        Pair(f"{name}.project", module.output, f"{name}.output", config.heads, 3, small.heads)
        for name, module in model.named_modules() if isinstance(module, SelfAttention)
    ]  # fmt: skip
    for k, block in enumerate(model.blocks):
        second = block.get_submodule("network.4")
        assert isinstance(second, nn.Linear)
        kept = small.hidden or units
        pairs.append(Pair(f"blocks.{k}.network.1", second, f"blocks.{k}.network.4", units, 1, kept))
    if not pairs:
        raise AffectError("this model has neither blocks nor attention: nothing of it can be cut")
    hooks = [pair.second.register_forward_pre_hook(pair.see) for pair in pairs]
    with torch.inference_mode():
        for inputs in clips:
            model(**inputs)
    for hook in hooks:
        hook.remove()
    state = model.state_dict()
    for pair in pairs:
        pair.cut(state)
    made = build(small, model.data)
    made.load_state_dict(state)
    return made.eval()
