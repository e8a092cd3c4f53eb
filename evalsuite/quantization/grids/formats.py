"""Rounding to number formats as arithmetic; what the formats are says :mod:`evalsuite.number_formats`.

Every format is x ≈ element(x / s) · s. Formats differ in the element and in where the scales s come from, which
:func:`scales` gives for every value, so that methods which round values one by one need know no more.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evalsuite.number_formats import Element, NumberFormat

_EXPONENT = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}  # of a float's bits, those of its exponent: alone, they are the power of two below its magnitude
_E8M0 = (-127, 127)  # exponents of a block's scale


def cast(x: Tensor, element: Element) -> Tensor:
    """Round to the nearest value of an element, ties to even; beyond the greatest to the greatest (saturating).

    The sign of zero is kept, NaN stays NaN, infinity becomes the greatest value.

    Parameters
    ----------
    x : float32 or float64, any shape.
    """
    step = _steps(x, element)
    return x.div(step).round_().mul_(step).clamp_(-element.greatest, element.greatest)


def neighbours(x: Tensor, element: Element) -> tuple[Tensor, Tensor]:
    """Return the nearest values of an element that are not above and not below ``x``; both are ``x`` if it is one.

    Beyond the greatest value both are the greatest. ``x``: float32 or float64, any shape.
    """
    step = _steps(x, element)
    ends = -element.greatest, element.greatest
    steps = x.div(step)
    return steps.floor().mul_(step).clamp_(*ends), steps.ceil().mul_(step).clamp_(*ends)


def _steps(x: Tensor, element: Element) -> Tensor:
    """Return the distance of an element's values around each of ``x``."""
    return (
        power_of_two_below(x)
        .clamp_(2.0**element.least_exponent, 2.0**element.greatest_exponent)
        .mul_(2.0**-element.mantissa)
    )


def power_of_two_below(x: Tensor) -> Tensor:
    """Return the greatest power of two not above each magnitude; 0 for subnormal floats, infinity for NaN.

    ``x``: float32 or float64, any shape.
    """
    integers, mask = _EXPONENT[x.dtype]
    return x.detach().contiguous().view(integers).bitwise_and(mask).view(x.dtype)


def encode(values: Tensor, element: Element) -> Tensor:
    """Return the codes of values of an element, uint8 of their shape: sign, exponent, mantissa from the highest bit."""
    magnitude = values.abs()
    power = power_of_two_below(magnitude).clamp(min=2.0**element.least_exponent)
    fraction = magnitude.div(power).mul(2**element.mantissa).to(torch.int32)  # the leading one included where normal
    if element.twos_complement:
        return torch.where(values < 0, -fraction, fraction).to(torch.int8).view(torch.uint8)
    exponent = power.log2().round().to(torch.int32) - element.least_exponent
    sign = torch.signbit(values).to(torch.int32) << (element.bits - 1)
    return (sign + (exponent << element.mantissa) + fraction).to(torch.uint8)


def decode(codes: Tensor, element: Element) -> Tensor:
    """Return the values of codes (uint8, any shape), float32; codes of NaN and infinity are read as if finite."""
    if element.twos_complement:
        return codes.view(torch.int8).float() * 2.0 ** (element.least_exponent - element.mantissa)
    plain = codes.to(torch.int32) & (2 ** (element.bits - 1) - 1)
    field, fraction = plain >> element.mantissa, plain & (2**element.mantissa - 1)
    normal = (field > 0).to(torch.int32)
    exponent = field - normal + element.least_exponent - element.mantissa
    magnitude = (fraction + (normal << element.mantissa)).float() * torch.exp2(exponent.float())
    return torch.where((codes.to(torch.int32) >> (element.bits - 1)) > 0, -magnitude, magnitude)


def chosen_scale(low: Tensor, high: Tensor, format: NumberFormat) -> Tensor:
    """Return the float scale at which ``low``..``high`` (finite, one shape) is covered, of their shape.

    Of FP8 that of a channel or a tensor, of NVFP4 that of a tensor: the greatest magnitude over the greatest value
    (times the greatest block scale). 1 where nothing is chosen, and for a range that holds only 0.
    """
    magnitude = torch.maximum(-low, high)
    if format.unscaled:
        return torch.ones_like(magnitude)
    reach = format.element.greatest * (format.block_scale.greatest if format.block_scale else 1)
    scale = (magnitude / reach).clamp(min=torch.finfo(magnitude.dtype).tiny)
    return torch.where(magnitude > 0, scale, torch.ones_like(scale))


def scales(x: Tensor, scale: Tensor, format: NumberFormat) -> Tensor:
    """Return the scale of every value, broadcasting against ``x``.

    Parameters
    ----------
    x : (..., n) float32 or float64; blocks are neighbours along the last axis, the last block of a row the rest of it.
    scale : what :func:`chosen_scale` gave, broadcasting against ``x``.
    """
    if not format.block:
        return scale
    n = x.shape[-1]
    block = min(format.block, n)  # one channel of a depthwise convolution is not padded to a whole block
    padded = F.pad(x.detach().abs(), (0, -n % block))
    greatest = padded.reshape(*padded.shape[:-1], -1, block).amax(dim=-1)
    if format.block_scale is None:
        own = _shared_exponent(greatest, format)
    else:
        own = cast(greatest / format.element.greatest / scale, format.block_scale) * scale
    return own.repeat_interleave(block, dim=-1)[..., :n]


def _shared_exponent(greatest: Tensor, format: NumberFormat) -> Tensor:
    """Return 2^(floor(log2 of a block's greatest magnitude) - the element's greatest exponent), as E8M0 holds it.

    OCP Microscaling 1.0, section 6.3. Twice that where the greatest saturates and the format says ``scale_up``, which
    is 2^ceil(log2(greatest magnitude / greatest element)). A block of zeros gets the least scale.
    """
    element = format.element
    power = power_of_two_below(greatest).clamp_(max=2.0 ** _E8M0[1])
    scale = power.mul_(2.0**-element.greatest_exponent).clamp_(min=2.0 ** _E8M0[0])
    return torch.where(greatest > element.greatest * scale, 2 * scale, scale) if format.scale_up else scale


def round_by(x: Tensor, scale: Tensor, element: Element) -> Tensor:
    """Round to element(x / scale) · scale; where the scale is 0 to 0. ``scale`` broadcasts against ``x``."""
    over = torch.where(scale > 0, x / scale, 0.0)
    return cast(over, element).mul_(scale)


def round_to(x: Tensor, scale: Tensor, format: NumberFormat) -> Tensor:
    """Round to a format: (..., n), blocks along the last axis; parameters as those of :func:`scales`."""
    return round_by(x, scales(x, scale, format), format.element)
