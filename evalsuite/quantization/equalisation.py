"""Cross-layer equalisation: channels scaled so that two consecutive convolutions have equal ranges in each.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721,
section 4.1. No images are needed but one, to follow the flow of data.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import QuantizationWarning
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.graph.norms import norm_after, norm_as_affine
from evalsuite.quantization.graph.trace import Operation, Trace, trace

_SWEEPS = 100
_CONVERGED = 1e-4  # largest relative change of a scale


class ChannelClip(nn.Module):
    """Clips each channel of (N, C, H, W) to bounds of its own: what ReLU6 is once channels are scaled apart.

    Attributes
    ----------
    low, high : (C,) buffers.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` clipped."""
        return torch.clamp(x, self.low[:, None, None], self.high[:, None, None])


@dataclass(frozen=True, eq=False)
class Pair:
    """Two convolutions, the second of which alone reads what the first gives, through norm and activation.

    Attributes
    ----------
    norm : the BatchNorm between them, with affine parameters, if there is one.
    clip : the ReLU6 (Hardtanh) module between them, or its replacement, if there is one.
    following : the BatchNorm that alone reads what the second gives, if there is one.
    """

    first: nn.Conv2d
    norm: _BatchNorm | None
    clip: nn.Module | None
    second: nn.Conv2d
    following: _BatchNorm | None


@torch.no_grad()
def equalise(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a model, in eval mode, that computes the same with equalised convolutions.

    Pairs are convolution, BatchNorm or none, ReLU, ReLU6 or none, convolution (depthwise as well), with no other
    reader in between. Channel i of the first is divided by s_i = sqrt(r1_i / r2_i) and the second's input channel
    i multiplied by it, r1 and r2 being the largest absolute weights there, pair after pair until nothing changes.
    A channel without weight on either side stays.

    Ours: r1 and r2 are taken as if each BatchNorm were folded into the convolution before it, and where one stands
    between, its affine parameters are scaled in place of the first weight, so that folding afterwards gives the
    same network as folding before; until it is folded, the first weight itself gains nothing. The paper turns
    ReLU6 into ReLU; here it becomes a clip with bounds per channel, which changes nothing; a ReLU6 that is no
    module of its own ends the pair. High biases are not absorbed.

    Parameters
    ----------
    model : stays untouched.
    example : (1, C, H, W) normalised image, on the model's device.
    """
    twin = copy.deepcopy(model).eval()
    pairs = find_pairs(twin, example)
    if not pairs:
        warnings.warn("equalisation: no two convolutions follow one another", QuantizationWarning, stacklevel=2)
    clips: dict[nn.Module, nn.Module] = {
        pair.clip: _per_channel(pair.clip, pair.first) for pair in pairs if isinstance(pair.clip, nn.Hardtanh)
    }
    replace_modules(twin, clips)
    pairs = [replace(pair, clip=clips[pair.clip]) if pair.clip is not None else pair for pair in pairs]
    for _ in range(_SWEEPS):
        changes = [float((_equalise_pair(pair) - 1).abs().max()) for pair in pairs]
        if max(changes, default=0) < _CONVERGED:
            break
    return twin


def find_pairs(model: nn.Module, example: Tensor) -> list[Pair]:
    """Return the pairs of a model, in order of execution; see :func:`equalise`."""
    modules = dict(model.named_modules())
    held = Counter(id(weight) for module in modules.values() for weight in module._parameters.values())
    found = trace(model, example)

    def usable(name: str) -> bool:
        layer = modules[name]
        return isinstance(layer, nn.Conv2d) and found.calls.get(name) == 1 and held[id(layer.weight)] == 1

    pairs = []
    for name in filter(usable, found.outputs):
        pair = _pair_after(name, modules, found)
        if pair is not None and usable(pair[1]):
            pairs.append(pair[0])
    return pairs


def _pair_after(name: str, modules: dict[str, nn.Module], found: Trace) -> tuple[Pair, str] | None:
    first, norm = modules[name], _norm(modules, found, name)
    clip: nn.Module | None = None
    step = _next(found, found.outputs[name], -1)
    if norm is not None and step is not None:
        step = _next(found, step[1].result[0], step[0])
    if step is not None and step[1].name in ("relu", "relu_", "hardtanh", "hardtanh_"):
        if step[1].name.startswith("hardtanh"):
            clip = modules[step[1].module]
            if not isinstance(clip, nn.Hardtanh) or found.calls[step[1].module] != 1:
                return None
        step = _next(found, step[1].result, step[0])
    if step is None or "conv" not in step[1].name:
        return None
    second = modules[step[1].module]
    if not isinstance(second, nn.Conv2d) or (norm is not None and norm.weight is None):
        return None
    assert isinstance(first, nn.Conv2d)
    return Pair(first, norm, clip, second, _norm(modules, found, step[1].module)), step[1].module


def _norm(modules: dict[str, nn.Module], found: Trace, layer: str) -> _BatchNorm | None:
    name = norm_after(modules, found, layer)
    norm = None if name is None else modules[name]
    assert norm is None or isinstance(norm, _BatchNorm)
    return norm


def _next(found: Trace, tensor: Tensor, after: int) -> tuple[int, Operation] | None:
    """Return the one operation that reads a tensor, or overwrites it first, later than another; with its number."""
    later = enumerate(found.operations[after + 1 :], after + 1)
    readers = [(number, operation) for number, operation in later if operation.reads(tensor)]
    return readers[0] if readers and (len(readers) == 1 or readers[0][1].in_place) else None


def _per_channel(clip: nn.Hardtanh, layer: nn.Conv2d) -> ChannelClip:
    low, high = (layer.weight.new_full((layer.out_channels,), bound) for bound in (clip.min_val, clip.max_val))
    return ChannelClip(low, high).eval()


def _equalise_pair(pair: Pair) -> Tensor:
    """Equalise one pair in place and return the scales, (channels,)."""
    first, second = pair.first, pair.second
    own = _folded(first.weight, pair.norm).abs().amax(dim=(1, 2, 3))
    # A group's input channels are columns of its own rows only.
    groups = _folded(second.weight, pair.following).reshape(second.groups, -1, *second.weight.shape[1:])
    following = groups.abs().amax(dim=(1, 3, 4)).flatten()
    scale = (own / following).sqrt()
    scale = torch.where((own > 0) & (following > 0) & scale.isfinite() & (scale > 0), scale, 1)
    before = (first.weight, first.bias) if pair.norm is None else (pair.norm.weight, pair.norm.bias)
    for values in (*before, *(() if pair.clip is None else pair.clip.buffers())):
        if values is not None:
            values.div_(scale.reshape(-1, *[1] * (values.ndim - 1)))
    columns = second.weight.view(second.groups, -1, *second.weight.shape[1:])
    columns.mul_(scale.reshape(second.groups, 1, -1, 1, 1))
    return scale


def _folded(weight: Tensor, norm: _BatchNorm | None) -> Tensor:
    return weight if norm is None else weight * norm_as_affine(norm)[0].reshape(-1, 1, 1, 1)
