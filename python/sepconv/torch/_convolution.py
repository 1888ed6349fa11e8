"""Convolutions and their gradients on torch tensors.

In our kernels where these can take the call, else in PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad
from torch.nn import functional

from sepconv import _core

aten = torch.ops.aten

_INTS = (int, torch.SymInt)
_FLOAT32 = torch.float32
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, type(None)))

# Elements from which it matters where a result lies; PyTorch's own tensors are made more quickly.
_LARGE = 1 << 14

# By the names that sepconv gives them: the function, and its gradient given what went into it.
ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (functional.relu, lambda g, x: aten.threshold_backward(g, x, 0)),
    "relu6": (functional.relu6, lambda g, x: aten.hardtanh_backward(g, x, 0, 6)),
    "leaky_relu": (
        functional.leaky_relu,
        lambda g, x: aten.leaky_relu_backward(g, x, 0.01, False),
    ),
    "hardswish": (functional.hardswish, aten.hardswish_backward),
    "hardsigmoid": (functional.hardsigmoid, aten.hardsigmoid_backward),
    "silu": (functional.silu, aten.silu_backward),
    "gelu": (functional.gelu, aten.gelu_backward),
    "gelu_tanh": (
        lambda x: functional.gelu(x, approximate="tanh"),
        lambda g, x: aten.gelu_backward(g, x, approximate="tanh"),
    ),
    "sigmoid": (torch.sigmoid, lambda g, x: aten.sigmoid_backward(g, torch.sigmoid(x))),
    "tanh": (torch.tanh, lambda g, x: aten.tanh_backward(g, torch.tanh(x))),
    "elu": (functional.elu, lambda g, x: aten.elu_backward(g, 1.0, 1.0, 1.0, False, x)),
    "softplus": (functional.softplus, lambda g, x: aten.softplus_backward(g, x, 1.0, 20.0)),
    "mish": (functional.mish, aten.mish_backward),
}


def check_activation(name: str | None) -> None:
    """Raises ValueError for a name that sepconv does not know."""
    if name is not None and name not in ACTIVATIONS:
        raise ValueError(f"activation: got {name!r}, expected one of {', '.join(ACTIVATIONS)}")


def activate(x: torch.Tensor, name: str | None) -> torch.Tensor:
    """Applies an activation by name."""
    return x if name is None else ACTIVATIONS[name][0](x)


class Geometry(NamedTuple):
    """What a convolution is besides its tensors; padding is the same on both sides."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def pads(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right."""
        return self.padding[0], self.padding[0], self.padding[1], self.padding[1]


def _pair(name: str, value: Any) -> tuple[int, int]:
    """Rows and columns of an int or of one or two."""
    if isinstance(value, _INTS):
        return value, value
    if isinstance(value, Sequence) and 1 <= len(value) <= 2:
        first, last = value[0], value[-1]
        if isinstance(first, _INTS) and isinstance(last, _INTS):
            return first, last
    raise TypeError(f"{name}: got {value!r}, expected an int or a pair of them")


def check_positive(**arguments: Any) -> None:
    """Raises ValueError for an int, or one of a pair, below 1, and TypeError for anything else."""
    for name, value in arguments.items():
        if min(_pair(name, value)) < 1:
            raise ValueError(f"{name}: got {value!r}, expected at least 1")


