"""Attention and parts of tensors in the layouts that exporters write, against ONNX Runtime."""

import pytest
import torch
import torch.nn.functional as F
from test_onnx_models import assert_as_good_as_onnx_runtime, export

import sepconv

N, C, H, W = 2, 12, 6, 8
T = H * W


class Module(torch.nn.Module):
    """A function of the input and of layers and constants with random weights."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        g = torch.Generator().manual_seed(1)
        for name, part in parts.items():
            if isinstance(part, torch.nn.Module):
                for p in part.parameters():
                    p.data = torch.randn(p.shape, generator=g) * 0.4
                setattr(self, name, part)
            else:
                self.register_buffer(name, torch.randn(part, generator=g))

    def forward(self, x):
        return self.function(self, x)


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def attend(q, k, v, scale, bias=None):
    """q [..., T, d], k [..., S, d], v [..., S, e]."""
    scores = q @ k.transpose(-2, -1) * scale
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def thirds(m, x):
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
    y = attend(q, k, v, 3**-0.5).transpose(1, 2).reshape(N, T, C)
    return m.proj(y).transpose(1, 2).reshape(N, C, H, W)


def chunks_of_tokens(m, x):
    q, k, v = (t.reshape(N, T, 4, 3).transpose(1, 2) for t in m.qkv(tokens(x)).chunk(3, -1))
    return attend(q, k, v, 0.7).transpose(1, 2).reshape(N, T, C)


def within_each_head(m, x):
    """EfficientFormer and LeViT: values wider than keys, a bias for every pair of positions."""
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 13).split([3, 3, 7], -1)
    y = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), 0.5, m.bias)
    return y.transpose(1, 2).reshape(N, T, 21)


def channels_first(m, x):
    """CoAtNet: the same of an image's channels."""
    q, k, v = m.qkv(x).view(N, 3, 13, T).split([3, 3, 7], 2)
    y = attend(q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3), 0.5, m.bias)
    return y.transpose(2, 3).reshape(N, 21, H, W)


def shared_keys(m, x):
    """MobileNetV4: one key and value for all heads, of a smaller map."""
    small = F.max_pool2d(x, 2)
    q = m.q(x).reshape(N, 4, 5, T).transpose(2, 3)
    k, v = m.k(small).flatten(2).transpose(1, 2), m.v(small).flatten(2).transpose(1, 2)
    y = attend(q, k.unsqueeze(1), v.unsqueeze(1), 5**-0.5)
    return y.transpose(2, 3).reshape(N, 4 * 6, H, W)


def heads_as_images(m, x):
    """torch.nn.MultiheadAttention: heads and images are one dimension, queries are scaled."""
    q, k, v = (
        t.reshape(N, T, 4, 3).transpose(1, 2).flatten(0, 1) for t in m.qkv(tokens(x)).chunk(3, -1)
    )
    y = torch.bmm(torch.bmm(q * 0.5, k.transpose(1, 2)).softmax(-1), v)
    return y.reshape(N, 4, T, 3).transpose(1, 2).reshape(N, T, C)


def one_head(m, x):
    y = m.qkv(x).flatten(2).transpose(1, 2)
    return attend(y[..., :C], y[..., C : 2 * C], y[..., 2 * C :], 0.3, m.bias)


def scores_divided(m, x):
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 2, 6).permute(2, 0, 3, 1, 4).unbind(0)
    y = ((0.5 * q) @ (k.transpose(2, 3) * 0.7) / 1.3).softmax(-1) @ (2 * v)
    return y.transpose(1, 2).reshape(N, T, C)


def library(m, x):
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, T, C)


def heads(m, x, *shape):
    """Queries, keys and values of tokens [windows, tokens, C], four heads each."""
    return m.qkv(x).reshape(*shape, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)


def windows(m, x):
    """Swin and MaxViT: windows of 3 × 4 side by side, a bias for each pair of positions."""
    x = x.permute(0, 2, 3, 1).reshape(N, 2, 3, 2, 4, C).transpose(2, 3).reshape(N * 4, 12, C)
    y = attend(*heads(m, x, N * 4, 12), 0.6, m.bias).transpose(1, 2).reshape(N * 4, 12, C)
    y = m.proj(y).reshape(N, 2, 2, 3, 4, C).transpose(2, 3).reshape(N, H, W, C)
    return y.permute(0, 3, 1, 2)


