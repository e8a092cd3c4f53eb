"""A study's settings: immutable values, checked when they are made."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from evalsuite.bits import BitPolicy
from evalsuite.hashing import canonical_json
from evalsuite.isolation import requested
from evalsuite.optional_members import SIMULATED
from evalsuite.registry import SINGULAR, Setting
from evalsuite.study.report import Report
from evalsuite.study.tables import Analysis, Corruption, Diagnosis, Gate


@dataclass(frozen=True)
class Quantized:
    """A PTQ method with its bits, and what computes the network that it makes.

    ``bits`` is None for the full-precision network. ``engine`` is the simulation, or one of
    :data:`evalsuite.engines.ENGINES` that runs the exported network; a method that has an engine of its own says so
    itself.
    """

    method: Setting
    bits: BitPolicy | None
    engine: str = SIMULATED

    def __str__(self) -> str:
        named = f"{display_name(self.method)} {self.bits}" if self.bits else display_name(self.method)
        return named + self.on_engine

    @property
    def exported(self) -> bool:
        """Whether an engine runs the exported network."""
        return self.engine != SIMULATED

    @property
    def on_engine(self) -> str:
        """What a label says of the engine: nothing of the simulation."""
        return f" on {self.engine}" if self.exported else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the form that ``study.json`` holds; the simulation, which once was the only engine, is left out."""
        named = {"method": self.method.as_dict(), "bits": self.bits.as_dict() if self.bits else None}
        return named | ({"engine": self.engine} if self.exported else {})

    @functools.cached_property
    def canonical(self) -> str:
        """Canonical JSON of what the quantized network depends on: all but the engine."""
        return canonical_json(replace(self, engine=SIMULATED).as_dict())


@dataclass(frozen=True)
class Calibration:
    """The steps that make a calibration set: all selections first, then all transforms."""

    steps: tuple[Setting, ...]

    def __str__(self) -> str:
        return ", ".join(display_name(step) for step in self.steps) or "none"

    def as_dict(self) -> list[dict[str, Any]]:
        """Return the form that enters a trial's identity."""
        return [step.as_dict() for step in self.steps]

    @functools.cached_property
    def canonical(self) -> str:
        """Canonical JSON of :meth:`as_dict`."""
        return canonical_json(self.as_dict())


@dataclass(frozen=True)
class Study:
    """A checked study; its product, without what ``exclude`` names, is the trials."""

    name: str
    title: str
    description: str
    tasks: tuple[Setting, ...]
    seeds: tuple[int, ...]
    calibrations: tuple[Calibration, ...]
    quantizers: tuple[Quantized, ...]
    adapters: tuple[Setting, ...]
    streams: tuple[Setting, ...]
    exclude: tuple[str, ...] = ()
    """Canonical JSON of the filters: trials whose settings match all of a filter's values are left out."""
    source_images: int = 256
    """Clean images of the pool that an adapter may take its source statistics from."""
    corruption: Corruption = field(default_factory=Corruption)
    analysis: Analysis = field(default_factory=Analysis)
    gate: Gate = field(default_factory=Gate)
    report: Report = field(default_factory=Report)
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    private: frozenset[Setting] = frozenset()
    """The tasks of whose images no pixel goes into what a run keeps for its report."""

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved study, every default filled in; a table that came later is left out where it is off."""
        later = {"diagnosis": asdict(self.diagnosis)} if self.diagnosis.images else {}
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "task": [task.as_dict() | ({"private": True} if task in self.private else {}) for task in self.tasks],
            "seeds": list(self.seeds),
            "source_images": self.source_images,
            "calibration": [calibration.as_dict() for calibration in self.calibrations],
            "quantizer": [quantizer.as_dict() for quantizer in self.quantizers],
            "adapter": [adapter.as_dict() for adapter in self.adapters],
            "stream": [stream.as_dict() for stream in self.streams],
            "exclude": [json.loads(text) for text in self.exclude],
            "corruption": self.corruption.as_dict(),
            "analysis": asdict(self.analysis),
            "gate": asdict(self.gate),
            "report": self.report.as_dict(),
        } | later


def display_name(setting: Setting) -> str:
    """Return what a plugin calls itself, if it says so, else its registered name."""
    plugin = setting.build()
    with requested(f"{SINGULAR[setting.kind]} {setting.name!r} cannot say its name"):
        return str(plugin) if "__str__" in vars(type(plugin)) else setting.name.rpartition(":")[2]
