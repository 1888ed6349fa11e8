"""Classifies a folder of pictures with several processes, by PyTorch's DataLoader.

    python examples/batch_inference.py FOLDER --model mobilenet_v2 \\
        --weights build/weights/mobilenet_v2.safetensors --workers 2 --out labels.csv

The workers read and scale the pictures, the main process runs the network on whole batches. A
picture that cannot be read is told on stderr and left out. The table is written at the end, as a
whole: file, label, probability.
"""

import argparse
import csv
import os
import pathlib
import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import sepconv


class Pictures(Dataset):
    """The files of a folder, each as [3, H, W], or what is wrong with it."""

    def __init__(self, paths, model):
        self.paths, self.model, self.network = paths, model, None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        if self.network is None:  # once in each worker
            self.network = sepconv.load(*self.model)
        try:
            return self.paths[i], self.network.preprocess(self.paths[i])[0]
        except ValueError as error:
            return self.paths[i], str(error)


def split(items):
    """A batch of those that could be read; the others with what was wrong."""
    good = [(path, x) for path, x in items if not isinstance(x, str)]
    bad = [(path, x) for path, x in items if isinstance(x, str)]
    images = torch.from_numpy(np.stack([x for _, x in good])) if good else torch.empty(0)
    return [path for path, _ in good], images, bad


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("labels.csv"))
    arguments = parser.parse_args()
    kinds = (".jpg", ".jpeg", ".png")
    paths = sorted(p for p in arguments.folder.rglob("*") if p.suffix.lower() in kinds)
    if not paths:
        parser.error(f"folder: {arguments.folder} has no .jpg, .jpeg or .png files")
    model = arguments.model, arguments.weights
    network = sepconv.load(*model)
    loader = DataLoader(
        Pictures(paths, model), arguments.batch, num_workers=arguments.workers, collate_fn=split
    )
    rows = []
    with tqdm(total=len(paths), unit="picture") as bar:
        for good, images, bad in loader:
            for path, what in bad:
                print(f"{path}: {what}", file=sys.stderr)
            if good:
                scores = softmax(network(images).numpy().astype(np.float64))
                for path, p in zip(good, scores):
                    best = int(p.argmax())
                    rows.append([path, sepconv.class_label(best, len(p)), f"{p[best]:.6f}"])
            bar.update(len(good) + len(bad))
    partial = arguments.out.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "probability"], *rows])
    os.replace(partial, arguments.out)


if __name__ == "__main__":
    main()
