"""The operators torch.ops.sepconv.*, as PyTorch wants them.

depthwise_conv2d, pointwise_conv2d, separable_conv2d and conv2d_backward, with autograd, autocast,
vmap, and shapes for torch.compile and torch.export.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import torch

from sepconv.torch._convolution import (
    ACTIVATIONS,
    Geometry,
    check_activation,
    convolve,
    empty,
    gradients,
    memory_format,
    takes,
)
from sepconv.torch._convolution import activate as _activate

_FORWARD_GEOMETRY = "SymInt[2] stride=1, SymInt[2] padding=0, SymInt[2] dilation=1"


IntPair = Union[int, Sequence[int]]


def _geometry(stride: IntPair, padding: IntPair, dilation: IntPair, groups: int) -> Geometry:
    def pair(value: Any) -> tuple[int, int]:
        # Defaults come as ints; sequences have one or two elements.
        return (value[0], value[-1]) if isinstance(value, Sequence) else (value, value)

    return Geometry(pair(stride), pair(padding), pair(dilation), groups)


def _empty_result(x: torch.Tensor, weight: torch.Tensor, g: Geometry) -> torch.Tensor:
    """What a convolution gives, but for the values."""
    sizes = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(x.shape[2:], weight.shape[2:], g.stride, g.padding, g.dilation)
    ]
    shape = (x.shape[0], weight.shape[0], *sizes)
    return x.new_empty(shape).contiguous(memory_format=memory_format(x))


def _check_image(x: torch.Tensor, weight: torch.Tensor) -> None:
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            f"x, weight: shapes are {list(x.shape)}, {list(weight.shape)}, expected 4 dimensions"
        )


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
    results = gradients(grad, x, weight, _geometry(stride, padding, dilation, groups), mask)
    return tuple(x.new_empty(0) if r is None else r for r in results)


@conv2d_backward.register_fake
def _(
    grad: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int, mask: Any
) -> Any:
    dx = x.new_empty(x.shape).contiguous(memory_format=memory_format(x))
    dw = weight.new_empty(weight.shape)
    db = weight.new_empty(weight.shape[:1])
    return tuple(t if wanted else x.new_empty(0) for t, wanted in zip((dx, dw, db), mask))


def _backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    g: Geometry,
    mask: list[bool],
) -> list[torch.Tensor | None]:
    """The same, in PyTorch's own function where the gradients are to be differentiated again."""
    if torch.is_grad_enabled() or not takes(grad, x, weight):
        results = torch.ops.aten.convolution_backward(
            grad, x, weight, [weight.shape[0]], *g[:3], False, [0, 0], g.groups, mask
        )
    else:
        results = torch.ops.sepconv.conv2d_backward(grad, x, weight, *g, mask)
    return [r if wanted else None for r, wanted in zip(results, mask)]


def _needs(ctx: Any, count: int) -> list[bool]:
    """Which of the first inputs need a gradient; optional ones may be missing or None."""
    needs = ctx.needs_input_grad[:count]
    return [*needs, *[False] * (count - len(needs))]


def _before_activation(grad: torch.Tensor, activation: str | None, before: Any) -> torch.Tensor:
    """The gradient of what went into an activation; before() computes that once more."""
    if activation is None:
        return grad
    x = before()
    function, backward = ACTIVATIONS[activation]
    if not torch.is_grad_enabled():
        return backward(grad, x)
    return torch.autograd.grad(function(x), x, grad, create_graph=True)[0]


# ---- depthwise


@torch.library.custom_op(
    "sepconv::depthwise_conv2d",
    mutates_args=(),
    schema=f"(Tensor x, Tensor weight, Tensor? bias=None, {_FORWARD_GEOMETRY}, "
    "str? activation=None) -> Tensor",
)
def depthwise_conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    activation: str | None = None,
) -> Any:
    """Filters each channel of x [N, C, H, W] with weight [C·m, 1, kh, kw], then activates."""
    check_activation(activation)
    _check_image(x, weight)
    g = _geometry(stride, padding, dilation, x.shape[1])
    return convolve(x, weight, bias, g, activation)


