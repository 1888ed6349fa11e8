"""Batch norms and activations that optimize() computes together in training, against PyTorch's."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

import sepconv
import sepconv.torch as ours
from sepconv.torch import _batch_norm

ACTIVATIONS = [nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU]


def block(activation, channels=24, **options):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels, **options)
    if norm.affine:
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.normal_(norm.bias)
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return nn.Sequential(conv, norm, activation())


def image(*shape):
    x = 3 * torch.randn(shape) + 1
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def results(model, x):
    """The output, all gradients, and the running statistics."""
    model.zero_grad()
    x = x.detach().to(next(model.parameters()).dtype).requires_grad_()
    y = model(x)
    torch.manual_seed(1)
    y.backward(torch.randn(y.shape).to(y.dtype))
    return [
        y.detach(), x.grad, *(p.grad for p in model.parameters()),
        *(b.clone() for b in model.buffers()),
    ]  # fmt: skip


def count_calls(monkeypatch):
    calls = []
    train = _batch_norm.train_batch_norm

    def counted(norm, x, activation):
        calls.append(activation)
        return train(norm, x, activation)

    monkeypatch.setattr(ours._optimize, "train_batch_norm", counted)
    return calls


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_as_exact_as_pytorch(activation, momentum, monkeypatch):
    theirs = block(activation, momentum=momentum)
    model = ours.optimize(copy.deepcopy(theirs))
    exact = copy.deepcopy(theirs).double()
    calls = count_calls(monkeypatch)
    for _ in range(2):  # running statistics build on each other
        x = image(4, 24, 13, 11)
        for got, own, best in zip(results(model, x), results(theirs, x), results(exact, x)):
            error, unit = (got - best).abs().max(), 2**-23 * best.abs().max()
            assert error <= 4 * (own - best).abs().max() + 16 * unit
    assert len(calls) == 2


def test_timm_batch_norms_contain_their_activation(monkeypatch):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 1, bias=False)
    theirs = nn.Sequential(conv, BatchNormAct2d(16, act_layer=nn.SiLU))
    model = ours.optimize(copy.deepcopy(theirs))
    calls = count_calls(monkeypatch)
    x = image(2, 16, 9, 9)
    for got, own in zip(results(model, x), results(theirs, x)):
        torch.testing.assert_close(got, own, rtol=1e-4, atol=1e-4)
    assert calls == ["silu"]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("contained", [False, True])
def test_behind_convolutions_that_stay_in_pytorch(groups, contained, monkeypatch):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, 3, padding=1, groups=groups, bias=False)
    if contained:
        theirs = nn.Sequential(conv, BatchNormAct2d(24, act_layer=nn.SiLU))
    else:
        theirs = nn.Sequential(conv, nn.BatchNorm2d(24), nn.SiLU())
    model = copy.deepcopy(ours.optimize(copy.deepcopy(theirs)))
    calls = count_calls(monkeypatch)
    x = image(2, 16, 9, 9)
    for got, own in zip(results(model, x), results(theirs, x)):
        torch.testing.assert_close(got, own, rtol=1e-4, atol=1e-4)
    assert calls == ["silu"]
    assert [(c.kernel, c.joined) for c in ours.report(model)] == [("", ())]
    for m in (model, theirs):
        m.eval()
    torch.testing.assert_close(model(x), theirs(x))
    assert not any("forward" in vars(m) for m in ours.restore(model).modules())


def test_what_pytorch_computes(monkeypatch):
    calls = count_calls(monkeypatch)
    model = ours.optimize(block(nn.ReLU))
    model(image(2, 24, 8, 8).detach().contiguous())  # NCHW
    model.eval()(image(2, 24, 8, 8))
    model.double()(image(2, 24, 8, 8).double())
    ours.optimize(block(nn.ReLU, affine=False))(image(2, 24, 8, 8))
    ours.optimize(block(nn.ReLU, track_running_stats=False))(image(2, 24, 8, 8))
    with torch.autocast("cpu"):
        model.float().train()(image(2, 24, 8, 8))
    assert calls == []
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(image(1, 24, 1, 1))


def test_hooks_see_what_they_would_see(monkeypatch):
    calls = count_calls(monkeypatch)
    theirs = block(nn.ReLU6)
    model = ours.optimize(copy.deepcopy(theirs))
    x = image(2, 24, 8, 8)
    seen = []
    for m in (theirs, model):
        m[1].register_forward_hook(lambda module, inputs, y: seen.append(y.detach().clone()))
        m(x)
    torch.testing.assert_close(seen[1], seen[0])
    assert calls == [None]


def test_second_derivatives():
    theirs = block(nn.SiLU)
    model = ours.optimize(copy.deepcopy(theirs))

    def penalty(m):
        x = image(2, 24, 6, 6)
        (grad,) = torch.autograd.grad(m(x).square().mean(), x, create_graph=True)
        m.zero_grad()
        grad.square().sum().backward()
        return torch.cat([p.grad.flatten() for p in m.parameters()])

    torch.manual_seed(2)
    got = penalty(model)
    torch.manual_seed(2)
    expected = penalty(theirs)
    assert (got - expected).norm() <= 1e-4 * expected.norm()


def test_same_bits_for_any_number_of_threads():
    x = image(3, 24, 17, 19)
    threads = sepconv.get_num_threads()
    seen = []
    for count in (1, 2, 3):
        sepconv.set_num_threads(count)
        seen.append(results(ours.optimize(block(nn.SiLU)), x))
    sepconv.set_num_threads(threads)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other))
