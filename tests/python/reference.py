"""What results are held to: PyTorch in float64 and the rounding bound of docs/numerics.md."""

import numpy as np
import torch
from torch.nn import functional

EPS = 2.0**-24  # unit roundoff of float32

ACTIVATIONS = {
    None: lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "hardswish": functional.hardswish,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "hardsigmoid": functional.hardsigmoid,
    "tanh": torch.tanh,
    "elu": functional.elu,
    "softplus": functional.softplus,
    "mish": functional.mish,
}
# None of these functions is steeper anywhere.
STEEPEST = 1.6


def conv(x, w, bias, stride, pads, dilation, groups):
    """Gives the float64 result and Σ|x·w| + |bias|; pads: top, bottom, left, right."""
    x, w = torch.from_numpy(x).double(), torch.from_numpy(w).double()
    t, b, left, right = pads
    x = functional.pad(x, (left, right, t, b))
    bias = None if bias is None else torch.from_numpy(bias).double()
    y = functional.conv2d(x, w, bias, stride, 0, dilation, groups)
    size = functional.conv2d(
        x.abs(), w.abs(), None if bias is None else bias.abs(), stride, 0, dilation, groups
    )
    return y, size


def check(got, y, size, products, activation=None, residual=None):
    """Asserts |got − exact| ≤ 2·n·ε·Σ|x·w|, carried through the activation and the residual."""
    expected = ACTIVATIONS[activation](y)
    bound = 2 * products * 2 * EPS * size
    if activation is not None:
        # The function itself is good to a few ulp of its argument and its value.
        bound = STEEPEST * bound + 8 * EPS * (y.abs() + expected.abs() + 1e-30)
    if residual is not None:
        residual = torch.from_numpy(residual).double()
        expected = expected + residual
        bound = bound + 2 * EPS * (expected.abs() + residual.abs())
    got = torch.from_numpy(np.ascontiguousarray(got)).double()
    assert got.shape == expected.shape
    worst = ((got - expected).abs() - bound).max().item() if got.numel() else 0.0
    assert worst <= 0, f"{worst} beyond the bound"
