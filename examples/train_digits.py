"""Trains a depthwise-separable network on scikit-learn's handwritten digits, then leaves PyTorch.

    python examples/train_digits.py --out build/digits

trains for half a minute on two cores with a progress bar, keeps a checkpoint after every epoch
(--resume goes on from it), and writes model.safetensors, model.onnx and a test digit as a picture:

    build/release/src/sepconv classify build/digits/digit_7.png --model build/digits/model.onnx

Several processes (PyTorch's DistributedDataParallel over gloo) share the batches, on one machine

    torchrun --nproc-per-node 2 examples/train_digits.py --out build/digits

and on several with torchrun's own options on each of them:

    torchrun --nnodes 4 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        examples/train_digits.py --out SHARED_FOLDER
"""

import argparse
import contextlib
import io
import os
import pathlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from tqdm import tqdm

import sepconv
from sepconv.torch import SeparableConv2d

# As `sepconv classify` takes pictures for an ONNX model.
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
SIZE = 32


def network():
    """[N, 3, 32, 32] to [N, 10] with 20,000 parameters."""

    def block(inputs, outputs, stride):
        return [
            SeparableConv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]

    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        *block(24, 48, 1), *block(48, 96, 2), *block(96, 96, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip


def pictures(digits):
    """8×8 digits of 0 to 16 as [N, 3, 32, 32] with values from 0 to 1."""
    small = torch.tensor(digits, dtype=torch.float32)[:, None] / 16
    large = functional.interpolate(small, (SIZE, SIZE), mode="bilinear")
    return large.expand(-1, 3, -1, -1)


def data():
    """Training and test set; every fifth digit is for the test."""
    digits = load_digits()
    x, y = pictures(digits.images), torch.tensor(digits.target)
    test = torch.arange(len(y)) % 5 == 0
    return TensorDataset(x[~test], y[~test]), TensorDataset(x[test], y[test])


def shifted(x):
    """Each batch moved by up to three pixels."""
    dy, dx = torch.randint(-3, 4, (2,)).tolist()
    return torch.roll(x, (dy, dx), (2, 3))


def normalized(x):
    return ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def train(model, arguments, rank, world):
    train_set, test_set = data()
    sampler = DistributedSampler(train_set, world, rank, seed=0)
    loader = DataLoader(train_set, arguments.batch // world, sampler=sampler)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    steps = arguments.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    checkpoint = arguments.out / "checkpoint.pt"
    first = 0
    if arguments.resume:
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        first = saved["epoch"] + 1
    parallel = DistributedDataParallel(model) if world > 1 else model
    for epoch in range(first, arguments.epochs):
        sampler.set_epoch(epoch)
        torch.manual_seed(epoch)
        model.train()
        bar = tqdm(loader, f"epoch {epoch + 1}/{arguments.epochs}", disable=rank > 0)
        for x, y in bar:
            optimizer.zero_grad()
            loss = functional.cross_entropy(parallel(normalized(shifted(x))), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if rank == 0:
            state = {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(), "epoch": epoch,
            }  # fmt: skip
            partial = checkpoint.with_suffix(".partial")
            torch.save(state, partial)
            os.replace(partial, checkpoint)
    return accuracy(model, test_set)


def accuracy(model, test_set):
    x, y = test_set.tensors
    with torch.no_grad():
        return (model.eval()(normalized(x)).argmax(1) == y).float().mean().item()


def export(model, folder):
    """The weights, the network as an ONNX file, and the first seven of the test set."""
    weights = {name: t.contiguous() for name, t in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(
            model.eval(), (torch.zeros(1, 3, SIZE, SIZE),), folder / "model.onnx", dynamo=True
        )
    digits = load_digits()
    seven = next(i for i in range(0, len(digits.target), 5) if digits.target[i] == 7)
    # A border that the cut to the middle 7/8 of a picture takes off again.
    image = np.pad(pictures(digits.images[seven][None])[0, 0].numpy(), 2)
    Image.fromarray((image * 255).round().astype(np.uint8)).convert("RGB").save(
        folder / "digit_7.png"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the results")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64, help="images of all processes together")
    parser.add_argument("--threads", type=int, help="of each process (default: all cores)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    threads = arguments.threads or max(1, len(os.sched_getaffinity(0)) // local)
    torch.set_num_threads(threads)
    sepconv.set_num_threads(threads)
    if world > 1:
        distributed.init_process_group("gloo")
    torch.manual_seed(0)
    model = network().to(memory_format=torch.channels_last)
    score = train(model, arguments, rank, world)
    if rank == 0:
        print(f"test accuracy {score:.2%}")
        export(model, arguments.out)
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
