"""Number formats of today's hardware beside the integers: FP8, OCP's microscaling formats and NVFP4, as values.

What a format is, without arithmetic, which lies in :mod:`evalsuite.quantization.grids.formats`: an element, how many
of these share a scale, and what the scale is. OFP8: Micikevicius et al. 2022, arXiv 2209.05433, and OCP 8-bit Floating
Point Specification 1.0. MX: OCP Microscaling Formats Specification 1.0, 2023, and Rouhani et al. 2023, arXiv
2310.10537. NVFP4: NVIDIA 2025, "Pretraining Large Language Models with NVFP4", arXiv 2509.25149.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from evalsuite.errors import unknown_name


@dataclass(frozen=True)
class Element:
    """A small float: finite values of either sign, with subnormals.

    A fixed-point number is one too, whose only exponent is the least: the points of MXINT8 are multiples of 2^-6.

    Parameters
    ----------
    bits : of a code.
    mantissa : bits behind the point.
    least_exponent : of normal numbers; below it the steps stay those of it.
    greatest : finite value; larger magnitudes become this one (saturation).
    twos_complement : whether a code is the number of steps in two's complement, instead of sign, exponent, mantissa.
    """

    bits: int
    mantissa: int
    least_exponent: int
    greatest: float
    twos_complement: bool = False

    @property
    def greatest_exponent(self) -> int:
        """Exponent of the greatest power of two among the values."""
        return math.floor(math.log2(self.greatest))


E4M3 = Element(8, 3, -6, 448.0)
"""OFP8's E4M3: no infinity, one NaN a sign."""
E5M2 = Element(8, 2, -14, 57344.0)
"""OFP8's E5M2; its infinities are never made, for conversion saturates."""
E3M2 = Element(6, 2, -2, 28.0)
E2M3 = Element(6, 3, 0, 7.5)
E2M1 = Element(4, 1, 0, 6.0)
INT8 = Element(8, 6, 0, 127 / 64, twos_complement=True)
"""MX's INT8; the code of -2 is left out, as the specification allows, so that the grid is symmetric."""


@dataclass(frozen=True)
class NumberFormat:
    """An element and the scales that elements share.

    Parameters
    ----------
    name : as in a study's ``bits``.
    element : what each value is rounded to, over its scale.
    block : neighbours along the reduced axis that share a scale, whose scale is found from them; 0: none do, and a
        scale is chosen at calibration, in float32, per tensor of activations and per output channel of weights.
    block_scale : what a block's scale is rounded to, under one float32 scale of the whole tensor; None: a power of
        two (E8M0), and no scale of the tensor. Either has 8 bits.
    scale_up : whether a block's power of two is the least at which its greatest magnitude does not saturate (``RCEIL``
        of PyTorch and cuBLAS; Mishra et al. 2025, arXiv 2506.08027), not OCP's, at which up to an eighth of it, in
        MXFP4 a quarter, is cut off.
    companion : the format in which first layer and classifier are where these get 8 bits; ``""``: this one.
    """

    name: str
    element: Element
    block: int = 0
    block_scale: Element | None = None
    companion: str = ""
    scale_up: bool = False

    @property
    def bits(self) -> int:
        """Bits of an element, without scales."""
        return self.element.bits

    @property
    def storage_bits(self) -> float:
        """Bits of an element with its part of a full block's scale; scales of a channel or a tensor count nothing."""
        return self.element.bits + (8 / self.block if self.block else 0)

    @property
    def is_searched(self) -> bool:
        """Whether range methods choose the scale; else the greatest magnitude alone decides."""
        return self.block == 0

    @property
    def unscaled(self) -> bool:
        """Whether nothing is chosen at calibration."""
        return self.block > 0 and self.block_scale is None

    def with_bits(self, bits: int) -> NumberFormat | None:
        """Return this format or its companion, whichever has elements of so many bits; None if neither."""
        choices = (self, FORMATS[self.companion] if self.companion else self)
        return next((one for one in choices if one.bits == bits), None)


FORMATS = {
    one.name: one
    for one in (
        NumberFormat("FP8", E4M3),
        NumberFormat("FP8-E5M2", E5M2),
        NumberFormat("MXFP8", E4M3, 32),
        NumberFormat("MXFP8-E5M2", E5M2, 32),
        NumberFormat("MXFP8-RCEIL", E4M3, 32, scale_up=True),
        NumberFormat("MXFP6", E2M3, 32, companion="MXFP8"),
        NumberFormat("MXFP6-E3M2", E3M2, 32, companion="MXFP8"),
        NumberFormat("MXFP4", E2M1, 32, companion="MXFP8"),
        NumberFormat("MXFP4-RCEIL", E2M1, 32, companion="MXFP8-RCEIL", scale_up=True),
        NumberFormat("MXINT8", INT8, 32),
        NumberFormat("NVFP4", E2M1, 16, E4M3, companion="FP8"),
    )
}
"""By name. Where a name leaves open which element it means, it is E4M3 of FP8 and MXFP8, E2M3 of MXFP6: those that the
papers use for inference."""


def number_format(name: str) -> NumberFormat:
    """Return a format by its name, in any case. Raises RequestError for an unknown one."""
    if name.upper() not in FORMATS:
        raise unknown_name("number format", name, FORMATS)
    return FORMATS[name.upper()]
