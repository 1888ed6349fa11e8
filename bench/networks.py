"""Measures every network by name and renews the tables of docs/networks.md.

    .venv/bin/python bench/networks.py

Times are for one image of the network's own size on one thread, with random weights: the sum of
each step's fastest run. Errors are those of tests/conformance/test_timm.py on three images of 64²
(Inception-v3: 96): how far our logits are from the source's in float64, by how far PyTorch's own
float32 is; the median image counts.
"""

import argparse
import pathlib
import re
import sys
import tempfile

import torch
from safetensors.torch import save_file

import sepconv
from sepconv import _core

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "conformance"))
from sources import create, randomize  # noqa: E402

TABLES = ROOT / "docs" / "networks.md"
ROW = re.compile(r"^\| `([\w.]+)` \|.*$", re.MULTILINE)


def error(name):
    """Our distance from float64 by PyTorch's."""
    model = randomize(create(name), 7)
    size = 96 if name == "inception_v3" else 64
    x = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(8))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = pathlib.Path(folder) / "w.safetensors"
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
        own = model(x)
        exact = model.double()(x.double())
        del model
        ours = sepconv.load(name, weights=path)(x)
    distance, own_distance = ((v - exact).square().mean(1) for v in (ours, own))
    return (distance / own_distance).sqrt().median().item()


def measure(name, runs):
    """The columns of a table's row."""
    parameters, macs = _core.costs(name)
    net = sepconv.load(name)
    size = net._model.input_size
    steps = net.explain(runs=runs if macs < 12e9 else max(2, runs // 8))
    seconds = sum(step["seconds"] for step in steps)
    share = sum(step["flops"] for step in steps) / seconds / _core.measure_peak_gflops() / 1e9
    del net
    return [
        f"`{name}`", f"{parameters / 1e6:.2f} M", f"{macs / 1e9:.2f}", str(size),
        f"{seconds * 1e3:.2f}", f"{share * 100:.0f} %", f"{error(name):.2f}",
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40, help="of each network (default: 40)")
    parser.add_argument("--only", help="names that match this expression")
    arguments = parser.parse_args()
    sepconv.set_num_threads(1)

    def renewed(row):
        if arguments.only and not re.search(arguments.only, row[1]):
            return row[0]
        columns = measure(row[1], arguments.runs)
        print("  ".join(columns), flush=True)
        return "| " + " | ".join(columns) + " |"

    text = TABLES.read_text()
    missing = set(sepconv.models()) - set(ROW.findall(text))
    if missing:
        sys.exit(f"{TABLES} has no rows for {', '.join(sorted(missing))}")
    renewed_text = ROW.sub(renewed, text)
    TABLES.write_text(renewed_text)


if __name__ == "__main__":
    main()
