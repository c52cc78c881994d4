"""Mamba (Gu & Dao 2023): the block under the names of `mamba_ssm.Mamba`, and a stack of them over frames.

Legend: B batch, T frames, D channels (`d_model`), E inner channels (`expand * d_model`), N states a channel.
"""

# A, B, C and D are what the literature and mamba_ssm call them.
# ruff: noqa: N803

from __future__ import annotations

import functools
import importlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affect.errors import AffectError
from affect.models.dropout import Dropout
from affect.models.selective_scan import selective_scan

_LOG = logging.getLogger("affect")

UNDECAYED = ("A_log", ".D")
"""Endings of names that weight decay leaves alone: pulled to 0, they would change how long a state remembers."""


@dataclass(frozen=True)
class Kernels:
    """The CUDA functions of mamba_ssm and causal_conv1d, None where one can't be imported; both want time last."""

    scan: Callable[..., Tensor] | None
    convolve: Callable[..., Tensor] | None


@functools.cache
def load_kernels() -> Kernels:
    """Import what there is of the optional extra `affect[mamba]`; says once what stands in for the rest."""
    kernels: list[Callable[..., Tensor] | None] = []
    for module, name in (
        ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn"),
        ("causal_conv1d", "causal_conv1d_fn"),
    ):
        try:
            kernels.append(cast(Callable[..., Tensor], getattr(importlib.import_module(module), name)))
        except ImportError as error:
            # Also an extension that was built for another torch, which fails to load with an ImportError.
            package = module.split(".")[0]
            _LOG.warning("Mamba runs without the CUDA kernels of %s, in PyTorch (%s)", package, error)
            kernels.append(None)
    return Kernels(*kernels)


def kernels_for(x: Tensor) -> Kernels:
    """Return the kernels that can work on `x`: those that are installed, on CUDA, for all but float64."""
    if x.device.type == "cuda" and x.dtype != torch.float64:
        return load_kernels()
    return Kernels(None, None)


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve `x` [T, B, E], time first, with `weight` [E, 1, K], each channel by itself, backwards in time.

    K products that add up, in two thirds of the time of a grouped `conv1d` with the transposes that it needs.
    """
    taps = weight.squeeze(1).unbind(1)
    padded = F.pad(x, (0, 0, 0, 0, len(taps) - 1, 0))
    frames = x.shape[0]  # Not len(x), which an export would take for the same in every batch.
    y = padded[:frames] * taps[0]
    for k in range(1, len(taps)):
        y = torch.addcmul(y, padded[k : k + frames], taps[k])
    return y if bias is None else y + bias


class Mamba(nn.Module):
    """Mamba's block [B, T, D] -> [B, T, D], causal, with the parameters, names and start of `mamba_ssm.Mamba`.

    A checkpoint of either (or of transformers' `MambaMixer`) loads into the other. `dt_rank` "auto" is D / 16,
    rounded up; steps start between `dt_min` and `dt_max`. On CUDA it uses mamba_ssm's and causal_conv1d's
    kernels where they are installed (`pip install affect[mamba]`), elsewhere `selective_scan`.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | Literal["auto"] = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: Literal["random", "constant"] = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        rank = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        numbers = {"d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand": expand, "dt_rank": rank}
        for name, value in numbers.items():
            if value < 1:
                raise AffectError(f"{name} of a Mamba block is at least 1, not {value}")
        if not 0 < dt_min <= dt_max:
            raise AffectError(f"a Mamba block needs 0 < dt_min <= dt_max, not {dt_min} and {dt_max}")
        self.d_model, self.d_state, self.d_conv, self.dt_rank = d_model, d_state, d_conv, rank
        self.d_inner = inner = expand * d_model
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias)
        # A Conv1d for its parameters' names and start alone.
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1, bias=conv_bias)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        self._start_steps(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)

    @torch.no_grad()
    def _start_steps(self, low: float, high: float, how: str, scale: float, floor: float) -> None:
        """Let softplus(dt_proj.bias) be log-uniform in [low, high], at least `floor`, and keep dt_proj's variance."""
        deviation = scale * self.dt_rank**-0.5
        if how == "constant":
            self.dt_proj.weight.fill_(deviation)
        else:
            self.dt_proj.weight.uniform_(-deviation, deviation)
        steps = torch.empty(self.d_inner).uniform_(math.log(low), math.log(high)).exp_().clamp_(min=floor)
        self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, D] of `x` [B, T, D]; frame t sees the frames up to t."""
        kernels = kernels_for(x)
        # Time first from here on: the scan and the convolution are widest so.
        inner, gate = self.in_proj(x.transpose(0, 1)).chunk(2, dim=-1)
        u = self._convolve(inner, kernels)
        dt, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        # Without dt_proj's bias, which is added in float32: it is what the length of a step hangs on.
        delta = F.linear(dt, self.dt_proj.weight)
        A = -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))
        y = self._scan(u, delta, A, B, C, gate, kernels)
        return cast(Tensor, self.out_proj(y)).transpose(0, 1)

    def _convolve(self, x: Tensor, kernels: Kernels) -> Tensor:
        """Return silu of the causal convolution of `x` [T, B, E]."""
        weight, bias = self.conv1d.weight, self.conv1d.bias
        if kernels.convolve is None or not 2 <= self.d_conv <= 4:  # the lengths that the kernel knows
            return F.silu(causal_convolution(x, weight, bias))
        last = x.permute(1, 2, 0).contiguous()
        return kernels.convolve(last, weight.squeeze(1), bias, activation="silu").permute(2, 0, 1)

    def _scan(
        self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, gate: Tensor, kernels: Kernels
    ) -> Tensor:
        """Return the gated scan [T, B, E] in the gate's dtype."""
        bias = self.dt_proj.bias
        if kernels.scan is None:
            u, delta, B, C, z = (entry.transpose(0, 1) for entry in (u, delta, B, C, gate))
            y = selective_scan(u, delta, A, B, C, self.D, z, bias, delta_softplus=True)
            return y.transpose(0, 1).to(gate.dtype)
        # The kernel wants its activations in one dtype, and its parameters in float32.
        dtype = u.dtype
        u, delta, B, C, z = (entry.permute(1, 2, 0).to(dtype).contiguous() for entry in (u, delta, B, C, gate))
        y = kernels.scan(u, delta, A, B, C, self.D.float(), z=z, delta_bias=bias.float(), delta_softplus=True)
        return y.permute(2, 0, 1).to(gate.dtype)


class MambaLayer(nn.Module):
    """x + dropout(Mamba(norm(x)))."""

    def __init__(self, width: int, dropout: float, state: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.mixer = Mamba(width, d_state=state)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, D] of `x` [B, T, D]."""
        return x + cast(Tensor, self.dropout(self.mixer(self.norm(x))))


class MambaLayers(nn.Module):
    """A residual stack of Mamba blocks with a norm before each and one at the end, [B, T, D] -> [B, T, D].

    It is causal: what stands behind the last valid frame of a row (padding) changes no valid frame, so it needs
    no mask; the outputs at padding are to be ignored.
    """

    def __init__(self, width: int, layers: int, dropout: float, state: int = 16) -> None:
        super().__init__()
        if layers < 1:
            raise AffectError(f"a stack of Mamba layers has at least 1, not {layers}")
        if not 0 <= dropout < 1:
            raise AffectError(f"the dropout of Mamba layers is at least 0 and below 1, not {dropout}")
        self.width = width
        self.layers = nn.ModuleList(MambaLayer(width, dropout, state) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, D] of `x` [B, T, D]; frame t sees the frames up to t."""
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.norm(x))
