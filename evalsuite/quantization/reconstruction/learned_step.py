"""Learning the scales of activation quantizers: Esser et al. 2020 (LSQ), arXiv 1902.08153."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.layout import Layout
from evalsuite.quantization.grids.affine import integer_range
from evalsuite.quantization.grids.layers import ActivationQuantizer


class Coin:
    """Random masks, cheap enough to be drawn at every step; probabilities are rounded to 1/256.

    Parameters
    ----------
    generator : seeds the masks.
    """

    def __init__(self, generator: torch.Generator) -> None:
        seed = int(torch.randint(2**62, (), generator=generator))
        self._bits = np.random.SFC64(seed)

    def toss(self, like: Tensor, probability: float, layout: Layout | None = None) -> Tensor:
        """Return a tensor like another (dense in memory) of ones with this probability, else zeros.

        Where ``layout`` says that images do not come first the draws are still in their order, and where a tensor is a
        permuted view in the order of its dimensions: how a network arranges its tensors changes no draw.
        """
        if layout is not None and not layout.plain and like.shape[layout.dim or 0] % layout.parts == 0:
            return layout.restore(self.toss(layout.rows(like).contiguous(), probability))
        if not (like.is_contiguous() or like.is_contiguous(memory_format=_last(like))):
            return self.toss(like.contiguous(), probability)
        count = like.numel()
        raw = self._bits.random_raw((count + 7) // 8)
        mask = raw.view(np.uint8)[:count] < round(probability * 256)
        return torch.from_numpy(mask).to(like).as_strided(like.shape, like.stride())


def _last(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.ndim == 4 else torch.contiguous_format


class LearnedStep(nn.Module):
    """Stands in for an activation quantizer while its scale is learnt; the zero point stays.

    Parameters
    ----------
    quantizer : calibrated.
    scale : leaf scalar.
    drop : the probability by which each element passes unrounded (Wei et al. 2022, arXiv 2203.05740).
    coin : draws what passes; None if nothing does.
    layout : where the images are in what it rounds; None: first.
    """

    def __init__(
        self,
        quantizer: ActivationQuantizer,
        scale: Tensor,
        drop: float = 0.0,
        coin: Coin | None = None,
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        zero = int(quantizer.zero_point)
        integers = integer_range(quantizer.bits, quantizer.symmetric)
        self.low, self.high = integers.low - zero, integers.high - zero
        self.drop = drop
        self.coin = coin
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded."""
        x = x if _fills_memory(x) else x.contiguous()
        passing = None if self.coin is None else self.coin.toss(x, self.drop, self.layout)
        out: Tensor = _Round.apply(x, self.scale, self.low, self.high, passing)  # type: ignore[no-untyped-call]
        return out


def _fills_memory(x: Tensor) -> bool:
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return extent == x.numel()


class _Round(torch.autograd.Function):
    """The gradient of the scale is LSQ's, sum of g·(x̂ - x)/s inside the clipping range and g·x̂/s outside.

    That is (g·x̂ - g_x·x)/s summed, with g_x the straight-through gradient of x; where an element passes unrounded,
    x̂ = x and g_x = g, so it adds nothing.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, passing: Tensor | None) -> Tensor:
        step = float(scale)
        out = x.div(step).round_().clamp_(low, high).mul_(step)
        if passing is not None:
            out.lerp_(x, passing)
        ctx.save_for_backward(x, out, passing)
        ctx.step, ctx.low, ctx.high = step, low, high
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        x, out, passing = ctx.saved_tensors
        # What rounds to an integer inside the grid lies half a step beyond its ends at most.
        inside = torch.ops.aten.hardtanh_backward(gradient, x, (ctx.low - 0.5) * ctx.step, (ctx.high + 0.5) * ctx.step)
        if passing is not None:
            inside.lerp_(gradient, passing)
        of_scale = (_inner(gradient, out) - _inner(inside, x)) / ctx.step
        return inside, of_scale, None, None, None


def _inner(a: Tensor, b: Tensor) -> Tensor:
    if a.stride() == b.stride() and _fills_memory(a):
        return torch.dot(a.as_strided((a.numel(),), (1,)), b.as_strided((b.numel(),), (1,)))
    return (a * b).sum()


class LearnedSteps:
    """The scales of some activation quantizers as one vector.

    Parameters
    ----------
    quantizers : those not calibrated, or without a fixed scale, are left out.
    drop, generator : see :class:`LearnedStep`; ``generator`` is drawn from only if ``drop`` is above 0.
    layouts : of what quantizers round, where images do not come first.

    Attributes
    ----------
    scales : (n,) the parameter.
    modules : what stands in for each quantizer.
    """

    def __init__(
        self,
        quantizers: Iterable[ActivationQuantizer],
        drop: float,
        generator: torch.Generator,
        layouts: Mapping[ActivationQuantizer, Layout] | None = None,
    ) -> None:
        self._quantizers = [one for one in quantizers if type(one) is ActivationQuantizer and one.ready]
        start = [one.scale.detach().reshape(()) for one in self._quantizers]
        self.scales = nn.Parameter(torch.stack(start) if start else torch.empty(0))
        self.scales.grad = torch.zeros_like(self.scales)
        self._least = self.scales.detach() / 100
        self.coin = Coin(generator) if drop > 0 else None
        self.modules: dict[nn.Module, nn.Module] = {}
        self.leaves: list[Tensor] = []
        for i, one in enumerate(self._quantizers):
            leaf = self.scales.detach()[i].requires_grad_()
            leaf.grad = self.scales.grad[i]
            self.leaves.append(leaf)
            self.modules[one] = LearnedStep(one, leaf, drop, self.coin, (layouts or {}).get(one))

    def forget(self) -> None:
        """Forget the gradients."""
        assert self.scales.grad is not None
        self.scales.grad.zero_()

    @torch.no_grad()
    def hold_positive(self) -> None:
        """Keep every scale at a hundredth of its first value or more, which a descent may not cross."""
        torch.maximum(self.scales, self._least, out=self.scales)

    @torch.no_grad()
    def bake(self) -> None:
        """Write the scales into the quantizers."""
        for quantizer, scale in zip(self._quantizers, self.scales, strict=True):
            quantizer.scale.copy_(scale)
