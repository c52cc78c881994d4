"""The selective scan of Mamba (Gu & Dao 2023) in PyTorch, with a backward pass of its own.

    h_t = exp(delta_t A) * h_{t-1} + delta_t u_t B_t        y_t = sum over n of C_t h_t

Written with ordinary operations, autograd keeps several tensors [B, T, D, N] and visits all of them again;
they are N times as large as all else in the block. Here nothing of that size ever exists:

- Time goes in chunks of `STEPS` frames. Forward keeps the state before each chunk, backward makes the states
  inside a chunk anew: about a sixth of the time for 1/16 of the memory of all states.
- The buffers of a tile of rows and a chunk of frames, 1 MiB each, stay in a core's caches, and all chunks use
  the same. Keeping a whole row of 200 frames in buffers took 1.6 times as long.
- The state lies as [R, N, D]: y is then a sum of contiguous rows, a quarter of the time that [R, D, N] takes.
- Only the recurrence itself goes step by step, one fused in-place operation a step in either direction.

In an export (`torch.compiler.is_exporting()`) torch's own loop takes its place, for a graph of any length.

Legend: B batch, T frames, D channels, N states a channel, R rows of a tile, K frames of a chunk.
"""

# A, B, C and D are what the literature and mamba_ssm call them.
# ruff: noqa: N803

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

STEPS = 16
"""Frames a chunk: the memory of states is that of T / STEPS frames, and of STEPS more while it runs."""

TILE = 1 << 14
"""Values of the state [R, N, D] that a CPU works on at once (64 KiB); rows beyond them wait their turn."""


class Chunk:
    """Buffers for K frames of decays and states, and the views of single frames, made once for all chunks."""

    def __init__(self, like: Tensor, A: Tensor, steps: int) -> None:
        rows, (states, channels) = like.shape[1], A.shape
        self.A = A
        self.decay = like.new_empty(steps, rows, states, channels)
        self.state = like.new_empty(steps + 1, rows, states, channels)
        self.decays, self.states = self.decay.unbind(), self.state.unbind()

    def fill(self, delta: Tensor, x: Tensor, B: Tensor, start: Tensor) -> None:
        """Compute decays and states [K, R, N, D] of frames with `delta`, `x` [K, R, D] and `B` [K, R, N].

        `start` [R, N, D] is the state before them, and becomes row 0 of `state`.
        """
        steps = len(delta)
        torch.mul(delta[:, :, None], self.A, out=self.decay[:steps])
        self.decay[:steps].exp_()
        torch.mul(x[:, :, None], B[..., None], out=self.state[1 : steps + 1])
        self.states[0].copy_(start)
        for k in range(steps):
            self.states[k + 1].addcmul_(self.decays[k], self.states[k])


def product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write the matrix products of `left` [K, R, I, J] and `right` [K, R, J, L] to `out` [K, R, ...]."""
    shape = (left.shape[0] * left.shape[1], left.shape[2], right.shape[3])
    torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out=out.view(shape))


class SelectiveScan(torch.autograd.Function):
    """The recurrence alone, time first and contiguous: u, delta [T, R, D], A [N, D], B, C [T, R, N]."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """Return y [T, R, D]."""
        chunk = Chunk(u, A, min(STEPS, len(u)))
        cuts = range(0, len(u), STEPS)
        starts = u.new_empty(len(cuts), u.shape[1], *A.shape)
        starts[0].zero_()
        y = torch.empty_like(u)
        x = delta * u
        for number, begin in enumerate(cuts):
            part = slice(begin, min(begin + STEPS, len(u)))
            steps = part.stop - begin
            chunk.fill(delta[part], x[part], B[part], starts[number])
            product(C[part][:, :, None], chunk.state[1 : steps + 1], y[part])
            if number + 1 < len(cuts):
                starts[number + 1].copy_(chunk.states[steps])
        ctx.save_for_backward(u, delta, A, B, C, starts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_y: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of u, delta, A, B and C."""
        u, delta, A, B, C, starts = ctx.saved_tensors
        with torch.autocast(u.device.type, enabled=False):
            return reverse(u, delta, A, B, C, starts, to_y.to(u.dtype).contiguous())


