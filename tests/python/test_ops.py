"""Every op on random shapes against PyTorch in float64, on every target, in both layouts."""

import numpy as np
import pytest
import reference
import torch

import sepconv
from sepconv import _core

CASES = 2000
NAMES = [a or "none" for a in reference.ACTIVATIONS]


def array(rng, shape):
    return rng.standard_normal(shape).astype(np.float32)


def in_format(x, nhwc):
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if nhwc else x


def pick(rng, *choices):
    return choices[rng.integers(len(choices))]


def random_case(rng, kind):
    """Draws shapes that are small, odd, and often awkward; always valid."""
    while True:
        n = int(rng.integers(0, 4)) if rng.random() < 0.2 else 1
        groups = 1
        kernel = (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
        square = pick(rng, 3, 5, 7)
        if kind == "depthwise":
            c = groups = int(rng.integers(2, 40))
            out = c * pick(rng, 1, 1, 1, 2, 3)
            if rng.random() < 0.6:
                kernel = (square, square)
            elif rng.random() < 0.1:
                kernel = (pick(rng, 9, 11, 31),) * 2
        elif kind == "pointwise":
            c, out, kernel = int(rng.integers(1, 70)), int(rng.integers(1, 70)), (1, 1)
        else:
            groups = pick(rng, 1, 1, 2, 3)
            c, out = groups * int(rng.integers(1, 9)), groups * int(rng.integers(1, 20))
        h, w = int(rng.integers(1, 20)), int(rng.integers(1, 20))
        stride = pick(rng, (1, 1), (1, 1), (2, 2), (3, 1), (1, 4), (9, 9))
        dilation = pick(rng, (1, 1), (1, 1), (1, 1), (2, 1), (2, 3))
        pads = pick(rng, (0,) * 4, tuple(k // 2 for k in kernel for _ in "ab"), (1, 2, 3, 0))
        if kind == "pointwise":
            pads, dilation, stride = (0,) * 4, (1, 1), pick(rng, (1, 1), (1, 1), (2, 2), (1, 3))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
        if h + pads[0] + pads[1] >= reach[0] and w + pads[2] + pads[3] >= reach[1]:
            return n, c, out, h, w, kernel, stride, pads, dilation, groups


# Margins around x (NaN) and y (a sentinel): a stray read shows in the result, a stray write here.
MARGIN = 64


def poisoned(x, nhwc):
    memory = np.full(x.size + 2 * MARGIN, np.nan, np.float32)
    inner = memory[MARGIN : MARGIN + x.size]
    n, c, h, w = x.shape
    view = inner.reshape(n, h, w, c).transpose(0, 3, 1, 2) if nhwc else inner.reshape(x.shape)
    view[...] = x
    return view


def run_between_sentinels(op, x, nhwc, residual=None):
    n, c, h, w = op.output_shape
    memory = np.full(n * c * h * w + 2 * MARGIN, 12345.0, np.float32)
    inner = memory[MARGIN : MARGIN + n * c * h * w]
    y = inner.reshape(n, h, w, c).transpose(0, 3, 1, 2) if nhwc else inner.reshape(n, c, h, w)
    op.run(x, y, residual)
    assert (memory[:MARGIN] == 12345.0).all()
    assert (memory[MARGIN + inner.size :] == 12345.0).all()
    return y


@pytest.mark.parametrize("kind", ["depthwise", "pointwise", "dense and grouped"])
def test_convolution_on_random_shapes(target, rng, kind):
    for i in range(CASES):
        n, c, out, h, w, kernel, stride, pads, dilation, groups = random_case(rng, kind)
        nhwc = i % 2 == 0
        x, weight = array(rng, (n, c, h, w)), array(rng, (out, c // groups, *kernel))
        bias = array(rng, out) if rng.random() < 0.5 else None
        activation = pick(rng, *reference.ACTIVATIONS)
        with_residual = kind != "depthwise" and rng.random() < 0.3
        op = _core.conv2d(
            list(x.shape), weight, bias, stride, pads, dilation, groups, activation or "none",
            with_residual, nhwc,
        )  # fmt: skip
        residual = in_format(array(rng, op.output_shape), nhwc) if with_residual else None
        got = run_between_sentinels(op, poisoned(x, nhwc), nhwc, residual)
        y, size = reference.conv(x, weight, bias, stride, pads, dilation, groups)
        products = weight[0].size + (bias is not None)
        reference.check(got, y, size, products, activation, residual)


def test_separable_on_random_shapes(target, rng):
    for i in range(CASES):
        n, c, middle, h, w, kernel, stride, pads, dilation, groups = random_case(rng, "depthwise")
        nhwc = i % 2 == 0
        out = int(rng.integers(1, 50))
        x = array(rng, (n, c, h, w))
        first, second = array(rng, (middle, 1, *kernel)), array(rng, (out, middle))
        biases = array(rng, middle), array(rng, out)
        op = _core.separable_conv2d(
            list(x.shape), first, second, *biases, stride, pads, dilation, "relu", "none", nhwc
        )
        got = run_between_sentinels(op, poisoned(x, nhwc), nhwc)
        y, size = reference.conv(x, first, biases[0], stride, pads, dilation, groups)
        absolute = torch.from_numpy(np.abs(second[:, :, None, None])).double()
        exact = torch.nn.functional.conv2d(
            y.relu(),
            torch.from_numpy(second[:, :, None, None]).double(),
            torch.from_numpy(biases[1]).double(),
        )
        # Σ|x·w| of the second half over the largest that the first half's result can be.
        size = torch.nn.functional.conv2d(size, absolute)
        size = size + torch.from_numpy(np.abs(biases[1])).double()[:, None, None]
        reference.check(got, exact, size, first[0].size + middle + 2)


@pytest.mark.parametrize("kernel", [9, 11, 31])
@pytest.mark.parametrize("nhwc", [False, True])
def test_large_kernels(target, rng, kernel, nhwc):
    x, weight = array(rng, (1, 19, 33, 35)), array(rng, (19, 1, kernel, kernel))
    got = sepconv.depthwise_conv2d(in_format(x, nhwc), weight, padding=kernel // 2)
    pads = (kernel // 2,) * 4
    y, size = reference.conv(x, weight, None, (1, 1), pads, (1, 1), 19)
    reference.check(got, y, size, kernel * kernel)


@pytest.mark.parametrize("nhwc", [False, True])
def test_wide_channels(target, rng, nhwc):
    x, weight = array(rng, (2, 300, 9, 7)), array(rng, (517, 300))
    got = sepconv.pointwise_conv2d(in_format(x, nhwc), weight)
    y, size = reference.conv(x, weight[:, :, None, None], None, (1, 1), (0,) * 4, (1, 1), 1)
    reference.check(got, y, size, 300)


@pytest.mark.parametrize("name", NAMES)
def test_activation_passes_nan_and_infinity(target, name):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 90, -90, 4], np.float32)
    x = np.ascontiguousarray(np.broadcast_to(special, (1, 5, 3, 10)))
    weight = np.ones((5, 1, 1, 1), np.float32)
    got = sepconv.depthwise_conv2d(x, weight, activation=None if name == "none" else name)
    # In float64: PyTorch's float32 gelu(∞) is NaN on some processors.
    function = reference.ACTIVATIONS[None if name == "none" else name]
    expected = function(torch.from_numpy(x).double()).numpy()
    if name in ("hardswish", "silu", "gelu", "gelu_tanh", "mish"):
        # −∞·0 is NaN by IEEE; some of PyTorch's paths give −0.
        got, expected = np.delete(got, 2, axis=3), np.delete(expected, 2, axis=3)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("nhwc", [False, True])
def test_same_bits_for_any_number_of_threads(target, rng, nhwc):
    x = in_format(array(rng, (3, 48, 23, 19)), nhwc)
    depthwise, pointwise = array(rng, (48, 1, 5, 5)), array(rng, (70, 48))
    results = []
    try:
        for threads in (1, 2, 4):
            sepconv.set_num_threads(threads)
            assert sepconv.get_num_threads() == threads
            results.append(
                (
                    sepconv.depthwise_conv2d(x, depthwise, padding=2, activation="silu"),
                    sepconv.pointwise_conv2d(x, pointwise),
                    sepconv.separable_conv2d(x, depthwise, pointwise, stride=2, padding=2),
                )
            )
    finally:
        sepconv.set_num_threads(1)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)


def test_kind_and_memory_format_are_kept(rng):
    x, weight = array(rng, (2, 8, 6, 5)), array(rng, (8, 1, 3, 3))
    plain = sepconv.depthwise_conv2d(x, weight, padding="same")
    assert plain.flags.c_contiguous
    last = sepconv.depthwise_conv2d(in_format(x, True), weight, padding="same")
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous
    strided = np.zeros((2, 8, 6, 10), np.float32)[..., ::2]
    strided[...] = x
    np.testing.assert_array_equal(sepconv.depthwise_conv2d(strided, weight, padding="same"), plain)
    t = sepconv.depthwise_conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding="same")
    assert isinstance(t, torch.Tensor)
    np.testing.assert_array_equal(t.numpy(), plain)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 5, 8])
def test_same_padding_gives_ceil_of_size_over_stride(rng, stride, size):
    y = sepconv.depthwise_conv2d(
        array(rng, (1, 4, size, size)), array(rng, (4, 1, 3, 3)), stride=stride, padding="same"
    )
    assert y.shape == (1, 4, -(-size // stride), -(-size // stride))


X = np.zeros((1, 4, 8, 8), np.float32)
W = np.zeros((4, 1, 3, 3), np.float32)
BAD = {
    "rank of x": (dict(x=X[0]), ValueError, "x: shape"),
    "dtype of x": (dict(x=X.astype(np.float64)), TypeError, "x: dtype is float64"),
    "dtype of weight": (dict(weight=W.astype(np.float16)), TypeError, "weight: dtype is float16"),
    "kind of x": (dict(x=[1, 2]), TypeError, "x: got list"),
    "channels": (dict(x=np.zeros((1, 5, 8, 8), np.float32)), ValueError, "weight: shape"),
    "rank of weight": (dict(weight=W[0]), ValueError, "weight: shape"),
    "inner channels": (
        dict(weight=np.zeros((4, 2, 3, 3), np.float32)),
        ValueError,
        "weight: shape",
    ),
    "bias": (dict(bias=np.zeros(5, np.float32)), ValueError, "bias: shape"),
    "stride": (dict(stride=0), ValueError, "stride: got 0"),
    "stride triple": (dict(stride=(1, 1, 1)), ValueError, "stride: got"),
    "dilation": (dict(dilation=-1), ValueError, "dilation: got -1"),
    "padding": (dict(padding=-1), ValueError, "padding: got -1"),
    "padding name": (dict(padding="full"), ValueError, "padding: got 'full'"),
    "empty output": (dict(dilation=9), ValueError, "height: input of 8"),
    "activation": (dict(activation="swish"), ValueError, "activation: got 'swish'"),
    "overflow": (dict(padding=2**40), ValueError, "padding: got"),
    "huge dilation": (dict(dilation=2**31 - 1), ValueError, "dilation"),
    "no channels": (dict(x=np.zeros((1, 0, 8, 8), np.float32)), ValueError, "x: shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case):
    change, error, message = BAD[case]
    arguments = dict(x=X, weight=W) | change
    with pytest.raises(error, match=message) as caught:
        sepconv.depthwise_conv2d(**arguments)
    assert "\n" not in str(caught.value)


def test_output_that_would_not_fit_memory_is_an_error():
    with pytest.raises(ValueError, match="too large"):
        sepconv.depthwise_conv2d(X, W, padding=2**30)
