"""optimize(): every depthwise and pointwise nn.Conv2d of a model through our kernels, in place."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import fx, nn

from sepconv._compile import eval_mode
from sepconv.torch._batch_norm import takes_training, train_batch_norm
from sepconv.torch._convolution import Geometry, activate, make_forward, memory_format, plain, takes
from sepconv.torch._convolution import run as run_op
from sepconv.torch._modules import Packed, forward

Model = TypeVar("Model", bound=nn.Module)

_ACTIVATIONS: dict[type, str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Mish: "mish",
}


class Change(NamedTuple):
    """What optimize() did with one convolution."""

    name: str
    kernel: str  # "depthwise 3x3", "pointwise" or "" where it was left alone
    joined: tuple[str, ...]  # the batch norm and the activation that it takes over in eval mode
    reason: str  # why it was left alone


def _activation_name(module: nn.Module) -> str | None:
    if type(module) is nn.GELU:
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    if type(module) is nn.LeakyReLU:
        return "leaky_relu" if module.negative_slope == 0.01 else None
    if type(module) is nn.ELU:
        return "elu" if module.alpha == 1.0 else None
    return _ACTIVATIONS.get(type(module))


class _ConvForward:
    """Replaces the forward of an nn.Conv2d; the parameters stay where they are.

    In eval mode and where nothing is recorded for gradients it does the work of the batch norm and
    the activation behind it too. It signs its result, so that these two let just that through.
    """

    def __init__(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: str | None
    ) -> None:
        self.conv, self.norm, self.activation = conv, norm, activation
        self.packed = Packed()

    def joins(self) -> bool:
        """Whether the batch norm's part is done here now."""
        norm = self.norm
        return (
            norm is not None
            and not norm.training
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not (self.conv._forward_hooks or norm._forward_hooks or norm._forward_pre_hooks)
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not self.joins():
            return forward(self.conv, x, None, self.packed)
        y = self._joined(x)
        y._sepconv_joined = self
        return y

    def _joined(self, x: torch.Tensor) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        tensors = (
            conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var,
        )  # fmt: skip
        if not (takes(x, *tensors) and plain(x, *tensors)):
            y = forward(conv, x, None, self.packed)
            return activate(_batch_norm(norm, y), self.activation)
        geometry = Geometry(conv.stride, conv.padding, conv.dilation, conv.groups)
        nhwc = memory_format(x) is torch.channels_last

        def make() -> Any:
            weight, bias = _folded(conv, norm)
            return make_forward(x.shape, weight, bias, geometry, self.activation, False, nhwc)

        return run_op(self.packed.op((x.shape, nhwc), tensors, make), x)


class _JoinedForward:
    """Replaces the forward of what a convolution joins: lets through what was done already."""

    def __init__(self, module: nn.Module, signs: object) -> None:
        self.module, self.signs = module, signs

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if getattr(x, "_sepconv_joined", None) is self.signs:
            return x
        return type(self.module).forward(self.module, x, *args, **kwargs)


class _NormForward(_JoinedForward):
    """The same for a batch norm. In training it does the work of the activation behind it too."""

    def __init__(
        self, norm: nn.BatchNorm2d, signs: object, activation: str | None, contains: bool
    ) -> None:
        super().__init__(norm, signs)
        self.activation = activation
        self.contains = contains  # the activation is a part of the batch norm itself

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if getattr(x, "_sepconv_joined", None) is self.signs or not takes_training(self.module, x):
            return super().__call__(x, *args, **kwargs)
        joins = self.contains or not self.module._forward_hooks
        y = train_batch_norm(self.module, x, self.activation if joins else None)
        if joins:
            y._sepconv_joined = self.signs
        return y


def _batch_norm(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
    )


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the convolution with the batch norm behind it."""
    scale = 1 / (norm.running_var.double() + norm.eps).sqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -norm.running_mean.double() * scale
    if conv.bias is not None:
        bias = bias + conv.bias.double() * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    return (conv.weight.double() * scale[:, None, None, None]).float(), bias.float()


def _why_not(conv: nn.Conv2d) -> str:
    """Why a convolution is left alone; empty if it is not."""
    if "forward" in vars(conv) or type(conv).forward is not nn.Conv2d.forward:
        return f"{type(conv).__name__} has a forward of its own"
    depthwise = conv.groups == conv.in_channels and conv.groups > 1
    if not depthwise and not (conv.groups == 1 and conv.kernel_size == (1, 1)):
        kind = "dense" if conv.groups == 1 else f"grouped by {conv.groups}"
        return f"{kind} {conv.kernel_size[0]}x{conv.kernel_size[1]}"
    if conv.groups == 1 and conv.padding not in ((0, 0), "valid", "same"):
        return "pointwise with padding"
    return ""


class _Tracer(fx.Tracer):
    """Looks into everything but convolutions, batch norms and torch.nn."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or m.__module__.startswith("torch.nn")
        return leaf and not isinstance(m, (nn.Sequential, nn.ModuleList))


def _followers(model: nn.Module) -> dict[str, tuple[str, str | None]]:
    """For convolutions by name, the batch norm behind each and the activation behind that.

    Empty for a model whose forward torch.fx cannot trace.
    """
    try:
        with eval_mode(model):
            graph = _Tracer().trace(model)
    except Exception:
        return {}
    modules = dict(model.named_modules())
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1

    def only_user(node: fx.Node) -> fx.Node | None:
        user = next(iter(node.users)) if len(node.users) == 1 else None
        one_call = user is not None and user.op == "call_module" and calls[user.target] == 1
        return user if one_call else None

    found = {}
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.Conv2d):
            continue
        norm = only_user(node)
        if calls[node.target] != 1 or norm is None:
            continue
        if not isinstance(modules[norm.target], nn.BatchNorm2d):
            continue
        after = only_user(norm)
        known = after is not None and _activation_name(modules[after.target]) is not None
        found[node.target] = (norm.target, after.target if known else None)
    return found


