"""The operators torch.ops.sepconv.*, as PyTorch wants them.

depthwise_conv2d, pointwise_conv2d, separable_conv2d and conv2d_backward, with autograd, autocast,
vmap, and shapes for torch.compile and torch.export.
"""

from __future__ import annotations

from typing import Any

import torch

from sepconv.torch._convolution import Geometry, gradients, make_geometry, memory_format
from sepconv.torch._functional import DEPTHWISE, POINTWISE, SEPARABLE, Operator

_GEOMETRY = "SymInt[2] stride=1, SymInt[2] padding=0, SymInt[2] dilation=1"


def _empty_result(x: torch.Tensor, weight: torch.Tensor, g: Geometry) -> torch.Tensor:
    """What a convolution gives, but for the values."""
    sizes = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(x.shape[2:], weight.shape[2:], g.stride, g.padding, g.dilation)
    ]
    shape = (x.shape[0], weight.shape[0], *sizes)
    return x.new_empty(shape).contiguous(memory_format=memory_format(x))


@torch.library.custom_op(
    "sepconv::conv2d_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor weight, SymInt[2] stride, SymInt[2] padding, "
    "SymInt[2] dilation, SymInt groups, bool[3] mask) -> (Tensor, Tensor, Tensor)",
)
def conv2d_backward(
    grad: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int, mask: Any
) -> Any:
    """The gradients of x, weight and bias; of those not asked for, empty tensors."""
    results = gradients(grad, x, weight, make_geometry(stride, padding, dilation, groups), mask)
    return tuple(x.new_empty(0) if r is None else r for r in results)


@conv2d_backward.register_fake
def _(
    grad: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int, mask: Any
) -> Any:
    dx = x.new_empty(x.shape).contiguous(memory_format=memory_format(x))
    dw = weight.new_empty(weight.shape)
    db = weight.new_empty(weight.shape[:1])
    return tuple(t if wanted else x.new_empty(0) for t, wanted in zip((dx, dw, db), mask))


def _register_vmap(op: Any) -> None:
    """Images of all maps make one batch; where weights have maps, these go one by one."""

    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        x, x_dim = args[0], in_dims[0]
        if x_dim is not None and not any(isinstance(d, int) for d in in_dims[1:]):
            maps = x.movedim(x_dim, 0)
            y = op(maps.flatten(0, 1), *args[1:])
            return y.unflatten(0, maps.shape[:2]), 0
        columns = [
            a.unbind(d) if isinstance(d, int) else [a] * info.batch_size
            for a, d in zip(args, in_dims)
        ]
        return torch.stack([op(*row) for row in zip(*columns)]), 0

    op.register_vmap(vmap)


def _register(operator: Operator, schema: str) -> Any:
    op = torch.library.custom_op(
        f"sepconv::{operator.name}", operator.compute, mutates_args=(), schema=schema
    )
    op.register_autograd(operator.backward, setup_context=operator.remember)
    torch._decomp.register_decomposition(getattr(torch.ops.sepconv, operator.name).default)(
        operator.in_pytorch  # for exporters that know nothing else (ONNX)
    )
    _register_vmap(op)
    for device in ("cpu", "cuda"):
        op.register_autocast(device, torch.bfloat16)
    return op


_depthwise_conv2d = _register(
    DEPTHWISE,
    f"(Tensor x, Tensor weight, Tensor? bias=None, {_GEOMETRY}, str? activation=None) -> Tensor",
)
_pointwise_conv2d = _register(
    POINTWISE,
    "(Tensor x, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, str? activation=None, "
    "Tensor? residual=None) -> Tensor",
)
_separable_conv2d = _register(
    SEPARABLE,
    "(Tensor x, Tensor depthwise_weight, Tensor pointwise_weight, Tensor? depthwise_bias=None, "
    f"Tensor? pointwise_bias=None, {_GEOMETRY}, str? depthwise_activation=None, "
    "str? activation=None) -> Tensor",
)


@_depthwise_conv2d.register_fake
def _(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    activation: str | None = None,
) -> Any:  # fmt: skip
    return _empty_result(x, weight, make_geometry(stride, padding, dilation))


@_pointwise_conv2d.register_fake
def _(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, activation: str | None = None,
    residual: Any = None,
) -> Any:  # fmt: skip
    return _empty_result(x, weight, make_geometry(stride))


@_separable_conv2d.register_fake
def _(
    x: Any, depthwise_weight: Any, pointwise_weight: Any, depthwise_bias: Any = None,
    pointwise_bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    depthwise_activation: str | None = None, activation: str | None = None,
) -> Any:  # fmt: skip
    middle = _empty_result(x, depthwise_weight, make_geometry(stride, padding, dilation))
    return _empty_result(middle, pointwise_weight, Geometry())
