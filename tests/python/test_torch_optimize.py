"""optimize() and torch.compile(backend="sepconv") on whole models, against the model as it was."""

import copy
import gc
import io
import pickle
import re
import statistics
import threading
import weakref

import pytest
import timm
import torch
import torch._inductor.config
from short_models import shortened
from torch import nn

import sepconv
import sepconv.torch as ours
from sepconv.torch import _backend

NAMES = [
    "mobilenetv1_100", "mobilenetv2_050", "mobilenetv3_small_050", "efficientnet_lite0",
    "efficientnet_b0", "mixnet_s", "convnext_atto", "resnet18", "repvit_m0_9", "mobileone_s0",
    "vit_tiny_patch16_224",
]  # fmt: skip
SIZE = {"vit_tiny_patch16_224": 224}
FORMATS = torch.contiguous_format, *[torch.channels_last] * 4
COMPILED = [n for n in NAMES if n != "mobileone_s0"]  # which takes TorchDynamo long


def create(name):
    torch.manual_seed(0)
    model = shortened(timm.create_model(name))
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.7, 1.3, generator=generator)
    return model


def close(a, b):
    """Two float32 networks: apart by no more than rounding errors that grew through the layers."""
    scale = b.abs().max().item() + 1e-30
    assert (a - b).abs().max().item() <= 1e-4 * scale


@pytest.mark.parametrize("name", NAMES)
def test_eval_and_training_of_timm_models(name):
    theirs = create(name)
    model = ours.optimize(copy.deepcopy(theirs))
    assert any(change.kernel for change in ours.report(model)) or name == "vit_tiny_patch16_224"
    assert all(bool(change.kernel) != bool(change.reason) for change in ours.report(model))
    assert list(model.state_dict()) == list(theirs.state_dict())
    size = SIZE.get(name, 64)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 3, size, size).contiguous(memory_format=memory_format)
        with torch.no_grad():
            close(model.eval()(x), theirs.eval()(x))
        close(model(x), theirs(x))  # with gradients nothing is joined
    trains_as_exactly(model, theirs, size)
    restored = ours.restore(model)
    assert not any("forward" in vars(m) for m in restored.modules())


def trains_as_exactly(model, theirs, size, formats=FORMATS):
    """In train mode a rounding error may move a value over a kink, and then it weighs a lot.

    PyTorch's own errors are the measure, the median of five batches counts.
    """
    ratios = []
    for memory_format in formats:
        x = torch.randn(2, 3, size, size).contiguous(memory_format=memory_format)
        exact = gradients(copy.deepcopy(theirs).double(), x)
        got, own = ((gradients(m, x) - exact).norm() for m in (model, theirs))
        ratios.append((got / (own + 1e-6 * exact.norm())).item())
    assert statistics.median(ratios) <= 4, ratios


def gradients(model, x):
    """All of them in one vector, in float64."""
    model.zero_grad()
    model.train()(x.to(next(model.parameters()).dtype)).square().mean().backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([g.flatten().double() for g in grads])


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.SiLU()
        self.pointwise = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.pointwise(self.act(self.norm(self.depthwise(x))))


def test_what_is_joined_follows_mode_hooks_and_weights():
    model, theirs = ours.optimize(Small()), Small()
    theirs.load_state_dict(model.state_dict())
    (change, _) = ours.report(model)
    assert change == ours.Change("depthwise", "depthwise 3x3", ("norm", "act"), "")
    x = torch.randn(2, 6, 9, 9)
    with torch.no_grad():
        for train in (True, False, True, False):
            torch.testing.assert_close(model.train(train)(x), theirs.train(train)(x))
        # Behind the version counter too.
        for m in (model, theirs):
            m.depthwise.weight.data.mul_(2)
            m.norm.running_var.data.add_(1)
        torch.testing.assert_close(model(x), theirs(x))
        seen = []
        handle = model.depthwise.register_forward_hook(lambda m, i, y: seen.append(y))
        torch.testing.assert_close(model(x), theirs(x))
        torch.testing.assert_close(seen[0], theirs.depthwise(x))
        handle.remove()
        # What the batch norm gets from elsewhere it norms.
        torch.testing.assert_close(model.norm(x), theirs.norm(x))
        torch.testing.assert_close(model.double()(x.double()), theirs.double()(x.double()))


def test_copies_pickles_and_checkpoints():
    model = ours.optimize(Small()).eval()
    x = torch.randn(1, 6, 9, 9)
    with torch.no_grad():
        expected = model(x)
        again = pickle.loads(pickle.dumps(model))
        torch.testing.assert_close(again(x), expected)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        torch.testing.assert_close(torch.load(file, weights_only=False)(x), expected)
        copied = copy.deepcopy(model)
        copied.norm.weight.mul_(3)
        assert not torch.allclose(copied(x), expected)
        torch.testing.assert_close(model(x), expected)
        torch.testing.assert_close(copied(x), ours.restore(copied)(x))
        nn.DataParallel(model)(x)
        model.share_memory()
        torch.testing.assert_close(model(x), expected)


