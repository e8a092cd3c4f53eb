"""Which layer gets how many bits, and of what kind: part of a result's identity, never silent."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from evalsuite.errors import RequestError
from evalsuite.number_formats import FORMATS, number_format

Overrides = tuple[tuple[str, str], ...]
FLOAT = "float"
"""What an override gives a layer that stays unquantized."""
_KINDS = ("weight", "activation")
_FORMAT_FIELDS = tuple(f"{kind}_format" for kind in _KINDS)
BITS_FIELDS = (*(f"{kind}_bits" for kind in _KINDS), *_FORMAT_FIELDS)
"""The fields of a policy that ``bits`` says, as in ``W4A8`` or ``FP8``."""


def canonical_overrides(given: Any) -> Overrides:
    """Return overrides, a mapping or pairs of glob and bits, sorted and with bits as they are printed: ``W4A8``.

    Raises RequestError for anything else.
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
        raise RequestError(f'overrides = {given!r}: expected layer names with bits, as in {{"layer3.*" = "W8A8"}}')
    found: dict[str, str] = {}
    for glob, text in pairs:
        bits = FLOAT if text.lower() == FLOAT else _checked_bits(glob, text)
        if found.setdefault(glob, bits) != bits:
            raise RequestError(f"overrides give {glob!r} both {found[glob]} and {bits}: expected one of them")
    return tuple(sorted(found.items()))


