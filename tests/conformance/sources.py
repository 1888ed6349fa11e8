"""The networks that ours are held to, with weights that make every block matter."""

import timm
import torch
import torchvision
from timm.layers.grn import GlobalResponseNorm


def create(name, any_size=True):
    """The source's model; any_size: a ViT whose positions are resampled to the image's grid."""
    if name == "mobilenet_v2":
        return torchvision.models.mobilenet_v2(weights=None)
    if name == "googlenet":
        return torchvision.models.googlenet(weights=None, init_weights=False)
    if any_size and name.startswith(("vit_", "deit_")):
        return timm.create_model(name, pretrained=False, dynamic_img_size=True)
    return timm.create_model(name, pretrained=False)


def randomize(model, seed, size=128):
    """Random batch-norm parameters and biases, so that folding and fusing cannot hide a mistake.

    Their statistics are those of random images of this size, moved at random: every layer's output
    has the size of a trained network's, so that depth does not grow rounding errors without bound.
    """
    g = torch.Generator().manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.bias is not None:
            module.bias.data = torch.randn(module.out_features, generator=g)
        elif isinstance(module, (timm.layers.LayerNorm, timm.layers.LayerNorm2d)):
            module.weight.data = torch.rand(module.weight.shape, generator=g) + 0.5
            if module.bias is not None:
                module.bias.data = torch.randn(module.bias.shape, generator=g) * 0.3
        elif isinstance(module, GlobalResponseNorm):
            module.weight.data = torch.randn(module.weight.shape, generator=g) * 0.5
            module.bias.data = torch.randn(module.bias.shape, generator=g) * 0.3
        if getattr(module, "gamma", None) is not None:  # ConvNeXt's layer scale
            module.gamma.data = torch.rand(module.gamma.shape, generator=g) * 0.5 + 0.5
    model.eval()
    for norm in norms:
        n = norm.num_features
        norm.weight.data = torch.rand(n, generator=g) + 0.5
        norm.bias.data = torch.randn(n, generator=g) * 0.3
        norm.momentum = 1.0
        norm.train()
    if norms:
        with torch.no_grad():
            model(torch.randn(4, 3, size, size, generator=g))
    for norm in norms:
        n = norm.num_features
        norm.running_mean += torch.randn(n, generator=g) * 0.3 * norm.running_var.sqrt()
        # A channel that hardly moved must not be blown up where another image moves it.
        least = 0.2 * norm.running_var.mean()
        norm.running_var = (norm.running_var + least) * (torch.rand(n, generator=g) + 0.5)
    return model.eval()