def test_optimize_tells_what_is_wrong():
    with pytest.raises(TypeError, match="expected a torch.nn.Module"):
        ours.optimize("mobilenetv2_100")
    model = Small()
    model.norm.eval()  # frozen, and to stay so
    assert ours.optimize(model, torch.randn(1, 6, 9, 9)) is model
    assert model.training
    assert not model.norm.training


def test_many_threads_call_one_module_at_once():
    model = ours.optimize(Small()).eval()
    inputs = [torch.randn(1, 6, 9 + i % 3, 9) for i in range(8)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    wrong = []

    def work(x, y):
        with torch.no_grad():
            for _ in range(50):
                if not torch.equal(model(x), y):
                    wrong.append(1)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def train(change, dtype=torch.float32):
    """The losses of 200 steps, slow enough for rounding errors not to grow without bound."""
    torch.manual_seed(3)
    model = change(shortened(timm.create_model("mobilenetv2_050", num_classes=4))).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 1e-5)
    x, y = torch.randn(8, 3, 64, 64).to(dtype), torch.arange(8) % 4
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def test_training_learns_like_pytorchs():
    """The losses stay about as near to float64's as those of PyTorch's own float32."""
    exact = train(lambda model: model, torch.float64)
    theirs = (train(lambda model: model) - exact).abs()
    got = (train(ours.optimize) - exact).abs()
    assert exact[0] > 5
    assert exact[-1] < 0.01
    # In which steps errors grow is chance, and PyTorch may be lucky: hence the second part.
    assert got.max() <= 10 * theirs.max() + 0.005 * exact[0]
    assert got.mean() <= 10 * theirs.mean() + 0.0005 * exact[0]


def test_block_and_separable_modules_equal_their_parts():
    torch.manual_seed(5)
    x = torch.randn(2, 8, 11, 11)
    for arguments in ({"padding": 1}, {"padding": "same", "stride": 1, "dilation": 2}):
        module = ours.SeparableConv2d(8, 5, 3, depthwise_activation="relu6", **arguments)
        halves = nn.Sequential(module.depthwise.conv, nn.ReLU6(), module.pointwise.conv)
        torch.testing.assert_close(module(x), halves(x))
        assert list(module.state_dict())[0] == "depthwise.conv.weight"
    block = ours.InvertedResidual(8, 8).eval()
    block.project_norm.weight.data.normal_()
    expected = x + block.project_norm(
        block.project.conv(
            nn.functional.relu6(
                block.depthwise_norm(
                    block.depthwise.conv(
                        nn.functional.relu6(block.expand_norm(block.expand.conv(x)))
                    )
                )
            )
        )
    )
    torch.testing.assert_close(block(x), expected)
    assert ours.InvertedResidual(8, 12, stride=2, expand_ratio=1)(x).shape == (2, 12, 6, 6)


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_padding_modes_multiplier_and_same(mode):
    x = torch.randn(1, 4, 9, 9)
    module = ours.DepthwiseConv2d(4, 3, padding=1, padding_mode=mode, channel_multiplier=2)
    torch.testing.assert_close(module(x), module.conv(x))
    even = ours.DepthwiseConv2d(4, 2, padding="same", activation="silu")
    torch.testing.assert_close(even(x), nn.functional.silu(even.conv(x)))
    with pytest.raises(ValueError, match="activation"):
        ours.PointwiseConv2d(4, 4, activation="swish")


@pytest.mark.parametrize(
    ("name", "batches", "held"),
    [
        ("mobilenetv2_050", (1, 3), False),
        ("resnet18", (1,), True),
        *((n, (2,), False) for n in COMPILED if n not in ("mobilenetv2_050", "resnet18")),
    ],
)
def test_compile_backend(name, batches, held, caplog):
    trains = name in ("mobilenetv2_050", "resnet18", "convnext_atto")
    with torch._inductor.config.patch(freezing=held):  # makes graphs hold their parameters
        compile_and_compare(name, batches, trains, caplog)


def compile_and_compare(name, batches, trains, caplog):
    caplog.set_level("INFO", "sepconv")
    theirs = create(name).eval()
    size = SIZE.get(name, 64)
    model = torch.compile(theirs, backend="sepconv")
    with torch.no_grad():
        for batch in batches:
            x = torch.randn(batch, 3, size, size)
            close(model(x), theirs(x))
        close(sepconv.compile(theirs, x)(x), theirs(x))  # the other way to a network
        next(m for m in theirs.modules() if isinstance(m, nn.Linear)).bias.add_(1)
        close(model(x), theirs(x))
    assert "not one network" not in caplog.text
    if trains:
        trains_as_exactly(model, theirs, size, [torch.contiguous_format] * 5)
    torch._dynamo.reset()


