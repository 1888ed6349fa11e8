"""Batch norm in training mode, with the activation behind it, channels last."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sepconv import _core
from sepconv.torch._convolution import activate, empty, memory_format, plain, takes


class _BatchNormActivation(torch.autograd.Function):
    """y, mean and variance of the batch (over all pixels); only y has a gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, weight: Any, bias: Any, activation: str | None, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = empty(x.shape, torch.channels_last)
        mean, variance = torch.empty_like(weight), torch.empty_like(weight)
        _core.batch_norm(
            x.detach(), weight.detach(), bias.detach(), y, mean, variance, activation or "none", eps
        )
        ctx.save_for_backward(x, weight, bias, mean, variance)
        ctx.activation, ctx.eps = activation, eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        x, weight, bias, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            y = activate(
                functional.batch_norm(x, None, None, weight, bias, True, 0.0, ctx.eps),
                ctx.activation,
            )
            return *torch.autograd.grad(y, (x, weight, bias), grad, create_graph=True), None, None
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = empty(x.shape, torch.channels_last)
        dweight, dbias = torch.empty_like(weight), torch.empty_like(weight)
        _core.batch_norm_backward(
            x.detach(), grad.detach(), weight.detach(), bias.detach(), mean, variance, dx, dweight,
            dbias, ctx.activation or "none", ctx.eps,
        )  # fmt: skip
        return dx, dweight, dbias, None, None


def takes_training(norm: nn.BatchNorm2d, x: torch.Tensor) -> bool:
    """Whether train_batch_norm() can do what a batch norm in training mode would."""
    tensors = norm.weight, norm.bias, norm.running_mean, norm.running_var
    return (
        norm.training
        and norm.track_running_stats
        and all(t is not None and t.is_contiguous() for t in tensors)
        and takes(x, *tensors)
        and x.shape[1] == norm.num_features
        and x.numel() > x.shape[1]  # PyTorch says what is wrong with one pixel
        and memory_format(x) is torch.channels_last
        and plain(x, *tensors)
    )


def train_batch_norm(norm: nn.BatchNorm2d, x: torch.Tensor, activation: str | None) -> torch.Tensor:
    """The batch norm and the activation; running statistics move as nn.BatchNorm2d moves them."""
    y, mean, variance = _BatchNormActivation.apply(x, norm.weight, norm.bias, activation, norm.eps)
    share = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if share is None:
            share = 1.0 / float(norm.num_batches_tracked)
    pixels = x.numel() // x.shape[1]
    with torch.no_grad():
        norm.running_mean.lerp_(mean, share or 0.0)
        norm.running_var.lerp_(variance * (pixels / (pixels - 1)), share or 0.0)
    return y
