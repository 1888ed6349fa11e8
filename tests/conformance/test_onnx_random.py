"""Random graphs of layers and attention on tensors taken apart: refused, or as ONNX Runtime."""

import copy
import math

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import sepconv

N, C, H, W = 2, 12, 4, 6


class Graph:
    """An ONNX graph that grows node by node; the shapes of its values are known."""

    def __init__(self, seed, *shape, opset=17):
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], []
        self.shape = {"x": list(shape)}

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability):
        return self.rng.random() < probability

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def normal(self, *shape):
        return self.constant(self.rng.standard_normal(shape).astype(np.float32))

    def node(self, kind, inputs, shape, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self.shape[name] = list(shape)
        return name

    def reshape(self, x, shape):
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x, order):
        shape = [self.shape[x][i] for i in order]
        return self.node("Transpose", [x], shape, perm=[int(i) for i in order])

    def turned(self, x):
        order = list(range(len(self.shape[x])))
        return self.transpose(x, [*order[:-2], order[-1], order[-2]])

    def activation(self, x):
        kinds = ("Relu", "Sigmoid", "LeakyRelu", "Tanh", "Elu", "Selu", "Celu", "Softplus", "PRelu")
        kind = self.one_of(*kinds)
        slopes = [self.normal(*self.shape[x][1:2], *[1] * (len(self.shape[x]) - 2))]
        return self.node(kind, [x, *(slopes if kind == "PRelu" else [])], self.shape[x])

    def model(self, result):
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", self.shape["x"]), (result, self.shape[result]))
        ]
        graph = helper.make_graph(self.nodes, "random", values[:1], values[1:], self.constants)
        opset = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opset, ir_version=10)


def factors(g, size):
    """Numbers whose product is size, in any order."""
    found = []
    while size > 1 and g.chance(0.7):
        found.append(g.one_of(*[f for f in range(2, size + 1) if size % f == 0]))
        size //= found[-1]
    found.append(size)
    g.rng.shuffle(found)
    return found


def split(g, x, i):
    shape = g.shape[x]
    return g.reshape(x, [*shape[:i], *factors(g, shape[i]), *shape[i + 1 :]])


def join(g, x, i):
    shape = g.shape[x]
    return g.reshape(x, [*shape[:i], math.prod(shape[i : i + 2]), *shape[i + 2 :]])


def shuffle(g, x, _):
    return g.transpose(x, g.rng.permutation(len(g.shape[x])))


def part(g, x, i):
    shape = list(g.shape[x])
    begin = int(g.rng.integers(shape[i]))
    end, step = int(g.rng.integers(begin + 1, shape[i] + 1)), g.one_of(1, 1, 2)
    shape[i] = len(range(begin, end, step))
    bounds = [g.constant(np.array([v], np.int64)) for v in (begin, end, i, step)]
    return g.node("Slice", [x, *bounds], shape)


def product(g, x, _):
    shape, out = g.shape[x], int(g.rng.integers(2, 7))
    return g.node("MatMul", [x, g.normal(shape[-1], out)], [*shape[:-1], out])


def activation(g, x, _):
    return g.activation(x)


def with_constant(g, x, _):
    shape = list(g.shape[x])
    constant = [g.one_of(1, s, 3 if s == 1 else s) for s in shape]
    shape = [max(sizes) for sizes in zip(shape, constant, strict=True)]
    if len(shape) < 4 and g.chance(0.1):
        shape, constant = [1, *shape], [1, *constant]
    return g.node(g.one_of("Add", "Mul"), [x, g.normal(*constant)], shape)


def softmax(g, x, i):
    return g.node("Softmax", [x], g.shape[x], axis=i)


def branches(g, x, i):
    kind = g.one_of("Add", "Mul", "Concat")
    if kind != "Concat":
        return g.node(kind, [g.activation(x), g.activation(x)], g.shape[x])
    shape = list(g.shape[x])
    shape[i] *= 2
    return g.node(kind, [x, g.activation(x)], shape, axis=i)


def mean(g, x, i):
    shape = list(g.shape[x])
    shape[i] = 1
    return g.node("ReduceMean", [x], shape, axes=[i])


