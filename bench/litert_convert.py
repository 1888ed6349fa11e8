"""Converts a saved torch.export program to LiteRT, its image input and output channels last.

In an environment of its own (bench/litert-requirements.txt): the converter wants an older PyTorch
than the one that is measured.

Example: .venv-litert/bin/python bench/litert_convert.py m.pt2 m.tflite
"""

import sys

import litert_torch
import torch


def main():
    source, target = sys.argv[1:]
    program = torch.export.load(source)
    (x,), _ = program.example_inputs
    module = program.module()
    images = [0] if module(x).dim() == 4 else None
    last = litert_torch.to_channel_last_io(module, args=[0], outputs=images)
    litert_torch.convert(last, (x.permute(0, 2, 3, 1).contiguous(),)).export(target)


if __name__ == "__main__":
    main()
