"""The article's two modules as printed there, side by side with ours."""

import copy
import pickle

import pytest
import torch
from torch import nn

import sepconv.torch


class ArticleDepthwise(nn.Module):
    def __init__(self, in_channels, kernel_size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, padding, groups=in_channels
        )

    def forward(self, x):
        return self.conv(x)


class ArticlePointwise(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x):
        return self.conv(x)


PAIRS = [
    (ArticleDepthwise(19, 3, padding=1), sepconv.torch.DepthwiseConv2d(19, 3, padding=1)),
    (ArticleDepthwise(19, (5, 3), 2), sepconv.torch.DepthwiseConv2d(19, (5, 3), 2)),
    (ArticlePointwise(19, 33), sepconv.torch.PointwiseConv2d(19, 33)),
]
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_same_state_outputs_and_gradients(pair, memory_format):
    theirs, ours = copy.deepcopy(pair[0]), copy.deepcopy(pair[1])
    assert list(theirs.state_dict()) == list(ours.state_dict()) == ["conv.weight", "conv.bias"]
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 19, 17, 15).contiguous(memory_format=memory_format)
    b = x.clone().requires_grad_()
    expected, got = theirs(x), ours(b)
    assert got.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(expected)
    (got * weights).sum().backward()
    exact, size = gradients(theirs, x, weights), gradients(theirs, x, weights, torch.abs)
    taps, pixels = ours.conv.weight[0].numel() * ours.conv.out_channels, weights[:, 0].numel()
    for name, n in (("x", taps), ("weight", pixels), ("bias", pixels)):
        gradient = b.grad if name == "x" else getattr(ours.conv, name).grad
        bound = 2 * (n + 1) * torch.finfo(torch.float32).eps * size[name] + 1e-30
        assert ((gradient - exact[name]).abs() <= bound).all(), name


def gradients(module, x, weights, change=lambda t: t):
    """Those of the weighted sum of the module's result, in float64, all inputs changed first."""
    module = copy.deepcopy(module).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(change(p))
    x = change(x.detach().double()).requires_grad_()
    (module(x) * change(weights.double())).sum().backward()
    return {"x": x.grad, "weight": module.conv.weight.grad, "bias": module.conv.bias.grad}


def test_forward_runs_in_our_kernels(monkeypatch):
    from sepconv.torch import _modules

    monkeypatch.setattr(_modules.functional, "conv2d", lambda *_: pytest.fail("went to PyTorch"))
    sepconv.torch.DepthwiseConv2d(8, 3)(torch.randn(1, 8, 9, 9))
    with torch.inference_mode():
        sepconv.torch.PointwiseConv2d(8, 3)(torch.randn(1, 8, 9, 9))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_dense_input_is_not_copied(monkeypatch, memory_format):
    from sepconv import _core

    seen = []
    run = _core.Op.run_at

    class Spy:
        def __init__(self, op):
            self.op, self.output_shape = op, op.output_shape

        def run_at(self, x, y):
            seen.append(x)
            run(self.op, x, y)

    make = _core.conv2d
    monkeypatch.setattr(_core, "conv2d", lambda *args: Spy(make(*args)))
    x = torch.randn(1, 8, 9, 9).contiguous(memory_format=memory_format)
    sepconv.torch.DepthwiseConv2d(8, 3)(x)
    assert seen == [x.data_ptr()]


def test_large_results_reuse_memory_and_are_tensors_like_others():
    module = sepconv.torch.DepthwiseConv2d(64, 3, padding=1)
    x = torch.randn(1, 64, 120, 120).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = module.conv(x)
        y = module(x)
        first, held = y.data_ptr(), y[:, :1]
        del y
        assert module(x).data_ptr() != first  # a view holds it
        torch.testing.assert_close(held, expected[:, :1])
        del held
        y = module(x)
        again = module(x)
        assert first in (y.data_ptr(), again.data_ptr())
    torch.testing.assert_close(copy.deepcopy(y), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(y)), expected)
    torch.testing.assert_close(y.clone().share_memory_(), expected)
    y.share_memory_()
    assert y.is_shared()
    torch.testing.assert_close(y, expected)
    array = again.numpy()
    del again
    module(x)
    torch.testing.assert_close(torch.from_numpy(array), expected)
    y.resize_(1, 64, 10, 10)


