"""The article's two modules as drop-ins for PyTorch. Only this module needs torch."""

from sepconv.torch._modules import DepthwiseConv2d, PointwiseConv2d

__all__ = ["DepthwiseConv2d", "PointwiseConv2d"]
