"""How much each output of each layer matters: squares of the loss's gradient, with the inputs they belong to.

The squared gradient stands for the diagonal of the loss's Hessian by a layer's output (the Fisher approximation), as
in PTQ4ViT (Yuan et al. 2022, arXiv 2111.12293) and BRECQ (Li et al. 2021, arXiv 2102.05426). The loss is the
cross-entropy of the network with its own prediction.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.execution import hooked
from evalsuite.quantization.graph.unfolding import unfolded_input
from evalsuite.quantization.grids.layers import QuantLayer
from evalsuite.quantization.grids.range_setting import batches
from evalsuite.randomness import torch_generator
from evalsuite.weight_layers import CONVOLUTIONS

_BATCH = 4  # images whose activations are kept for one backward pass
_MATRIX_ROWS = 16  # of one product, at least, as its other factor is kept whole


@dataclass(frozen=True, eq=False)
class WeightedRows:
    """Rows of what a layer or a product reads, and what the errors of their outputs weigh.

    Attributes
    ----------
    left : (G, R, K) rows of the first factor; of a layer, G is the number of its groups.
    right : (G, K, P) the second factor; None for a layer.
    weight : (G, R, P) not negative; the sum of weight · error² over these rows estimates that over all outputs.
    ends : of the first and the second factor, the least and the greatest of all values, not only of these rows.
    """

    left: Tensor
    right: Tensor | None
    weight: Tensor
    ends: tuple[tuple[Tensor, Tensor], ...]


def weighted_rows(
    model: nn.Module, images: Tensor, names: Collection[str], rows: int, generator: torch.Generator
) -> dict[str, WeightedRows]:
    """Run a model forwards and backwards and return rows of each named layer or product that the loss depends on.

    About ``rows`` rows (a token, or an output pixel of a convolution) are drawn with probabilities proportional to
    their squared gradients, and weighted by the inverse of these, which keeps sums unbiased. Where fewer have a
    gradient these are taken, and where none has a finite one, the first rows with equal weights. Drawing is ours, for
    speed; the paper uses all. What is drawn of one does not depend on which others are named.

    Parameters
    ----------
    images : (N, C, H, W) normalised.
    names : of quantized layers, whose weights are not rounded yet, and of products.
    rows : of each, from all images together; a product may take more, up to all.
    """
    count = max(round(rows * min(_BATCH, len(images)) / len(images)), 1)
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    collectors: dict[str, _Collector] = {}
    for name in names:
        module = model.get_submodule(name)
        kind = _LayerCollector if isinstance(module, QuantLayer) else _ProductCollector
        collectors[name] = kind(module, count, torch_generator(seed, name))
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for batch in batches(images, _BATCH):
        handles = (collector.module.register_forward_hook(collector.watch) for collector in collectors.values())
        with hooked(handles), torch.enable_grad():
            x = batch.clone().requires_grad_()
            logits = model(x)
            loss = F.cross_entropy(logits, logits.detach().argmax(dim=1), reduction="sum")
            # By the parameters too, or what does not depend on the images would get no gradient.
            torch.autograd.grad(loss, [x, *leaves], allow_unused=True)
    return {name: collector.collected() for name, collector in collectors.items() if collector.parts}


def draw(weights: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw ``count`` indices of (n,) weights in proportion to them, and the factors that keep weighted sums unbiased.

    Where no more than ``count`` are positive: all of these, once each, with factor 1.
    """
    positive = weights.nonzero().squeeze(1)
    if len(positive) <= count:
        return positive, torch.ones_like(weights[positive])
    share = (weights / weights.sum()).cpu()
    chosen = torch.multinomial(share, count, replacement=True, generator=generator)
    return chosen.to(weights.device), (1 / (count * share[chosen])).to(weights)


class _Collector:
    """Keeps drawn rows of what one module is called with."""

    def __init__(self, module: nn.Module, count: int, generator: torch.Generator) -> None:
        self.module = module
        self.count = count
        self.generator = generator
        self.ends: list[tuple[Tensor, Tensor]] = []
        self.parts: list[tuple[Tensor, ...]] = []

    def watch(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """See one call; a forward hook."""
        inputs = [x.detach().clone() for x in args]
        ends = [torch.aminmax(x) for x in inputs]
        known = self.ends or ends
        self.ends = [
            (torch.minimum(low, a), torch.maximum(high, b)) for (low, high), (a, b) in zip(ends, known, strict=True)
        ]
        if output.requires_grad:
            # On the tensor as it is here: what overwrites it later has a gradient of its own.
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self.keep(inputs, gradient.detach().square().nan_to_num(0, 0, 0))
            )
        else:
            self.keep(inputs, torch.zeros_like(output))

    def keep(self, inputs: list[Tensor], weight: Tensor) -> None:
        """Draw from one call; ``weight`` has the output's shape."""
        raise NotImplementedError

    def collected(self) -> WeightedRows:
        """Return all that was drawn."""
        raise NotImplementedError


class _LayerCollector(_Collector):
    def keep(self, inputs: list[Tensor], weight: Tensor) -> None:
        patches, weight = _patches(self.module, inputs[0], weight)
        chosen, factor = draw(weight.sum(dim=1), self.count, self.generator)
        if not len(chosen) and not self.parts:
            chosen = torch.arange(min(self.count, len(weight)), device=weight.device)
            factor = torch.zeros_like(weight[chosen, 0])
        places = patches.shape[3]
        self.parts.append((patches[chosen // places, :, :, chosen % places], weight[chosen] * factor[:, None]))

    def collected(self) -> WeightedRows:
        left = torch.cat([part[0] for part in self.parts]).transpose(0, 1).contiguous()
        weight = torch.cat([part[1] for part in self.parts])
        weight = weight.reshape(len(weight), len(left), -1).transpose(0, 1).contiguous()
        return WeightedRows(left, None, _never_nothing(weight), tuple(self.ends))


def _patches(layer: nn.Module, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, groups, K, L) inputs of single outputs, and the (N·L, O) outputs' weights."""
    if not isinstance(layer, CONVOLUTIONS):
        return x.flatten(0, -2).t()[None, None], weight.flatten(0, -2)
    return unfolded_input(layer, x), weight.movedim(1, -1).flatten(0, -2)


class _ProductCollector(_Collector):
    def keep(self, inputs: list[Tensor], weight: Tensor) -> None:
        batch = weight.shape[:-2]
        left, right = (x.expand(*batch, *x.shape[-2:]).flatten(0, -3) for x in inputs)
        weight = weight.flatten(0, -3)
        rows = min(max(_MATRIX_ROWS, self.count // len(weight)), weight.shape[1])
        matrices, share = draw(weight.sum(dim=(1, 2)), max(self.count // rows, 1), self.generator)
        for matrix, part in zip(matrices.tolist(), share, strict=True):
            chosen, factor = draw(weight[matrix].sum(dim=1), rows, self.generator)
            missing = rows - len(chosen)
            chosen, factor = F.pad(chosen, (0, missing)), F.pad(factor * part, (0, missing))
            self.parts.append((left[matrix][chosen], right[matrix], weight[matrix][chosen] * factor[:, None]))
        if not self.parts:
            self.parts.append((left[0, :rows], right[0], torch.zeros_like(weight[0, :rows])))

    def collected(self) -> WeightedRows:
        left, right, weight = (torch.stack(parts) for parts in zip(*self.parts, strict=True))
        return WeightedRows(left, right, _never_nothing(weight), tuple(self.ends))


def _never_nothing(weight: Tensor) -> Tensor:
    return weight if weight.any() else torch.ones_like(weight)