def test_memory_formats_in_turns_stay_one_network(caplog):
    caplog.set_level("INFO", "sepconv")
    theirs = create("mobilenetv2_050").eval()
    model = torch.compile(theirs, backend="sepconv")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        close(model(x.contiguous(memory_format=torch.channels_last)), theirs(x))
        close(model(x), theirs(x))  # TorchDynamo makes the strides symbols now
    assert "not one network" not in caplog.text
    torch._dynamo.reset()


def test_models_of_one_class_in_turns_have_a_plan_each(monkeypatch):
    """TorchDynamo runs them with one graph, as they differ in nothing but their parameters."""
    planned, plan = [], _backend._planned
    monkeypatch.setattr(_backend, "_planned", lambda *a: (planned.append(1), plan(*a))[1])
    runners, run = set(), _backend._Runner.__call__
    monkeypatch.setattr(_backend._Runner, "__call__", lambda r, *a: (runners.add(r), run(r, *a))[1])
    theirs = [create("mobilenetv2_050").eval() for _ in range(2)]
    with torch.no_grad():
        theirs[1].classifier.bias.add_(1)
    models = [torch.compile(m, backend="sepconv") for m in theirs]
    x = torch.randn(1, 3, 64, 64)

    def in_turns():
        with torch.no_grad():
            for _ in range(2):
                for model, original in zip(models, theirs):
                    close(model(x), original(x))
        return len(planned)

    assert in_turns() == 2
    with torch.no_grad():
        theirs[0].classifier.bias.add_(1)
    assert in_turns() == 3
    # A plan whose parameters were changed is no longer kept, nor one whose model is gone.
    gone = weakref.ref(theirs[1].classifier.weight)
    models.pop(), theirs.pop()
    with torch.no_grad():
        theirs[0].classifier.bias.add_(1)
    assert in_turns() == 4
    gc.collect()
    assert gone() is None
    assert len(runners) == 1
    assert len(runners.pop().plans) == 1
    torch._dynamo.reset()


def test_compile_takes_any_mode_and_no_options():
    theirs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        model = torch.compile(theirs, backend="sepconv", mode="max-autotune")
        close(model(x), theirs(x))
        torch._dynamo.reset()
        model = torch.compile(theirs, backend="sepconv", options={"freezing": True})
        with pytest.raises(Exception, match=r"options: got {'freezing': True}, expected none"):
            model(x)
    torch._dynamo.reset()


class Odd(nn.Module):
    """A small network with something behind it that is in none of ours."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.pointwise = nn.Conv2d(8, 12, 1)

    def forward(self, x):
        stem = self.stem(x)
        y = self.depthwise(stem)
        low, high = stem.split(4, 1)
        sums = torch.cumsum(y.sort(-1).values, 1).view(y.size(0), -1)
        return self.pointwise(y.mul_(2)), low + high, sums


def test_the_front_of_a_graph_is_a_network(caplog):
    caplog.set_level("INFO", "sepconv")
    theirs = Odd().eval()
    model = torch.compile(theirs, backend="sepconv")
    with torch.no_grad():
        for batch in (2, 2, 3, 5):
            x = torch.randn(batch, 3, 18, 15)
            for got, expected in zip(model(x), theirs(x)):
                close(got, expected)
        theirs.depthwise.bias.add_(1)
        for got, expected in zip(model(x), theirs(x)):
            close(got, expected)
    assert "not one network" in caplog.text
    assert re.search("its first [3-9] operations are one", caplog.text)
    torch._dynamo.reset()


def test_parameters_without_versions_stay_in_pytorch(caplog):
    caplog.set_level("INFO", "sepconv")
    with torch.inference_mode():
        theirs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
        x = torch.randn(1, 3, 8, 8)
        close(torch.compile(theirs, backend="sepconv")(x), theirs(x))
    assert "do not track version" in caplog.text
    torch._dynamo.reset()


def test_what_a_graph_does_to_its_input_happens(caplog):
    caplog.set_level("INFO", "sepconv")
    theirs = nn.Sequential(nn.Hardtanh(inplace=True), nn.Conv2d(3, 8, 3, groups=1)).eval()
    model = torch.compile(theirs, backend="sepconv")
    x = 9 * torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        y = theirs(x.clone())
        close(model(x), y)
    assert x.abs().max() == 1
    assert "it changes its input" in caplog.text
    torch._dynamo.reset()


def test_what_is_no_network_stays_in_pytorch(caplog):
    caplog.set_level("INFO", "sepconv")
    theirs = nn.Sequential(nn.Hardshrink(), nn.Conv2d(3, 3, 3, padding=1, groups=3)).eval()
    model = torch.compile(theirs, backend="sepconv")
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        close(model(x), theirs(x))
    assert "not one network" in caplog.text
    assert "are one" not in caplog.text
    torch._dynamo.reset()
