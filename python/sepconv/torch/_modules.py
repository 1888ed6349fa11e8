"""Depthwise, pointwise and separable convolution, and MobileNetV2's block, as nn.Modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import torch
from torch import nn
from torch.nn import functional

from sepconv import _core
from sepconv.torch._convolution import (
    Geometry,
    activate,
    check_activation,
    check_positive,
    is_recorded,
    make_forward,
    memory_format,
    plain,
    run,
    takes,
)
from sepconv.torch._functional import depthwise_conv2d, pointwise_conv2d, separable_conv2d

IntPair = Union[int, "tuple[int, int]"]


class Packed:
    """Ops for the last few input shapes, each with its weights packed.

    A tensor may change behind PyTorch's version counter (`weight.data`), so that a fingerprint of
    its values is compared with that of what was packed. Copies and pickles are empty.
    """

    MOST = 8

    def __init__(self) -> None:
        """Starts empty."""
        self._ops: dict[Any, Any] = {}

    def __reduce__(self) -> Any:
        """Leaves the ops behind."""
        return (Packed, ())

    def op(
        self, key: Any, tensors: tuple[torch.Tensor | None, ...], make: Callable[[], Any]
    ) -> Any:
        """The op for a key made from these very float32 tensors, or a new one."""
        dense = [t.contiguous() for t in tensors if t is not None]
        values = _core.fingerprint([(t.data_ptr(), t.numel()) for t in dense])
        found = self._ops.get(key)
        if found is not None and found[1] == values:
            return found[0]
        op = make()
        if found is None and len(self._ops) >= self.MOST:
            self._ops.pop(next(iter(self._ops)), None)
        self._ops[key] = (op, values)
        return op


def forward(conv: nn.Conv2d, x: torch.Tensor, activation: str | None, packed: Packed) -> Any:
    """What nn.Conv2d `conv`, depthwise or pointwise, and an activation make of x."""
    weight, bias = conv.weight, conv.bias
    if conv.padding_mode != "zeros":
        x = functional.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)
        padding: Any = (0, 0)
    else:
        padding = _symmetric(conv)
    if padding is None or not takes(x, weight, bias):
        y = functional.conv2d(
            x, weight, bias, conv.stride, padding or "same", conv.dilation, conv.groups
        )
        return activate(y, activation)
    geometry = Geometry(conv.stride, padding, conv.dilation, conv.groups)
    if plain(x, weight, bias):
        _check_channels(x, weight, conv.groups)
        if not is_recorded(x, weight, bias):
            nhwc = memory_format(x) is torch.channels_last

            def make() -> Any:
                return make_forward(x.shape, weight, bias, geometry, activation, False, nhwc)

            return run(packed.op((x.shape, nhwc, geometry, activation), (weight, bias), make), x)
    if conv.groups > 1 or x.shape[1] == 1:
        return depthwise_conv2d(x, weight, bias, *geometry[:3], activation)
    return pointwise_conv2d(x, weight, bias, conv.stride, activation)


def _check_channels(x: torch.Tensor, weight: torch.Tensor, groups: int) -> None:
    """Raises ValueError where x has other channels than the weight is for."""
    expected = weight.shape[1] * groups
    if x.shape[1] != expected:
        raise ValueError(f"x: has {x.shape[1]} channels, expected {expected}")


def _symmetric(conv: nn.Conv2d) -> tuple[int, int] | None:
    """The padding in numbers; None for a "same" that is larger on one side."""
    if not isinstance(conv.padding, str):
        return conv.padding
    if conv.padding == "valid":
        return (0, 0)
    total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size)]
    return None if any(t % 2 for t in total) else (total[0] // 2, total[1] // 2)


class _Conv(nn.Module):
    """Holds an nn.Conv2d named `conv`, so that state dicts have the article's keys."""

    def __init__(self, conv: nn.Conv2d, activation: str | None) -> None:
        super().__init__()
        check_activation(activation)
        self.conv = conv
        self.activation = activation
        self._packed = Packed()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolves x [N, C, H, W]; what sepconv has no kernels for goes to PyTorch."""
        return forward(self.conv, x, self.activation, self._packed)

    def extra_repr(self) -> str:
        """Names the activation."""
        return "" if self.activation is None else f"activation={self.activation!r}"


class DepthwiseConv2d(_Conv):
    """Each channel filtered on its own: nn.Conv2d(in, in, k, stride, padding, groups=in).

    x: [N, in_channels, H, W]. State dict: conv.weight [in_channels · channel_multiplier, 1, kh,
    kw], conv.bias. `padding` may also be "same" or "valid", `activation` one of sepconv's names.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair | str = 0,
        *,
        dilation: IntPair = 1,
        bias: bool = True,
        channel_multiplier: int = 1,
        padding_mode: str = "zeros",
        activation: str | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Makes the parameters as nn.Conv2d initialises them."""
        check_positive(
            in_channels=in_channels, kernel_size=kernel_size, stride=stride, dilation=dilation,
            channel_multiplier=channel_multiplier,
        )  # fmt: skip
        conv = nn.Conv2d(
            in_channels, in_channels * channel_multiplier, kernel_size, stride, padding, dilation,
            in_channels, bias, padding_mode, device, dtype,
        )  # fmt: skip
        super().__init__(conv, activation)


class PointwiseConv2d(_Conv):
    """A linear combination of channels at each position: nn.Conv2d(in, out, 1).

    x: [N, in_channels, H, W]. State dict: conv.weight [out_channels, in_channels, 1, 1], conv.bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = True,
        activation: str | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Makes the parameters as nn.Conv2d initialises them."""
        check_positive(in_channels=in_channels, out_channels=out_channels)
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=bias, device=device, dtype=dtype)
        super().__init__(conv, activation)


class SeparableConv2d(nn.Module):
    """Depthwise, then pointwise, in one pass: the tensor between them never exists as a whole.

    x: [N, in_channels, H, W] → [N, out_channels, H', W']. State dict: depthwise.conv.* and
    pointwise.conv.*, as of the two modules one after the other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair | str = 0,
        *,
        dilation: IntPair = 1,
        bias: bool = True,
        channel_multiplier: int = 1,
        padding_mode: str = "zeros",
        depthwise_activation: str | None = None,
        activation: str | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Makes the parameters as nn.Conv2d initialises them."""
        super().__init__()
        placed = {"bias": bias, "device": device, "dtype": dtype}
        self.depthwise = DepthwiseConv2d(
            in_channels, kernel_size, stride, padding, dilation=dilation,
            channel_multiplier=channel_multiplier, padding_mode=padding_mode,
            activation=depthwise_activation, **placed,
        )  # fmt: skip
        self.pointwise = PointwiseConv2d(
            in_channels * channel_multiplier, out_channels, activation=activation, **placed
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolves x; half by half where the two cannot be one."""
        first, second = self.depthwise.conv, self.pointwise.conv
        padding = _symmetric(first) if first.padding_mode == "zeros" else None
        tensors = first.weight, second.weight, first.bias, second.bias
        if padding is None or not takes(x, *tensors):
            return self.pointwise(self.depthwise(x))
        return separable_conv2d(
            x, *tensors, first.stride, padding, first.dilation,
            self.depthwise.activation, self.pointwise.activation,
        )  # fmt: skip


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv:1801.04381): expand, filter, project, and add where shapes agree.

    x: [N, in_channels, H, W] → [N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]. `expand_ratio` 1
    leaves out the expansion. Batch norms follow each convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        expand_ratio: int = 6,
        *,
        kernel_size: int = 3,
        activation: str = "relu6",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Makes the parameters as nn.Conv2d and nn.BatchNorm2d initialise them."""
        super().__init__()
        check_activation(activation)
        check_positive(
            in_channels=in_channels, out_channels=out_channels, expand_ratio=expand_ratio
        )
        placed = {"device": device, "dtype": dtype}
        inside = in_channels * expand_ratio
        self.activation = activation
        self.residual = stride == 1 and in_channels == out_channels
        if expand_ratio > 1:
            self.expand = PointwiseConv2d(in_channels, inside, bias=False, **placed)
            self.expand_norm = nn.BatchNorm2d(inside, **placed)
        self.depthwise = DepthwiseConv2d(
            inside, kernel_size, stride, kernel_size // 2, bias=False, **placed
        )
        self.depthwise_norm = nn.BatchNorm2d(inside, **placed)
        self.project = PointwiseConv2d(inside, out_channels, bias=False, **placed)
        self.project_norm = nn.BatchNorm2d(out_channels, **placed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Runs the block."""
        y = x
        if hasattr(self, "expand"):
            y = activate(self.expand_norm(self.expand(y)), self.activation)
        y = activate(self.depthwise_norm(self.depthwise(y)), self.activation)
        y = self.project_norm(self.project(y))
        return x + y if self.residual else y