def reverse(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor, to_y: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B and C, last chunk first; `to_y` [T, R, D] is that of y."""
    chunk = Chunk(u, A, min(STEPS, len(u)))
    to_state = torch.empty_like(chunk.decay)
    to_states, by_state, rows_of_A = to_state.unbind(), chunk.decay.unbind(2), A.unbind()
    carry = torch.zeros_like(starts[0])
    to_A = torch.zeros_like(carry)
    x = delta * u
    to_x, to_delta = torch.empty_like(u), torch.zeros_like(delta)
    to_B, to_C = torch.empty_like(B), torch.empty_like(C)
    for number in reversed(range(len(starts))):
        part = slice(number * STEPS, min((number + 1) * STEPS, len(u)))
        steps = part.stop - part.start
        chunk.fill(delta[part], x[part], B[part], starts[number])
        now, decay = to_state[:steps], chunk.decay[:steps]
        product(chunk.state[1 : steps + 1], to_y[part][..., None], to_C[part])
        # A state is read by its own output and, decayed, by the next state.
        torch.mul(C[part][..., None], to_y[part][:, :, None], out=now)
        to_states[steps - 1].add_(carry)
        for k in reversed(range(steps - 1)):
            to_states[k].addcmul_(chunk.decays[k + 1], to_states[k + 1])
        torch.mul(chunk.decays[0], to_states[0], out=carry)
        product(B[part][:, :, None], now, to_x[part])
        product(now, x[part][..., None], to_B[part])
        # The gradient of delta * A; it takes the place of the decays. The sums over n and over frames are
        # products that add to their result, since writing the terms out to sum them takes twice as long.
        decay.mul_(now).mul_(chunk.state[:steps])
        for k, frame in enumerate(delta[part].unsqueeze(2).unbind()):
            to_A.addcmul_(chunk.decays[k], frame)
        target = to_delta[part]
        for values, row in zip(by_state, rows_of_A, strict=True):
            target.addcmul_(values if len(values) == steps else values[:steps], row)
    to_delta.addcmul_(to_x, u)
    return to_x.mul_(delta), to_delta, to_A.sum(0), to_B, to_C


def tile_rows(rows: int, values: int, device: torch.device) -> int:
    """Return how many of `rows` rows with `values` values of state each are worked on at once."""
    if device.type != "cpu":
        return rows
    return max(1, min(rows, TILE // values))


def recur(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Return y [B, T, D] of the recurrence, tile by tile; arguments as in `selective_scan`, all of one dtype."""
    apply: Callable[..., Tensor] = SelectiveScan.apply
    rows = tile_rows(len(u), A.numel(), u.device)
    across = A.t().contiguous()
    tiles = []
    for pieces in zip(*(torch.split(entry, rows) for entry in (u, delta, B, C)), strict=True):
        u_, delta_, B_, C_ = (piece.transpose(0, 1).contiguous() for piece in pieces)
        tiles.append(apply(u_, delta_, across, B_, C_).transpose(0, 1))
    return torch.cat(tiles) if len(tiles) > 1 else tiles[0]


def recur_in_graph(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Return what `recur` does, by torch's operator for a loop: one node of an exported graph, for every T.

    The graph keeps one state [B, D, N] at a time, and nothing of that size a frame. (As a prefix scan of ordinary
    operations two blocks became 1,700 nodes, which took 45 s to export.)
    """
    # Imported here: nothing but an export needs it, and torch has no public name for it yet.
    from torch._higher_order_ops.scan import scan

    def advance(state: Tensor, frame: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        step, x, B_, C_ = frame
        state = (step[..., None] * A).exp() * state + x[..., None] * B_[:, None]
        return state, (state @ C_[..., None])[..., 0]

    frames = tuple(entry.transpose(0, 1) for entry in (delta, delta * u, B, C))
    _, y = scan(advance, u.new_zeros(u.shape[0], *A.shape), frames, dim=0)
    result: Tensor = y.transpose(0, 1)
    return result


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = False,
) -> Tensor:
    """Return y [B, T, D] in u's dtype, of `u`, `delta`, `z` [B, T, D], `A` [D, N], `B`, `C` [B, T, N], `D` [D].

    `delta_bias` [D] is added to `delta`, then comes softplus if asked for; `D * u` is added to the result, which
    silu(z) then gates. Computed in float32 (float64 if an argument is), under autocast too. It gives first
    derivatives only. Same numbers as `mamba_ssm.ops.selective_scan_interface.selective_scan_fn`, which wants
    time last. No frame after t changes y_t. It is fastest on tensors [B, T, ...] that lie time first in memory. In an
    export it is `recur_in_graph`: one state [B, D, N] at a time.
    """
    with torch.autocast(u.device.type, enabled=False):
        dtype = torch.float32
        for entry in (u, delta, A, B, C):
            dtype = torch.promote_types(dtype, entry.dtype)
        wide = u.to(dtype)
        step = delta.to(dtype)
        if delta_bias is not None:
            step = step + delta_bias.to(dtype)
        if delta_softplus:
            step = F.softplus(step)
        scan = recur_in_graph if torch.compiler.is_exporting() else recur
        y = scan(wide, step, A.to(dtype), B.to(dtype), C.to(dtype))
        if D is not None:
            y = torch.addcmul(y, wide, D.to(dtype))
        if z is not None:
            y = y * F.silu(z.to(dtype))
        return y.to(u.dtype)
