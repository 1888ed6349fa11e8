"""Whole networks made quick to export and to compile."""

from collections import OrderedDict
from itertools import groupby

import torch


def shortened(model):
    """The model without blocks in a row that are written alike, but for one of each.

    A block that another one like it follows gives what it takes, and so may be left out. What
    exporters and compilers make of the others stays the same, in a fraction of the time.
    """
    for name, module in list(model.named_children()):
        if type(module) is torch.nn.Sequential:
            runs = groupby(module.named_children(), lambda child: repr(child[1]))
            module = torch.nn.Sequential(OrderedDict(next(run) for _, run in runs))
            setattr(model, name, module)
        shortened(module)
    return model
