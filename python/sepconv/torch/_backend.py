"""torch.compile(model, backend="sepconv"): graphs without gradients as networks of ours."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from sepconv._compile import export
from sepconv._networks import Network
from sepconv.torch._convolution import make_geometry
from sepconv.torch._functional import depthwise_conv2d, pointwise_conv2d
from sepconv.torch._partition import changes, inputs_of, longest, output_of

_log = logging.getLogger("sepconv")
_MAX_PLANS = 8  # of models that share one graph


def _is_constant(value: Any) -> bool:
    """Whether an input of a graph is a parameter or a buffer."""
    static = getattr(value, "_dynamo_static_input_type", None) is not None
    return isinstance(value, nn.Parameter) or static


def _held(graph: fx.GraphModule) -> list[fx.Node]:
    """Where a graph reads what it holds itself (Inductor's option `freezing` makes such graphs)."""
    return [n for n in graph.graph.nodes if n.op == "get_attr"]


def _lifted(graph: fx.GraphModule) -> tuple[fx.GraphModule, list[torch.Tensor]]:
    """The graph with further inputs in place of what it holds, and that."""
    held = _held(graph)
    lifted = fx.Graph()
    new = {node: lifted.node_copy(node) for node in inputs_of(graph)}
    for i, node in enumerate(held):
        new[node] = lifted.placeholder(f"held{i}")
    for node in graph.graph.nodes:
        if node not in new:
            new[node] = lifted.node_copy(node, lambda n: new[n])
    return fx.GraphModule(graph, lifted), [getattr(graph, n.target) for n in held]


class _Frozen(nn.Module):
    """A graph with its parameters in place: a module of one image batch."""

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Any], image: int) -> None:
        super().__init__()
        # What the inputs were when the graph was made: sizes that are open are symbols.
        made = [n.meta["example_value"] for n in inputs_of(graph)]
        self.graph, held = _lifted(graph)
        self.image, self.count = image, len(inputs) + len(held)
        inputs = [*inputs, *held]
        self.image_sizes = made[image].shape
        # Where the graph wants a size or a stride of the image batch, which.
        self.numbers: dict[int, tuple[str, int]] = {}
        for i, value in enumerate(inputs):
            if i == image:
                continue
            if isinstance(value, torch.Tensor):
                self.register_buffer(f"constant{i}", value.detach())
            else:
                self.numbers[i] = _where(made[i], made[image])

    def forward(self, x: torch.Tensor) -> Any:
        def value(i: int) -> Any:
            if i == self.image:
                return x
            if i not in self.numbers:
                return getattr(self, f"constant{i}")
            what, dimension = self.numbers[i]
            return x.shape[dimension] if what == "size" else x.stride(dimension)

        return self.graph(*map(value, range(self.count)))


def _where(value: Any, image: torch.Tensor) -> tuple[str, int]:
    """Which size or stride of the image batch a symbol is."""
    for what, numbers in (("size", image.shape), ("stride", image.stride())):
        for d, number in enumerate(numbers):
            if isinstance(value, torch.SymInt) and str(number) == str(value):
                return what, d
    raise ValueError(f"an input is {value}, expected a size or stride of the image batch")


