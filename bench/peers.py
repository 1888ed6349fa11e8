"""sepconv against its peers: PyTorch, ONNX Runtime, OpenVINO, XNNPACK (ExecuTorch).

Everything runs in one process on as many pinned cores as threads, the runtimes taking turns, and
the fastest of many runs counts. A peer's output is compared with PyTorch's before it is timed.
Layers are seen in two ways: one call from Python, and inside a network, where (12 stacked − 2
stacked) / 10 leaves out what a runtime does once per call. Prints Markdown; --out writes it to a
file as it grows.

Example: scripts/bench-peers --only depthwise
"""

import argparse
import contextlib
import copy
import io
import math
import os
import pathlib
import sys
import tempfile
import time
import warnings

import numpy as np
import timm
import torch
from torch import nn

import sepconv
from sepconv import _core

warnings.filterwarnings("ignore")

# kernel, channels in, channels out (0: depthwise), size, stride
DEPTHWISE = [
    (3, 32, 0, 112, 1), (3, 96, 0, 112, 2), (3, 144, 0, 56, 1), (3, 128, 0, 56, 1),
    (3, 256, 0, 28, 1), (3, 384, 0, 14, 1), (3, 512, 0, 14, 1), (3, 576, 0, 14, 1),
    (3, 960, 0, 7, 1), (5, 672, 0, 14, 1), (5, 240, 0, 28, 1), (7, 96, 0, 56, 1),
    (7, 384, 0, 14, 1), (7, 768, 0, 7, 1),
]  # fmt: skip
POINTWISE = [
    (1, 32, 64, 112, 1), (1, 16, 96, 112, 1), (1, 96, 24, 56, 1), (1, 24, 144, 56, 1),
    (1, 256, 256, 28, 1), (1, 512, 512, 14, 1), (1, 1024, 1024, 7, 1), (1, 960, 320, 7, 1),
]  # fmt: skip
NETWORKS = [
    "mobilenetv1_100", "mobilenetv2_100", "efficientnet_lite0", "mobilenetv3_large_100",
    "efficientnet_b0", "mixnet_s",
]  # fmt: skip
# What main() sets for all: threads of every runtime, images at once.
threads, batch = 1, 1
PEERS = ["torch NCHW", "torch channels_last", "ONNX Runtime", "OpenVINO", "XNNPACK"]


def torch_nchw(model, x):
    t = torch.from_numpy(x)
    return lambda: model(t).numpy()


def torch_channels_last(model, x):
    t = torch.from_numpy(x).to(memory_format=torch.channels_last)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    return lambda: last(t).numpy()


def onnx_bytes(model, x):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.onnx")
        torch.onnx.export(
            model, (torch.from_numpy(x),), path, input_names=["x"], dynamo=False, opset_version=17
        )
        return pathlib.Path(path).read_bytes()


def onnx_runtime(model, x):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(
        onnx_bytes(model, x), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": x}
    return lambda: session.run(None, feed)[0]


def openvino(model, x):
    import openvino as ov

    core = ov.Core()
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(onnx_bytes(model, x)), "CPU", config)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run():
        request.infer()
        return request.get_output_tensor().data

    return run


def xnnpack(model, x):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import portable_lib

    t = torch.from_numpy(x)
    with contextlib.redirect_stderr(io.StringIO()):
        program = to_edge_transform_and_lower(
            torch.export.export(model, (t,)), partitioner=[XnnpackPartitioner()]
        ).to_executorch()
    portable_lib._unsafe_reset_threadpool(threads)
    buffer = program.buffer  # the module reads from it and does not keep it alive
    module = portable_lib._load_for_executorch_from_buffer(buffer)
    return lambda buffer=buffer: module.run_method("forward", [t])[0].numpy()


MAKERS = dict(zip(PEERS, [torch_nchw, torch_channels_last, onnx_runtime, openvino, xnnpack]))


def interleaved(runs, seconds):
    """The fastest run of each, in turns, until the time is over (but 5 rounds at least)."""
    best = dict.fromkeys(runs, math.inf)
    stop = time.perf_counter() + seconds
    rounds = 0
    while rounds < 5 or time.perf_counter() < stop:
        for name, run in runs.items():
            if threads > 1:
                time.sleep(0.01)  # until the other runtimes' threads no longer wait busily
            for _ in range(3):
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
        rounds += 1
    return best


