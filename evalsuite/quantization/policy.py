"""Which layer gets how many bits, and of what kind: part of a result's identity, never silent."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from evalsuite.errors import RequestError


@dataclass(frozen=True)
class BitPolicy:
    """Bits of weights and activations, 2..8 each.

    First layer and classifier take ``first_last_bits`` for both. Weights are quantized per output channel
    (``per_channel``), asymmetrically unless ``symmetric``; activations per tensor, asymmetrically. Logits and
    normalisation layers stay in floating point; ``fold_norm`` folds BatchNorm into the convolution before it.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    first_last_bits: int = 8
    per_channel: bool = True
    symmetric: bool = False
    fold_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "first_last_bits"):
            value = getattr(self, name)
            if not 2 <= value <= 8:
                raise RequestError(f"{name} = {value}: expected 2 to 8")

    def __str__(self) -> str:
        return f"W{self.weight_bits}A{self.activation_bits}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary."""
        return dataclasses.asdict(self)


def parse_bits(text: str) -> tuple[int, int]:
    """Read ``W4A8`` as (4, 8). Raises RequestError if it is not of that form."""
    match = re.fullmatch(r"[wW](\d)[aA](\d)", text)
    if match is None:
        raise RequestError(f"bits {text!r}: expected the form W4A8")
    return int(match[1]), int(match[2])
