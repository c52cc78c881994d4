"""Floating-point operations of a model's forward and backward, counted by what torch is told to compute.

A multiply-add counts as 2. Products (matrices, convolutions, attention, recurrent layers), Fourier transforms and the
recurrence of a selective scan count; what goes value by value (activations, norms, softmax, dropout, a depthwise
convolution written as shifted sums) does not. Attention counts all pairs, masked and causal ones too, and its backward
twice its forward, fused or not: what a fused kernel computes anew is no work of the model's.
torch.utils.flop_counter counts a grouped convolution's backward once too often for each group, and the CPU's fused
attention, LSTMs, products with a vector, Fourier transforms and fused evaluation layers not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Counter(TorchDispatchMode):
    """Counts the operations of what runs inside, on any device: `total`, and `recomputed` by gradient checkpointing.

    Not seen are kernels that torch does not know of (mamba_ssm's) and the inside of what torch.compile made.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.recomputed = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is None and func not in _PLAIN:
            # Without autograd (inference mode) composed operations (linear, matmul, lstm) come here whole.
            with self:
                parts = func.decompose(*args, **kwargs or {})
            if parts is not NotImplemented:
                return parts
            _PLAIN.add(func)
        output = func(*args, **kwargs or {})
        if formula is None:
            return output
        # A backward runs without a graph of its own, what it recomputes of the forward with one.
        if torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled():
            self.recomputed += formula(args, output)
        else:
            self.total += formula(args, output)
        return output


_PLAIN: set[Any] = set()
"""Operations seen that are not composed of others."""
Formula = Callable[[tuple[Any, ...], Any], int]
"""Counts an operation by its arguments and its output."""


def _product(left: Tensor, right: Tensor) -> int:
    """Count `left` [..., I, J] times `right` [..., J, L] or [J]."""
    return 2 * left.numel() * (right.shape[-1] if right.ndim > 1 else 1)


def _convolution(args: tuple[Any, ...], output: Tensor) -> int:
    # Each value of the output (of the input, if transposed) meets the taps of its group.
    meeting: Tensor = args[0] if args[6] else output
    taps: Tensor = args[1][0]
    return 2 * meeting.numel() * taps.numel()


def _convolution_backward(args: tuple[Any, ...], output: Any) -> int:
    of_inputs_and_weight: Sequence[bool] = args[10][:2]
    return sum(of_inputs_and_weight) * _convolution(args[1:8], args[0])


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Count the attention of `query` [B, H, T, d] to `key` [B, H, S, d] and `value` [B, H, S, v]."""
    rows, keys = math.prod(query.shape[:-1]), key.shape[-2]
    return 2 * rows * keys * (query.shape[-1] + value.shape[-1])


def _recurrent(values: Tensor, weights: Sequence[Tensor]) -> int:
    """Count recurrent layers on `values` [..., F]: every matrix meets every frame."""
    frames = math.prod(values.shape[:-1])
    return 2 * frames * sum(weight.numel() for weight in weights if weight.ndim == 2)


def _self_attention(query: Tensor, keys: Tensor, width: int) -> int:
    """Count attention with its four projections, of `query` [B, T, D] to `keys` [B, S, D]."""
    projections = 4 * width * (query.numel() + keys.numel())
    return projections + 4 * query.numel() * keys.shape[1]


def _encoder_layer(args: tuple[Any, ...], output: Any) -> int:
    values: Tensor = args[0]
    inner: Tensor = args[14]
    return _self_attention(values, values, args[1]) + 4 * values.numel() * len(inner)


def _fourier(values: Tensor, dims: Sequence[int]) -> int:
    """Count a transform of complex `values` along dims, 5 N log2 N; that of real ones takes half."""
    size = math.prod(values.shape[dim] for dim in dims)
    return round(5 * values.numel() * math.log2(max(1, size)))


def _all(names: str, formula: Formula) -> dict[Any, Formula]:
    """Return the formula of each of these operations of torch."""
    return {getattr(torch.ops.aten, name): formula for name in names.split()}


_FORMULAS: dict[Any, Formula] = {
    **_all("mm bmm mv dot vdot", lambda args, _: _product(args[0], args[1])),
    **_all(
        "addmm addmm_ _addmm_activation baddbmm baddbmm_ addbmm addbmm_ addmv addmv_",
        lambda args, _: _product(args[1], args[2]),
    ),
    **_all("convolution", _convolution),
    **_all("convolution_backward", _convolution_backward),
    **_all("mkldnn_rnn_layer", lambda args, _: _recurrent(args[0], args[1:3])),
    **_all("mkldnn_rnn_layer_backward", lambda args, _: 2 * _recurrent(args[0], args[1:3])),
    **_all("_cudnn_rnn miopen_rnn", lambda args, _: _recurrent(args[0], args[1])),
    **_all("_cudnn_rnn_backward miopen_rnn_backward", lambda args, _: 2 * _recurrent(args[0], args[1])),
    **_all("_native_multi_head_attention", lambda args, _: _self_attention(args[0], args[1], args[3])),
    **_all("_transformer_encoder_layer_fwd", _encoder_layer),
    **_all("_fft_r2c", lambda args, _: _fourier(args[0], args[1]) // 2),
    **_all("_fft_c2r", lambda args, output: _fourier(output, args[1]) // 2),
    **_all("_fft_c2c", lambda args, _: _fourier(args[0], args[1])),
    # The steps of affect.models.selective_scan, which walks in place.
    **_all("addcmul_", lambda args, _: 2 * args[0].numel()),
}
for _kind in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention",
              "fused_attention_overrideable"):  # fmt: skip
    _FORMULAS |= _all(f"_scaled_dot_product_{_kind}", lambda args, _: _attention(*args[:3]))
    _FORMULAS |= _all(f"_scaled_dot_product_{_kind}_backward", lambda args, _: 2 * _attention(*args[1:4]))
