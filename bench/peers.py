"""sepconv against its peers: PyTorch, Inductor, ONNX Runtime, OpenVINO, XNNPACK (ExecuTorch and
LiteRT), ncnn and MNN.

Everything runs in one process on as many pinned cores as threads, the runtimes taking turns, and
the fastest of many runs counts. A peer's output is compared with PyTorch's before it is timed.
Layers are seen in two ways: one call from Python, and inside a network, where (12 stacked − 2
stacked) / 10 leaves out what a runtime does once per call. Prints Markdown; --out PATH also writes
PATH.md, PATH.json and PATH.svg as the tables grow.

Example: scripts/bench-peers --only depthwise blocks --peers "ONNX Runtime" OpenVINO
"""

import argparse
import datetime
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import families
import runtimes
import torch
from report import Report
from torch import nn

import sepconv
from sepconv import _core

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "conformance"))
import sources  # noqa: E402

warnings.filterwarnings("ignore")

# kernel, channels in, channels out (0: depthwise), size, stride
DEPTHWISE = [
    (3, 32, 0, 112, 1), (3, 96, 0, 112, 2), (3, 144, 0, 56, 1), (3, 128, 0, 56, 1),
    (3, 256, 0, 28, 1), (3, 384, 0, 14, 1), (3, 512, 0, 14, 1), (3, 576, 0, 14, 1),
    (3, 960, 0, 7, 1), (5, 672, 0, 14, 1), (5, 240, 0, 28, 1), (7, 96, 0, 56, 1),
    (7, 384, 0, 14, 1), (7, 768, 0, 7, 1),
]  # fmt: skip
LARGE = [(13, 128, 0, 56, 1), (21, 128, 0, 56, 1), (31, 128, 0, 56, 1)]
POINTWISE = [
    (1, 32, 64, 112, 1), (1, 16, 96, 112, 1), (1, 96, 24, 56, 1), (1, 24, 144, 56, 1),
    (1, 256, 256, 28, 1), (1, 512, 512, 14, 1), (1, 1024, 1024, 7, 1), (1, 960, 320, 7, 1),
]  # fmt: skip
# channels, channels inside, size
BLOCKS = [(24, 144, 56), (32, 192, 28), (96, 576, 14)]
NETWORKS = [
    "mobilenetv1_100", "mobilenetv2_100", "efficientnet_lite0", "mobilenetv3_large_100",
    "efficientnet_b0", "mixnet_s",
]  # fmt: skip
DENSE = ["resnet50", "convnext_tiny", "inception_v3", "googlenet", "vit_base_patch16_224"]
PARTS = ["networks", "dense", "blocks", "depthwise", "large", "pointwise"]


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


class InvertedResidual(nn.Module):
    """MobileNetV2's block with its batch norms folded."""

    def __init__(self, channels, inside):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inside, 1), nn.ReLU6(),
            nn.Conv2d(inside, inside, 3, 1, 1, groups=inside), nn.ReLU6(),
            nn.Conv2d(inside, channels, 1),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x)


