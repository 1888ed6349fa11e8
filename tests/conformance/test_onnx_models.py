"""Networks exported to ONNX and imported again, against ONNX Runtime and against ours by name."""

import contextlib
import io

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from short_models import shortened
from sources import create, randomize

import sepconv

# The smallest members of each family.
NAMES = [
    "mobilenetv1_100", "mobilenetv2_035", "mobilenet_v2", "mobilenetv3_small_050",
    "tf_mobilenetv3_small_minimal_100", "efficientnet_b0", "tf_efficientnet_b0",
    "efficientnet_lite0", "tf_efficientnetv2_b0", "mixnet_s", "tf_mixnet_s", "convnext_atto",
    "convnextv2_atto", "resnet18", "resnext50_32x4d", "seresnet50", "inception_v3", "googlenet",
    "vit_tiny_patch16_224", "deit_tiny_patch16_224",
]  # fmt: skip

# And some of those that are none of ours by name.
FILES = [
    "shufflenet_v2_x0_5", "regnetx_002", "regnety_004", "ghostnetv2_100", "starnet_s1",
    "repvgg_a0", "mobileone_s0", "repvit_m0_9", "repghostnet_050", "fastvit_t8",
    "mobilenetv4_hybrid_medium", "caformer_s18", "hgnetv2_b0", "mambaout_femto", "poolformer_s12",
    "shvit_s1", "darknet17", "edgenext_xx_small", "efficientvit_b0", "swiftformer_xs", "skresnet18",
    "resnest14d",
]  # fmt: skip
# Made for one size, by their biases for pairs of positions or their windows.
FILES_OF_ONE_SIZE = {
    "efficientformer_l1": 224, "levit_128s": 224, "coatnet_nano_rw_224": 224,
    "visformer_tiny": 224, "deit3_small_patch16_224": 224, "tiny_vit_5m_224": 224,
    "mobilevit_xxs": 256, "maxxvit_rmlp_nano_rw_256": 256, "mobilevitv2_050": 256,
    "efficientformerv2_s0": 224, "efficientvit_m0": 224, "mixer_s32_224": 224,
    "xcit_nano_12_p16_224": 224, "pit_ti_224": 224,
}  # fmt: skip

# Where every activation, norm and product of the export is part of a node of ours again.
SAME_NODES = ["mobilenetv2_035", "efficientnet_b0", "mixnet_s", "convnext_atto", "resnet18"]


def count_nodes(net, size):
    return sum(len(step["name"].split(" > ")) for step in net.explain(size, batch=3, runs=0))


def export(model, x, path, **options):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(model, (x,), path, input_names=["x"], **options)


def rms(a, b):
    return np.sqrt(np.square(a.astype(np.float64) - b).mean())


def assert_as_good_as_onnx_runtime(path, shape, exact):
    """Within twice ONNX Runtime's own distance from float64, over all logits of all images."""
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    reference = exact(torch.from_numpy(x).double()).numpy()
    peer = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    assert rms(sepconv.load(path)(x), reference) <= 2 * rms(peer, reference)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NAMES)
def test_exported_network(name, dynamo, tmp_path):
    size = 224 if "patch" in name else 107
    model = randomize(create(name, any_size=False), 5)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "w.st")
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(model, torch.zeros(3, 3, size, size), path, dynamo=dynamo, opset_version=18)
        assert_as_good_as_onnx_runtime(path, (3, 3, size, size), model.double())
    # The same network by name, of as many nodes where exporters keep its structure.
    x = np.random.default_rng(2).standard_normal((3, 3, size, size)).astype(np.float32)
    ours, named = sepconv.load(path), sepconv.load(name, weights=tmp_path / "w.st")
    by_name = named(x)
    np.testing.assert_allclose(ours(x), by_name, rtol=0, atol=1e-4 * np.abs(by_name).max())
    if name in SAME_NODES:
        assert count_nodes(ours, size) == count_nodes(named, size)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", [*FILES, *FILES_OF_ONE_SIZE])
def test_network_that_only_comes_as_a_file(name, dynamo, tmp_path):
    known = getattr(torchvision.models, name, None)
    own_size = FILES_OF_ONE_SIZE.get(name, 128)
    size = own_size if name in FILES_OF_ONE_SIZE else 107
    model = known(weights=None) if known else create(name)
    model = randomize(shortened(model), 9, own_size)
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(model, torch.zeros(2, 3, size, size), path, dynamo=dynamo, opset_version=18)
        assert_as_good_as_onnx_runtime(path, (2, 3, size, size), model.double())


class Segmentation(torch.nn.Module):
    """A network whose result is a dictionary."""

    def __init__(self, name):
        super().__init__()
        make = getattr(torchvision.models.segmentation, name)
        self.network = make(weights=None, weights_backbone=None)

    def forward(self, x):
        return self.network(x)["out"]


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_segmentation(name, tmp_path):
    model = randomize(Segmentation(name), 3)
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(model, torch.zeros(2, 3, 161, 192), path, dynamo=False, opset_version=18)
        assert_as_good_as_onnx_runtime(path, (2, 3, 161, 192), model.double())


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize(
    "name", ["mobilenetv2_035", "tf_efficientnet_lite0", "convnext_atto", "mixnet_s"]
)
def test_sizes_that_the_file_leaves_open(name, opset, tmp_path):
    model = randomize(create(name), 6)
    path = str(tmp_path / "m.onnx")
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    with torch.no_grad():
        export(
            model, torch.zeros(1, 3, 96, 96), path,
            dynamo=False, opset_version=opset, dynamic_axes=axes,
        )  # fmt: skip
        model.double()
        for shape in [(1, 3, 96, 96), (2, 3, 65, 97)]:
            assert_as_good_as_onnx_runtime(path, shape, model)


def test_features_are_what_the_last_layer_reads(tmp_path):
    model = randomize(create("mobilenetv2_035"), 4)
    path = str(tmp_path / "m.onnx")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        export(model, x, path, dynamo=False)
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
    got = sepconv.load(path).features(x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