def make_geometry(stride: Any, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Geometry:
    """From ints or pairs. Raises TypeError for anything else."""
    return Geometry(
        _pair("stride", stride), _pair("padding", padding), _pair("dilation", dilation), groups
    )


def memory_format(x: torch.Tensor) -> torch.memory_format:
    """The format of a result: channels last where x is that alone, else contiguous."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def takes(x: torch.Tensor, *others: torch.Tensor | None) -> bool:
    """Whether sepconv's kernels can take these: float32 of four dimensions on the CPU."""
    if x.dim() != 4:
        return False
    for t in (x, *others):
        if t is not None and (t.dtype is not _FLOAT32 or not t.is_cpu):
            return False
    return True


def plain(*tensors: torch.Tensor | None) -> bool:
    """Whether nothing but reverse-mode autograd watches or transforms the tensors.

    No compiler, tracer, functorch, forward-mode autograd, autocast, and no mode for operators.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    if torch._C._get_tracing_state() is not None or torch._C._len_torch_dispatch_stack() > 0:
        return False
    if torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        return False
    return _PLAIN.issuperset(map(type, tensors))


def is_transformed() -> bool:
    """Whether torch.func or forward_ad take derivatives, which torch.library's operators lack."""
    if torch.compiler.is_compiling():
        return False
    if forward_ad._current_level >= 0:
        return True
    functorch = torch._C._functorch
    levels = functorch.get_interpreter_stack() or ()
    return any(level.key() != functorch.TransformType.Vmap for level in levels)


def is_recorded(*tensors: torch.Tensor | None) -> bool:
    """Whether autograd wants the gradient of something of this call."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def make_forward(
    shape: torch.Size,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    activation: str | None,
    residual: bool,
    nhwc: bool,
) -> _core.Op:
    """Packs weights for one input shape."""
    return _core.conv2d(
        list(shape), weight.detach(), None if bias is None else bias.detach(), geometry.stride,
        geometry.pads(), geometry.dilation, geometry.groups, activation or "none", residual, nhwc,
    )  # fmt: skip


def empty(
    shape: torch.Size | list[int],
    format_: torch.memory_format = torch.contiguous_format,
    x: torch.Tensor | None = None,
) -> torch.Tensor:
    """Memory for a result of four dimensions, computed from x if that is given.

    Large ones are of memory that earlier results used (src/base/block_cache.h).
    """
    if math.prod(shape) < _LARGE:
        return torch.empty(shape, dtype=torch.float32, device="cpu", memory_format=format_)
    address = 0 if x is None else x.data_ptr()
    return _core.empty_tensor(list(shape), format_ is torch.channels_last, address)


def run(op: _core.Op, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
    """Runs an op on x in its own memory format; x in neither format is copied once."""
    format_ = memory_format(x)
    x = x.contiguous(memory_format=format_)
    y = empty(op.output_shape, format_, x)
    if residual is None:
        op.run_at(x.data_ptr(), y.data_ptr())
    else:
        op.run(x.detach(), y, residual.detach().contiguous(memory_format=format_))
    return y


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    activation: str | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """The convolution, activation and sum with a residual; x's memory format is the result's."""
    format_ = memory_format(x)
    if takes(x, weight, bias, residual):
        op = make_forward(
            x.shape, weight, bias, geometry, activation, residual is not None,
            format_ is torch.channels_last,
        )  # fmt: skip
        return run(op, x, residual)
    y = activate(functional.conv2d(x, weight, bias, *geometry), activation)
    y = y if residual is None else y + residual
    return y.contiguous(memory_format=format_)


def activation_gradient(
    grad: torch.Tensor, z: torch.Tensor, activation: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of what went into an activation, and its sum by channel, the bias's.

    Of relu and relu6 z may be what came out.
    """
    format_ = memory_format(z)
    grad = grad.detach().contiguous(memory_format=format_)
    z = z.detach().contiguous(memory_format=format_)
    dz, db = empty(z.shape, format_), torch.empty(z.shape[1], device="cpu", dtype=z.dtype)
    _core.activation_gradient(z, grad, dz, db, activation, format_ is torch.channels_last)
    return dz, db


def has_gradient(x: torch.Tensor, weight: torch.Tensor, geometry: Geometry) -> bool:
    """Whether our gradients exist: depthwise without multiplier, or pointwise at every pixel."""
    depthwise = geometry.groups == x.shape[1] == weight.shape[0]
    at_every_pixel = geometry.stride == (1, 1) and geometry.padding == (0, 0)
    pointwise = geometry.groups == 1 and weight.shape[2:] == (1, 1) and at_every_pixel
    return depthwise or pointwise


def gradients(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    geometry: Geometry,
    mask: list[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """The gradients of x, weight and bias, where the mask asks for them."""
    if not (takes(grad, x, weight) and has_gradient(x, weight, geometry)):
        return aten.convolution_backward(
            grad, x, weight, [weight.shape[0]], *geometry[:3], False, [0, 0], geometry.groups, mask
        )
    format_ = memory_format(x)
    nhwc = format_ is torch.channels_last
    x, weight = x.detach().contiguous(memory_format=format_), weight.detach()
    grad = grad.detach().contiguous(memory_format=format_)
    arguments = geometry.stride, geometry.pads(), geometry.dilation, geometry.groups, nhwc
    dx = dw = db = None
    if mask[0] and mask[1]:
        dx, dw = empty(x.shape, format_, grad), empty(weight.shape)
        _core.conv2d_gradients(x, weight, grad, dx, dw, *arguments)
    elif mask[0]:
        op = _core.conv2d_input_gradient(list(x.shape), weight, *arguments)
        dx = empty(x.shape, format_, grad)
        op.run(grad, dx)
    elif mask[1]:
        op = _core.Conv2dWeightGradient(list(x.shape), list(weight.shape), *arguments)
        dw = empty(weight.shape)
        op.run(x, grad, dw)
    if mask[2]:
        db = torch.empty(weight.shape[0], device="cpu", dtype=weight.dtype)
        _core.bias_gradient(grad, db, nhwc)
    return dx, dw, db
