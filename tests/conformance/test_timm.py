"""Whole networks against timm and torchvision in float64; every block's weights matter."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import sepconv

NAMES = sepconv.models()


def create(name):
    if name == "mobilenet_v2":
        return torchvision.models.mobilenet_v2(weights=None)
    return timm.create_model(name, pretrained=False)


def randomize(model, seed):
    """Random batch-norm statistics and biases, so that folding and fusing cannot hide a mistake."""
    g = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            n = module.num_features
            module.weight.data = torch.rand(n, generator=g) + 0.5
            module.bias.data = torch.randn(n, generator=g) * 0.3
            module.running_mean = torch.randn(n, generator=g) * 0.3
            module.running_var = torch.rand(n, generator=g) + 0.5
        elif isinstance(module, torch.nn.Linear):
            module.bias.data = torch.randn(module.out_features, generator=g)
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
def test_network_agrees_with_its_source(name, tmp_path):
    model = randomize(create(name), 7)
    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    net = sepconv.load(name, weights=path)
    g = torch.Generator().manual_seed(8)
    for size, batch in ((96, 2), (129, 1)):
        x = torch.randn(batch, 3, size, size, generator=g)
        with torch.no_grad():
            own = model(x).double()
            exact = model.double()(x.double())
            model.float()
        for form in (x, x.contiguous(memory_format=torch.channels_last)):
            got = net(form).double()
            assert got.shape == exact.shape
            # As near to float64 as PyTorch's own float32 is, times two.
            worst = (got - exact).abs().max().item()
            assert worst <= 2 * (own - exact).abs().max().item()


def test_number_of_parameters_is_the_source_s(tmp_path):
    for name in NAMES:
        model = create(name)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / name)
        sepconv.load(name, weights=tmp_path / name)  # refuses missing and extra tensors


def test_same_bits_for_any_number_of_threads_and_batch():
    net = sepconv.load("efficientnet_lite0")
    x = np.random.default_rng(3).standard_normal((2, 3, 113, 97)).astype(np.float32)
    results = []
    try:
        for threads in (1, 2, 4):
            sepconv.set_num_threads(threads)
            results.append(net(x))
    finally:
        sepconv.set_num_threads(1)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[0][1:], net(x[1:]))


def test_two_networks_run_at_once():
    nets = [sepconv.load("mobilenetv2_050"), sepconv.load("mobilenetv1_100")]
    x = np.random.default_rng(4).standard_normal((1, 3, 96, 96)).astype(np.float32)
    alone = [net(x) for net in nets]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            for expected, got in zip(alone, pool.map(lambda net: net(x), nets)):
                np.testing.assert_array_equal(expected, got)


def test_every_target_runs_a_network(target, tmp_path):
    x = np.random.default_rng(5).standard_normal((1, 3, 64, 64)).astype(np.float32)
    model = randomize(timm.create_model("mobilenetv2_035"), 3)
    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    got = sepconv.load("mobilenetv2_035", weights=path)(x)
    with torch.no_grad():
        own = model(torch.from_numpy(x)).double()
        exact = model.double()(torch.from_numpy(x).double())
    worst = (torch.from_numpy(got).double() - exact).abs().max()
    assert worst <= 2 * (own - exact).abs().max()