@dataclass(frozen=True)
class BitPolicy:
    """Bits of weights and activations, 2..8 each, of integers or of a number format.

    Logits and normalisation layers stay in floating point. Formats are symmetric by themselves; only FP8's weights have
    scales per channel. Formats that are None are left out of :meth:`as_dict`, and so of a trial's identity.

    Attributes
    ----------
    weight_bits : of the weights of inner layers.
    activation_bits : of the inputs of inner layers.
    first_last_bits : of first layer and classifier, weights and activations. In the layer's format or its companion,
        whichever has so many bits (*ours*: MXFP8 beside MXFP4, FP8 beside NVFP4).
    per_channel : whether each output channel's weights have a range of their own; activations have one a tensor, fixed
        at calibration.
    symmetric : whether zero lies in the middle of the weights' range.
    symmetric_activations : whether zero lies in the middle of the activations' range.
    fold_norm : whether a BatchNorm is folded into the convolution before it.
    first_bits : of the first layer, where they differ from ``first_last_bits``.
    last_bits : of the classifier, where they differ from ``first_last_bits``.
    per_token : whether each token that a linear layer of a transformer reads gets the range of its own extremes, found
        when it runs; convolutions and attention products keep theirs.
    overrides : bits of single layers, globs of their qualified names to bits, ``{"layer3.*" = "W8A8"}``, or to
        ``float``, which leaves weight and input of a layer as they are; before all other keys. Where several match a
        layer, the one with the most characters other than ``*`` and ``?`` wins, whatever their order.
    weight_format : of the weights, one of :mod:`evalsuite.number_formats`, which then says how many bits; None:
        integers.
    activation_format : of the inputs, likewise.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    first_last_bits: int = 8
    per_channel: bool = True
    symmetric: bool = False
    fold_norm: bool = False
    first_bits: int | None = None
    last_bits: int | None = None
    symmetric_activations: bool = False
    per_token: bool = False
    overrides: Annotated[Overrides, BeforeValidator(canonical_overrides)] = ()
    weight_format: str | None = None
    activation_format: str | None = None

    def __post_init__(self) -> None:
        for kind in _KINDS:
            name = getattr(self, f"{kind}_format")
            if name is not None:
                chosen = number_format(name)
                object.__setattr__(self, f"{kind}_format", chosen.name)
                object.__setattr__(self, f"{kind}_bits", chosen.bits)
        if self.per_token and self.activation_format is not None:
            raise RequestError(f"per_token = true with activations in {self.activation_format}: expected integers")
        for name in ("weight_bits", "activation_bits", "first_last_bits", "first_bits", "last_bits"):
            value = getattr(self, name)
            if value is not None:
                _check(name, value)
        for bits in (self.first_last_bits, self.first_bits, self.last_bits):
            if bits is not None:
                self._outermost(bits)
        object.__setattr__(self, "overrides", canonical_overrides(self.overrides))

    def __str__(self) -> str:
        bits = _written(self.weight_bits, self.activation_bits, self.weight_format, self.activation_format)
        return f"{bits} mixed" if self.overrides else bits

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Return the names of all fields but the bits of inner layers; each is a column of ``trials.parquet``."""
        return tuple(field.name for field in dataclasses.fields(cls) if field.name not in BITS_FIELDS)

    @property
    def has_formats(self) -> bool:
        """Whether any layer is to be in a number format, not in integers."""
        overridden = (bits_fields(bits) for _, bits in self.overrides if bits != FLOAT)
        mine = {name: getattr(self, name) for name in _FORMAT_FIELDS}
        return any(fields[name] is not None for fields in (mine, *overridden) for name in _FORMAT_FIELDS)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary."""
        values = dataclasses.asdict(self) | {"overrides": dict(self.overrides)}
        return {name: value for name, value in values.items() if value is not None or name not in _FORMAT_FIELDS}

    def for_layer(self, name: str, position: Literal["first", "inner", "last"] = "inner") -> BitPolicy:
        """Return the policy of one layer, whose ``weight_bits`` and ``activation_bits`` are its own.

        Raises RequestError if two equally specific overrides disagree on it, or it stays unquantized.
        """
        own = {name: getattr(self, name) for name in BITS_FIELDS}
        if position != "inner":
            given = self.first_bits if position == "first" else self.last_bits
            own = self._outermost(self.first_last_bits if given is None else given)
        overridden = self._override(name)
        if overridden is not None:
            own = bits_fields(overridden)
        # What is left plays no role for one layer, and must not forbid it a format.
        return dataclasses.replace(self, **own, overrides=(), first_last_bits=8, first_bits=None, last_bits=None)

    def stays_float(self, name: str) -> bool:
        """Whether an override leaves a layer unquantized. Raises RequestError as :meth:`for_layer` does."""
        return self._override(name) == FLOAT

    def _override(self, name: str) -> str | None:
        """Return the bits that the most specific override gives a layer; None if none matches."""
        matching = {glob: bits for glob, bits in self.overrides if fnmatchcase(name, glob)}
        if not matching:
            return None
        most = max(map(_literal, matching))
        best = {glob: bits for glob, bits in matching.items() if _literal(glob) == most}
        if len(set(best.values())) > 1:
            globs = " and ".join(map(repr, best))
            raise RequestError(f"overrides {globs} give {name} different bits: expected one more specific")
        return next(iter(best.values()))

    def _outermost(self, bits: int) -> dict[str, Any]:
        """Return the fields of the first layer or the classifier, which get so many bits."""
        own: dict[str, Any] = {}
        for kind in _KINDS:
            name = getattr(self, f"{kind}_format")
            chosen = number_format(name).with_bits(bits) if name is not None else None
            if name is not None and chosen is None:
                expected = f"{number_format(name).bits} or 8 bits"
                raise RequestError(f"first and last layer with {bits} bits beside {name}: expected {expected}")
            own |= {f"{kind}_bits": bits, f"{kind}_format": chosen.name if chosen else None}
        return own

    def check_overrides(self, layers: Iterable[str]) -> None:
        """Raise RequestError, naming the nearest layer, for an override that matches none of these."""
        names = list(layers)
        for glob, _ in self.overrides:
            if not any(fnmatchcase(name, glob) for name in names):
                nearest = difflib.get_close_matches(glob, names, n=1, cutoff=0)
                hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
                raise RequestError(f"overrides: {glob!r} matches no quantized layer{hint}")


def _checked_bits(glob: str, text: str) -> str:
    fields = bits_fields(text)
    for name in ("weight_bits", "activation_bits"):
        _check(f"overrides, {glob!r}, {name}", fields[name])
    return _written(**fields)


def _check(name: str, bits: int) -> None:
    if not 2 <= bits <= 8:
        raise RequestError(f"{name} = {bits}: expected 2 to 8")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _literal(glob: str) -> int:
    return len(glob) - glob.count("*") - glob.count("?")


def parse_bits(text: str) -> tuple[int, int]:
    """Read ``W4A8`` as (4, 8). Raises RequestError if it is not of that form."""
    match = re.fullmatch(r"[wW](\d)[aA](\d)", text)
    if match is None:
        raise RequestError(f"bits {text!r}: expected the form W4A8")
    return int(match[1]), int(match[2])


def bits_fields(text: str) -> dict[str, Any]:
    """Read ``W4A8``, ``FP8``, or one of either as in ``W4AFP8``, as fields of :class:`BitPolicy`; no format is None.

    Raises RequestError if it is none of these.
    """
    names = "|".join(sorted(FORMATS, key=len, reverse=True))
    match = re.fullmatch(rf"({names})|w(\d|{names})a(\d|{names})", text, re.IGNORECASE)
    if match is None:
        raise RequestError(f"bits {text!r}: expected the form W4A8, or a number format: {', '.join(FORMATS)}")
    fields: dict[str, Any] = {}
    for kind, own in zip(_KINDS, (match[1] or match[2], match[1] or match[3]), strict=True):
        is_integer = own.isdigit()
        fields[f"{kind}_bits"] = int(own) if is_integer else number_format(own).bits
        fields[f"{kind}_format"] = None if is_integer else number_format(own).name
    return fields


def _written(weight_bits: int, activation_bits: int, weight_format: str | None, activation_format: str | None) -> str:
    if weight_format is not None and weight_format == activation_format:
        return weight_format
    return f"W{weight_format or weight_bits}A{activation_format or activation_bits}"
