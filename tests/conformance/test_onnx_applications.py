"""What detectors, face networks, segmentation and mobile transformers are made of, from files."""

import pytest
import torch
import torch.nn.functional as F
from test_onnx_models import assert_as_good_as_onnx_runtime, export
from test_onnx_views import C, H, Module, N, T, W, attend, conv, linear, tokens

ACTIVATIONS = {
    name.lower(): Module(
        lambda m, x: m.c(m.act(m.b(m.act(m.a(x))))),
        act=getattr(torch.nn, name)(),
        a=conv(9),
        b=torch.nn.Conv2d(9, 9, 3, padding=1, groups=9),
        c=torch.nn.Conv2d(9, 5, 1),
    )
    for name in (
        "PReLU",
        "ELU",
        "SELU",
        "CELU",
        "Mish",
        "Tanh",
        "Softplus",
        "Softsign",
        "LogSigmoid",
    )
}
ACTIVATIONS["prelu_by_channel"] = Module(
    lambda m, x: m.act(m.a(x)), act=torch.nn.PReLU(9), a=conv(9)
)


def cbam(m, x):
    """Channels, then pixels, by two pools of each (Woo et al., 2018)."""
    x = m.a(x)
    pools = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
    x = x * sum(m.c(F.relu(m.b(p))) for p in pools).sigmoid()
    pools = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * m.d(pools).sigmoid()


def coordinate_attention(m, x):
    """Rows and columns, pooled apart (Hou et al., 2021)."""
    rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
    both = F.hardswish(m.a(torch.cat([rows, columns], 2)))
    rows, columns = both.split([H, W], 2)
    return x * m.b(rows).sigmoid() * m.c(columns.transpose(2, 3)).sigmoid()


def global_context(m, x):
    """A mean weighted by position (Cao et al., 2019)."""
    weights = m.a(x).flatten(2).softmax(-1)
    context = (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)
    return x + m.c(F.relu(m.b(context)))


def selective_kernels(m, x):
    """Branches by a softmax over them (Li et al., 2019)."""
    branches = torch.stack([m.a(x), m.b(x)], 1)
    weights = m.d(F.relu(m.c(branches.sum(1).mean((2, 3), keepdim=True))))
    return (branches * weights.reshape(N, 2, C, 1, 1).softmax(1)).sum(1)


def linear_attention(m, x):
    """Keys times values first (Cai et al., "EfficientViT", 2022)."""
    q, k, v = m.qkv(x).reshape(N, 4, 9, T).transpose(2, 3).chunk(3, -1)
    v = F.pad(v, (0, 1), value=1.0)
    y = F.relu(q) @ (F.relu(k).transpose(2, 3) @ v)
    y = y[..., :-1] / (y[..., -1:] + 1e-3)
    return y.transpose(2, 3).reshape(N, C, H, W)