def reduction(g, x, _):
    shape, keep = list(g.shape[x]), g.one_of(0, 1)
    axes = [i for i in range(len(shape)) if g.chance(0.4)]
    if len(shape) - len(axes) < 2 or not axes:
        return x
    for i in reversed(axes):
        shape[i : i + 1] = [1] if keep else []
    kind = g.one_of("ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2")
    if kind != "ReduceSum":
        return g.node(kind, [x], shape, axes=axes, keepdims=keep)
    return g.node(kind, [x, g.constant(np.array(axes, np.int64))], shape, keepdims=keep)


def repeated(g, x, _):
    """With what is smaller, in either order."""
    shape = g.shape[x]
    axes = [i for i in range(len(shape)) if g.chance(0.4)]
    if not axes or len(axes) == len(shape):
        return x
    small = [1 if i in axes else s for i, s in enumerate(shape)]
    y = g.activation(g.node(g.one_of("ReduceMean", "ReduceMax"), [x], small, axes=axes))
    kind = g.one_of("Add", "Sub", "Mul", "Max", "Min")
    return g.node(kind, g.one_of([x, y], [y, x]), shape)


def divided(g, x, i):
    small = list(g.shape[x])
    small[i] = 1
    y = g.one_of(g.node("ReduceMax", [x], small, axes=[i]), x)
    y = g.node("Sigmoid", [y], g.shape[y])
    y = g.node("Add", [y, g.constant(np.float32(0.5))], g.shape[y])
    return g.node("Div", [x, y], g.shape[x])


def normalized(g, x, i):
    shape, small = g.shape[x], list(g.shape[x])
    small[i] = 1
    norm = g.node("ReduceL2", [x], small, axes=[i])
    kind = g.one_of("Clip", "Clip", "Add")
    norm = g.node(kind, [norm, g.constant(np.float32(0.3))], small)
    if g.chance(0.5):
        norm = g.node("Expand", [norm, g.constant(np.array(shape, np.int64))], shape)
    return g.node("Div", [x, norm], shape)


def product_of_values(g, x, _):
    shape = g.shape[x]
    if len(shape) < 2:
        return x
    y = g.activation(x)
    first, second = g.one_of((x, g.turned(y)), (g.turned(x), y))
    rows, columns = g.shape[first][-2], g.shape[second][-1]
    return g.node("MatMul", [first, second], [*shape[:-2], rows, columns])


def product_from_the_left(g, x, _):
    shape, out = g.shape[x], int(g.rng.integers(2, 7))
    if len(shape) < 2:
        return x
    return g.node("MatMul", [g.normal(out, shape[-2]), x], [*shape[:-2], out, shape[-1]])


def padded(g, x, _):
    shape = g.shape[x]
    mode = g.one_of("constant", "reflect", "edge")
    amounts = np.zeros((2, len(shape)), np.int64)
    for i in g.rng.choice(len(shape), g.one_of(1, 2)):
        most = min(2, shape[i] - 1)
        amounts[:, i] = g.rng.integers(
            -1 if mode == "constant" and shape[i] > 2 else 0, most + 1, 2
        )
    to = [int(s + a) for s, a in zip(shape, amounts.sum(0), strict=True)]
    value = [g.constant(np.float32(g.one_of(0.0, 0.6)))] if mode == "constant" else []
    return g.node("Pad", [x, g.constant(amounts.reshape(-1)), *value], to, mode=mode)


