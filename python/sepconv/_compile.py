"""A PyTorch module as a network of ours."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sepconv._networks import Network, load

if TYPE_CHECKING:
    import torch


def compile(  # noqa: A001
    model: torch.nn.Module | str | os.PathLike[str], example: Any = None
) -> Network:
    """Makes a network of a torch.nn.Module, or of an ONNX file as load() does.

    The module goes through torch.export and PyTorch's ONNX exporter (package onnxscript), in eval
    mode and with its weights as they are now; later changes to it change nothing here. The network
    takes inputs of the shape of `example`, float32 [N, C, H, W].

    Raises TypeError for anything else than a module or a path, ValueError with a list of everything
    in the module that is not supported, and what torch.export raises for a module that it cannot
    trace.
    """
    if isinstance(model, (str, os.PathLike)):
        return load(model)
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module or a path")
    if example is None:
        raise TypeError("example: got None, expected an input of the shape that the network is for")
    if importlib.util.find_spec("onnxscript") is None:
        raise ImportError("compile() of a module needs the package onnxscript")
    if not isinstance(example, torch.Tensor) and not hasattr(example, "__array__"):
        raise TypeError(f"example: got {type(example).__name__}, expected a tensor or an array")
    x = torch.as_tensor(example)
    if x.dtype != torch.float32 or x.ndim != 4:
        raise ValueError(f"example: got {x.dtype} {list(x.shape)}, expected float32 [N, C, H, W]")
    with eval_mode(model):
        net = export(model, x)
    net._network(tuple(x.shape))  # what is not supported is told now
    return net


@contextlib.contextmanager
def eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Every part of the model in eval mode, and then back in the mode that it was in itself."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def export(model: torch.nn.Module, x: torch.Tensor, open_sizes: Sequence[int] = ()) -> Network:
    """Takes a module through PyTorch's ONNX exporter; open dimensions of x may be of any size."""
    import torch

    shapes = {"dynamic_shapes": [dict.fromkeys(open_sizes, torch.export.Dim.DYNAMIC)]}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = pathlib.Path(folder) / f"{type(model).__name__}.onnx"
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            torch.onnx.export(
                model, (x,), path, dynamo=True, verbose=False, **(shapes if open_sizes else {})
            )
        return load(path)