@depthwise_conv2d.register_fake
def _(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    activation: str | None = None,
) -> Any:  # fmt: skip
    return _empty_result(x, weight, _geometry(stride, padding, dilation, 1))


def _remember_depthwise(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, stride, padding, dilation, ctx.activation = inputs
    ctx.save_for_backward(x, weight, bias)
    ctx.geometry = _geometry(stride, padding, dilation, x.shape[1])


def _depthwise_backward(ctx: Any, grad: torch.Tensor) -> Any:
    x, weight, bias = ctx.saved_tensors
    g = ctx.geometry
    grad = _before_activation(
        grad, ctx.activation, lambda: torch.ops.sepconv.depthwise_conv2d(x, weight, bias, *g[:3])
    )
    return (*_backward(grad, x, weight, g, _needs(ctx, 3)), None, None, None, None)


depthwise_conv2d.register_autograd(_depthwise_backward, setup_context=_remember_depthwise)


# ---- pointwise


@torch.library.custom_op(
    "sepconv::pointwise_conv2d",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, "
    "str? activation=None, Tensor? residual=None) -> Tensor",
)
def pointwise_conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    activation: str | None = None,
    residual: Any = None,
) -> Any:
    """Mixes the channels of x with weight [Cout, C, 1, 1], activates, then adds the residual."""
    check_activation(activation)
    _check_image(x, weight)
    return convolve(x, weight, bias, _geometry(stride, 0, 1, 1), activation, residual)


@pointwise_conv2d.register_fake
def _(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, activation: str | None = None,
    residual: Any = None,
) -> Any:  # fmt: skip
    return _empty_result(x, weight, _geometry(stride, 0, 1, 1))