def grids(m, x):
    """MaxViT: windows of 3 × 4 pixels that are two apart."""
    x = x.permute(0, 2, 3, 1).reshape(N, 3, 2, 4, 2, C).permute(0, 2, 4, 1, 3, 5)
    y = attend(*heads(m, x.reshape(N * 4, 12, C), N * 4, 12), 0.6, m.bias)
    y = y.transpose(1, 2).reshape(N, 2, 2, 3, 4, C).permute(0, 3, 1, 4, 2, 5)
    return m.proj(y.reshape(N, H, W, C)).permute(0, 3, 1, 2)


def patches(m, x):
    """MobileViT: pixels with the same place in patches of 2 × 2."""
    x = x.reshape(N * C * 3, 2, 4, 2).transpose(1, 2).reshape(N, C, 12, 4).transpose(1, 3)
    x = x.reshape(N * 4, 12, C)
    y = attend(*heads(m, x, N * 4, 12), 0.6).transpose(1, 2).reshape(N * 4, 12, C)
    y = m.proj(m.norm(y)).view(N, 4, 12, C).transpose(1, 3).reshape(N * C * 3, 4, 2, 2)
    return y.transpose(1, 2).reshape(N, C, H, W)


def values_first(m, x):
    """SHViT: values times the transposed weights."""
    q, k, v = (t.flatten(2) for t in m.qkv(x).split([3, 3, 7], 1))
    weights = (q.transpose(1, 2) @ k * 0.6).softmax(-1)
    return (v @ weights.transpose(1, 2)).reshape(N, 7, H, W)


def linear(out):
    return torch.nn.Linear(C, out)


def conv(out):
    return torch.nn.Conv2d(C, out, 1)


def talking_heads(m, x):
    """CaiT: heads mix before and after the softmax."""
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
    scores = m.before((q @ k.transpose(-2, -1) * 0.4).permute(0, 2, 3, 1))
    weights = m.after(scores.softmax(2)).permute(0, 3, 1, 2)
    return (weights @ v).transpose(1, 2).reshape(N, T, C)


def relative_positions(m, x):
    """SAM and MViTv2: what rows and columns of keys add to scores depends on the queries."""
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 4, 3).permute(2, 0, 3, 1, 4).flatten(1, 2)
    image = q.reshape(4 * N, H, W, 3)
    rows = torch.einsum("bhwc,hkc->bhwk", image, m.rows)
    columns = torch.einsum("bhwc,wkc->bhwk", image, m.columns)
    scores = (q @ k.transpose(-2, -1)).view(4 * N, H, W, H, W)
    scores = scores + rows[:, :, :, :, None] + columns[:, :, :, None, :]
    y = scores.view(4 * N, T, T).softmax(-1) @ v
    return y.view(N, 4, T, 3).transpose(1, 2).reshape(N, T, C)


def register_tokens(m, x):
    """DINOv2 and v3: a class token and others before the pixels, which go again."""
    y = torch.cat((m.token.expand(N, -1, -1), m.registers.expand(N, -1, -1), tokens(x)), 1)
    q, k, v = m.qkv(y).reshape(N, T + 4, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, T + 4, C)
    return torch.cat((y[:, :1].expand(N, T, C), y[:, 4:]), 2)


ATTENTION = {
    "thirds": Module(thirds, qkv=linear(3 * C), proj=linear(C)),
    "chunks_of_tokens": Module(chunks_of_tokens, qkv=linear(3 * C)),
    "within_each_head": Module(within_each_head, qkv=linear(39), bias=(1, 3, T, T)),
    "channels_first": Module(channels_first, qkv=conv(39), bias=(T, T)),
    "shared_keys": Module(shared_keys, q=conv(20), k=conv(5), v=conv(6)),
    "heads_as_images": Module(heads_as_images, qkv=linear(3 * C)),
    "one_head": Module(one_head, qkv=conv(3 * C), bias=(T,)),
    "scores_divided": Module(scores_divided, qkv=linear(3 * C)),
    "library": Module(library, qkv=linear(3 * C)),
    "values_first": Module(values_first, qkv=conv(13)),
    "talking_heads": Module(
        talking_heads, qkv=linear(3 * C), before=torch.nn.Linear(4, 4), after=torch.nn.Linear(4, 4)
    ),
    "relative_positions": Module(
        relative_positions, qkv=linear(3 * C), rows=(H, H, 3), columns=(W, W, 3)
    ),
    "register_tokens": Module(
        register_tokens, qkv=linear(3 * C), token=(1, 1, C), registers=(1, 3, C)
    ),
    "windows": Module(windows, qkv=linear(3 * C), proj=linear(C), bias=(4, 12, 12)),
    "grids": Module(grids, qkv=linear(3 * C), proj=linear(C), bias=(4, 12, 12)),
    "patches": Module(
        patches,
        qkv=linear(3 * C),
        proj=linear(C),
        norm=torch.nn.LayerNorm(C, elementwise_affine=False),
    ),
}


