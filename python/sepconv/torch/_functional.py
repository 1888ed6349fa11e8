"""depthwise_conv2d(), pointwise_conv2d() and separable_conv2d(), and their gradients.

Where nothing but autograd watches the tensors they go straight to the kernels; a compiler,
functorch, autocast and modes see torch.ops.sepconv.* (_library.py), which compute the same.
The derivatives of torch.func and forward mode, which such operators cannot have, are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

import torch
from torch.nn import functional

from sepconv import _core
from sepconv.torch._convolution import (
    ACTIVATIONS,
    Geometry,
    activate,
    activation_gradient,
    check_activation,
    convolve,
    empty,
    gradients,
    is_recorded,
    is_transformed,
    make_geometry,
    memory_format,
    plain,
    takes,
)

IntPair = Union[int, Sequence[int]]


def _check_image(x: torch.Tensor, weight: torch.Tensor) -> None:
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            f"x, weight: shapes are {list(x.shape)}, {list(weight.shape)}, expected 4 dimensions"
        )


def _backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    g: Geometry,
    mask: list[bool],
    db: torch.Tensor | None = None,
) -> list[torch.Tensor | None]:
    """A convolution's gradients; PyTorch's where they are to be differentiated again.

    The bias's may be there already.
    """
    if db is not None:
        dx, dw, _ = _backward(grad, x, weight, g, [*mask[:2], False])
        return [dx, dw, db if mask[2] else None]
    again = torch.is_grad_enabled() or is_transformed()
    if again or not takes(grad, x, weight):
        results = torch.ops.aten.convolution_backward(
            grad, x, weight, [weight.shape[0]], *g[:3], False, [0, 0], g.groups, mask
        )
    elif plain(grad, x, weight):
        return list(gradients(grad, x, weight, g, mask))
    else:
        results = torch.ops.sepconv.conv2d_backward(grad, x, weight, *g, mask)
    return [r if wanted else None for r, wanted in zip(results, mask)]


def _needs(ctx: Any, count: int) -> list[bool]:
    """Which of the first inputs need a gradient; optional ones may be missing or None."""
    needs = ctx.needs_input_grad[:count]
    return [*needs, *[False] * (count - len(needs))]


def _before_activation(
    grad: torch.Tensor,
    activation: str | None,
    before: Callable[[], torch.Tensor],
    after: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The gradient of what went into an activation, and the bias's where that comes along.

    before() computes what went in once more; after, what came out, serves a clamp as well.
    """
    if activation is None:
        return grad, None
    again = torch.is_grad_enabled()
    z = before() if after is None or again else after
    if not again and takes(grad, z) and plain(grad, z):
        return activation_gradient(grad, z, activation)
    function, backward = ACTIVATIONS[activation]
    if again:
        return torch.autograd.grad(function(z), z, grad, create_graph=True)[0], None
    return backward(grad, z), None


def _clamped(activation: str | None, y: torch.Tensor) -> torch.Tensor | None:
    """A result that tells its activation's gradient by itself."""
    return y if activation in ("relu", "relu6") else None


class Operator:
    """torch.ops.sepconv.<name>, and the same without PyTorch's dispatcher."""

    def __init__(
        self,
        name: str,
        compute: Callable[..., torch.Tensor],
        remember: Callable[[Any, Any, Any], None],
        backward: Callable[[Any, torch.Tensor], Any],
        in_pytorch: Callable[..., torch.Tensor],
    ) -> None:
        """All take the operator's arguments, or what torch.library.register_autograd() wants.

        Compute knows no gradients; in_pytorch is made of PyTorch's own operators.
        """
        self.name, self.in_pytorch = name, in_pytorch
        self.compute, self.remember, self.backward = compute, remember, backward

        def forward(ctx: Any, *args: Any) -> torch.Tensor:
            y = compute(*args)
            remember(ctx, args, y)
            return y

        methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        self._recorded = type(f"sepconv_{name}_", (torch.autograd.Function,), methods)

    def __call__(self, tensors: Sequence[torch.Tensor | None], *args: Any) -> torch.Tensor:
        """The result for args, of which some are tensors."""
        if plain(*tensors):
            return self._recorded.apply(*args) if is_recorded(*tensors) else self.compute(*args)
        if is_transformed():
            return self.in_pytorch(*args)
        return getattr(torch.ops.sepconv, self.name)(*args)