def separable_attention(m, x):
    """Over pixels of 2×2 patches (Mehta and Rastegari, "MobileViTv2", 2022)."""
    x = x.reshape(N, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(N, C, 4, T // 4)
    q, k, v = m.qkv(x).split([1, C, C], 1)
    context = (k * q.softmax(-1)).sum(-1, keepdim=True)
    x = x + m.out(F.relu(v) * context.expand_as(v))
    x = x.reshape(N, C, 2, 2, H // 2, W // 2).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(N, C, H, W)


def channel_attention(m, x):
    """Scores of channels by channels (El-Nouby et al., "XCiT", 2021)."""
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 4, 3).permute(2, 0, 3, 4, 1).unbind(0)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    weights = (q @ k.transpose(-2, -1) * m.temperature).softmax(-1)
    return m.proj((weights @ v).permute(0, 3, 1, 2).reshape(N, T, C))


def mixer(m, x):
    """Tokens mixed by a matrix (Tolstikhin et al., 2021)."""
    x = tokens(x)
    x = x + m.b(F.gelu(m.a(m.norm(x).transpose(1, 2)))).transpose(1, 2)
    return x + m.weight @ x


def gated_tokens(m, x):
    """(Liu et al., "gMLP", 2021)."""
    u, v = m.a(tokens(x)).chunk(2, -1)
    return u * m.b(m.norm(v).transpose(1, 2)).transpose(1, 2)


def shifted_windows(m, x):
    """Moved round, masked, and moved back; patches of four merged (Liu et al., "Swin", 2021)."""
    x = torch.roll(x.permute(0, 2, 3, 1), (-1, -1), (1, 2))
    x = x.reshape(N, H // 2, 2, W // 2, 2, C).transpose(2, 3).reshape(-1, 4, C)
    q, k, v = m.qkv(x).reshape(-1, 4, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
    scores = q @ k.transpose(-2, -1) + m.bias
    windows = T // 4
    scores = scores.view(N, windows, 4, 4, 4) + m.mask.view(1, windows, 1, 4, 4)
    x = (scores.view(-1, 4, 4, 4).softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, C)
    x = x.reshape(N, H // 2, W // 2, 2, 2, C).transpose(2, 3).reshape(N, H, W, C)
    x = torch.roll(x, (1, 1), (1, 2))
    parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    return m.merge(m.norm(torch.cat(parts, -1)))


def talking_heads(m, x):
    """Scores mixed between heads (Li et al., "EfficientFormerV2", 2022)."""
    q, k, v = (f(x).reshape(N, 4, 3, T).transpose(2, 3) for f in (m.q, m.k, m.v))
    weights = m.after(m.before(q @ k.transpose(2, 3)).softmax(-1))
    return (weights @ v).transpose(2, 3).reshape(N, C, H, W)


def relative_positions(m, x):
    """Queries times a constant, added to the scores (Srinivas et al., "BoTNet", 2021)."""
    q, k, v = (t.transpose(2, 3) for t in m.qkv(x).reshape(N, 3, 4, 3, T).unbind(1))
    scores = torch.einsum("nhqd,nhkd->nhqk", q, k) + q @ m.positions
    return torch.einsum("nhqk,nhkd->nhdq", scores.softmax(-1), v).reshape(N, C, H, W)


def pooled_queries(m, x):
    """The largest of every four queries (Ryali et al., "Hiera", 2023)."""
    q, k, v = m.qkv(tokens(x)).reshape(N, T, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
    q = q.reshape(N, 4, 4, T // 4, 3).amax(2)
    return attend(q, k, v, 0.5).transpose(1, 2).reshape(N, T // 4, C)


ATTENTION = {
    "cbam": Module(
        cbam, a=conv(9), b=torch.nn.Conv2d(9, 3, 1), c=torch.nn.Conv2d(3, 9, 1),
        d=torch.nn.Conv2d(2, 1, 5, padding=2),
    ),
    "coordinate": Module(
        coordinate_attention, a=conv(5), b=torch.nn.Conv2d(5, C, 1), c=torch.nn.Conv2d(5, C, 1)
    ),
    "global_context": Module(
        global_context, a=conv(1), b=conv(5), c=torch.nn.Conv2d(5, C, 1)
    ),
    "selective_kernels": Module(
        selective_kernels, a=conv(C), b=torch.nn.Conv2d(C, C, 3, padding=1), c=conv(5),
        d=torch.nn.Conv2d(5, 2 * C, 1),
    ),
    "linear": Module(linear_attention, qkv=conv(36)),
    "separable": Module(separable_attention, qkv=conv(1 + 2 * C), out=conv(C)),
    "channel": Module(channel_attention, qkv=linear(36), proj=linear(C), temperature=(4, 1, 1)),
    "mixer": Module(
        mixer, norm=torch.nn.LayerNorm(C), a=torch.nn.Linear(T, 20), b=torch.nn.Linear(20, T),
        weight=(T, T),
    ),
    "gated_tokens": Module(
        gated_tokens, a=linear(2 * C), norm=torch.nn.LayerNorm(C), b=torch.nn.Linear(T, T)
    ),
    "shifted_windows": Module(
        shifted_windows, qkv=linear(36), bias=(4, 4, 4), mask=(T // 4, 4, 4),
        norm=torch.nn.LayerNorm(4 * C), merge=torch.nn.Linear(4 * C, 7),
    ),
    "talking_heads": Module(
        talking_heads, q=conv(C), k=conv(C), v=conv(C), before=torch.nn.Conv2d(4, 4, 1),
        after=torch.nn.Conv2d(4, 4, 1),
    ),
    "relative_positions": Module(relative_positions, qkv=conv(36), positions=(3, T)),
    "pooled_queries": Module(pooled_queries, qkv=linear(36)),
}  # fmt: skip

MAPS = {
    "pixel_shuffle": Module(lambda m, x: F.pixel_shuffle(m.a(x), 2), a=conv(12)),
    "pixel_unshuffle": Module(
        lambda m, x: m.a(F.pixel_unshuffle(x, 2)), a=torch.nn.Conv2d(4 * C, 9, 3, padding=1)
    ),
    "focus": Module(
        lambda m, x: m.a(
            torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)
        ),
        a=torch.nn.Conv2d(4 * C, 9, 3, padding=1),
    ),
    "mirrored": Module(
        lambda m, x: m.b(F.pad(F.relu(m.a(F.pad(x, (2, 1, 0, 3), "reflect"))), (1, 1, 1, 1),
                               "replicate")),
        a=torch.nn.Conv2d(C, 9, 3), b=torch.nn.Conv2d(9, 5, 3),
    ),
    "more_channels": Module(
        lambda m, x: F.relu(m.a(x) + F.pad(F.max_pool2d(x, 2), (0, 0, 0, 0, 0, 5))),
        a=torch.nn.Conv2d(C, C + 5, 3, stride=2, padding=1),
    ),
    "padded_then_cut": Module(lambda m, x: F.pad(m.a(x), (-1, 2, 1, -2), value=0.5), a=conv(9)),
    "shifted_then_padded": Module(
        lambda m, x: m.b(F.pad(m.a(x), (1, 1, 1, 1)) + 0.5), a=conv(9), b=torch.nn.Conv2d(9, 5, 3)
    ),
    "embedding": Module(
        lambda m, x: F.normalize(m.a(torch.flatten(F.avg_pool2d(x, 2), 1))),
        a=torch.nn.Linear(C * T // 4, 9),
    ),
    "mean_with_ceiling": Module(
        lambda m, x: F.avg_pool2d(m.a(x)[..., :-1], 2, 2, ceil_mode=True, count_include_pad=False),
        a=conv(9),
    ),
    "positions_of_every_image": Module(
        lambda m, x: m.a(x) * m.p.expand(N, 9, H, W) + m.p.expand(N, 9, H, W),
        a=conv(9), p=(1, 9, H, W),
    ),
    "convolution_of_tokens": Module(
        lambda m, x: m.b(F.relu(m.a(x.flatten(2))))[..., 1::2].mean(-1),
        a=torch.nn.Conv1d(C, 9, 3, padding=1), b=torch.nn.Conv1d(9, 5, 1),
    ),
    "without_the_first_token": Module(
        lambda m, x: m.a(tokens(x))[:, 1:] + m.a(tokens(x))[:, :1], a=linear(9)
    ),
    "middle": Module(lambda m, x: m.a(x)[:, 2:7, 1:-1, 3:], a=conv(9)),
    "side_by_side": Module(lambda m, x: torch.cat([m.a(x), x, m.a(x)], 3), a=conv(C)),
    "ratio": Module(
        lambda m, x: m.a(x) / (F.softplus(m.a(x)).sum(1, keepdim=True) + 1), a=conv(9)
    ),
    "functions": Module(
        lambda m, x: (
            torch.log_softmax(m.a(x), 1)
            + torch.exp(m.a(x).sigmoid())
            - torch.maximum(m.a(x), 1 / (1 + m.a(x).abs()))
        ),
        a=conv(9),
    ),
    "root_mean_square": Module(
        lambda m, x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3) * m.weight,
        weight=(1, C, 1, 1),
    ),
    "sums": Module(lambda m, x: m.a(x).sum((1, 3)) - m.a(x).amin((1, 3)), a=conv(9)),
}  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ACTIVATIONS | ATTENTION | MAPS)
def test_application(name, dynamo, tmp_path):
    module = (ACTIVATIONS | ATTENTION | MAPS)[name].float().eval()
    path = str(tmp_path / "m.onnx")
    with torch.no_grad():
        export(module, torch.zeros(N, C, H, W), path, dynamo=dynamo, opset_version=18)
        assert_as_good_as_onnx_runtime(path, (N, C, H, W), module.double())