def gated(m, x):
    """MambaOut: parts of the channels of [N, H, W, C]."""
    g, i, c = m.fc(x.permute(0, 2, 3, 1)).split([10, 4, 6], -1)
    c = m.conv(c.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return (F.gelu(g) * torch.cat((i, c), -1)).permute(0, 3, 1, 2)


def small(x):
    return F.max_pool2d(x, 2)


def boxes_of_anchors(m, x):
    """SSD: six numbers for each of two anchors at every pixel of three maps, pixels first."""
    maps = m.a(x), m.b(small(x)), m.c(x.mean((2, 3), True))
    each = [y.view(N, 2, 6, *y.shape[2:]).permute(0, 3, 4, 1, 2).reshape(N, -1, 6) for y in maps]
    return torch.cat(each, 1).softmax(-1)


def boxes_by_anchor(m, x):
    """YOLO: anchors first."""
    maps = m.a(x), m.b(small(x))
    each = [y.view(N, 2, 6, *y.shape[2:]).permute(0, 1, 3, 4, 2).sigmoid() for y in maps]
    return torch.cat([y.reshape(N, -1, 6) for y in each], 1)


def boxes_of_pixels(m, x):
    """NanoDet and YOLOX: a number for each channel at every pixel of two maps, channels first."""
    maps = torch.cat((m.a(x), m.p(x).sigmoid()), 1), torch.cat((m.b(small(x)), m.p(small(x))), 1)
    return torch.cat([y.flatten(2) for y in maps], 2).transpose(1, 2)


def assigned(m, x):
    y = m.a(x).clone()
    y[:, 2:5] = m.b(y[:, 2:5])
    y[:, -1] = 0.5
    return y


def assigned_rows(m, x):
    y = m.a(x).clone()
    y[:, :, : H - 1] = m.b(x)[:, :, 1:]
    y[:, :, :, 3] = 0.25
    return y


PARTS = {
    "boxes_of_anchors": Module(boxes_of_anchors, a=conv(12), b=conv(12), c=conv(12)),
    "boxes_by_anchor": Module(boxes_by_anchor, a=conv(12), b=conv(12)),
    "boxes_of_pixels": Module(boxes_of_pixels, a=conv(5), b=conv(5), p=conv(2)),
    "channels_taken_apart": Module(
        lambda m, x: m.a(x).reshape(N, 5, 3, T).permute(0, 2, 3, 1), a=conv(15)
    ),
    "attention_of_channels": Module(
        lambda m, x: x * m.conv(x.mean((2, 3)).view(N, 1, C)).sigmoid().view(N, C, 1, 1),
        conv=torch.nn.Conv1d(1, 1, 5, padding=2, bias=False),
    ),
    "expanded_attention_of_channels": Module(
        lambda m, x: (
            m.conv(x.mean((2, 3)).view(N, 1, C)).sigmoid().view(N, C, 1, 1).expand_as(x) * m.b(x)
        ),
        conv=torch.nn.Conv1d(1, 1, 3, padding=1),
        b=conv(C),
    ),
    "computed_positions": Module(
        lambda m, x: tokens(x) + F.relu(m.p @ m.w + 0.1).transpose(0, 1), p=(C, 3), w=(3, T)
    ),
    "gated": Module(gated, fc=linear(20), conv=torch.nn.Conv2d(6, 6, 3, padding=1, groups=6)),
    "every_other": Module(lambda m, x: m.conv(x[:, :, ::2, 1::3]), conv=conv(7)),
    "every_other_token": Module(
        lambda m, x: m.fc(x.permute(0, 2, 3, 1)[:, ::2, ::2].flatten(1, 2)), fc=linear(8)
    ),
    "focus": Module(
        lambda m, x: m.conv(torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)),
        conv=torch.nn.Conv2d(4 * C, 6, 1),
    ),
    "pooled": Module(
        lambda m, x: m.conv(
            torch.cat(
                [x, F.interpolate(F.relu(m.fc(x.mean((2, 3), True))), (H, W), mode="bilinear")], 1
            )
        ),
        fc=conv(7),
        conv=torch.nn.Conv2d(C + 7, 6, 1),
    ),
    "positions_of_tokens": Module(
        lambda m, x: m.fc(tokens(x) + m.p).transpose(1, 2).reshape(N, 9, H, W) + m.q,
        fc=linear(9),
        p=(1, T, C),
        q=(H, 1),
    ),
    "positions_by_head": Module(
        lambda m, x: (
            (m.fc(tokens(x)).reshape(N, T, 4, 3).transpose(1, 2) + m.p)
            .transpose(1, 2)
            .reshape(N, T, C)
        ),
        fc=linear(C),
        p=(4, 1, 3),
    ),
    "padded_maximum": Module(
        lambda m, x: F.max_pool2d(F.pad(m.conv(x), (0, 1, 2, 0)), 2, 1), conv=conv(9)
    ),
    "padded_mean": Module(
        lambda m, x: F.avg_pool2d(F.pad(m.conv(x), (1, 1, 0, 2)), 3, 2), conv=conv(9)
    ),
    "unfolded": Module(
        lambda m, x: m.fc(F.unfold(m.a(x), 3, stride=1).transpose(1, 2)),
        a=conv(4),
        fc=torch.nn.Linear(36, 5),
    ),
    "colours": Module(
        lambda m, x: m.a(torch.cat([x[:, i].unsqueeze(1) * (0.3 + i) - 0.1 for i in range(C)], 1)),
        a=conv(5),
    ),
    "some_colours": Module(
        lambda m, x: torch.cat([x[:, 1:3] * 2, 0.5 - x[:, 0:1], x[:, 3:] + 1], 1) * m.w, w=(C, 1, 1)
    ),
    "parts_of_a_vector": Module(
        lambda m, x: torch.cat(
            [m.fc(x.mean((2, 3)))[:, 2:6].sigmoid(), m.fc(x.mean((2, 3))).chunk(2, 1)[0]], 1
        ),
        fc=linear(8),
    ),
    "softmax_of_weights": Module(
        lambda m, x: m.w.softmax(-1) @ m.fc(tokens(x)), w=(T, T), fc=linear(7)
    ),
    "resized_positions": Module(
        lambda m, x: m.a(x) + F.interpolate(m.p, (H, W), mode="bicubic"), a=conv(9), p=(1, 9, 4, 4)
    ),
    "repeated": Module(
        lambda m, x: m.a(x) * m.b(x.mean((2, 3), True)).repeat(1, 1, H, W), a=conv(9), b=conv(9)
    ),
    "assigned": Module(assigned, a=conv(9), b=torch.nn.Conv2d(3, 3, 3, padding=1)),
    "assigned_rows": Module(assigned_rows, a=conv(9), b=conv(9)),
    "position_network": Module(  # of constants, one number for each place
        lambda m, x: m.fc(tokens(x)) + m.out(m.norm(m.p @ m.w)).T.reshape(T, 3).repeat(1, 3),
        fc=linear(9),
        p=(T, 2),
        w=(2, 1),
        norm=torch.nn.LayerNorm(1),
        out=torch.nn.Linear(1, 3),
    ),
    "groups_of_a_vector": Module(
        lambda m, x: m.a(m.g(m.a(x).mean((2, 3), True))),
        a=conv(C),
        g=torch.nn.Conv2d(C, C, 1, groups=2),
    ),
    "shuffled_pixels_and_a_map": Module(
        lambda m, x: m.norm(
            (F.pixel_shuffle(m.a(x), 2) + m.b(F.interpolate(x, scale_factor=2.0))).permute(
                0, 2, 3, 1
            )
        ),
        a=conv(4 * 7),
        b=conv(7),
        norm=torch.nn.LayerNorm(7),
    ),
    "squares": Module(
        lambda m, x: m.b(0.8 * F.relu(m.a(x)) ** 2 - 0.3), a=conv(9), b=torch.nn.Conv2d(9, 5, 3)
    ),
    "normed_rows": Module(
        lambda m, x: m.norm(tokens(x).flatten(0, 1)).reshape(N, T, C), norm=torch.nn.BatchNorm1d(C)
    ),
}


