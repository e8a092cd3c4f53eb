"""The tables of a study that hold single values: how it is analysed, gated, and where corrupted images come from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from evalsuite.corruptions import ENGINES
from evalsuite.corruptions.constants import SMALL, choose
from evalsuite.errors import RequestError, unknown_name
from evalsuite.groups import check_groups


@dataclass(frozen=True)
class Analysis:
    """How numbers are drawn from the records; no part of a trial's identity.

    Attributes
    ----------
    seed : of the draws.
    permutations : draws of a test that exchanges labels, images or seeds; the smallest p is one over so many and one.
    bootstrap : draws of an interval.
    groups : whose worst group is looked for, beside ``class`` and ``domain``: columns of the records and products of
        them, ``class x site``; without any, all group columns that the tasks have.
    jitter : how often each quantized trial is repeated with its norms' weights scaled by 1 +- 1e-7, which shows what
        rounding alone does to it (:mod:`evalsuite.running.jitter`).
    """

    seed: int = 0
    permutations: int = 2000
    bootstrap: int = 2000
    groups: tuple[str, ...] = ()
    jitter: int = 0

    def __post_init__(self) -> None:
        check_groups(self.groups)
        if self.permutations < 1 or self.bootstrap < 1:
            raise RequestError("[analysis] permutations and bootstrap: expected at least 1")
        if self.jitter < 0:
            raise RequestError(f"[analysis] jitter = {self.jitter}: expected at least 0 (none)")


@dataclass(frozen=True)
class Gate:
    """When a network is fit to be studied, see :mod:`evalsuite.running.gate`; no part of a trial's identity.

    Attributes
    ----------
    points : what W8A8 may lose on clean test images, percentage points; 0 for no gate.
    images : how many of them are looked at.
    """

    points: float = 1.0
    images: int = 1000

    def __post_init__(self) -> None:
        if not self.points >= 0 or self.images < 1:
            raise RequestError(
                f"[gate] points = {self.points}, images = {self.images}: expected at least 0 (no gate), at least 1"
            )


@dataclass(frozen=True)
class Diagnosis:
    """What of a study's quantized networks is looked into (:mod:`evalsuite.running.diagnosis`); off by default.

    No part of a trial's identity; may be added to a run that is done.

    Attributes
    ----------
    images : of the calibration set, and of each domain that the streams show, at most; 0 for no diagnosis. One costs
        about as much as three that a trial shows, of a small network more.
    """

    images: int = 0

    def __post_init__(self) -> None:
        if self.images < 0 or self.images == 1:
            raise RequestError(f"[diagnosis] images = {self.images}: expected at least 2, or 0 (no diagnosis)")


@dataclass(frozen=True)
class Corruption:
    """Where the corrupted test images of a study come from.

    Attributes
    ----------
    files : ``regenerated`` from the clean test images, or ``published``: the files that the authors of CIFAR-10-C,
        CIFAR-100-C and ImageNet-C (Hendrycks & Dietterich 2019, arXiv 1903.12261) distribute.
    engine : of :func:`evalsuite.corrupt`, where images are regenerated.
    constants : ``cifar`` or ``imagenet``, by which strengths go, where images are regenerated; None: by their size.
    seed : of the corruptions, where images are regenerated.
    """

    files: Literal["regenerated", "published"] = "regenerated"
    engine: str = "fast"
    constants: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise unknown_name("corruption engine", self.engine, ENGINES)
        choose(self.constants, SMALL, SMALL)
        if self.engine == "reference" and self.constants not in (None, "imagenet"):
            raise RequestError(f"[corruption] constants = {self.constants!r}: the reference engine has 'imagenet' only")
        if self.seed < 0:
            raise RequestError(f"[corruption] seed = {self.seed}: expected at least 0")

    def as_dict(self) -> dict[str, Any]:
        """Return the form that enters a trial's identity: of published files, only that they are."""
        if self.files == "published":
            return {"files": self.files}
        return {field.name: getattr(self, field.name) for field in fields(self)}
