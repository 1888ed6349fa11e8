"""Cuts of TorchDynamo's graphs: a front that can be a network, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn

_CONVOLUTIONS = (torch.conv2d, nn.functional.conv2d)


def _value(node: fx.Node) -> Any:
    """What a node gave when the graph was made."""
    return node.meta.get("example_value")


def _memory(node: fx.Node) -> int:
    """Tells which nodes' tensors are views of the same memory."""
    return _value(node).untyped_storage()._cdata


def _body(graph: fx.GraphModule) -> list[fx.Node]:
    """The operations, in their order."""
    return [n for n in graph.graph.nodes if n.op.startswith("call_")]


def inputs_of(graph: fx.GraphModule) -> list[fx.Node]:
    """The graph's inputs, in their order."""
    return [n for n in graph.graph.nodes if n.op == "placeholder"]


def output_of(graph: fx.GraphModule) -> Any:
    """What the graph returns."""
    return next(n for n in graph.graph.nodes if n.op == "output").args[0]


def changes(graph: fx.GraphModule, image: int) -> bool:
    """Whether a graph writes to its input `image`, which a network does not."""
    # Counted while TorchDynamo ran it without numbers.
    return _value(inputs_of(graph)[image])._version > 0


class Cut:
    """A graph's first `count` operations and the others.

    `rest` takes the inputs of the graph and the results of `front`.
    """

    def __init__(self, graph: fx.GraphModule, count: int) -> None:
        self.graph = graph
        body = _body(graph)
        self.first, self.others = set(body[:count]), set(body[count:])
        # What is no tensor, like a size, is computed again.
        self.again: set[fx.Node] = set()
        tensors: set[fx.Node] = set()
        needed = [n for n in body[:count] if any(u not in self.first for u in n.users)]
        while needed:
            node = needed.pop()
            if isinstance(_value(node), torch.Tensor):
                tensors.add(node)
            elif node not in self.again:
                self.again.add(node)
                needed += [n for n in node.all_input_nodes if n in self.first]
        self.crossing = [n for n in body[:count] if n in tensors]

    def possible(self, image: int) -> bool:
        """Whether a network can have such results, each with memory of its own."""
        values = [_value(n) for n in self.crossing]
        fits = all(v.dim() in (2, 4) and v.dtype == torch.float32 for v in values)
        memories = {_memory(n) for n in (*self.crossing, inputs_of(self.graph)[image])}
        return bool(values) and fits and len(memories) == len(values) + 1

    def _copied(self, taken: set[fx.Node]) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
        """A graph of the inputs, what the graph holds, and these operations."""
        copied = fx.Graph()
        new = {node: copied.node_copy(node) for node in inputs_of(self.graph)}
        for i, node in enumerate(n for n in self.crossing if n not in taken):
            new[node] = copied.placeholder(f"front{i}")
        for node in self.graph.graph.nodes:
            if node.op == "get_attr" or node in taken:
                new[node] = copied.node_copy(node, lambda n: new[n])
        return copied, new

    def front(self) -> fx.GraphModule:
        """The first operations; gives a tuple of the tensors that the others need."""
        copied, new = self._copied(self.first)
        copied.output(tuple(new[n] for n in self.crossing))
        return fx.GraphModule(self.graph, copied)

    def rest(self) -> fx.GraphModule:
        """The other operations."""
        copied, new = self._copied(self.others | self.again)
        copied.output(fx.map_arg(output_of(self.graph), lambda n: new[n]))
        return fx.GraphModule(self.graph, copied)


def _cuts(graph: fx.GraphModule, image: int) -> Iterator[Cut]:
    """Cuts behind a graph's first convolution, each before the first operation of its kind.

    It is kinds of operations that networks lack, hardly one operation among others of its kind.
    """
    seen: set[Any] = set()
    for count, node in enumerate(_body(graph)):
        if node.target not in seen and not seen.isdisjoint(_CONVOLUTIONS):
            cut = Cut(graph, count)
            if cut.possible(image):
                yield cut
        seen.add(node.target)


def longest(
    graph: fx.GraphModule, image: int, can_be: Callable[[fx.GraphModule], bool]
) -> Cut | None:
    """The cut with the longest front that can be a network.

    Halves what is in question at each step: a front is no network if a shorter one is none.
    """
    cuts = list(_cuts(graph, image))
    longest_yet, begin, end = None, 0, len(cuts)
    while begin < end:
        middle = (begin + end) // 2
        if can_be(cuts[middle].front()):
            longest_yet, begin = cuts[middle], middle + 1
        else:
            end = middle
    return longest_yet
