"""Uniform affine quantization as arithmetic: x ≈ (q - zero point) · scale with integers q of a few bits.

Zero is always exactly representable, so that padding and ReLU's zeros carry no error. See Nagel et al. 2021,
"A White Paper on Neural Network Quantization", arXiv 2106.08295, section 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class IntegerRange(NamedTuple):
    """The smallest and the largest integer of a grid."""

    low: int
    high: int


def integer_range(bits: int, symmetric: bool = False) -> IntegerRange:
    """Return 0..2^bits - 1, or the signed -2^(bits-1)..2^(bits-1) - 1 of a symmetric grid."""
    if symmetric:
        return IntegerRange(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return IntegerRange(0, 2**bits - 1)


def affine_parameters(low: Tensor, high: Tensor, bits: int, symmetric: bool = False) -> tuple[Tensor, Tensor]:
    """Return the scale (float) and the zero point (int32) of the finest grid that covers ``low``..``high``.

    The range is first widened to include 0. A symmetric grid has zero point 0. A range that holds only 0 gets
    scale 1.

    Parameters
    ----------
    low, high : finite, any one shape (a value per channel, or a scalar).

    Returns
    -------
    scale, zero_point : of that shape; the scale is finite and positive.
    """
    integers = integer_range(bits, symmetric)
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        scale = torch.maximum(low / integers.low, high / integers.high)
    else:
        # Divided before the difference, which may overflow.
        scale = high / integers.high - low / integers.high
    tiny = torch.finfo(scale.dtype).tiny
    scale = torch.where((low == 0) & (high == 0), torch.ones_like(scale), scale.clamp(min=tiny))
    if symmetric:
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    zero_point = (integers.low - low / scale).round().clamp(integers.low, integers.high)
    return scale, zero_point.to(torch.int32)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, integers: IntegerRange) -> Tensor:
    """Round to the nearest integer of the grid, ties to even: int32 of the shape of ``x``.

    ``scale`` and ``zero_point`` broadcast against ``x``.
    """
    return x.div(scale).round_().add_(zero_point).clamp_(*integers).to(torch.int32)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Return the real values of integers: (q - zero point) · scale."""
    return (q - zero_point) * scale


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, integers: IntegerRange) -> Tensor:
    """Quantize and dequantize in floating point.

    Where gradients are recorded, the one of ``x`` passes unchanged inside the clipping range and is zero outside
    (straight-through estimator, Bengio et al. 2013, arXiv 1308.3432); ``scale`` and ``zero_point`` get none.

    Parameters
    ----------
    x : any shape.
    scale, zero_point : broadcast against ``x``.
    """
    # Clipping at what the grid reaches needs no zero point added before and subtracted after.
    zeros = zero_point.to(x.dtype)
    return round_to_steps(x, scale, integers.low - zeros, integers.high - zeros)


def round_to_steps(x: Tensor, scale: Tensor | float, low: Any, high: Any, out: Tensor | None = None) -> Tensor:
    """Round to the nearest of the multiples ``low`` to ``high`` of ``scale``; gradients as in :func:`fake_quantize`.

    Bounds are tensors, which broadcast against ``x``, or plain numbers, which are faster. The result lies in ``out``
    where one is given, which takes no gradients.
    """
    if out is None and torch.is_grad_enabled() and x.requires_grad:
        with torch.no_grad():
            rounded = x.div(scale).round_()
            steps = rounded.clamp(low, high)
            inside = rounded == steps
            values = steps.mul_(scale)
        return straight_through(x, values, inside)
    return torch.div(x, scale, out=out).round_().clamp_(low, high).mul_(scale)


def straight_through(x: Tensor, rounded: Tensor, inside: Tensor) -> Tensor:
    """Return ``rounded``, whose gradient is that of ``x`` where ``inside`` (a mask of its shape), else zero."""
    passing: Tensor = _StraightThrough.apply(x, rounded, inside)  # type: ignore[no-untyped-call]
    return passing


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor, inside: Tensor) -> Tensor:
        ctx.save_for_backward(inside)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None
