"""Training for real: the digits example, processes that share batches, forks, leaks."""

import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import sepconv
import sepconv.torch as ours

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(*arguments, **options):
    done = subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_digits_are_learnt_resumed_and_classified_without_pytorch(tmp_path):
    script = [sys.executable, EXAMPLES / "train_digits.py", "--out", tmp_path, "--threads", 1]
    run(*script, "--epochs", 1)
    assert torch.load(tmp_path / "checkpoint.pt")["epoch"] == 0
    score = run(*script, "--epochs", 10)
    assert float(score.split()[-1].rstrip("%")) >= 97
    assert run(*script, "--epochs", 10, "--resume") == score  # nothing is left to train
    cli = os.environ.get("SEPCONV_CLI", "sepconv")
    picture, model = tmp_path / "digit_7.png", tmp_path / "model.onnx"
    assert "class 7" in run(cli, "classify", picture, "--model", model, "--top", 1)


def test_two_processes_train_by_torchrun(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2]
    out = run(*torchrun, EXAMPLES / "train_digits.py", "--out", tmp_path, "--epochs", 2)
    assert "test accuracy" in out
    assert (tmp_path / "model.safetensors").exists()


def test_a_folder_is_classified_by_two_workers(tmp_path):
    pictures = pathlib.Path(os.environ["SEPCONV_WEIGHTS"])
    for name in ("coffee.png", "chelsea.png"):
        (tmp_path / name).symlink_to(pictures / name)
    (tmp_path / "broken.jpg").write_text("broken")
    weights = pictures / "mobilenet_v2.safetensors"
    run(
        sys.executable, EXAMPLES / "batch_inference.py", tmp_path, "--model", "mobilenet_v2",
        "--weights", weights, "--workers", 2, "--out", tmp_path / "labels.csv",
    )  # fmt: skip
    rows = (tmp_path / "labels.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["label", "Egyptian cat", "espresso"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        ours.SeparableConv2d(3, 8, 3, padding=1, activation="silu"),
        ours.SeparableConv2d(8, 6, 5, stride=2, padding=2, activation="relu"),
        nn.Flatten(),
        nn.Linear(6 * 36, 4),
    )


def batch():
    return torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def step(model, x):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model


def share(rank, port, path):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = step(DistributedDataParallel(network()), batch()[4 * rank : 4 * rank + 4])
    if rank == 0:
        torch.save(model.module.state_dict(), path)
    # Gloo's threads end with the group: neither process, nor the model's reducer, may still use it.
    del model
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # now and then one of those threads is still there when its library is torn down


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    path = tmp_path / "weights.pt"
    multiprocessing.spawn(share, (29600 + os.getpid() % 300, path), nprocs=2)
    expected = step(network(), batch()).state_dict()
    for name, value in torch.load(path).items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_after_use_works(threads):
    sepconv.set_num_threads(threads)
    module = ours.DepthwiseConv2d(8, 3)
    x = torch.randn(1, 8, 300, 300)  # a result that is kept for the next one
    with torch.no_grad():
        expected = module(x)
        module(x)
        child = os.fork()
        if child == 0:  # what would hang is ended by the alarm
            signal.alarm(20)
            same = (module(x).numpy() == expected.numpy()).all()
            os._exit(0 if same and sepconv.get_num_threads() == threads else 1)
    sepconv.set_num_threads(1)
    assert os.waitpid(child, 0)[1] == 0


def test_calls_and_gradients_do_not_leak():
    x = torch.randn(1, 8, 12, 12, requires_grad=True)
    module = ours.SeparableConv2d(8, 8, 3, padding=1, depthwise_activation="silu")

    def calls(count):
        for _ in range(count):
            module(x).sum().backward()
            with torch.no_grad():
                module.depthwise(x)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = calls(500)
    assert calls(5000) - before < 20_000  # KiB