def _remember_pointwise(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, stride, ctx.activation, _ = inputs
    ctx.save_for_backward(x, weight, bias)
    ctx.geometry = _geometry(stride, 0, 1, 1)


def _pointwise_backward(ctx: Any, grad: torch.Tensor) -> Any:
    x, weight, bias = ctx.saved_tensors
    g = ctx.geometry
    before = _before_activation(
        grad, ctx.activation, lambda: torch.ops.sepconv.pointwise_conv2d(x, weight, bias, g.stride)
    )
    *mask, _, _, residual = _needs(ctx, 6)
    return (*_backward(before, x, weight, g, mask), None, None, grad if residual else None)


pointwise_conv2d.register_autograd(_pointwise_backward, setup_context=_remember_pointwise)


# ---- separable


@torch.library.custom_op(
    "sepconv::separable_conv2d",
    mutates_args=(),
    schema="(Tensor x, Tensor depthwise_weight, Tensor pointwise_weight, "
    f"Tensor? depthwise_bias=None, Tensor? pointwise_bias=None, {_FORWARD_GEOMETRY}, "
    "str? depthwise_activation=None, str? activation=None) -> Tensor",
)
def separable_conv2d(
    x: Any,
    depthwise_weight: Any,
    pointwise_weight: Any,
    depthwise_bias: Any = None,
    pointwise_bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    depthwise_activation: str | None = None,
    activation: str | None = None,
) -> Any:
    """Depthwise, then pointwise, in one pass; the tensor between them never exists as a whole."""
    from sepconv import _core

    check_activation(depthwise_activation)
    check_activation(activation)
    _check_image(x, depthwise_weight)
    g = _geometry(stride, padding, dilation, x.shape[1])
    tensors = depthwise_weight, pointwise_weight, depthwise_bias, pointwise_bias
    if not takes(x, *tensors):
        middle = convolve(x, depthwise_weight, depthwise_bias, g, depthwise_activation)
        return convolve(middle, pointwise_weight, pointwise_bias, Geometry(), activation)
    format_ = memory_format(x)
    op = _core.separable_conv2d(
        list(x.shape), *(None if t is None else t.detach() for t in tensors), g.stride, g.pads(),
        g.dilation, depthwise_activation or "none", activation or "none",
        format_ is torch.channels_last,
    )  # fmt: skip
    y = empty(op.output_shape, format_, x)
    op.run(x.detach().contiguous(memory_format=format_), y)
    return y


@separable_conv2d.register_fake
def _(
    x: Any, depthwise_weight: Any, pointwise_weight: Any, depthwise_bias: Any = None,
    pointwise_bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    depthwise_activation: str | None = None, activation: str | None = None,
) -> Any:  # fmt: skip
    middle = _empty_result(x, depthwise_weight, _geometry(stride, padding, dilation, 1))
    return _empty_result(middle, pointwise_weight, Geometry())


def _remember_separable(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, stride, padding, dilation, ctx.middle_activation, ctx.activation = inputs
    ctx.save_for_backward(*tensors)
    ctx.geometry = _geometry(stride, padding, dilation, tensors[0].shape[1])


def _separable_backward(ctx: Any, grad: torch.Tensor) -> Any:
    x, dw, pw, db, pb = ctx.saved_tensors
    g = ctx.geometry
    need_x, need_dw, need_pw, need_db, need_pb = _needs(ctx, 5)
    before_middle = torch.ops.sepconv.depthwise_conv2d(x, dw, db, *g[:3])
    middle = _activate(before_middle, ctx.middle_activation)
    grad = _before_activation(
        grad, ctx.activation, lambda: torch.ops.sepconv.pointwise_conv2d(middle, pw, pb)
    )
    inner = need_x or need_dw or need_db
    grad_middle, grad_pw, grad_pb = _backward(
        grad, middle, pw, Geometry(), [inner, need_pw, need_pb]
    )
    grad_x = grad_dw = grad_db = None
    if inner:
        grad_before = _before_activation(grad_middle, ctx.middle_activation, lambda: before_middle)
        grad_x, grad_dw, grad_db = _backward(grad_before, x, dw, g, [need_x, need_dw, need_db])
    return grad_x, grad_dw, grad_pw, grad_db, grad_pb, None, None, None, None, None


separable_conv2d.register_autograd(_separable_backward, setup_context=_remember_separable)


# ---- what all three share

_FORWARD = (depthwise_conv2d, pointwise_conv2d, separable_conv2d)


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


for _op in _FORWARD:
    _register_vmap(_op)
    for _device in ("cpu", "cuda"):
        _op.register_autocast(_device, torch.bfloat16)


# ---- in PyTorch's own operators, for exporters that know nothing else (ONNX)


def _in_pytorch(
    x: Any, weight: Any, bias: Any, g: Geometry, activation: str | None, residual: Any = None
) -> Any:
    y = _activate(torch.nn.functional.conv2d(x, weight, bias, *g), activation)
    return y if residual is None else y + residual


@torch._decomp.register_decomposition(torch.ops.sepconv.depthwise_conv2d.default)
def _(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    activation: str | None = None,
) -> Any:  # fmt: skip
    g = _geometry(stride, padding, dilation, x.shape[1])
    return _in_pytorch(x, weight, bias, g, activation)


@torch._decomp.register_decomposition(torch.ops.sepconv.pointwise_conv2d.default)
def _(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, activation: str | None = None,
    residual: Any = None,
) -> Any:  # fmt: skip
    return _in_pytorch(x, weight, bias, _geometry(stride, 0, 1, 1), activation, residual)


@torch._decomp.register_decomposition(torch.ops.sepconv.separable_conv2d.default)
def _(
    x: Any, depthwise_weight: Any, pointwise_weight: Any, depthwise_bias: Any = None,
    pointwise_bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    depthwise_activation: str | None = None, activation: str | None = None,
) -> Any:  # fmt: skip
    g = _geometry(stride, padding, dilation, x.shape[1])
    middle = _in_pytorch(x, depthwise_weight, depthwise_bias, g, depthwise_activation)
    return _in_pytorch(middle, pointwise_weight, pointwise_bias, Geometry(), activation)