class Bench:
    def __init__(self, arguments, report):
        self.threads, self.batch = arguments.threads, arguments.batch
        self.seconds, self.peers, self.report = arguments.seconds, arguments.peers, report
        self.nchw = arguments.nchw

    def interleaved(self, runs, seconds, times=3):
        """The fastest run of each, until the time is over (5 rounds at least).

        A turn is so many runs, or those that begin within a second: the first ones find threads
        asleep and the caches full of what others left.
        """
        best = dict.fromkeys(runs, math.inf)
        stop = time.perf_counter() + seconds
        rounds = 0
        while rounds < 5 or time.perf_counter() < stop:
            for name, run in runs.items():
                if self.threads > 1:
                    time.sleep(0.01)  # until the other runtimes' threads no longer wait busily
                turn_ends = time.perf_counter() + 1
                for _ in range(times):
                    start = time.perf_counter()
                    if start > turn_ends:
                        break
                    run()
                    best[name] = min(best[name], time.perf_counter() - start)
            rounds += 1
        return best

    def input(self, channels, size):
        return torch.randn(self.batch, channels, size, size).numpy()

    def runs(self, model, x, ours):
        """Everyone's function for a model, checked; ours(model, x) makes our own."""
        expected = runtimes.Expected(model, x)
        runs = runtimes.make(model, x, expected, self.threads, self.peers)
        runs["sepconv"] = ours(model, x)
        worst = expected.difference(runs["sepconv"]())
        assert worst == 0, f"sepconv differs by {worst}"
        return runs

    def layer_calls(self, layers, title):
        layout = "NCHW" if self.nchw else "NHWC"
        self.report.table(f"{title}, one call from Python, ours in {layout}", "µs")
        for layer in layers:
            stack = seeded(lambda layer=layer: Stack(layer, 1))
            x = self.input(layer[1], layer[3])
            runs = self.runs(stack, x, lambda stack, x: one_call(stack, x, self.nchw))
            times = self.interleaved(runs, self.seconds)
            self.report.row(layer_name(layer), times, *self.work(layer))
        self.report.end_table()

    def layer_stacks(self, layers, title):
        self.report.table(f"{title}, inside a network, (12 − 2) / 10 layers", "µs")
        for layer in layers:
            if layer[4] > 1:
                continue  # twelve of these leave no image
            x = self.input(layer[1], layer[3])
            runs = {}
            for depth in (2, 12):
                stack = seeded(lambda layer=layer, depth=depth: Stack(layer, depth))
                for name, run in self.runs(stack, x, compiled).items():
                    runs[name, depth] = run
            best = self.interleaved(runs, self.seconds, 10)
            names = [n for n, d in runs if d == 12 and (n, 2) in runs]
            times = {n: max(best[n, 12] - best[n, 2], 1e-9) / 10 for n in names}
            self.report.row(layer_name(layer), times, *self.work(layer))
        self.report.end_table()

    def work(self, layer):
        """Operations, and bytes of input, output and weights."""
        k, c, out, size, stride = layer
        pixels = self.batch * (size // stride) ** 2
        products = c * (out if out else k * k)
        moved = self.batch * size**2 * c + pixels * (out or c) + products
        return 2.0 * pixels * products, 4.0 * moved

    def blocks(self):
        self.report.table("Inverted residual blocks, 3×3, ReLU6", "µs")
        for channels, inside, size in BLOCKS:
            model = seeded(lambda c=channels, i=inside: InvertedResidual(c, i))
            x = self.input(channels, size)
            runs = self.runs(model, x, compiled)
            pixels = self.batch * size**2
            products = inside * (2 * channels + 9)
            self.report.row(
                f"{channels}→{inside}→{channels}@{size}", self.interleaved(runs, self.seconds),
                2.0 * pixels * products, 4.0 * (2 * pixels * channels + products),
            )  # fmt: skip
        self.report.end_table()

    def networks(self, names, title):
        self.report.table(f"{title}, each at its own size", "ms")
        for name in names:
            model = seeded(lambda name=name: create(name))
            size = size_of(model)[0]
            x = self.input(3, size)
            try:
                net = loaded(name, model, x)
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                continue
            work = sum(step["flops"] for step in net.explain(size, batch=self.batch, runs=0))
            runs = self.runs(model, x, lambda _, x, net=net: lambda: net(x))
            self.report.row(name, self.interleaved(runs, 5 * self.seconds, 10), work)
        self.report.end_table()


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


def channels_last(x):
    """From a cache line's beginning on, as the arrays that the peers get; NumPy's own may not."""
    return torch.from_numpy(x).contiguous(memory_format=torch.channels_last).numpy()


def compiled(model, x):
    """The module as a network of ours, from and to NHWC memory."""
    net = sepconv.compile(model, x)
    last = channels_last(x)
    return lambda: net(last)


def one_call(stack, x, nchw):
    """A prepared op, as a session of a peer is prepared."""
    conv = stack.layers[0]
    op = sepconv.Conv2d(
        conv.weight.detach().numpy(), conv.bias.detach().numpy(), conv.stride, conv.padding,
        groups=conv.groups, activation="relu6",
    )  # fmt: skip
    own = x if nchw else channels_last(x)
    return lambda: op(own)


def layer_name(layer):
    k, c, out, size, stride = layer
    if out:
        return f"pw {c}→{out}@{size}"
    return f"dw {k}×{k} {c}@{size}{' s2' if stride > 1 else ''}"


def size_of(model):
    return model.default_cfg["input_size"][1:] if hasattr(model, "default_cfg") else (224, 224)


def create(name):
    """The tests' network, with weights that make no layer's results vanish with depth."""
    model = sources.create(name, any_size=False)
    return sources.randomize(model, 0, size_of(model)[0])


def loaded(name, model, x):
    """By its name, or as the module that it is where that is none of ours."""
    from safetensors.torch import save_file

    if name not in sepconv.models():
        return sepconv.compile(model, x)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "w")
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
        return sepconv.load(name, weights=path)