def _norm_activation(norm: nn.BatchNorm2d) -> tuple[bool, str | None]:
    """Whether a batch norm can be joined, and the activation that it contains (timm's do)."""
    if norm.running_mean is None:
        return False, None
    if type(norm) is nn.BatchNorm2d:
        return True, None
    if type(norm).__name__ != "BatchNormAct2d":
        return False, None
    inside = [norm.drop, norm.act]
    if type(inside[0]) is not nn.Identity:
        return False, None
    if type(inside[1]) is nn.Identity:
        return True, None
    name = _activation_name(inside[1])
    return name is not None, name


class _Behind(NamedTuple):
    """A batch norm behind a convolution, and the activation behind that or in it."""

    norm: nn.BatchNorm2d
    act: nn.Module | None  # None where the batch norm contains it
    activation: str | None

    def replace(self, signs: object) -> None:
        """Replaces what these do. What has `signs` on it was done already."""
        contains = self.activation is not None and self.act is None
        self.norm.forward = _NormForward(self.norm, signs, self.activation, contains)
        if self.act is not None:
            self.act.forward = _JoinedForward(self.act, signs)


def _behind(modules: dict[str, nn.Module], names: tuple[str, str | None] | None) -> _Behind | None:
    """What is behind a convolution, by _followers()' names; None if it cannot be replaced."""
    norm = modules[names[0]] if names is not None else None
    if norm is None or "forward" in vars(norm):
        return None
    joinable, activation = _norm_activation(norm)
    if not joinable:
        return None
    act = modules[names[1]] if activation is None and names[1] is not None else None
    if act is None or "forward" in vars(act):
        return _Behind(norm, None, activation)
    return _Behind(norm, act, _activation_name(act))


def optimize(model: Model, example: Any = None) -> Model:
    """Makes every depthwise and pointwise nn.Conv2d of a model run in sepconv's kernels.

    In place, and in train as in eval mode: parameters, buffers, names, hooks and the state dict
    stay as they are; gradients are computed in sepconv too. In eval mode under torch.no_grad() or
    inference_mode() a convolution also does the work of a batch norm and an activation that alone
    follow it (where torch.fx can trace the model), so that its own output is theirs then; in
    training, channels last, the batch norm and the activation behind any convolution are computed
    together. report() tells what was changed and why not the rest; restore() undoes it. With an
    `example`, an input, the model runs once before and once after: ValueError where the results
    differ.

    Raises TypeError for anything but a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    before = None if example is None else _run(model, example)
    followers = _followers(model)
    modules = dict(model.named_modules())
    for name, conv in modules.items():
        if not isinstance(conv, nn.Conv2d):
            continue
        behind = _behind(modules, followers.get(name))
        signs = object()
        if not _why_not(conv):
            if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
                behind = None
            norm, activation = (behind.norm, behind.activation) if behind else (None, None)
            signs = conv.forward = _ConvForward(conv, norm, activation)
        if behind is not None:
            behind.replace(signs)
    if example is not None:
        _compare(before, _run(model, example))
    return model


def _run(model: nn.Module, example: Any) -> Any:
    with eval_mode(model), torch.no_grad():
        return model(example)


def _compare(before: Any, after: Any) -> None:
    try:
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    except AssertionError as error:
        raise ValueError(f"the optimized model's result differs: {error}") from None


def report(model: nn.Module) -> list[Change]:
    """Tells, for every nn.Conv2d of a model, what optimize() changed, or why it did not."""
    modules = dict(model.named_modules())
    names = {id(m): n for n, m in modules.items()}
    joined: dict[int, list[str]] = {}
    for module in modules.values():
        replaced = vars(module).get("forward")
        if isinstance(replaced, _JoinedForward):
            joined.setdefault(id(replaced.signs), []).append(names[id(module)])
    changes = []
    for name, conv in modules.items():
        if not isinstance(conv, nn.Conv2d):
            continue
        replaced = vars(conv).get("forward")
        if isinstance(replaced, _ConvForward):
            k = "x".join(map(str, conv.kernel_size))
            kernel = "pointwise" if conv.groups == 1 else f"depthwise {k}"
            changes.append(Change(name, kernel, tuple(joined.get(id(replaced), ())), ""))
        else:
            changes.append(Change(name, "", (), _why_not(conv) or "not optimized"))
    return changes


def restore(model: Model) -> Model:
    """Undoes optimize(), in place."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), (_ConvForward, _JoinedForward)):
            del module.forward
    return model
