"""Pictures of more than eight bits a channel: brought to eight on their own scale, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np

_GREY = ("I;16", "I;16B", "I;16L", "I;16N")
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF 6.0, section 8
_WHITE_IS_ZERO = 0


def as_rgb(picture: Any) -> Any:
    """Return a PIL picture in mode RGB; PIL itself clips grey values above 255.

    Grey of 16 bits is divided by 257, so that 65535 becomes 255, and grey of 9 to 15 bits in a TIFF by its own
    largest value.

    Raises
    ------
    ValueError
        If the picture's values have no scale of their own: 32-bit integers and floats.
    """
    if picture.mode in _GREY or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return _from_levels(np.asarray(picture).astype(np.float64), *_scale(picture)).convert("RGB")
    if picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floats"
        raise ValueError(f"its pixels are {kind}, whose black and white nobody knows; save it with 8 or 16 bits")
    return picture.convert("RGB")


def _scale(picture: Any) -> tuple[float, bool]:
    """Return the value of full intensity, and whether it is black."""
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return 2.0**bits - 1, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _from_levels(levels: np.ndarray[Any, Any], full: float, inverted: bool) -> Any:
    from PIL import Image

    grey = np.rint(255 * levels / full).clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if inverted else grey)