def _conv2d_in_pytorch(
    x: Any, weight: Any, bias: Any, g: Geometry, activation: str | None, residual: Any = None
) -> Any:
    y = activate(functional.conv2d(x, weight, bias, *g), activation)
    return y if residual is None else y + residual


# ---- depthwise


def _depthwise(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    activation: str | None = None,
) -> Any:  # fmt: skip
    check_activation(activation)
    _check_image(x, weight)
    return convolve(
        x, weight, bias, make_geometry(stride, padding, dilation, x.shape[1]), activation
    )


def _remember_depthwise(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, stride, padding, dilation, ctx.activation = inputs
    ctx.save_for_backward(x, weight, bias, _clamped(ctx.activation, output))
    ctx.geometry = make_geometry(stride, padding, dilation, x.shape[1])


def _depthwise_backward(ctx: Any, grad: torch.Tensor) -> Any:
    x, weight, bias, y = ctx.saved_tensors
    g = ctx.geometry
    grad, db = _before_activation(
        grad, ctx.activation, lambda: depthwise_conv2d(x, weight, bias, *g[:3]), y
    )
    return (*_backward(grad, x, weight, g, _needs(ctx, 3), db), None, None, None, None)


def _depthwise_in_pytorch(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    activation: str | None = None,
) -> Any:  # fmt: skip
    g = make_geometry(stride, padding, dilation, x.shape[1])
    return _conv2d_in_pytorch(x, weight, bias, g, activation)


DEPTHWISE = Operator(
    "depthwise_conv2d", _depthwise, _remember_depthwise, _depthwise_backward, _depthwise_in_pytorch
)


def depthwise_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    activation: str | None = None,
) -> torch.Tensor:
    """Filters each channel of x [N, C, H, W] with weight [C·m, 1, kh, kw], then activates.

    Gives [N, C·m, H', W'] in x's memory format. Raises ValueError for shapes that do not fit
    together and for unknown activations, TypeError for a stride, padding or dilation not of ints.
    """
    window = make_geometry(stride, padding, dilation)[:3]
    return DEPTHWISE((x, weight, bias), x, weight, bias, *window, activation)


# ---- pointwise


def _pointwise(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, activation: str | None = None,
    residual: Any = None,
) -> Any:  # fmt: skip
    check_activation(activation)
    _check_image(x, weight)
    return convolve(x, weight, bias, make_geometry(stride), activation, residual)