def standardized(m, x):
    """Weights to mean 0 and variance 1, in the file's own nodes (NFNets, BiT)."""
    w = F.batch_norm(m.w.reshape(1, 8, -1), None, None, weight=m.gain, training=True, eps=1e-3)
    return F.conv2d(x, w.reshape(m.w.shape), padding=1)


NORMS = {
    "group_norm": Module(
        lambda m, x: m.b(F.leaky_relu(m.norm(m.a(x)), 0.1)),
        a=conv(8),
        norm=torch.nn.GroupNorm(4, 8),
        b=torch.nn.Conv2d(8, 5, 3),
    ),
    "group_norm_of_all": Module(
        lambda m, x: x + m.a(m.norm(x)), norm=torch.nn.GroupNorm(1, C), a=conv(C)
    ),
    "instance_norm": Module(
        lambda m, x: F.relu(m.norm(m.a(x))),
        a=conv(8),
        norm=torch.nn.InstanceNorm2d(8, affine=True),
    ),
    "rms_norm_of_pixels": Module(
        lambda m, x: m.a(x * torch.rsqrt(x.pow(2).mean(1, True) + 1e-3)), a=conv(7)
    ),
    "deviations": Module(
        lambda m, x: m.a(x).var(1, unbiased=False, keepdim=True).sqrt() * m.a(x), a=conv(7)
    ),
    "layer_norm_of_images": Module(
        lambda m, x: F.layer_norm(m.a(x), (7, H, W), m.weight), a=conv(7), weight=(7, H, W)
    ),
    "standardized": Module(standardized, w=(8, C, 3, 3), gain=(8,)),
}


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ATTENTION | PARTS | NORMS)
def test_layout(name, dynamo, tmp_path):
    module = (ATTENTION | PARTS | NORMS)[name].float().eval()
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(module, torch.zeros(N, C, H, W), path, dynamo=dynamo, opset_version=18)
        assert_as_good_as_onnx_runtime(path, (N, C, H, W), module.double())


