"""Whole networks by name."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any, Union

import numpy as np

from sepconv import _core
from sepconv._arguments import Pair, pair
from sepconv._arrays import as_float32, as_image_batch, empty, like

Path = Union[str, "os.PathLike[str]"]

# Networks planned for so many input shapes are kept.
_MOST_SHAPES = 32


class Network:
    """A network with its weights; call it with images, or give it a picture's path to classify."""

    def __init__(
        self, name: Path, weights: Path | None = None, outputs: Iterable[str] | None = None
    ) -> None:
        """Loads the model; see load()."""
        self.name = os.fspath(name)
        file = "" if weights is None else os.fspath(weights)
        self._model = _core.Model(self.name, file, _names(outputs))
        self._lock = threading.Lock()
        self._networks: dict[tuple[str, tuple[int, ...]], _core.Network] = {}

    def _network(self, shape: tuple[int, ...], result: str = "output") -> _core.Network:
        with self._lock:
            network = self._networks.pop((result, shape), None)
            if network is None:
                like = next(iter(self._networks.values()), None)  # its packed weights are shared
                network = self._model.network(list(shape), result, like)
                while len(self._networks) >= _MOST_SHAPES:
                    self._networks.pop(next(iter(self._networks)))
            self._networks[result, shape] = network  # the last one used is the last one forgotten
        return network

    def _run(self, x: Any, result: str = "output") -> Any:
        array, _ = as_image_batch(as_float32(x, "x"))
        network = self._network(array.shape, result)
        ys = [empty(shape, nhwc) for shape, nhwc in network.outputs]
        network.run(array, ys)
        results = tuple(like(y, x) for y in ys)
        return results if len(results) > 1 else results[0]

    def __call__(self, x: Any) -> Any:
        """Runs float32 images [N, 3, H, W], preprocessed, to logits [N, classes].

        The result of an ONNX file is what the file says, a tuple where it has several outputs.

        The first call with a new shape plans the network for it.
        """
        return self._run(x)

    def features(self, x: Any) -> Any:
        """Runs images like a call does, but to what the classifier reads: [N, C].

        These are timm's `forward_head(…, pre_logits=True)`: an embedding for search or for a
        classifier of one's own.
        """
        return self._run(x, "features")

    def stages(self, x: Any) -> Any:
        """Runs images like a call does, but to the maps of its stages, the finest first.

        A tuple of float32 [N, C, H, W]: those of timm's `features_only`, for detectors and
        segmentation. Raises ValueError for ONNX files, which name no stages.
        """
        return self._run(x, "stages")

    def preprocess(self, path: Path) -> np.ndarray:
        """Reads a JPEG or PNG picture as the network wants it: [1, 3, H, W] in NHWC memory."""
        size = self._model.input_size
        x = empty([1, 3, size, size], nhwc=True)
        self._model.preprocess(os.fspath(path), x)
        return x

    def classify(self, path: Path, top: int = 5) -> list[tuple[str, float]]:
        """Names what a picture shows: (label, probability) pairs, likeliest first.

        Labels are ImageNet's for a network of 1,000 classes, "class 7" and so on otherwise. Raises
        ValueError for a network whose result is not [1, classes].
        """
        if top < 1:
            raise ValueError(f"top: got {top}, expected at least 1")
        result = self._run(self.preprocess(path), "logits")
        if isinstance(result, tuple) or result.ndim != 2:
            shapes = [list(r.shape) for r in result] if isinstance(result, tuple) else result.shape
            raise ValueError(f"{self.name}: its result is {shapes}, expected [1, classes]")
        logits = result[0].astype(np.float64)
        p = np.exp(logits - logits.max())
        p /= p.sum()
        order = np.argsort(-p, kind="stable")[:top]
        return [(_core.class_label(int(i), len(p)), float(p[i])) for i in order]

    def explain(
        self, size: Pair | None = None, batch: int | None = None, runs: int = 20
    ) -> list[dict[str, Any]]:
        """Describes each step for `batch` images of a height and width (one number for both).

        What is not given is the network's own.

        Keys: name, fused, kernel, output (shape), flops, bytes, seconds (fastest of `runs`), and
        share, its part of the core's FMA peak times the number of threads; of a chain also band,
        how many output rows it makes at a time, ring_bytes, what lies between its ops meanwhile,
        and cut, why it does not go on.
        """
        images, channels, *own = self._model.input_shape
        height, width = own if size is None else pair("size", size)
        network = self._network((images if batch is None else batch, channels, height, width))
        steps: list[dict[str, Any]] = list(network.explain(runs))
        peak = _core.measure_peak_gflops() * 1e9 * _core.get_num_threads()
        for step in steps:
            step["share"] = step["flops"] / step["seconds"] / peak if step["seconds"] else None
        return steps


def _names(outputs: Iterable[str] | None) -> list[str]:
    """A list of strings, or TypeError: a single string would be its letters."""
    if outputs is None:
        return []
    if isinstance(outputs, Iterable) and not isinstance(outputs, str):
        names = list(outputs)
        if all(isinstance(name, str) for name in names):
            return names
    raise TypeError(f"outputs: got {outputs!r}, expected a list of names")


def load(name: Path, weights: Path | None = None, outputs: Iterable[str] | None = None) -> Network:
    """Loads a network by its name in timm or torchvision (see models()), or from an ONNX file.

    weights: a safetensors file with that source's tensor names; without one the network has
    seeded random weights, for timing. Raises ValueError for an unknown name (with the nearest
    ones) and for a file that lacks a tensor, has one too many, or is no safetensors file.

    A name that ends with ".onnx" is a file's: operator sets 11 to 25, float32, one input
    [N, C, H, W]; sizes that the file leaves open may be any. Raises ValueError for
    a file that is damaged and, when it is first called with a shape, with a list of everything in
    it that is not supported.

    outputs: names of values in an ONNX file that the network is to end with, instead of the file's
    own outputs. What none of them needs may be of any kind: a detector's last steps, an ArgMax.
    Raises ValueError for a name that the file does not have.
    """
    return Network(name, weights, outputs)