def function(g, x, _):
    shape = g.shape[x]
    kind = g.one_of("Abs", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Sin", "Cos")
    if kind in ("Exp", "Sin", "Cos"):
        x = g.node("Sigmoid", [x], shape)
    if kind in ("Log", "Sqrt", "Reciprocal"):
        x = g.node("Abs", [x], shape)
        x = g.node("Add", [x, g.constant(np.float32(0.5))], shape)
    return g.node(kind, [x], shape)


def blocks(g, x, _):
    shape = g.shape[x]
    if len(shape) != 4:
        return x
    n, c, h, w = shape
    if c % 4 == 0 and g.chance(0.5):
        return g.node("DepthToSpace", [x], [n, c // 4, 2 * h, 2 * w], blocksize=2,
                      mode=g.one_of("DCR", "CRD"))  # fmt: skip
    if h % 2 or w % 2:
        return x
    return g.node("SpaceToDepth", [x], [n, 4 * c, h // 2, w // 2], blocksize=2)


def lines(g, x, _):
    shape, out = g.shape[x], int(g.rng.integers(2, 7))
    if len(shape) != 3:
        return x
    if g.chance(0.3):
        return g.node("MaxPool", [x], shape, kernel_shape=[3], pads=[1, 1])
    return g.node("Conv", [x, g.normal(out, shape[1], 3)], [shape[0], out, shape[2]], pads=[1, 1])


def expanded(g, x, i):
    shape = g.shape[x]
    y = g.activation(mean(g, x, i))
    y = g.node("Expand", [y, g.constant(np.array(shape, np.int64))], shape)
    other = g.one_of(x, g.activation(x), g.constant(np.float32(0.7)))
    return g.node("Mul", g.one_of([y, other], [other, y]), shape)


def instance_norm(g, x, _):
    shape = g.shape[x]
    if len(shape) < 3:
        return x
    return g.node(
        "InstanceNormalization", [x, g.normal(shape[1]), g.normal(shape[1])], shape, epsilon=0.1
    )


def conv(g, x, _):
    shape = g.shape[x]
    if len(shape) != 4:
        return x
    out = int(g.rng.integers(2, 7))
    if g.chance(0.5):
        return g.node("Conv", [x, g.normal(out, shape[1], 1, 1)], [shape[0], out, *shape[2:]])
    weight = g.normal(shape[1], 1, 3, 3)
    return g.node("Conv", [x, weight], shape, group=shape[1], pads=[1, 1, 1, 1])


def batch_norm(g, x, _):
    shape = g.shape[x]
    if len(shape) < 2:
        return x
    positive = g.constant(np.full(shape[1], 0.5, np.float32))
    constants = [g.normal(shape[1]) for _ in range(3)]
    return g.node("BatchNormalization", [x, *constants, positive], shape)


def layer_norm(g, x, _):
    shape = g.shape[x]
    norm = g.normal(shape[-1]), g.normal(shape[-1])
    return g.node("LayerNormalization", [x, *norm], shape, axis=-1, epsilon=0.1)


def element(g, x, i):
    shape = list(g.shape[x])
    index = g.constant(np.int64(g.rng.integers(shape[i])))
    if len(shape) < 2:
        return x
    del shape[i]
    return g.node("Gather", [x, index], shape, axis=i)


def parts(g, x, i):
    shape = list(g.shape[x])
    if shape[i] % 2:
        return x
    shape[i] //= 2
    first, second = f"v{len(g.nodes)}", f"v{len(g.nodes)}.second"
    g.nodes.append(helper.make_node("Split", [x], [first, second], first, axis=i))
    g.shape[first] = g.shape[second] = shape
    return g.node(g.one_of("Add", "Mul"), [second, g.activation(first)], shape)


def joined_with_constant(g, x, i):
    shape = list(g.shape[x])
    other = list(shape)
    other[i] = int(g.rng.integers(1, 4))
    shape[i] += other[i]
    constant = g.normal(*other)
    return g.node("Concat", g.one_of([x, constant], [constant, x]), shape, axis=i)


def tiled(g, x, _):
    shape = g.shape[x]
    repeats = [g.one_of(1, 1, 2) for _ in shape]
    if math.prod(repeats) > 4:
        return x
    to = [s * r for s, r in zip(shape, repeats, strict=True)]
    return g.node("Tile", [x, g.constant(np.array(repeats, np.int64))], to)


def windows(g, x, i):
    """Elements by steps in several directions, as unfolding an image takes them."""
    shape = g.shape[x]
    count, by = g.one_of(1, 2, 3), g.one_of(1, 2)
    size, dilation = g.one_of(1, 2, 3), g.one_of(1, 2)
    index = np.add.outer(np.arange(count) * by, np.arange(size) * dilation)
    if index.max() >= shape[i]:
        return x
    index += int(g.rng.integers(shape[i] - index.max()))
    to = [*shape[:i], *index.shape, *shape[i + 1 :]]
    return g.node("Gather", [x, g.constant(index.astype(np.int64))], to, axis=i)


def picked(g, x, i):
    """Elements in any order, some of them twice, of one dimension or the first two."""
    shape = g.shape[x]
    if g.chance(0.5) or len(shape) < 2:
        index = g.rng.integers(-shape[i], shape[i], int(g.rng.integers(1, 6)))
        to = [*shape[:i], len(index), *shape[i + 1 :]]
        return g.node("Gather", [x, g.constant(index)], to, axis=i)
    count = int(g.rng.integers(1, 6))
    index = np.stack([g.rng.integers(0, s, count) for s in shape[:2]], 1)
    return g.node("GatherND", [x, g.constant(index)], [count, *shape[2:]])


def chosen(g, x, _):
    """By a constant mask, of two values or of a value and a number."""
    shape = g.shape[x]
    mask = g.constant(g.rng.random([g.one_of(1, s) for s in shape]) < 0.5)
    other = g.one_of(g.constant(np.float32(0.3)), g.activation(x))
    return g.node("Where", g.one_of([mask, x, other], [mask, other, x]), shape)


def root_mean_square(g, x, i):
    """An RMS norm, or a layer norm where the mean is taken off first; or what leads there."""
    shape, small = g.shape[x], list(g.shape[x])
    small[i] = 1
    if g.chance(0.5):
        x = g.node("Sub", [x, g.node("ReduceMean", [x], small, axes=[i])], shape)
    if g.chance(0.5):
        squares = g.node("Mul", [x, x], shape)
    else:
        squares = g.node("Pow", [x, g.constant(np.float32(2))], shape)
    if g.chance(0.1):
        return squares
    mean = g.node("ReduceMean", [squares], small, axes=[i])
    mean = g.node("Add", [mean, g.constant(np.float32(0.3))], small)
    if g.chance(0.2):
        return g.node("Mul", [x, mean], shape)
    if g.chance(0.3):
        inverse = g.node("Pow", [mean, g.constant(np.float32(-0.5))], small)
        return g.node("Mul", [x, inverse], shape)
    root = g.node("Sqrt", [mean], small)
    kind = g.one_of("Div", "Reciprocal", "1 / x")
    if kind == "Div":
        return g.node("Div", [x, root], shape)
    if kind == "Reciprocal":
        return g.node("Mul", [x, g.node("Reciprocal", [root], small)], shape)
    inverse = g.node("Div", [g.constant(np.float32(1)), root], small)
    return g.node("Mul", [inverse, x], shape)


def einsum(g, x, _):
    """With a constant or a value: letters of both, of one, some of them summed over."""
    sizes = dict(zip("abcdefgh", g.shape[x], strict=False))
    letters = "".join(sizes)
    summed = [c for c in letters if g.chance(0.3)][:2] or [letters[-1]]
    sizes["z"] = int(g.rng.integers(2, 5))
    if g.chance(0.3):
        other, second = letters, g.activation(x)
    else:
        other = "".join(c for c in letters if c in summed or g.chance(0.4)) + "z"
        other = "".join(g.rng.permutation(list(other)))
        second = g.normal(*[sizes[c] for c in other])
    left = [c for c in dict.fromkeys(letters + other) if c not in summed]
    if not 2 <= len(left) <= 5:
        return x
    result = "".join(g.rng.permutation(left))
    equation = f"{letters},{other}->{result}"
    return g.node("Einsum", [x, second], [sizes[c] for c in result], equation=equation)


def matrices(g, x, _):
    """A constant matrix for each of some dimensions."""
    shape, out = g.shape[x], int(g.rng.integers(2, 7))
    if len(shape) < 2:
        return x
    leading = [g.one_of(1, s) for s in shape[:-2]][g.one_of(0, 1) :]
    if g.chance(0.5):
        return g.node("MatMul", [x, g.normal(*leading, shape[-1], out)], [*shape[:-1], out])
    constant = g.normal(*leading, out, shape[-2])
    return g.node("MatMul", [constant, x], [*shape[:-2], out, shape[-1]])


def assigned(g, x, i):
    """To a range of one dimension."""
    shape = g.shape[x]
    begin = int(g.rng.integers(shape[i]))
    end = int(g.rng.integers(begin + 1, shape[i] + 1))
    part = [*shape[:i], end - begin, *shape[i + 1 :]]
    updates = g.normal(*part)
    along = np.arange(begin, end).reshape([-1 if j == i else 1 for j in range(len(shape))])
    if g.chance(0.7):
        bounds = [g.constant(np.array([v], np.int64)) for v in (begin, end, i)]
        updates = g.activation(g.node("Slice", [x, *bounds], part))
    if g.chance(0.3):
        places = g.constant(np.broadcast_to(along, part).astype(np.int64))
        return g.node("ScatterElements", [x, places, updates], shape, axis=i)
    box = [range(s) for s in shape[:i]] + [range(begin, end)]
    places = np.stack(np.meshgrid(*box, indexing="ij"), -1).astype(np.int64)
    return g.node("ScatterND", [x, g.constant(places), updates], shape)


def linear(g, x, _):
    """Gemm, whose bias may be one number."""
    rows, k = math.prod(g.shape[x][:-1]), g.shape[x][-1]
    x, out, turned = g.reshape(x, [rows, k]), int(g.rng.integers(1, 7)), g.one_of(0, 1)
    weight = g.normal(out, k) if turned else g.normal(k, out)
    bias = [g.normal(g.one_of(1, out))] if g.chance(0.8) else []
    return g.node("Gemm", [x, weight, *bias], [rows, out], transB=turned)


STEPS = [split, join, shuffle, part, product, activation, with_constant, softmax, branches, mean,
         instance_norm, shuffle, split, conv, batch_norm, layer_norm, element, parts,
         expanded, reduction, repeated, divided, normalized, product_of_values, padded, blocks,
         product_from_the_left, lines, function, joined_with_constant, tiled, windows,
         root_mean_square, einsum, matrices, picked, chosen, assigned, linear]  # fmt: skip


def layers(seed):
    g = Graph(seed, N, C, H, W)
    x = "x"
    for _ in range(int(g.rng.integers(2, 9))):
        x = g.one_of(*STEPS)(g, x, int(g.rng.integers(len(g.shape[x]))))
    return g.model(g.activation(x) if x == "x" else x)


def attention(seed):
    """Of factors of images, heads and pixels that are all 2, so that what is mixed up fits."""
    g = Graph(seed, 2, 8, 4, 4)
    whole = [2, 2, 4, 2, 2, 2, 2]  # N, heads, depth, and two factors each of H and W
    shared = g.reshape(g.activation("x"), whole)
    values = [shared] * 3 if g.chance(0.5) else [g.reshape(g.activation("x"), whole) for _ in "qkv"]
    tokens = sorted(g.rng.choice([3, 4, 5, 6], int(g.rng.integers(1, 5)), replace=False))
    leading = [int(i) for i in g.rng.permutation([i for i in range(7) if i not in [2, *tokens]])]
    cuts = [g.chance(0.5) for _ in leading]

    def view(x):
        order, last = leading, tokens
        if g.chance(0.2):
            order = g.rng.permutation(order)
        elif g.chance(0.2):
            last = g.rng.permutation(last)
        x = g.transpose(x, [*order, *last, 2])
        shape = []
        for cut in cuts:
            if cut or not shape:
                shape.append(2)
            else:
                shape[-1] *= 2
        return g.reshape(x, [*shape, 2 ** len(tokens), 4])

    q, k, v = map(view, values)
    shape = g.shape[q]
    scores = g.node("MatMul", [q, g.turned(k)], [*shape[:-1], shape[-2]])
    if g.chance(0.4):
        bias = [g.one_of(1, s) for s in g.shape[scores]][-g.one_of(2, 3, 4, 5) :]
        scores = g.node("Add", [scores, g.normal(*bias)], g.shape[scores])
    weights = g.node("Softmax", [scores], g.shape[scores], axis=-1)
    if g.chance(0.2):
        turned = [g.turned(v), g.turned(weights)]
        y = g.turned(g.node("MatMul", turned, [*shape[:-2], shape[-1], shape[-2]]))
    else:
        y = g.node("MatMul", [weights, v], shape)
    order = [*leading, *tokens, 2]
    y = g.transpose(g.reshape(y, [whole[i] for i in order]), np.argsort(order))
    return g.model(g.reshape(y, [2, 8, 4, 4]))


def attention_operator(seed):
    """Attention as one node, of operator set 23: projections of tokens, or heads already apart."""
    g = Graph(seed, 2, 8, 4, 3, opset=23)
    tokens = g.transpose(g.reshape("x", [2, 8, 12]), [0, 2, 1])
    fewer = g.one_of(tokens, g.activation(tokens))
    if g.chance(0.3):
        bounds = [g.constant(np.array([v], np.int64)) for v in (0, 5, 1)]
        fewer = g.node("Slice", [tokens, *bounds], [2, 5, 8])
    q_heads, kv_heads, depth, out = g.one_of((1, 1), (2, 2), (4, 2), (3, 3)) + (4, g.one_of(4, 6))
    sizes = [q_heads * depth, kv_heads * depth, kv_heads * out]
    inputs = []
    for x, size in zip([tokens, fewer, fewer], sizes, strict=True):
        inputs.append(g.node("MatMul", [x, g.normal(8, size)], [*g.shape[x][:2], size]))
    apart, attributes = g.chance(0.5), {}
    if apart:
        for i, heads in enumerate([q_heads, kv_heads, kv_heads]):
            n, t, size = g.shape[inputs[i]]
            x = g.reshape(inputs[i], [n, t, heads, size // heads])
            inputs[i] = g.transpose(x, [0, 2, 1, 3])
    else:
        attributes |= {"q_num_heads": q_heads, "kv_num_heads": kv_heads}
    queries, keys = g.shape[tokens][1], g.shape[fewer][1]
    if g.chance(0.5):
        mask = g.rng.random((queries, keys)) < 0.8
        mask[:, 0] = True
        mask = mask if g.chance(0.5) else np.where(mask, 0.4, -0.7).astype(np.float32)
        inputs.append(g.constant(mask if g.chance(0.5) else mask[None, None]))
    if g.chance(0.4):
        attributes["is_causal"] = 1
    if g.chance(0.4):
        attributes["scale"] = 0.3
    shape = [2, q_heads, queries, out] if apart else [2, queries, q_heads * out]
    y = g.node("Attention", inputs, shape, **attributes)
    if apart:
        y = g.reshape(g.transpose(y, [0, 2, 1, 3]), [2, queries, q_heads * out])
    weight = g.normal(q_heads * out)
    y = g.node("RMSNormalization", [y, weight], [2, queries, q_heads * out], epsilon=0.1)
    return g.model(y)


def exact(model, x):
    """The same in float64, by the ONNX project's own reference."""
    wide = copy.deepcopy(model)
    for c in wide.graph.initializer:
        value = numpy_helper.to_array(c)
        if value.dtype == np.float32:
            c.CopyFrom(numpy_helper.from_array(value.astype(np.float64), c.name))
    for value in [*wide.graph.input, *wide.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return ReferenceEvaluator(wide).run(None, {"x": x.astype(np.float64)})[0]


@pytest.mark.parametrize(
    ("make", "count", "least"),
    [(layers, 6000, 3500), (attention, 2000, 300), (attention_operator, 300, 300)],
)
def test_random_graphs_are_refused_or_right(make, count, least, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    path, right = tmp_path / "m.onnx", 0
    for seed in range(count):
        model = make(seed)
        path.write_bytes(model.SerializeToString())
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        try:
            got = sepconv.load(path)(x)
        except ValueError:
            continue
        expected = onnxruntime.InferenceSession(path, options).run(None, {"x": x})[0]
        assert got.shape == expected.shape, seed
        # Of layers with weights of size 1 whose results may be small beside what they add up.
        bound = 1e-4 * max(1.0, float(np.abs(expected).max()))
        if not np.allclose(got, expected, rtol=1e-4, atol=bound, equal_nan=True):
            # What cancels out leaves rounding errors of any size: as near as ONNX Runtime, then.
            y = exact(model, x)
            assert np.abs(got - y).max() <= np.abs(expected - y).max() + bound, seed
        right += 1
    assert right >= least