def test_empty_cache_gives_memory_back():
    module = sepconv.torch.DepthwiseConv2d(64, 3, padding=1)
    with torch.no_grad():
        module(torch.randn(1, 64, 120, 120))
    assert sepconv._core.cached_bytes() >= 64 * 120 * 120 * 4
    sepconv.empty_cache()
    assert sepconv._core.cached_bytes() == 0


def test_odd_strides_other_dtypes_and_devices_are_silently_correct():
    ours = sepconv.torch.DepthwiseConv2d(6, 3, padding=1)
    x = torch.randn(1, 6, 9, 18)[..., ::2]
    torch.testing.assert_close(ours(x), ours.conv(x))
    double = copy.deepcopy(ours).double()
    assert double(x.double()).dtype == torch.float64
    half = copy.deepcopy(ours).to(torch.bfloat16)
    assert half(x.to(torch.bfloat16)).dtype == torch.bfloat16
    assert copy.deepcopy(ours).to("meta")(x.to("meta")).device.type == "meta"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
    assert torch.isfinite(torch.func.vmap(ours)(torch.randn(3, 2, 6, 9, 9))).all()


def _add_one(weight):
    weight.data.add_(1)


def test_saved_shared_and_parallel_modules(tmp_path):
    module = sepconv.torch.DepthwiseConv2d(6, 3, padding=1, activation="silu")
    x = torch.randn(2, 6, 9, 8)
    expected = module(x)
    torch.save(module, tmp_path / "module.pt")
    loaded = torch.load(tmp_path / "module.pt", weights_only=False)
    torch.testing.assert_close(loaded(x), expected)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    other = sepconv.torch.DepthwiseConv2d(6, 3, padding=1, activation="silu")
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(nn.DataParallel(module)(x), expected)
    module.share_memory()
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)
        weight = module.conv.weight
        child = torch.multiprocessing.get_context("fork").Process(target=_add_one, args=(weight,))
        child.start()
        child.join()
        torch.testing.assert_close(module(x), nn.functional.silu(module.conv(x)))
        assert not torch.allclose(module(x), expected)


def test_gradients_of_every_sample_by_torch_func():
    ours, theirs = sepconv.torch.DepthwiseConv2d(6, 3), ArticleDepthwise(6, 3)
    x, parameters = torch.randn(4, 6, 9, 8), dict(ours.named_parameters())

    def gradients(module):
        def loss(parameters, sample):
            y = torch.func.functional_call(module, parameters, (sample[None],))
            return y.square().sum()

        return torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)

    for got, expected in zip(gradients(ours).values(), gradients(theirs).values()):
        torch.testing.assert_close(got, expected)


def test_wrong_input_is_an_error():
    for recorded in (True, False):
        with torch.set_grad_enabled(recorded), pytest.raises(ValueError, match="has 5 ch.*ted 6"):
            sepconv.torch.DepthwiseConv2d(6, 3)(torch.randn(1, 5, 9, 9))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda m: m.DepthwiseConv2d(0, 3), ValueError, "in_channels: got 0, expected at least 1"),
        (lambda m: m.DepthwiseConv2d(3, (3, 0)), ValueError, r"kernel_size: got \(3, 0\)"),
        (lambda m: m.DepthwiseConv2d(3, 3, stride=0), ValueError, "stride: got 0"),
        (lambda m: m.DepthwiseConv2d(3, 3, dilation="2"), TypeError, "dilation: got '2'"),
        (lambda m: m.PointwiseConv2d(3, -1), ValueError, "out_channels: got -1"),
        (lambda m: m.InvertedResidual(3, 3, 1, 0.5), TypeError, "expand_ratio: got 0.5"),
    ],
)
def test_wrong_parameters_are_named(make, error, text):
    with pytest.raises(error, match=text):
        make(sepconv.torch)


def test_gradient_check_in_float64():
    module = sepconv.torch.DepthwiseConv2d(3, 3, 2, 1).double()
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_compile_pickle_and_zero_batch():
    module = sepconv.torch.PointwiseConv2d(6, 4)
    again = pickle.loads(pickle.dumps(module))
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(again(x), module(x))
    torch.testing.assert_close(torch.compile(module, backend="eager")(x), module(x))
    assert module(x[:0]).shape == (0, 4, 5, 5)