def test_keys_that_meet_heads_instead_of_images(tmp_path):
    """A matrix for each image, but images are where the queries' heads are."""

    def mixed_up(m, x):
        q = m.q(x).reshape(N, N, 5, T).transpose(2, 3)  # as many heads
        y = attend(q, m.k(x).flatten(2).transpose(1, 2), m.v(x).flatten(2).transpose(1, 2), 1)
        return y.transpose(2, 3).reshape(N, N * 6, H, W)

    module = Module(mixed_up, q=conv(N * 5), k=conv(5), v=conv(6)).float()
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(module, torch.zeros(N, C, H, W), path, dynamo=False, opset_version=18)
        assert_as_good_as_onnx_runtime(path, (N, C, H, W), module.double())


def test_a_gelus_gate_of_other_channels(tmp_path):
    """a · (1 + erf(b / √2)) is no GELU, though a and b are parts of one value."""

    def mixed_up(m, x):
        a, b = m.fc(tokens(x)).chunk(2, -1)
        return 0.5 * a * (1 + torch.erf(b / 2**0.5))

    module = Module(mixed_up, fc=linear(14)).float()
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(module, torch.zeros(N, C, H, W), path, dynamo=False, opset_version=18)
    with pytest.raises(ValueError, match="of 1 . erf, in a form that is not known"):
        sepconv.load(path)(torch.zeros(N, C, H, W))


@pytest.mark.parametrize("steps", [{}, {"stride": 2}, {"dilation": 2}])
def test_convolution_of_a_vectors_channels(steps, tmp_path):
    conv = torch.nn.Conv1d(1, 1, 3, padding=2, **steps)
    module = Module(lambda m, x: m.conv(x.mean((2, 3)).view(N, 1, C)), conv=conv).float()
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(module, torch.zeros(N, C, H, W), path, dynamo=False, opset_version=18)
        assert_as_good_as_onnx_runtime(path, (N, C, H, W), module.double())


# The older exporter does not know it.
RMS_NORM = {
    "rms_norm": Module(
        lambda m, x: m.fc(F.rms_norm(tokens(x), (C,), m.weight, 1e-3)), fc=linear(7), weight=(C,)
    ),
}


@pytest.mark.parametrize("opset", [18, 23, 25])
@pytest.mark.parametrize("name", ["library", "grids", "register_tokens", "rms_norm", "group_norm"])
def test_operator_sets(name, opset, tmp_path):
    """Attention and RMSNormalization are operators from 23 on."""
    module = (ATTENTION | NORMS | RMS_NORM)[name].float().eval()
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(module, torch.zeros(N, C, H, W), path, dynamo=True, opset_version=opset)
        assert_as_good_as_onnx_runtime(path, (N, C, H, W), module.double())
