"""DepthwiseConv2d and PointwiseConv2d as nn.Modules."""

from __future__ import annotations

from typing import Any, Union

import torch
from torch import nn
from torch.nn import functional

from sepconv import _core

IntPair = Union[int, "tuple[int, int]"]


def _memory_format(x: torch.Tensor) -> torch.memory_format:
    """The dense format that x has; contiguous if it has both."""
    if x.is_contiguous():
        return torch.contiguous_format
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.preserve_format


def _ours(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether sepconv's kernels can take the call: plain float32 tensors on the CPU."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    tensors = (x, weight) if bias is None else (x, weight, bias)
    plain = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    known = all(type(t) in (torch.Tensor, nn.Parameter) for t in tensors)
    return plain and known and x.dim() == 4 and not torch.is_autocast_enabled("cpu")


def _forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, args: tuple[Any, ...]
) -> torch.Tensor:
    """Runs the convolution on dense memory; x in neither format is copied once."""
    stride, padding, dilation, groups = args
    x, weight = x.detach(), weight.detach()
    bias = None if bias is None else bias.detach()
    format_ = _memory_format(x)
    if format_ is torch.preserve_format:
        x, format_ = x.contiguous(), torch.contiguous_format
    pads = (padding[0], padding[0], padding[1], padding[1])
    nhwc = format_ is torch.channels_last
    op = _core.conv2d(
        list(x.shape), weight, bias, stride, pads, dilation, groups, "none", False, nhwc
    )
    y = torch.empty(op.output_shape, dtype=torch.float32, memory_format=format_)
    op.run(x, y)
    return y


class _Convolution(torch.autograd.Function):
    """Forward through sepconv, gradients through PyTorch's convolution backward."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, args: Any) -> torch.Tensor:
        """Convolves and remembers what the gradients need."""
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        ctx.args = args
        return _forward(x, weight, bias, args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gives the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.args
        mask = [*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2]]
        sizes = [weight.shape[0]] if ctx.has_bias else None
        dx, dw, db = torch.ops.aten.convolution_backward(
            grads[0], x, weight, sizes, stride, padding, dilation, False, [0, 0], groups, mask
        )
        return dx, dw, db, None


class _Conv(nn.Module):
    """Holds an nn.Conv2d named `conv`, so that state dicts have the article's keys."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolves x [N, C, H, W]; what sepconv has no kernels for goes to PyTorch."""
        c = self.conv
        args = (c.stride, c.padding, c.dilation, c.groups)
        if not _ours(x, c.weight, c.bias):
            return functional.conv2d(x, c.weight, c.bias, *args)
        return _Convolution.apply(x, c.weight, c.bias, args)


class DepthwiseConv2d(_Conv):
    """Each channel filtered on its own: nn.Conv2d(in, in, k, stride, padding, groups=in).

    x: [N, in_channels, H, W]. State dict: conv.weight [in_channels, 1, kh, kw], conv.bias.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair = 0,
    ) -> None:
        """Makes the parameters as nn.Conv2d initialises them."""
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, groups=in_channels)
        )


class PointwiseConv2d(_Conv):
    """A linear combination of channels at each position: nn.Conv2d(in, out, 1).

    x: [N, in_channels, H, W]. State dict: conv.weight [out_channels, in_channels, 1, 1], conv.bias.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Makes the parameters as nn.Conv2d initialises them."""
        super().__init__(nn.Conv2d(in_channels, out_channels, 1))
