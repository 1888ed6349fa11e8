"""sepconv for PyTorch: modules, operators, and one-line switches. Only this module needs torch.

Importing it registers torch.ops.sepconv.*; torch.compile knows the backend "sepconv" without.
"""

from sepconv.torch import _library  # noqa: F401 registers the operators
from sepconv.torch._functional import depthwise_conv2d, pointwise_conv2d, separable_conv2d
from sepconv.torch._modules import (
    DepthwiseConv2d,
    InvertedResidual,
    PointwiseConv2d,
    SeparableConv2d,
)
from sepconv.torch._optimize import Change, optimize, report, restore

__all__ = [
    "Change",
    "DepthwiseConv2d",
    "InvertedResidual",
    "PointwiseConv2d",
    "SeparableConv2d",
    "depthwise_conv2d",
    "optimize",
    "pointwise_conv2d",
    "report",
    "restore",
    "separable_conv2d",
]
