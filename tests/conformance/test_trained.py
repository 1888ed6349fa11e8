"""Trained networks on real photographs: what timm and torchvision say, we say.

scripts/fetch-weights brings the files, scripts/test says where they are.
"""

import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file

import sepconv

WEIGHTS = pathlib.Path(os.environ.get("SEPCONV_WEIGHTS", "build/weights"))
CONVERT = pathlib.Path(__file__).parents[2] / "scripts" / "convert-checkpoint"
pytestmark = pytest.mark.skipif(
    not WEIGHTS.is_dir(), reason="no weights: scripts/fetch-weights brings them"
)

MODELS = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2"]
PHOTOS = ["coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png"]
STORY = {
    ("efficientnet_lite0", "coffee.png"): ("espresso", 0.9),
    ("efficientnet_lite0", "chelsea.png"): ("tiger cat", 0.4),
    ("efficientnet_lite1", "coffee.png"): ("espresso", 0.48),
    ("efficientnet_lite2", "coffee.png"): ("espresso", 0.82),
    ("efficientnet_lite2", "chelsea.png"): ("Egyptian cat", 0.56),
    ("mobilenet_v2", "coffee.png"): ("espresso", 0.992),
    ("mobilenet_v2", "chelsea.png"): ("Egyptian cat", 0.72),
}


def source(name):
    model = torchvision.models.mobilenet_v2() if name == "mobilenet_v2" else timm.create_model(name)
    model.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"), strict=False)
    return model.eval()


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("name", MODELS)
def test_probabilities_are_the_source_s(name, photo):
    net = sepconv.load(name, weights=WEIGHTS / f"{name}.safetensors")
    x = net.preprocess(WEIGHTS / photo)
    with torch.no_grad():
        expected = source(name)(torch.from_numpy(np.ascontiguousarray(x))).softmax(1).numpy()
    logits = net(x).astype(np.float64)
    got = np.exp(logits - logits.max())
    got /= got.sum()
    assert np.abs(got - expected).max() <= 1e-4
    answer = net.classify(WEIGHTS / photo, top=1)[0]
    assert answer[1] == pytest.approx(expected.max(), abs=1e-4)
    if (name, photo) in STORY:
        label, probability = STORY[name, photo]
        assert answer[0] == label
        assert answer[1] == pytest.approx(probability, abs=0.02)


def test_checkpoint_and_conversion_hold_the_same_numbers():
    original = torch.load(WEIGHTS / "efficientnet-lite0-57934424.pth", weights_only=True)
    original = [v for k, v in original.items() if not k.endswith("num_batches_tracked")]
    converted = load_file(WEIGHTS / "efficientnet_lite0.safetensors")
    names = [k for k in timm.create_model("efficientnet_lite0").state_dict() if k in converted]
    assert len(original) == len(names) == len(converted)
    for tensor, name in zip(original, names):
        assert torch.equal(tensor, converted[name]), name


def convert(*arguments):
    command = [sys.executable, CONVERT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("zipped", [True, False])
def test_converter_reads_both_formats(tmp_path, zipped):
    state = {"a.weight": torch.randn(3, 4).T, "b": torch.arange(5), "c": torch.tensor(2.5)}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    result = convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert result.returncode == 0, result.stderr
    loaded = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(loaded[k], v) for k, v in state.items())


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


@pytest.mark.parametrize("zipped", [True, False])
def test_converter_runs_no_code_of_the_file(tmp_path, zipped, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, "x.pth", _use_new_zipfile_serialization=zipped)
    result = convert("x.pth", "x.safetensors")
    assert result.returncode == 2
    assert "refuses to load" in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["x.pth"]


def test_converter_leaves_nothing_half_written(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_bytes(b"hello")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("readme", "nothing")
    (tmp_path / "names").write_text("a [10]\n")
    wrong_names = ["x", "--tensors", tmp_path / "names"]
    for name, *more in (["cut"], ["text"], ["zip"], ["none"], wrong_names):
        result = convert(tmp_path / f"{name}.pth", tmp_path / "out", *more)
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.part"))
