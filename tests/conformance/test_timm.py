"""Whole networks against timm and torchvision in float64; every block's weights matter."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sources import create, randomize

import sepconv

NAMES = sepconv.models()


# A small, a default and a large member of each family, checked at their default size too.
MEMBERS = [
    "mobilenetv1_100", "mobilenetv2_035", "mobilenetv2_100", "mobilenetv2_140", "mobilenet_v2",
    "mobilenetv3_small_050", "mobilenetv3_large_100", "tf_mobilenetv3_large_100",
    "mobilenetv3_large_150d", "efficientnet_b0", "tf_efficientnet_b0", "efficientnet_b4",
    "efficientnet_lite0", "tf_efficientnet_lite4", "tf_efficientnetv2_b0", "tf_efficientnetv2_s",
    "mixnet_s", "tf_mixnet_s", "mixnet_xl", "resnet18", "resnet50", "resnet152",
    "resnext50_32x4d", "seresnet50", "convnext_atto", "convnext_tiny", "convnext_base",
    "convnextv2_atto", "convnextv2_tiny", "vit_tiny_patch16_224", "vit_base_patch16_224",
    "vit_base_patch32_224", "deit_small_patch16_224", "googlenet", "inception_v3",
]  # fmt: skip


def as_list(result):
    return result if isinstance(result, list) else [result]


def logits(model, x):
    return model(x)


def features(model, x):
    return model.forward_head(model.forward_features(x), pre_logits=True)


def stages(model, x):
    """The maps that timm's features_only chooses, from a model that has its head."""
    if isinstance(model, timm.models.VisionTransformer):
        return model.forward_intermediates(x, indices=3, norm=False, intermediates_only=True)
    name = model.default_cfg["architecture"]
    maps = {}
    hooks = [
        model.get_submodule(module).register_forward_hook(
            lambda _, __, map_, module=module: maps.__setitem__(module, map_)
        )
        for module in timm.create_model(name, features_only=True).feature_info.module_name()
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return list(maps.values())


# How ours reads what these functions read.
OURS = {
    logits: lambda net, x: [net(x)],
    features: lambda net, x: [net.features(x)],
    stages: lambda net, x: net.stages(x),
}


def assert_agrees(name, sizes, tmp_path, read=logits):
    """As near to float64 as PyTorch's own float32 is, times two.

    The error of an image is the root mean square over its logits; the median image counts. The
    source is done and gone before ours is loaded: the largest networks need the memory.
    """
    torch.manual_seed(0)  # or the weights, and luck, would depend on the tests before
    model = randomize(create(name), 7)
    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    g = torch.Generator().manual_seed(8)
    images = [torch.randn(3, 3, size, size, generator=g) for size in sizes]
    with torch.no_grad():
        own = [as_list(read(model, x)) for x in images]
        model.double()
        exact = [as_list(read(model, x.double())) for x in images]
    del model
    net = sepconv.load(name, weights=path)
    for x, one_own, one_exact in zip(images, own, exact):
        for form in (x, x.contiguous(memory_format=torch.channels_last)):
            for got, o, e in zip(OURS[read](net, form), one_own, one_exact, strict=True):
                assert got.shape == e.shape
                error, own_error = (
                    (v.double() - e).square().flatten(1).mean(1).sqrt() for v in (got, o)
                )
                assert (error / own_error).median().item() <= 2


@pytest.mark.parametrize("name", NAMES)
def test_network_agrees_with_its_source_on_small_images(name, tmp_path):
    assert_agrees(name, [96 if name == "inception_v3" else 64], tmp_path)


@pytest.mark.parametrize("name", MEMBERS)
def test_network_agrees_with_its_source(name, tmp_path):
    default = sepconv._core.Model(name, "").input_size
    # And an odd size, or for patches another grid than the positions were made for.
    assert_agrees(name, [default, 160 if "patch" in name else 129], tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv1_100", "mobilenetv2_050", "mobilenetv3_small_050", "efficientnet_b0",
        "mixnet_s", "convnext_atto", "inception_v3", "resnet18", "vit_tiny_patch16_224",
    ],
)  # fmt: skip
def test_features_are_what_the_classifier_reads(name, tmp_path):
    assert_agrees(name, [128], tmp_path, features)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv1_100", "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv3_large_100",
        "efficientnet_b0", "tf_efficientnetv2_b0", "mixnet_s", "convnext_atto", "convnextv2_atto",
        "inception_v3", "resnet18", "seresnet50", "vit_tiny_patch16_224", "deit_tiny_patch16_224",
    ],
)  # fmt: skip
def test_maps_by_stage_are_the_source_s(name, tmp_path):
    assert_agrees(name, [160], tmp_path, stages)


def test_maps_by_stage_of_googlenet_are_those_before_each_reduction():
    net = sepconv.load("googlenet")
    maps = net.stages(np.zeros((1, 3, 224, 224), np.float32))
    sizes = [(64, 112), (192, 56), (480, 28), (832, 14), (1024, 7)]
    assert [m.shape for m in maps] == [(1, c, size, size) for c, size in sizes]


@pytest.mark.parametrize("name", NAMES)
def test_number_of_parameters_is_the_source_s(name):
    with torch.device("meta"):
        model = create(name)
    # The classifiers beside the main one are for training.
    counted = [p.numel() for n, p in model.named_parameters() if not n.startswith("aux")]
    assert sepconv._core.costs(name)[0] == sum(counted)


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


def test_threads_may_ask_for_many_sizes_at_once():
    net = sepconv.load("mobilenetv2_035")
    x = np.random.default_rng(6).standard_normal((1, 3, 96, 96)).astype(np.float32)
    images = [x[:, :, : 32 + i, : 33 + i] for i in range(0, 64, 2)] * 2
    alone = [sepconv.load("mobilenetv2_035")(image) for image in images[:3]]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(net, images))
    for expected, got in zip(alone, results):
        np.testing.assert_array_equal(expected, got)
    for first, again in zip(results, results[32:]):
        np.testing.assert_array_equal(first, again)


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