def machine(arguments):
    """The facts for a table's heading; bandwidths are one core's."""
    info = sepconv.cpu_info()
    sizes = {"L1": info["l1_bytes"], "L2": info["l2_bytes"], "L3": 8 * info["l2_bytes"]}
    read = {name: _core.measure_read_gbps(size // 2) for name, size in sizes.items()}
    read["DRAM"] = _core.measure_read_gbps(1 << 29)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
        cwd=pathlib.Path(__file__).parent,
    )  # fmt: skip
    return {
        "processor": info["name"], "target": info["target"], "threads": arguments.threads,
        "batch": arguments.batch, "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip() or "unknown", "read_gbps": read,
        "peak_gflops": arguments.threads * max(_core.measure_peak_gflops() for _ in range(5)),
    }  # fmt: skip


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--networks", nargs="+", default=NETWORKS, metavar="NAME",
        help='any of timm\'s, or "families": the smallest one of each of timm\'s model families',
    )  # fmt: skip
    parser.add_argument("--peers", nargs="+", choices=[*runtimes.PEERS], default=[*runtimes.PEERS])
    parser.add_argument("--threads", type=int, default=1, help="of every runtime (default: 1)")
    parser.add_argument("--batch", type=int, default=1, help="images at once (default: 1)")
    parser.add_argument(
        "--nchw", action="store_true", help="single calls of ours in NCHW memory, as the peers get"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row of a table")
    parser.add_argument("--out", help="path, without suffix, of the files to write")
    arguments = parser.parse_args()
    if arguments.networks == ["families"]:
        arguments.networks = families.smallest()
    cores = len(os.sched_getaffinity(0))
    if not 1 <= arguments.threads <= cores or arguments.batch < 1:
        parser.error(f"threads: expected 1 to {cores}; batch: expected at least 1")
    return arguments


def main():
    arguments = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-arguments.threads :])
    torch.set_num_threads(arguments.threads)
    sepconv.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    report = Report(machine(arguments), arguments.peers, arguments.out)
    print(report.header())
    bench = Bench(arguments, report)
    if "networks" in arguments.only:
        all_separable = set(arguments.networks) <= set(NETWORKS)
        bench.networks(arguments.networks, "Separable networks" if all_separable else "Networks")
    if "dense" in arguments.only:
        bench.networks(DENSE, "Dense networks and transformers")
    if "blocks" in arguments.only:
        bench.blocks()
    layers = {"depthwise": DEPTHWISE, "large": LARGE, "pointwise": POINTWISE}
    titles = {"large": "Large depthwise windows"}
    for part, cases in layers.items():
        if part in arguments.only:
            bench.layer_calls(cases, titles.get(part, part.capitalize()))
            bench.layer_stacks(cases, titles.get(part, part.capitalize()))


if __name__ == "__main__":
    main()
