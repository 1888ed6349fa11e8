"""Convolutions on arrays: objects that pack their weights once, and functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from sepconv import _core
from sepconv._arguments import Pair, pair
from sepconv._arrays import as_float32, as_image_batch, empty, like

Padding = Union[int, Sequence[int], str]


def _pads(
    padding: Padding,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Gives padding as (top, bottom, left, right)."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        pads: list[int] = []
        for size, k, s, d in zip(image, kernel, stride, dilation):
            if s < 1 or d < 1:
                raise ValueError(f"stride, dilation: got {s}, {d}, expected at least 1")
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            pads += [total // 2, total - total // 2]
        return pads[0], pads[1], pads[2], pads[3]
    if isinstance(padding, str):
        raise ValueError(f"padding: got {padding!r}, expected an int, a pair, 'same' or 'valid'")
    p = pair("padding", padding)
    return p[0], p[0], p[1], p[1]


class Conv2d:
    """A convolution with fixed parameters.

    weight: [Cout, C / groups, kh, kw]; bias: [Cout] or None; float32 arrays, copied when the
    object is made. Calling it takes x of [N, C, H, W], float32, and gives [N, Cout, Hout, Wout] of
    the same kind of array in the same memory format. The weights are packed once for each new shape
    of x.
    Raises ValueError or TypeError, naming the argument, if something does not fit.
    """

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        activation: str | None = None,
    ) -> None:
        """Keeps the parameters; they are checked against x when the first one comes."""
        self._weight = np.array(as_float32(weight, "weight"))
        self._bias = None if bias is None else np.array(as_float32(bias, "bias"))
        self._stride = pair("stride", stride)
        self._padding = padding
        self._dilation = pair("dilation", dilation)
        self._groups = groups
        self._activation = activation or "none"
        self._ops: dict[tuple[tuple[int, ...], bool, bool], _core.Op] = {}

    def _op(self, shape: tuple[int, ...], nhwc: bool, residual: bool) -> _core.Op:
        key = (shape, nhwc, residual)
        op = self._ops.get(key)
        if op is None:
            if self._weight.ndim != 4:
                raise ValueError(
                    f"weight: shape is {list(self._weight.shape)}, expected 4 dimensions"
                )
            kernel = self._weight.shape[2], self._weight.shape[3]
            image = shape[2], shape[3]
            pads = _pads(self._padding, image, kernel, self._stride, self._dilation)
            op = self._ops[key] = _core.conv2d(
                list(shape),
                self._weight,
                self._bias,
                self._stride,
                pads,
                self._dilation,
                self._groups,
                self._activation,
                residual,
                nhwc,
            )
        return op

    def __call__(self, x: Any, residual: Any = None) -> Any:
        """Convolves x; adds residual, of the result's shape, after the activation."""
        array, nhwc = as_image_batch(as_float32(x, "x"))
        op = self._op(array.shape, nhwc, residual is not None)
        y = op.empty_result(array)
        if residual is None:
            op.run(array, y)
        else:
            add = as_float32(residual, "residual")
            if add.shape != y.shape:
                raise ValueError(f"residual: shape is {list(add.shape)}, expected {list(y.shape)}")
            if add.strides != y.strides:
                same = empty(op.output_shape, nhwc)
                same[...] = add
                add = same
            op.run(array, y, add)
        return like(y, x)


class DepthwiseConv2d(Conv2d):
    """A convolution of each channel on its own: weight [C·m, 1, kh, kw]; else like Conv2d."""

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        activation: str | None = None,
    ) -> None:
        """Takes the parameters of Conv2d but groups, which are the channels of x."""
        super().__init__(weight, bias, stride, padding, dilation, 1, activation)

    def _op(self, shape: tuple[int, ...], nhwc: bool, residual: bool) -> _core.Op:
        self._groups = shape[1]
        return super()._op(shape, nhwc, residual)


