"""What there is, and what a study would cost: nothing here runs a network."""

from __future__ import annotations

from evalsuite import registry
from evalsuite.corruptions import COMMON, HELD_OUT, family

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
