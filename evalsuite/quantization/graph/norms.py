"""Normalisation layers and the layers before them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import Refused
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.graph.trace import Trace, trace
from evalsuite.weight_layers import CONVOLUTIONS


@torch.no_grad()
def fold_norms(model: nn.Module, example: Tensor) -> nn.Module:
    """Fold each BatchNorm into the convolution whose output it alone reads, in place; an Identity remains.

    Returns the model. A norm that normalises with the batch's own statistics, or follows something else than a
    convolution, stays.

    Raises
    ------
    Refused
        For a norm with a forward of its own (for example a fused activation), with its name.
    """
    modules = dict(model.named_modules())
    replacements: dict[nn.Module, nn.Module] = {}
    found = trace(model, example)
    for name, layer in modules.items():
        norm = norm_after(modules, found, name) if isinstance(layer, CONVOLUTIONS) else None
        if norm is None:
            continue
        bn = modules[norm]
        assert isinstance(layer, CONVOLUTIONS)
        assert isinstance(bn, _BatchNorm)
        if type(bn).forward is not _BatchNorm.forward:
            raise Refused(f"{norm} ({type(bn).__name__}) does more than normalise; fold_norm expects plain BatchNorm")
        scale, shift = norm_as_affine(bn)
        bias = shift if layer.bias is None else shift + scale * layer.bias
        layer.weight = nn.Parameter(layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias = nn.Parameter(bias)
        replacements[bn] = nn.Identity().eval()
    return replace_modules(model, replacements)


def norm_as_affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift per channel, (C,) each, by which BatchNorm in eval mode maps its input."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()


def norm_after(modules: dict[str, nn.Module], found: Trace, layer: str) -> str | None:
    """Return the BatchNorm that alone reads a layer's output and has statistics of its own, or None.

    Both must run exactly once.
    """
    reader = found.only_reader(found.outputs[layer]) if found.calls.get(layer) == 1 else None
    if reader is None or "batch_norm" not in reader.name or found.calls[reader.module] != 1:
        return None
    norm = modules[reader.module]
    return reader.module if isinstance(norm, _BatchNorm) and norm.running_var is not None else None