class PointwiseConv2d(Conv2d):
    """A linear combination of channels at each position: weight [Cout, C, 1, 1] or [Cout, C]."""

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        stride: Pair = 1,
        activation: str | None = None,
    ) -> None:
        """Takes the parameters of Conv2d that a 1×1 kernel has."""
        super().__init__(weight, bias, stride, 0, 1, 1, activation)
        if self._weight.ndim == 2:
            self._weight = self._weight[:, :, None, None]
        if self._weight.ndim != 4 or self._weight.shape[2:] != (1, 1):
            raise ValueError(
                f"weight: shape is {list(np.shape(weight))}, expected [Cout, C, 1, 1] or [Cout, C]"
            )


class SeparableConv2d:
    """Depthwise, then pointwise; the tensor between them never exists as a whole.

    depthwise_weight: [C·m, 1, kh, kw]; pointwise_weight: [Cout, C·m, 1, 1] or [Cout, C·m]; biases
    [C·m] and [Cout] or None. stride, padding and dilation belong to the depthwise half.
    """

    def __init__(
        self,
        depthwise_weight: Any,
        pointwise_weight: Any,
        depthwise_bias: Any = None,
        pointwise_bias: Any = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        depthwise_activation: str | None = None,
        activation: str | None = None,
    ) -> None:
        """Keeps the parameters; they are checked against x when the first one comes."""
        halves = {"depthwise": depthwise_weight, "pointwise": pointwise_weight}
        self._weights = [np.array(as_float32(w, f"{k}_weight")) for k, w in halves.items()]
        halves = {"depthwise": depthwise_bias, "pointwise": pointwise_bias}
        self._biases = [
            None if b is None else np.array(as_float32(b, f"{k}_bias")) for k, b in halves.items()
        ]
        self._stride = pair("stride", stride)
        self._padding = padding
        self._dilation = pair("dilation", dilation)
        self._activations = (depthwise_activation or "none", activation or "none")
        self._ops: dict[tuple[tuple[int, ...], bool], _core.Op] = {}

    def __call__(self, x: Any) -> Any:
        """Convolves x."""
        array, nhwc = as_image_batch(as_float32(x, "x"))
        op = self._ops.get((array.shape, nhwc))
        if op is None:
            shape = self._weights[0].shape
            if len(shape) != 4:
                raise ValueError(
                    f"depthwise_weight: shape is {list(shape)}, expected [C * m, 1, kh, kw]"
                )
            image = array.shape[2], array.shape[3]
            pads = _pads(self._padding, image, (shape[2], shape[3]), self._stride, self._dilation)
            op = self._ops[array.shape, nhwc] = _core.separable_conv2d(
                list(array.shape),
                *self._weights,
                *self._biases,
                self._stride,
                pads,
                self._dilation,
                *self._activations,
                nhwc,
            )
        y = op.empty_result(array)
        op.run(array, y)
        return like(y, x)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str | None = None,
) -> Any:
    """Convolves x [N, C, H, W] with weight [Cout, C / groups, kh, kw]; see Conv2d."""
    return Conv2d(weight, bias, stride, padding, dilation, groups, activation)(x)


def depthwise_conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    activation: str | None = None,
) -> Any:
    """Filters each channel of x [N, C, H, W] with weight [C·m, 1, kh, kw]; see DepthwiseConv2d."""
    return DepthwiseConv2d(weight, bias, stride, padding, dilation, activation)(x)


def pointwise_conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    activation: str | None = None,
    residual: Any = None,
) -> Any:
    """Mixes the channels of x [N, C, H, W] with weight [Cout, C]; see PointwiseConv2d.

    residual: an array of the result's shape that is added after the activation.
    """
    return PointwiseConv2d(weight, bias, stride, activation)(x, residual)


def separable_conv2d(
    x: Any,
    depthwise_weight: Any,
    pointwise_weight: Any,
    depthwise_bias: Any = None,
    pointwise_bias: Any = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    depthwise_activation: str | None = None,
    activation: str | None = None,
) -> Any:
    """Filters, then mixes the channels of x [N, C, H, W] in one pass; see SeparableConv2d."""
    return SeparableConv2d(
        depthwise_weight,
        pointwise_weight,
        depthwise_bias,
        pointwise_bias,
        stride,
        padding,
        dilation,
        depthwise_activation,
        activation,
    )(x)
