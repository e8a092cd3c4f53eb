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

Overrides = tuple[tuple[str, str], ...]


def canonical_overrides(given: Any) -> Overrides:
    """Return overrides, a mapping or pairs of glob and bits, sorted and with every bit width as ``W4A8``.

    Raises RequestError for anything else.
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
        raise RequestError(f'overrides = {given!r}: expected layer names with bits, as in {{"layer3.*" = "W8A8"}}')
    found: dict[str, str] = {}
    for glob, text in pairs:
        weights, activations = parse_bits(text)
        for name, value in (("weight_bits", weights), ("activation_bits", activations)):
            _check(f"overrides, {glob!r}, {name}", value)
        bits = f"W{weights}A{activations}"
        if found.setdefault(glob, bits) != bits:
            raise RequestError(f"overrides give {glob!r} both {found[glob]} and {bits}: expected one of them")
    return tuple(sorted(found.items()))


@dataclass(frozen=True)
class BitPolicy:
    """Bits of weights and activations, 2..8 each.

    First layer and classifier take ``first_last_bits`` for both, or ``first_bits`` and ``last_bits`` where these are
    given. ``overrides`` maps globs of qualified layer names to bits (``{"layer3.*": "W8A8"}``) and goes before all
    of these; where several match a layer, the one with the most characters other than ``*`` and ``?`` wins,
    whatever their order.

    Weights are quantized per output channel (``per_channel``), asymmetrically unless ``symmetric``; activations
    per tensor, asymmetrically unless ``symmetric_activations``, with ranges fixed at calibration. ``per_token``
    gives each token that a linear layer of a transformer reads the range of its own extremes, found when it runs;
    convolutions and attention products keep theirs. Logits and normalisation layers stay in floating point;
    ``fold_norm`` folds BatchNorm into the convolution before it.
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

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "first_last_bits", "first_bits", "last_bits"):
            value = getattr(self, name)
            if value is not None:
                _check(name, value)
        object.__setattr__(self, "overrides", canonical_overrides(self.overrides))

    def __str__(self) -> str:
        return f"W{self.weight_bits}A{self.activation_bits}{' mixed' if self.overrides else ''}"

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Return the names of all fields but the bits of inner layers; each is a column of ``trials.parquet``."""
        bits = ("weight_bits", "activation_bits")
        return tuple(field.name for field in dataclasses.fields(cls) if field.name not in bits)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary."""
        return dataclasses.asdict(self) | {"overrides": dict(self.overrides)}

    def for_layer(self, name: str, position: Literal["first", "inner", "last"] = "inner") -> BitPolicy:
        """Return the policy of one layer, whose ``weight_bits`` and ``activation_bits`` are its own.

        Raises RequestError if two equally specific overrides disagree on it.
        """
        weights, activations = self.weight_bits, self.activation_bits
        if position != "inner":
            own = self.first_bits if position == "first" else self.last_bits
            weights = activations = self.first_last_bits if own is None else own
        matching = {glob: bits for glob, bits in self.overrides if fnmatchcase(name, glob)}
        if matching:
            most = max(map(_literal, matching))
            best = {glob: bits for glob, bits in matching.items() if _literal(glob) == most}
            if len(set(best.values())) > 1:
                globs = " and ".join(map(repr, best))
                raise RequestError(f"overrides {globs} give {name} different bits: expected one more specific")
            weights, activations = parse_bits(next(iter(best.values())))
        return dataclasses.replace(self, weight_bits=weights, activation_bits=activations, overrides=())

    def check_overrides(self, layers: Iterable[str]) -> None:
        """Raise RequestError, naming the nearest layer, for an override that matches none of these."""
        names = list(layers)
        for glob, _ in self.overrides:
            if not any(fnmatchcase(name, glob) for name in names):
                nearest = difflib.get_close_matches(glob, names, n=1, cutoff=0)
                hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
                raise RequestError(f"overrides: {glob!r} matches no quantized layer{hint}")


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
