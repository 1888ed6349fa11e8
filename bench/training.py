"""sepconv.torch against PyTorch: layers forward and backward, whole models by optimize(), and
torch.compile(backend="sepconv") against Inductor with frozen weights.

One thread on one pinned core, float32, the runtimes taking turns, three runs each, ten for whole
networks without gradients, and the fastest of many counting; layers in a process for each runtime.
Prints Markdown.

Example: .venv/bin/python bench/training.py --only layers
"""

import argparse
import copy
import datetime
import functools
import math
import multiprocessing
import os
import time
import warnings

import timm
import torch
from torch.nn import functional

import sepconv
import sepconv.torch as ours
from sepconv import _core

warnings.filterwarnings("ignore")

# kernel, channels, size, stride
DEPTHWISE = [
    (3, 144, 56, 1), (3, 256, 28, 1), (3, 512, 14, 1), (5, 672, 14, 1), (7, 96, 56, 1),
    (3, 96, 112, 2),
]  # fmt: skip
# channels in, channels out, size
POINTWISE = [(24, 144, 56), (96, 576, 14), (576, 96, 14), (160, 960, 7), (320, 1280, 7)]
BATCH = 8


def fastest(run, times=3):
    """The seconds of the fastest of some runs."""
    best = math.inf
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def in_turns(measures, seconds):
    """The least that each measure tells, in turns, until the time is over."""
    for measure in measures.values():  # what the first calls set up is no part of it
        measure()
    best = dict.fromkeys(measures, math.inf)
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        for name, measure in measures.items():
            best[name] = min(best[name], measure())
    return best


def interleaved(runs, seconds, times=3):
    """The fastest run of each, some at a turn, until the time is over."""
    return in_turns({k: functools.partial(fastest, f, times) for k, f in runs.items()}, seconds)


def table(title, columns):
    print(f"\n### {title}\n\n| | {' | '.join(columns)} | ratio |")
    print("|---" * (len(columns) + 2) + "|", flush=True)


def row(name, best, ratios):
    *theirs, own = best.values()
    ratios.append(min(theirs) / own)
    cells = " | ".join(f"{t * 1e3:.2f}" for t in best.values())
    print(f"| {name} | {cells} | {ratios[-1]:.2f} |", flush=True)


def mean(ratios, of=""):
    value = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"\nGeometric mean{of}: **{value:.2f}**.")


def backward(function, x, weight, grad):
    def run():
        x.grad = weight.grad = None
        function(x, weight).backward(grad)

    return run


def layer(runtime, kind, index):
    """One of the layers below, forward and backward, as a runtime runs it."""
    _, shape, weight, theirs, own = list(CASES[kind]())[index]
    memory_format = torch.contiguous_format if runtime == "torch NCHW" else torch.channels_last
    x = torch.randn(shape).contiguous(memory_format=memory_format).requires_grad_()
    grad = torch.randn_like(theirs(x, weight))
    return backward(own if runtime == "sepconv" else theirs, x, weight, grad)


def work(pipe, runtime):
    """What a runtime's process does: sets a layer up, or tells the fastest of three runs."""
    prepare()
    run = None
    while (asked := pipe.recv()) != "end":
        if asked == "run":
            pipe.send(fastest(run))
        else:
            run = layer(runtime, *asked)


class Worker:
    """A process for each runtime, so that none finds memory that another one has left."""

    def __init__(self, runtime):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, runtime), daemon=True)
        self.process.start()

    def fastest(self):
        """The seconds of the fastest of three runs."""
        self.pipe.send("run")
        return self.pipe.recv()

    def end(self):
        self.pipe.send("end")
        self.process.join()


def layers(title, kind, seconds):
    runtimes = ["torch NCHW", "torch channels_last", "sepconv"]
    table(title, runtimes)
    workers = {name: Worker(name) for name in runtimes}
    ratios = []
    for i, (name, *_) in enumerate(CASES[kind]()):
        for worker in workers.values():
            worker.pipe.send((kind, i))
        row(name, in_turns({k: w.fastest for k, w in workers.items()}, seconds), ratios)
    for worker in workers.values():
        worker.end()
    mean(ratios)


