"""Says which kernels became slower.

Each kernel's share of the FMA peak that is measured right before it, so that the machine's speed
cancels, is compared with the one that bench/guard/PROCESSOR/TARGET.json keeps. Caches and units
differ, so that shares of another processor say little. Exits with 1 if a kernel lost more than the
tolerance.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent / "guard"


def run(binary, target, arguments):
    """The best share of peak of each benchmark, and the processor's name."""
    environment = dict(os.environ, SEPCONV_TARGET=target)
    done = subprocess.run(
        [binary, "--benchmark_format=json", "--benchmark_min_time=0.03",
         "--benchmark_repetitions=3", "--benchmark_enable_random_interleaving=true",
         f"--benchmark_filter={arguments.filter}"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    )  # fmt: skip
    result = json.loads(done.stdout)
    shares = {}
    for b in result["benchmarks"]:
        if b["run_type"] == "iteration":
            name = b["run_name"].split("/repeats")[0]
            shares[name] = max(shares.get(name, 0), b["of_peak"])
    return shares, result["context"]["processor"]


def folder(processor):
    """Where the shares of a processor are kept."""
    return FOLDER / re.sub(r"[^a-z0-9]+", "-", processor.lower()).strip("-")


def compare(target, kept, shares, tolerance):
    """Prints what changed; the number of kernels that became slower."""
    slower = 0
    for name, share in shares.items():
        before = kept["of_peak"].get(name)
        if before is None:
            print(f"{target}: {name}: new, {share:.0%} of peak")
        elif share < before * (1 - tolerance):
            slower += 1
            print(f"{target}: {name}: {before:.1%} -> {share:.1%} of peak, SLOWER")
        elif share > before * (1 + tolerance):
            print(f"{target}: {name}: {before:.1%} -> {share:.1%} of peak, faster")
    print(f"{target}: {len(shares)} kernels, {slower} slower by more than {tolerance:.0%}")
    return slower


def record(path, processor, shares, others):
    """Keeps the shares, and `others` that were kept before."""
    path.parent.mkdir(exist_ok=True)
    rounded = {name: round(share, 3) for name, share in shares.items()}
    facts = {"processor": processor, "of_peak": dict(sorted({**others, **rounded}.items()))}
    path.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{path}: {len(shares)} kernels")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the built sepconv_bench")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--record", action="store_true", help="keep these shares instead")
    parser.add_argument("--filter", default=".", help="benchmarks whose names match")
    parser.add_argument("--tolerance", type=float, default=0.1)
    arguments = parser.parse_args()
    slower = 0
    for target in arguments.targets:
        shares, processor = run(arguments.binary, target, arguments)
        path = folder(processor) / f"{target}.json"
        kept = json.loads(path.read_text()) if path.exists() else None
        if arguments.record:
            some = kept and arguments.filter != "."
            record(path, processor, shares, kept["of_peak"] if some else {})
        elif kept:
            slower += compare(target, kept, shares, arguments.tolerance)
        else:
            print(f"{target}: nothing recorded of {processor}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
