"""One network of each of timm's model families: the one with the fewest parameters."""

import timm
import torch
from timm.models import list_modules


def smallest(most=60_000_000):
    """Names, of families that have a network with at most so many parameters, by family."""
    names = []
    for module in list_modules():
        sizes = {name: parameters(name) for name in timm.list_models(module=module)}
        sizes = {name: size for name, size in sizes.items() if size and size <= most}
        if sizes:
            names.append(min(sizes, key=sizes.get))
    return names


def parameters(name):
    """None for networks that are for timm's own tests, or whose size has no weights yet."""
    if name.startswith("test_"):
        return None
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name).parameters())
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return None