def make_peers(model, x, expected):
    """The peers that can run the model, their outputs checked."""
    runs = {}
    for name, maker in MAKERS.items():
        try:
            run = maker(model, x)
            worst = np.abs(np.asarray(run()) - expected).max()
            if worst > 1e-3 * max(1.0, np.abs(expected).max()):
                print(f"{name}: output differs by {worst}", file=sys.stderr)
                continue
            runs[name] = run
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
    return runs


class Stack(nn.Module):
    """`depth` copies of a layer; where input and output differ, an unchanged pair of layers."""

    def __init__(self, layer, depth):
        super().__init__()
        k, c, out, _, stride = layer
        parts = []
        for i in range(depth):
            if out == 0:
                conv = nn.Conv2d(c, c, k, stride, k // 2, groups=c)
            elif c == out:
                conv = nn.Conv2d(c, c, 1)
            else:
                conv = nn.Conv2d(c, out, 1) if i % 2 == 0 else nn.Conv2d(out, c, 1)
            parts += [conv, nn.ReLU6()]
        self.layers = nn.Sequential(*parts)

    def forward(self, x):
        return self.layers(x)


def as_ours(stack, x):
    """The same layers as sepconv's graph, run as one network."""
    convs = [m for m in stack.layers if isinstance(m, nn.Conv2d)]
    layers = [
        (m.weight.detach().numpy(), m.bias.detach().numpy(), m.stride, m.padding, m.groups)
        for m in convs
    ]
    network = _core.sequential([(w, b, s[0], p[0], g) for w, b, s, p, g in layers], list(x.shape))
    n, c, h, w = network.outputs[0][0]
    y = np.empty((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
    last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)

    def run():
        network.run(last, [y])
        return y

    return run


def one_call(stack, x):
    """A prepared op, as a session of a peer is prepared; NHWC memory."""
    conv = stack.layers[0]
    op = sepconv.Conv2d(
        conv.weight.detach().numpy(), conv.bias.detach().numpy(), conv.stride, conv.padding,
        groups=conv.groups, activation="relu6",
    )  # fmt: skip
    last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    return lambda: op(last)


def title(layer):
    k, c, out, size, stride = layer
    if out:
        return f"pw {c}→{out}@{size}"
    return f"dw {k}×{k} {c}@{size}{' s2' if stride > 1 else ''}"


def flops(layer):
    k, c, out, size, stride = layer
    pixels = batch * (size // stride) ** 2
    return 2.0 * pixels * c * (out if out else k * k)


class Report:
    """Markdown that is written as it grows, so that a run that is cut short keeps what it has."""

    def __init__(self, path):
        self.path, self.text = path, ""

    def add(self, text):
        print(text, flush=True)
        self.text += text + "\n"
        if self.path:
            pathlib.Path(self.path).write_text(self.text)


def table(report, heading):
    columns = " | ".join([*PEERS, "sepconv", "GFLOP/s", "of peak", "ratio"])
    report.add(f"\n### {heading}\n\n| | {columns} |")
    report.add("|---" * (len(PEERS) + 5) + "|")


def row(report, name, times, work, peak, scale, ratios):
    ours = times.pop("sepconv")
    best = min(times.values())
    ratios.append(best / ours)
    digits = 2 if scale == 1e3 else 1
    cells = [f"{times[p] * scale:.{digits}f}" if p in times else "–" for p in PEERS]
    rate = work / ours / 1e9
    report.add(
        f"| {name} | {' | '.join(cells)} | {ours * scale:.{digits}f} | {rate:.0f} "
        f"| {rate / peak:.0%} | {best / ours:.2f} |"
    )


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def bench_layers(report, layers, heading, peak, seconds):
    table(report, f"{heading}, one call from Python, µs")
    ratios = []
    for layer in layers:
        torch.manual_seed(0)
        stack = Stack(layer, 1).eval()
        x = torch.randn(batch, layer[1], layer[3], layer[3]).numpy()
        expected = stack(torch.from_numpy(x)).detach().numpy()
        runs = make_peers(stack, x, expected)
        runs["sepconv"] = one_call(stack, x)
        assert np.abs(runs["sepconv"]() - expected).max() < 1e-3
        row(report, title(layer), interleaved(runs, seconds), flops(layer), peak, 1e6, ratios)
    report.add(f"\nGeometric mean of the ratios: **{mean(ratios):.2f}**.")

    table(report, f"{heading}, inside a network, (12 − 2) / 10 layers, µs")
    ratios = []
    for layer in layers:
        if layer[4] > 1:
            continue  # twelve of these leave no image
        runs = {}
        x = torch.randn(batch, layer[1], layer[3], layer[3]).numpy()
        for depth in (2, 12):
            torch.manual_seed(0)
            stack = Stack(layer, depth).eval()
            expected = stack(torch.from_numpy(x)).detach().numpy()
            for name, run in make_peers(stack, x, expected).items():
                runs[name, depth] = run
            runs["sepconv", depth] = as_ours(stack, x)
            assert np.abs(runs["sepconv", depth]() - expected).max() < 1e-3
        best = interleaved(runs, seconds)
        names = [n for n, d in runs if d == 12 and (n, 2) in runs]
        times = {n: max(best[n, 12] - best[n, 2], 1e-9) / 10 for n in names}
        row(report, title(layer), times, flops(layer), peak, 1e6, ratios)
    report.add(f"\nGeometric mean of the ratios: **{mean(ratios):.2f}**.")


def create(name):
    if name == "googlenet":
        import torchvision

        return torchvision.models.googlenet(weights=None, init_weights=False)
    return timm.create_model(name)


def bench_networks(report, names, peak, seconds):
    from safetensors.torch import save_file

    table(report, f"Whole networks, each at its own size, batch {batch}, ms")
    ratios = []
    for name in names:
        torch.manual_seed(0)
        model = create(name).eval()
        size = model.default_cfg["input_size"][1] if hasattr(model, "default_cfg") else 224
        x = torch.randn(batch, 3, size, size).numpy()
        expected = model(torch.from_numpy(x)).detach().numpy()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "w")
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
            net = sepconv.load(name, weights=path)
        assert np.abs(net(x) - expected).max() < 1e-3 * max(1, np.abs(expected).max())
        work = sum(step["flops"] for step in net.explain(size, batch=batch, runs=0))
        runs = make_peers(model, x, expected)
        runs["sepconv"] = lambda net=net, x=x: net(x)
        row(report, name, interleaved(runs, 5 * seconds), work, peak, 1e3, ratios)
    report.add(f"\nGeometric mean of the ratios: **{mean(ratios):.2f}**.")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["depthwise", "pointwise", "networks"])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--threads", type=int, default=1, help="of every runtime (default: 1)")
    parser.add_argument("--batch", type=int, default=1, help="images at once (default: 1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row of a table")
    parser.add_argument("--out", help="Markdown file to write")
    args = parser.parse_args()
    global threads, batch
    threads, batch = args.threads, args.batch
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores) or batch < 1:
        parser.error(f"threads: expected 1 to {len(cores)}; batch: expected at least 1")
    os.sched_setaffinity(0, cores[:threads])
    torch.set_num_threads(threads)
    sepconv.set_num_threads(threads)
    torch.set_grad_enabled(False)
    info = sepconv.cpu_info()
    peak = max(_core.measure_peak_gflops() for _ in range(5)) * threads
    report = Report(args.out)
    report.add(
        f"{info['name']}, target {info['target']}, L2 {info['l2_bytes'] // 1024} KiB; FMA peak "
        f"{peak:.0f} GFLOP/s; {threads} thread(s), as many pinned cores, float32, batch {batch}; "
        "fastest of many interleaved runs. Ratio: best peer's time ÷ ours."
    )
    if args.only in (None, "networks"):
        bench_networks(report, args.networks, peak, args.seconds)
    if args.only in (None, "depthwise"):
        bench_layers(report, DEPTHWISE, "Depthwise", peak, args.seconds)
    if args.only in (None, "pointwise"):
        bench_layers(report, POINTWISE, "Pointwise", peak, args.seconds)


if __name__ == "__main__":
    main()
