"""What there is, and what a study would cost: nothing here runs a network."""

from __future__ import annotations

from evalsuite import registry
from evalsuite.bits import BitPolicy
from evalsuite.corruptions import COMMON, HELD_OUT, family
from evalsuite.described import Option, options_of
from evalsuite.engines import ENGINES
from evalsuite.optional_members import SIMULATED

KINDS: tuple[str, ...] = ("tasks", "quantizers", "adapters", "protocols", "studies", "figures", "corruptions")


def catalogue(kind: str) -> dict[str, str]:
    """Return the names of a kind with one line each."""
    if kind == "corruptions":
        return {name: family(name) for name in COMMON + HELD_OUT}
    if kind == "studies":
        return {name: _study_line(name) for name in registry.names("studies")}
    known: registry.Kind = kind  # type: ignore[assignment]
    return {name: registry.summary(known, name) for name in registry.names(known)}


def _study_line(name: str) -> str:
    from evalsuite.study.file import read

    return read(name).title


def bits_options() -> tuple[Option, ...]:
    """Return the options that every calibrated quantizer of a study has beside its own."""
    engines = " | ".join(f'"{engine}"' for engine in ENGINES)
    bits = "short for the bits and formats of weights and activations: `W4A8`, `FP8`, `MXFP4`, `W4AFP8`"
    engine = "what computes the quantized network; a trial for each"
    return (
        Option("bits", "str", '"W8A8"', bits),
        *options_of(BitPolicy),
        Option("engine", engines, f'"{SIMULATED}"', engine),
    )