def depthwise_cases():
    for k, c, size, stride in DEPTHWISE:
        weight = torch.randn(c, 1, k, k, requires_grad=True)
        window = [stride, stride], [k // 2, k // 2]
        yield (
            f"dw {k}×{k} {c}@{size}{' s2' if stride > 1 else ''}", (BATCH, c, size, size), weight,
            lambda x, w, s=stride, k=k, c=c: functional.conv2d(x, w, None, s, k // 2, 1, c),
            lambda x, w, window=window: ours.depthwise_conv2d(x, w, None, *window),
        )  # fmt: skip


def pointwise_cases():
    for c, out, size in POINTWISE:
        weight = torch.randn(out, c, 1, 1, requires_grad=True)
        yield (
            f"pw {c}→{out}@{size}", (BATCH, c, size, size), weight, functional.conv2d,
            ours.pointwise_conv2d,
        )  # fmt: skip


# Runs of a network at a turn: its first ones find the caches full of what the others left.
NETWORK_RUNS = 10
# Name, x's shape, weight, PyTorch's function, ours.
CASES = {"depthwise": depthwise_cases, "pointwise": pointwise_cases}


def step(model, x):
    def run():
        model.zero_grad()
        model(x).square().mean().backward()

    return run


def models(names, seconds):
    evaluation, training = [], []
    for name in names:
        torch.manual_seed(0)
        theirs = timm.create_model(name)
        last = copy.deepcopy(theirs).to(memory_format=torch.channels_last)
        own = ours.optimize(copy.deepcopy(last))
        x = torch.randn(1, 3, 224, 224)
        y = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            pairs = (theirs.eval(), x), (last.eval(), y), (own.eval(), y)
            keys = "NCHW", "channels_last", "sepconv"
            runs = {k: (lambda m=m, x=x: m(x)) for k, (m, x) in zip(keys, pairs)}
            evaluation.append((name, interleaved(runs, 2 * seconds, NETWORK_RUNS)))
        x = torch.randn(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        runs = {"channels_last": step(last.train(), x), "sepconv": step(own.train(), x)}
        training.append((name, interleaved(runs, 3 * seconds)))
    for title, columns, rows in (
        ("optimize(), eval, batch 1, ms", ["torch NCHW", "torch channels_last"], evaluation),
        (f"optimize(), a training step, batch {BATCH}, ms", ["torch channels_last"], training),
    ):
        table(title, [*columns, "sepconv"])
        ratios = []
        for name, best in rows:
            row(name, best, ratios)
        mean(ratios)


def compiled(names, seconds):
    import torch._inductor.config

    torch._inductor.config.freezing = True
    table('torch.compile(backend="sepconv"), batch 1, ms', ["Inductor, frozen", "sepconv"])
    ratios = []
    for name in names:
        torch._dynamo.reset()
        model = timm.create_model(name).eval()
        x = torch.randn(1, 3, 224, 224)
        y = x.contiguous(memory_format=torch.channels_last)
        inductor = torch.compile(copy.deepcopy(model).to(memory_format=torch.channels_last))
        own = torch.compile(model, backend="sepconv")
        with torch.no_grad():
            runs = {"Inductor": lambda f=inductor, y=y: f(y), "sepconv": lambda f=own, x=x: f(x)}
            row(name, interleaved(runs, 2 * seconds, NETWORK_RUNS), ratios)
    mean(ratios[:3], " of the separable networks")


def calls(seconds):
    table("One call on a tensor of [1, 8, 4, 4], without gradients, µs", ["F.conv2d", "sepconv op"])
    x, weight = torch.randn(1, 8, 4, 4), torch.randn(8, 1, 3, 3)
    module = ours.DepthwiseConv2d(8, 3)
    with torch.no_grad():
        theirs = {"F.conv2d": lambda: functional.conv2d(x, weight, groups=8)}
        for name, own in (
            ("sepconv.torch.depthwise_conv2d", lambda: ours.depthwise_conv2d(x, weight)),
            ("sepconv.torch.DepthwiseConv2d", lambda: module(x)),
        ):
            best = interleaved({**theirs, "sepconv": own}, seconds)
            row(name, {k: t * 1e3 for k, t in best.items()}, [])


def prepare():
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    torch.set_num_threads(1)
    sepconv.set_num_threads(1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ["layers", "models", "compile", "calls"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row of a table")
    arguments = parser.parse_args()
    prepare()
    info = sepconv.cpu_info()
    print(
        f"{info['name']}, target {info['target']}, FMA peak {_core.measure_peak_gflops():.0f} "
        f"GFLOP/s, PyTorch {torch.__version__}, {datetime.date.today().isoformat()}. Ratio: the "
        "better of PyTorch's times ÷ ours."
    )
    if "layers" in arguments.only:
        title = f"forward and backward, batch {BATCH}, ms"
        layers(f"Depthwise, {title}", "depthwise", arguments.seconds)
        layers(f"Pointwise, {title}", "pointwise", arguments.seconds)
    if "models" in arguments.only:
        models(["mobilenetv2_100", "efficientnet_b0"], arguments.seconds)
    if "compile" in arguments.only:
        names = ["mobilenetv2_100", "efficientnet_b0", "mixnet_s", "convnext_tiny"]
        compiled(names, arguments.seconds)
    if "calls" in arguments.only:
        calls(arguments.seconds / 4)


if __name__ == "__main__":
    main()
