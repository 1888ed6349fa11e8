"""torch.ops.sepconv against PyTorch in float64, and by PyTorch's own checks of operators."""

import itertools

import pytest
import torch
from torch.library import opcheck
from torch.nn import functional
from torch.testing._internal.common_methods_invocations import op_db

import sepconv
import sepconv.torch as ours
from sepconv.torch._convolution import ACTIVATIONS

ops = torch.ops.sepconv

FORMATS = [torch.contiguous_format, torch.channels_last]
EPSILON = torch.finfo(torch.float32).eps
# Their derivatives jump.
KINKED = ("relu", "relu6", "leaky_relu", "hardswish", "hardsigmoid")


def randn(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def within_the_bound(got, exact, magnitude, products):
    """2·n·ε·Σ|products|, as docs/numerics.md states it."""
    bound = 2 * products * EPSILON * magnitude + 1e-30
    worst = ((got.double() - exact).abs() / bound).max().item()
    assert worst <= 1, f"{worst} times the bound"


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("activation", [None, "silu", "relu6"])
def test_opcheck(memory_format, activation):
    x = randn(2, 6, 9, 8).detach().contiguous(memory_format=memory_format).requires_grad_()
    depthwise, pointwise = randn(6, 1, 3, 3), randn(5, 6, 1, 1)
    opcheck(
        ops.depthwise_conv2d.default, (x, depthwise, randn(6), [2, 1], [1, 1], [1, 1], activation)
    )
    opcheck(ops.depthwise_conv2d.default, (x, depthwise))
    residual = randn(2, 5, 9, 8)
    opcheck(ops.pointwise_conv2d.default, (x, pointwise, None, [1, 1], activation, residual))
    biases = randn(6), randn(5)
    windows = [1, 1], [1, 1], [1, 1]
    opcheck(
        ops.separable_conv2d.default,
        (x, depthwise, pointwise, *biases, *windows, activation, "hardswish"),
    )
    grad = torch.randn(2, 5, 9, 8).contiguous(memory_format=memory_format)
    arguments = (grad, x.detach(), pointwise.detach(), [1, 1], [0, 0], [1, 1], 1)
    opcheck(ops.conv2d_backward.default, (*arguments, [True, False, True]))


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_gradients_and_their_gradients_in_float64(activation):
    x, depthwise = randn(1, 2, 5, 4, dtype=torch.float64), randn(2, 1, 3, 3, dtype=torch.float64)
    pointwise, bias = randn(3, 2, 1, 1, dtype=torch.float64), randn(2, dtype=torch.float64)

    def one(x, w, b):
        return ours.depthwise_conv2d(x, w, b, [2, 1], [1, 1], [1, 1], activation)

    def two(x, w, p, b):
        return ours.separable_conv2d(x, w, p, b, None, [1, 1], [1, 1], [1, 1], activation, "silu")

    assert torch.autograd.gradcheck(one, (x, depthwise, bias))
    assert torch.autograd.gradcheck(two, (x, depthwise, pointwise, bias))
    if activation not in KINKED:
        assert torch.autograd.gradgradcheck(one, (x, depthwise, bias))
        assert torch.autograd.gradgradcheck(two, (x, depthwise, pointwise, bias))


def draw(generator):
    """A random depthwise or pointwise convolution: x, weight, stride, padding, dilation, groups."""

    def one_of(*values):
        return values[torch.randint(len(values), (1,), generator=generator).item()]

    channels, size = one_of(3, 8, 19, 33), (one_of(5, 7, 14), one_of(4, 8, 15))
    x = torch.randn(one_of(1, 2, 5), channels, *size, generator=generator)
    x = x.contiguous(memory_format=one_of(*FORMATS))
    if one_of(True, False):
        weight = torch.randn(one_of(1, 12, 40), channels, 1, 1, generator=generator)
        return x, weight, (1, 1), (0, 0), (1, 1), 1
    k = one_of(1, 3, 5, 7)
    kernel = (k, k) if one_of(True, False) else (k, one_of(1, 2, 4))
    weight = torch.randn(channels, 1, *kernel, generator=generator)
    stride = one_of((1, 1), (2, 2), (1, 2), (3, 3))
    dilation = one_of((1, 1), (1, 1), (2, 1))
    padding = tuple(max(0, d * (n - 1) // 2) for d, n in zip(dilation, kernel))
    if any(s + 2 * p < d * (n - 1) + 1 for s, p, d, n in zip(size, padding, dilation, kernel)):
        return draw(generator)
    return x, weight, stride, padding, dilation, channels


@pytest.mark.parametrize("seed", range(200))
def test_float32_gradients_are_within_the_rounding_bound(seed):
    generator = torch.Generator().manual_seed(seed)
    x, weight, *window, groups = draw(generator)
    x, weight = x.requires_grad_(), weight.requires_grad_()
    bias = torch.randn(weight.shape[0], generator=generator).requires_grad_()
    if groups == 1:
        y = ours.pointwise_conv2d(x, weight, bias)
    else:
        y = ours.depthwise_conv2d(x, weight, bias, *window)
    grad = torch.randn(y.shape, generator=generator)
    y.backward(grad)

    def exact(grad, x, weight):
        return torch.ops.aten.convolution_backward(
            grad.double(), x.double(), weight.double(), [weight.shape[0]], *window, False, [0, 0],
            groups, [True] * 3,
        )  # fmt: skip

    values = exact(grad, x.detach(), weight.detach())
    magnitudes = exact(grad.abs(), x.detach().abs(), weight.detach().abs())
    pixels = grad[:, 0].numel()
    counts = weight[:, 0].numel(), pixels, pixels
    for got, value, magnitude, n in zip(
        (x.grad, weight.grad, bias.grad), values, magnitudes, counts
    ):
        within_the_bound(got, value, magnitude, n + 1)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_through_activations_are_as_exact_as_pytorchs(activation, memory_format):
    torch.manual_seed(0)
    x = (4 * torch.randn(3, 20, 9, 7)).contiguous(memory_format=memory_format)
    inputs = x, torch.randn(20, 1, 3, 3), torch.randn(20), torch.randn(11, 20, 1, 1) / 8
    inputs = [*inputs, torch.randn(11)]
    grad = torch.randn(3, 11, 9, 7)
    function = ACTIVATIONS[activation][0]

    def own(x, w, b, p, c):
        return ours.pointwise_conv2d(
            ours.depthwise_conv2d(x, w, b, 1, 1, 1, activation), p, c, 1, activation
        )

    def theirs(x, w, b, p, c):
        y = function(functional.conv2d(x, w, b, padding=1, groups=20))
        return function(functional.conv2d(y, p, c))

    def gradients(function, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in inputs]
        return torch.autograd.grad(function(*leaves), leaves, grad.to(dtype))

    exact = gradients(theirs, torch.float64)
    got, plain = (gradients(f, torch.float32) for f in (own, theirs))
    for ours_, pytorch, value in zip(got, plain, exact):
        worst, allowed = ((t - value).abs().max().item() for t in (ours_, pytorch))
        assert worst <= 2 * allowed + 4 * EPSILON * value.abs().max().item()


def test_gradients_have_the_same_bits_for_any_number_of_threads():
    x = torch.randn(3, 40, 19, 17).contiguous(memory_format=torch.channels_last)
    depthwise, pointwise = torch.randn(40, 1, 5, 5), torch.randn(24, 40, 1, 1)
    results = []
    try:
        for threads in (1, 2, 5):
            sepconv.set_num_threads(threads)
            inputs = [t.clone().requires_grad_() for t in (x, depthwise, pointwise)]
            y = ours.separable_conv2d(*inputs, padding=[2, 2], activation="silu")
            results.append(torch.autograd.grad(y.square().sum(), inputs))
    finally:
        sepconv.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def samples():
    (op,) = [o for o in op_db if o.name == "nn.functional.conv2d"]
    for sample in op.sample_inputs("cpu", torch.float32, requires_grad=False):
        x, (weight, bias), options = sample.input, sample.args, dict(sample.kwargs)
        groups = options.pop("groups", 1)
        depthwise = x.dim() == 4 and groups == x.shape[1] and weight.shape[1] == 1
        if depthwise and not isinstance(options.get("padding"), str):
            yield x, weight, bias, options, groups


def test_samples_of_pytorch():
    count = 0
    for x, weight, bias, options, groups in samples():
        expected = functional.conv2d(x, weight, bias, groups=groups, **options)
        torch.testing.assert_close(ours.depthwise_conv2d(x, weight, bias, **options), expected)
        count += 1
    assert count > 0


def test_vmap_over_inputs_weights_and_both():
    x, weight, bias = torch.randn(4, 2, 6, 9, 9), torch.randn(4, 6, 1, 3, 3), torch.randn(6)
    for x_dim, w_dim in itertools.product((0, None), (0, None)):
        if x_dim is None and w_dim is None:
            continue
        a, w = x if x_dim == 0 else x[0], weight if w_dim == 0 else weight[0]
        got = torch.func.vmap(
            lambda a, w: ours.depthwise_conv2d(a, w, bias, [1, 1], [1, 1]), in_dims=(x_dim, w_dim)
        )(a, w)
        for i in range(4):
            expected = functional.conv2d(
                a[i] if x_dim == 0 else a, w[i] if w_dim == 0 else w, bias, padding=1, groups=6
            )
            torch.testing.assert_close(got[i], expected)


def test_autocast_export_and_inductor(monkeypatch):
    # A check of PyTorch's own: where this is set, Inductor refuses operators with a decomposition.
    monkeypatch.delenv("CI", raising=False)
    x, weight = torch.randn(1, 6, 9, 9), torch.randn(6, 1, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours.depthwise_conv2d(x, weight).dtype == torch.bfloat16

    class Model(torch.nn.Module):
        def forward(self, x):
            return ours.depthwise_conv2d(x, weight, activation="relu").sum(1)

    model = Model()
    program = torch.export.export(model, (x,))
    assert "sepconv.depthwise_conv2d" in str(program.graph)
    torch.testing.assert_close(program.module()(x), model(x))
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x))
    leaf = x.clone().requires_grad_()
    torch.compile(model, fullgraph=True)(leaf).sum().backward()
    again = x.clone().requires_grad_()
    model(again).sum().backward()
    torch.testing.assert_close(leaf.grad, again.grad)


@pytest.mark.parametrize("activation", [None, "hardswish"])
def test_functions_and_operators_give_the_same_bits(activation):
    leaves = [randn(2, 6, 9, 8), randn(6, 1, 3, 3), randn(5, 6, 1, 1), randn(6), randn(5)]
    x, depthwise, pointwise, bias, other = leaves
    window, separable = ([2, 1], [1, 1], [1, 1]), (x, depthwise, pointwise, bias, other)
    calls = {
        "depthwise_conv2d": (x, depthwise, bias, *window, activation),
        "pointwise_conv2d": (x, pointwise, other, [1, 1], activation, randn(2, 5, 9, 8)),
        "separable_conv2d": (*separable, *window, activation, "relu"),
    }
    for name, args in calls.items():
        direct, dispatched = getattr(ours, name)(*args), getattr(ops, name)(*args)
        assert torch.equal(direct, dispatched)
        used = [t for t in leaves if any(t is a for a in args)]
        grads = [torch.autograd.grad(y.square().sum(), used) for y in (direct, dispatched)]
        assert all(torch.equal(a, b) for a, b in zip(*grads))


def test_ints_and_pairs_are_the_same():
    x, weight = torch.randn(1, 6, 9, 9), torch.randn(6, 1, 3, 3)
    expected = ours.depthwise_conv2d(x, weight, None, (2, 2), (1, 1), (1, 1))
    assert torch.equal(ours.depthwise_conv2d(x, weight, None, 2, 1, 1), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # through the operator
        got = ours.depthwise_conv2d(x, weight, None, 2, [1])
    torch.testing.assert_close(got.float(), expected, rtol=0.03, atol=0.03)


def directions(function, x, weight):
    """A directional derivative by torch.func, one by dual numbers, and one of a gradient."""
    gradient = torch.func.grad(lambda w: function(x, w).square().sum())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        by_dual = torch.autograd.forward_ad.unpack_dual(function(dual, weight)).tangent
    return (
        torch.func.jvp(function, (x, weight), (x, weight))[1],
        by_dual,
        torch.func.jvp(gradient, (weight,), (weight,))[1],
    )


def test_forward_mode_derivatives_are_those_of_pytorch():
    x, weight = torch.randn(2, 6, 9, 8), torch.randn(6, 1, 3, 3)
    module = ours.DepthwiseConv2d(6, 3, bias=False, activation="silu").requires_grad_(False)

    def by_module(x, w):
        return torch.func.functional_call(module, {"conv.weight": w}, (x,))

    def by_function(x, w):
        return ours.depthwise_conv2d(x, w, activation="silu")

    def theirs(x, w):
        return functional.silu(functional.conv2d(x, w, groups=6))

    for function in (by_module, by_function):
        for got, expected in zip(directions(function, x, weight), directions(theirs, x, weight)):
            torch.testing.assert_close(got, expected)


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.functions.append(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:.*jit.*:FutureWarning")
def test_tracers_modes_and_default_devices_see_an_operator():
    x, module = torch.randn(1, 6, 9, 9), ours.DepthwiseConv2d(6, 3)
    with torch.no_grad():
        traced = torch.jit.trace(module, x)
        assert "sepconv::depthwise_conv2d" in str(traced.graph)
        other = torch.randn(1, 6, 7, 8)
        torch.testing.assert_close(traced(other), module(other))
    with Calls() as calls, torch.no_grad():
        torch.testing.assert_close(module(x), module.conv(x))
    assert calls.functions[0] is ops.depthwise_conv2d.default
    with torch.device("meta"), torch.no_grad():
        assert torch.equal(
            module(x), ours.depthwise_conv2d(x, module.conv.weight, module.conv.bias)
        )


def test_bad_arguments_are_named():
    x, weight = torch.randn(1, 6, 9, 9), torch.randn(6, 1, 3, 3)
    with pytest.raises(ValueError, match="activation: got 'swish'"):
        ours.depthwise_conv2d(x, weight, activation="swish")
    with pytest.raises(ValueError, match="expected 4 dimensions"):
        ours.depthwise_conv2d(x[0], weight)
    with pytest.raises(TypeError, match="stride: got '2', expected an int or a pair"):
        ours.depthwise_conv2d(x, weight, stride="2")
    with pytest.raises(TypeError, match=r"padding: got \(1, 1, 1\)"):
        ours.separable_conv2d(x, weight, torch.randn(4, 6, 1, 1), padding=(1, 1, 1))
    with pytest.raises((ValueError, RuntimeError)):
        ours.pointwise_conv2d(x, torch.randn(4, 5, 1, 1))
    with pytest.raises((TypeError, RuntimeError)):
        ours.pointwise_conv2d(x.numpy(), torch.randn(4, 6, 1, 1))
