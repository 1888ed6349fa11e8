"""Arrays of any kind in, arrays of the same kind out."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_numpy(x: Any, name: str) -> np.ndarray:
    """Views x, a NumPy array or anything with ``__dlpack__``, as a NumPy array without a copy."""
    if isinstance(x, np.ndarray):
        return x
    detach = getattr(x, "detach", None)
    if detach is not None:
        x = detach()
    if hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    raise TypeError(
        f"{name}: got {type(x).__name__}, expected a NumPy array or one with __dlpack__"
    )


def like(result: np.ndarray, x: Any) -> Any:
    """Gives the result the kind of array that x is, without a copy."""
    if isinstance(x, np.ndarray):
        return result
    if type(x).__module__.split(".")[0] == "torch":
        import torch

        return torch.from_numpy(result)
    namespace = getattr(x, "__array_namespace__", None)
    return namespace().from_dlpack(result) if namespace else result


def as_float32(x: Any, name: str) -> np.ndarray:
    """Views x as a float32 NumPy array; another dtype is a TypeError."""
    array = as_numpy(x, name)
    if array.dtype != np.float32:
        raise TypeError(f"{name}: dtype is {array.dtype}, expected float32")
    return array


def as_image_batch(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """Gives [N, C, H, W] in dense memory and whether that is NHWC; copies odd strides only."""
    if x.ndim != 4:
        raise ValueError(f"x: shape is {list(x.shape)}, expected [N, C, H, W]")
    if x.flags.c_contiguous:
        return x, False
    if x.transpose(0, 2, 3, 1).flags.c_contiguous:
        return x, True
    return np.ascontiguousarray(x), False


def empty(shape: list[int], nhwc: bool) -> np.ndarray:
    """Makes an uninitialised [N, C, H, W] array in the memory format."""
    if not nhwc:
        return np.empty(shape, np.float32)
    n, c, h, w = shape
    return np.empty((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
