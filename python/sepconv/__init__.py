"""Depthwise and pointwise convolution at the hardware's limit.

Arrays are float32, [N, C, H, W] in shape, in either memory format: NumPy arrays or anything with
``__dlpack__``. Results have the kind and the memory format of the input.
"""

import os

from sepconv import _core
from sepconv._compile import compile  # noqa: A004
from sepconv._core import (
    class_label,
    cpu_info,
    empty_cache,
    get_num_threads,
    models,
    set_num_threads,
)
from sepconv._networks import Network, load
from sepconv._ops import (
    Conv2d,
    DepthwiseConv2d,
    PointwiseConv2d,
    SeparableConv2d,
    conv2d,
    depthwise_conv2d,
    pointwise_conv2d,
    separable_conv2d,
)

os.register_at_fork(after_in_child=_core.after_fork)

__version__ = "0.1.0"
__all__ = [
    "Conv2d",
    "DepthwiseConv2d",
    "Network",
    "PointwiseConv2d",
    "SeparableConv2d",
    "class_label",
    "compile",
    "conv2d",
    "cpu_info",
    "depthwise_conv2d",
    "empty_cache",
    "get_num_threads",
    "load",
    "models",
    "pointwise_conv2d",
    "separable_conv2d",
    "set_num_threads",
]