def _versions(tensors: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """What changes with a tensor's memory or, in place, with its elements."""
    return [(t.data_ptr(), t._version) for t in tensors]


class _Plan:
    """Networks for a graph with the parameters that it had when this was made."""

    def __init__(
        self,
        graph: fx.GraphModule,
        inputs: Sequence[Any],
        image: int,
        constants: Sequence[torch.Tensor],
    ) -> None:
        self.versions = _versions(constants)
        # Weak, so that a model that nobody else has goes.
        self.constants = [weakref.ref(t) for t in constants]
        self.module = _Frozen(graph, inputs, image)
        # One network for all sizes if there can be one, else one for each shape that comes.
        self.network: Network | None = None
        self.networks: dict[torch.Size, Network] = {}
        shape = torch.Size(map(int, inputs[image].shape))
        sizes = self.module.image_sizes
        open_sizes = [d for d, size in enumerate(sizes) if isinstance(size, torch.SymInt)]
        if open_sizes:
            with contextlib.suppress(Exception):
                self.network = _planned(self.module, shape, open_sizes)
        if self.network is None:
            self.networks[shape] = _planned(self.module, shape)

    def is_current(self) -> bool:
        """Whether its parameters are alive and unchanged."""
        tensors = [t() for t in self.constants]
        alive = [t for t in tensors if t is not None]
        return len(alive) == len(tensors) and _versions(alive) == self.versions

    def run(self, x: torch.Tensor) -> Any:
        network = self.network or self.networks.get(x.shape)
        if network is None:
            network = self.networks[x.shape] = _planned(self.module, x.shape)
        return network(x)


class _Runner:
    """Runs a graph as a network; plans anew where a parameter was changed in place.

    TorchDynamo has one graph for models of one class, so each set of parameters has a plan. Threads
    may call it at once: plans are replaced, never changed.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Any], image: int) -> None:
        self.graph, self.image = graph, image
        self.constants = [i for i, v in enumerate(inputs) if _is_constant(v)]
        self.held = [getattr(graph, n.target) for n in _held(graph)]
        self.single = not isinstance(output_of(graph), (tuple, list))
        self.plans: list[_Plan] = []
        self._plan(inputs)

    def _plan(self, inputs: Sequence[Any]) -> _Plan:
        tensors = [*(inputs[i] for i in self.constants), *self.held]
        now = _versions(tensors)
        for plan in self.plans:
            if plan.versions == now:
                return plan
        kept = [p for p in self.plans if p.is_current()][-_MAX_PLANS + 1 :]
        plan = _Plan(self.graph, inputs, self.image, tensors)
        self.plans = [*kept, plan]
        return plan

    def __call__(self, *inputs: Any) -> Any:
        result = self._plan(inputs).run(inputs[self.image])
        return result if self.single or isinstance(result, tuple) else (result,)


def _planned(module: nn.Module, shape: torch.Size, open_sizes: Sequence[int] = ()) -> Network:
    """The module as a network; an exception tells what is not supported."""
    network = export(module, torch.zeros(shape), open_sizes)
    network._network(tuple(shape))
    return network


def _swap_convolutions(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph in PyTorch, but for its depthwise and pointwise convolutions."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in (torch.conv2d, nn.functional.conv2d):
            node.target = _conv2d
    graph.recompile()
    return graph


def _conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    depthwise = groups > 1 and groups == x.shape[1]
    pointwise = groups == 1 and tuple(weight.shape[2:]) == (1, 1)
    if x.dim() != 4 or isinstance(padding, str) or not (depthwise or pointwise):
        return nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    g = make_geometry(stride, padding, dilation, groups)
    if depthwise:
        return depthwise_conv2d(x, weight, bias, *g[:3])
    if g.padding != (0, 0):
        return nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return pointwise_conv2d(x, weight, bias, g.stride)


def backend(
    graph: fx.GraphModule,
    inputs: Sequence[Any],
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[..., Any]:
    """Compiles a graph of TorchDynamo's.

    Without gradients (torch.no_grad() or inference_mode()) a graph from one float32 image batch
    [N, C, H, W], whose size N may be open, becomes one network with packed weights, fused and run
    in chains. Weights may be changed in place afterwards, but not behind PyTorch's version counter
    (`weight.data`). Of a graph that has something else in it, what comes before becomes the
    network. The rest, and any other graph, runs in PyTorch with its depthwise and pointwise
    convolutions, and their gradients, in sepconv.

    torch.compile's `mode` changes nothing here: there is only the fastest. Raises ValueError for
    `options`, of which there are none.
    """
    if options:
        raise ValueError(f"options: got {options}, expected none for the backend sepconv")
    images = [
        i for i, v in enumerate(inputs)
        if isinstance(v, torch.Tensor) and not _is_constant(v)
    ]  # fmt: skip
    if not torch.is_grad_enabled() and len(images) == 1:
        x = inputs[images[0]]
        if x.dim() == 4 and x.dtype == torch.float32 and x.device.type == "cpu":
            return _networks(graph, inputs, images[0])
    return _swap_convolutions(graph)


def _networks(graph: fx.GraphModule, inputs: Sequence[Any], image: int) -> Callable[..., Any]:
    """The graph as a network; else as much of its front as can be one, and the rest in PyTorch."""
    if changes(graph, image):
        _log.info("this graph is not one network: it changes its input")
        return _swap_convolutions(graph)

    def make(part: fx.GraphModule) -> _Runner | None:
        try:
            return _Runner(part, inputs, image)
        except Exception as error:
            _log.info("this graph is not one network: %s", error)
            return None

    def can_be(front: fx.GraphModule) -> bool:
        shape = torch.Size(map(int, inputs[image].shape))
        with contextlib.suppress(Exception):
            _planned(_Frozen(front, inputs, image), shape)
            return True
        return False

    whole = make(graph)
    if whole is not None:
        return whole
    cut = longest(graph, image, can_be)
    front = make(cut.front()) if cut is not None else None
    if cut is None or front is None:
        return _swap_convolutions(graph)
    rest = _swap_convolutions(cut.rest())
    _log.info("its first %d operations are one", len(cut.first))
    return lambda *inputs: rest(*inputs, *front(*inputs))
