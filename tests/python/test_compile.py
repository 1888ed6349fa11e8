"""PyTorch modules as networks of ours."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

import sepconv


class Separable(nn.Module):
    """What a user might write: separable blocks, a branch, a gate."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(24, 6, 1),
            nn.SiLU(),
            nn.Conv2d(6, 24, 1),
            nn.Sigmoid(),
        )
        self.head = nn.Linear(24 + 16, 7)

    def forward(self, x):
        x = self.stem(x)
        y = self.pointwise(nn.functional.gelu(self.depthwise(x)))
        y = torch.cat([y * self.gate(y), x], 1)
        return self.head(y.mean((2, 3)))


def model(name):
    return Separable() if name == "mine" else timm.create_model(name)


@pytest.mark.parametrize("name", ["mine", "mobilenetv2_035", "mobilenetv3_small_050"])
def test_compiled_module_gives_its_values(name):
    source = model(name)
    source.train()
    x = torch.randn(2, 3, 65, 80, generator=torch.Generator().manual_seed(1))
    net = sepconv.compile(source, x)
    assert source.training
    with torch.no_grad():
        expected = source.eval()(x)
    got = net(x)
    assert isinstance(got, torch.Tensor)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    np.testing.assert_array_equal(net(x.numpy()), got.numpy())


class Unusual(nn.Module):
    def forward(self, x):
        return x.atan() + x.sinh()


def test_what_is_not_supported_is_told_at_once():
    source = nn.Sequential(nn.Conv2d(3, 8, 3), Unusual())
    with pytest.raises(ValueError, match=r"not supported: Atan .*; Sinh "):
        sepconv.compile(source, torch.zeros(1, 3, 16, 16))


def test_bad_arguments():
    with pytest.raises(TypeError, match="expected a torch.nn.Module"):
        sepconv.compile(3, torch.zeros(1, 3, 8, 8))
    with pytest.raises(TypeError, match="example: got None"):
        sepconv.compile(nn.Conv2d(3, 8, 3))
    with pytest.raises(TypeError, match="example: got str, expected a tensor or an array"):
        sepconv.compile(nn.Conv2d(3, 8, 3), "x")
    with pytest.raises(ValueError, match=r"example: got torch.float64 \[1, 3, 8, 8\]"):
        sepconv.compile(nn.Conv2d(3, 8, 3), np.zeros((1, 3, 8, 8)))
    with pytest.raises(ValueError, match="No such file"):
        sepconv.compile("/no/such/model.onnx")