def _remember_pointwise(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, stride, ctx.activation, residual = inputs
    y = _clamped(ctx.activation, output) if residual is None else None
    ctx.save_for_backward(x, weight, bias, y)
    ctx.geometry = make_geometry(stride)


def _pointwise_backward(ctx: Any, grad: torch.Tensor) -> Any:
    x, weight, bias, y = ctx.saved_tensors
    g = ctx.geometry
    before, db = _before_activation(
        grad, ctx.activation, lambda: pointwise_conv2d(x, weight, bias, g.stride), y
    )
    *mask, _, _, residual = _needs(ctx, 6)
    return (*_backward(before, x, weight, g, mask, db), None, None, grad if residual else None)


def _pointwise_in_pytorch(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, activation: str | None = None,
    residual: Any = None,
) -> Any:  # fmt: skip
    return _conv2d_in_pytorch(x, weight, bias, make_geometry(stride), activation, residual)


POINTWISE = Operator(
    "pointwise_conv2d", _pointwise, _remember_pointwise, _pointwise_backward, _pointwise_in_pytorch
)


def pointwise_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: IntPair = 1,
    activation: str | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mixes the channels of x with weight [Cout, C, 1, 1], activates, then adds the residual.

    Gives [N, Cout, H', W'] in x's memory format. Raises ValueError for shapes that do not fit
    together and for unknown activations, TypeError for a stride, padding or dilation not of ints.
    """
    args = x, weight, bias, make_geometry(stride).stride, activation, residual
    return POINTWISE((x, weight, bias, residual), *args)


# ---- separable


def _separable(
    x: Any, depthwise_weight: Any, pointwise_weight: Any, depthwise_bias: Any = None,
    pointwise_bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    depthwise_activation: str | None = None, activation: str | None = None,
) -> Any:  # fmt: skip
    check_activation(depthwise_activation)
    check_activation(activation)
    _check_image(x, depthwise_weight)
    g = make_geometry(stride, padding, dilation, x.shape[1])
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


def _remember_separable(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, stride, padding, dilation, ctx.middle_activation, ctx.activation = inputs
    ctx.save_for_backward(*tensors, _clamped(ctx.activation, output))
    ctx.geometry = make_geometry(stride, padding, dilation, tensors[0].shape[1])


def _separable_backward(ctx: Any, grad: torch.Tensor) -> Any:
    x, dw, pw, db, pb, y = ctx.saved_tensors
    g = ctx.geometry
    need_x, need_dw, need_pw, need_db, need_pb = _needs(ctx, 5)
    before_middle = depthwise_conv2d(x, dw, db, *g[:3])
    middle = activate(before_middle, ctx.middle_activation)
    grad, of_pb = _before_activation(
        grad, ctx.activation, lambda: pointwise_conv2d(middle, pw, pb), y
    )
    inner = need_x or need_dw or need_db
    grad_middle, grad_pw, grad_pb = _backward(
        grad, middle, pw, Geometry(), [inner, need_pw, need_pb], of_pb
    )
    grad_x = grad_dw = grad_db = None
    if inner:
        grad_before, of_db = _before_activation(
            grad_middle, ctx.middle_activation, lambda: before_middle
        )
        needs = [need_x, need_dw, need_db]
        grad_x, grad_dw, grad_db = _backward(grad_before, x, dw, g, needs, of_db)
    return grad_x, grad_dw, grad_pw, grad_db, grad_pb, None, None, None, None, None


def _separable_in_pytorch(
    x: Any, depthwise_weight: Any, pointwise_weight: Any, depthwise_bias: Any = None,
    pointwise_bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    depthwise_activation: str | None = None, activation: str | None = None,
) -> Any:  # fmt: skip
    g = make_geometry(stride, padding, dilation, x.shape[1])
    middle = _conv2d_in_pytorch(x, depthwise_weight, depthwise_bias, g, depthwise_activation)
    return _conv2d_in_pytorch(middle, pointwise_weight, pointwise_bias, Geometry(), activation)


SEPARABLE = Operator(
    "separable_conv2d", _separable, _remember_separable, _separable_backward, _separable_in_pytorch
)


def separable_conv2d(
    x: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    depthwise_bias: torch.Tensor | None = None,
    pointwise_bias: torch.Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    depthwise_activation: str | None = None,
    activation: str | None = None,
) -> torch.Tensor:
    """Depthwise, then pointwise, in one pass; the tensor between them never exists as a whole.

    x [N, C, H, W] → [N, Cout, H', W'] in x's memory format. Raises ValueError for shapes that do
    not fit together and for unknown activations, TypeError for a stride, padding or dilation not of
    ints.
    """
    tensors = x, depthwise_weight, pointwise_weight, depthwise_bias, pointwise_bias
    window = make_geometry(stride, padding, dilation)[:3]
    return SEPARABLE(tensors, *tensors, *window, depthwise_activation, activation)
