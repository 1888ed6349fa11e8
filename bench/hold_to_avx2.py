"""A copy of the benchmark's virtual environment whose runtimes do not see AVX-512.

    bench/hold_to_avx2.py .venv-bench .venv-avx2

PyTorch, OpenVINO and sepconv can be held to AVX2 by settings; the others choose by what `cpuid`
says. In copies of their libraries it becomes `ud2`, as long, which hide_avx512.c answers. All other
files are hard links. scripts/bench-peers-avx2 does all of it.
"""

import argparse
import pathlib
import re
import shutil
import subprocess

PACKAGES = ("onnxruntime", "executorch", "ai_edge_litert", "ncnn", "_mnncengine")
CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"


def addresses(library):
    """Where its cpuid instructions are."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library], check=True, capture_output=True, text=True
    )
    found = re.finditer(r"^\s*([0-9a-f]+):\s+cpuid\s*$", listing.stdout, re.MULTILINE)
    return [int(match[1], 16) for match in found]


def segments(library):
    """What of the file lies where in memory: (offset, address, bytes)."""
    headers = subprocess.run(
        ["readelf", "-lW", library], check=True, capture_output=True, text=True
    ).stdout
    loads = re.findall(r"^\s*LOAD\s+(\w+)\s+(\w+)\s+\w+\s+(\w+)", headers, re.MULTILINE)
    return [tuple(int(number, 16) for number in load) for load in loads]


def patched(library):
    """The library's bytes with every cpuid replaced, and how many there were."""
    content, places = bytearray(library.read_bytes()), addresses(library)
    loads = segments(library)
    for address in places:
        at = next(o + address - a for o, a, size in loads if a <= address < a + size)
        assert content[at : at + 2] == CPUID
        content[at : at + 2] = UD2
    return content, len(places)


def replace(path, content):
    """Gives the copy a file of its own."""
    path.unlink()
    path.write_bytes(content)
    path.chmod(0o755)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("copy", type=pathlib.Path)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.copy, ignore_errors=True)
    subprocess.run(["cp", "-al", arguments.source, arguments.copy], check=True)
    for package in arguments.copy.glob("lib/python3*/site-packages/*"):
        if package.name.split(".")[0] not in PACKAGES:
            continue
        for library in [package] if package.is_file() else package.rglob("*.so*"):
            if library.is_symlink() or CPUID not in library.read_bytes():
                continue
            content, count = patched(library)
            if count > 0:
                replace(library, content)
                print(f"{library.relative_to(arguments.copy)}: {count}")


if __name__ == "__main__":
    main()
