"""The analysis of a run, made once and shared by figures, tables and page."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pandas as pd

from evalsuite.analysis import Analysis, analyse
from evalsuite.analysis.outcomes import Outcomes, read_outcomes
from evalsuite.store import Run
from reports.frames import methods
from reports.frames.methods import KEYS, combinations, each_row

T = TypeVar("T")

LEVEL = 0.05
"""An effect is claimed where its Holm-corrected p is below this."""


@dataclass(frozen=True)
class Comparison:
    """The error of ``a`` minus that of ``b`` on the same images, fractions; NaN where there is no number."""

    difference: float
    low: float
    high: float
    p: float
    """Holm-corrected within its question: ``p_holm`` of ``comparisons.csv``."""
    n: int
    """Domains that the test used."""
    note: str = ""

    @property
    def distinct(self) -> bool:
        """Whether a difference may be claimed: the test says so, and the interval excludes zero."""
        return self.p < LEVEL and self.apart

    @property
    def apart(self) -> bool:
        """Whether the interval over images excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the analysis found.

    Attributes
    ----------
    analysis : ``summary.csv``, ``comparisons.csv``, ``rankings.csv``.
    methods : ``summary`` with the columns, and in the order, of :func:`reports.frames.methods.combinations`.
    """

    analysis: Analysis
    methods: pd.DataFrame

    @property
    def groups(self) -> tuple[str, ...]:
        """The groupings of ``summary.csv``, class and domain first."""
        return self.analysis.groups

    @property
    def summary(self) -> pd.DataFrame:
        """``summary.csv``."""
        return self.analysis.summary

    @property
    def comparisons(self) -> pd.DataFrame:
        """``comparisons.csv``."""
        return self.analysis.comparisons

    @property
    def estimates(self) -> Mapping[str, pd.DataFrame]:
        """The tables of ``evalsuite.analysis.ESTIMATES``, by file name without its ending."""
        return self.analysis.estimates

    @property
    def rankings(self) -> pd.DataFrame:
        """``rankings.csv``."""
        return self.analysis.rankings

    def against_unadapted(self, method: Any, unadapted: str) -> Comparison | None:
        """Compare a row of ``methods`` with the same network without adaptation; None if nothing did."""
        context = f"quantizer {method.quantizer_label}, calibration {method.calibration_label}, "
        context += f"stream {method.stream_label}"
        return self._find("adapter", method.task, context, method.adapter_label, unadapted)

    def against_quantizer(self, method: Any, other: str) -> Comparison | None:
        """Compare a row of ``methods`` with another quantizer under the same calibration set, adapter and stream."""
        context = f"calibration {method.calibration_label}, adapter {method.adapter_label}, "
        context += f"stream {method.stream_label}"
        return self._find("quantizer", method.task, context, method.quantizer_label, other)

    def _find(self, factor: str, task: str, context: str, a: str, b: str) -> Comparison | None:
        found = self._by_pair.get((factor, task, context, a, b))
        if found is not None:
            return found
        found = self._by_pair.get((factor, task, context, b, a))
        if found is None:
            return None
        return Comparison(-found.difference, -found.high, -found.low, found.p, found.n, found.note)

    @functools.cached_property
    def _by_pair(self) -> dict[tuple[str, ...], Comparison]:
        return {
            (row.factor, row.task, row.context, row.a, row.b): Comparison(
                row.difference, row.low, row.high, row.p_holm, row.n, row.note if isinstance(row.note, str) else ""
            )
            for row in each_row(self.comparisons)
        }


def once(make: Callable[[Run], T]) -> Callable[[Run], T]:
    """Wrap what is made of a run so that it is made anew only where the run's trials have changed on disk."""

    @functools.lru_cache(maxsize=1)
    def made(run: Run, changed: int) -> T:
        return make(run)

    @functools.wraps(make)
    def cached(run: Run) -> T:
        return made(run, (run.folder / "trials.parquet").stat().st_mtime_ns)

    return cached


@once
def outcomes_of(run: Run) -> Outcomes:
    """Return what :func:`evalsuite.analysis.outcomes.read_outcomes` reads."""
    return read_outcomes(run)


@once
def evidence(run: Run) -> Evidence:
    """Return the analysis of a run."""
    found = analyse(run, outcomes_of(run))
    return Evidence(found, combinations(run).merge(found.summary, on=KEYS))


def with_room(evidence: Evidence) -> Evidence:
    """Keep the study's first calibration set alone where a task has more networks than words have room for.

    The first set is what the study takes for granted; the others are compared with it elsewhere
    (:mod:`reports.words.answers`). No p changes, for none is corrected over several sets but where sets are compared.
    """
    kept = methods.with_room(evidence.methods)
    if len(kept) == len(evidence.methods):
        return evidence
    contexts = {
        (row.task, context)
        for row in each_row(kept)
        for context in (
            f"calibration {row.calibration_label}, adapter {row.adapter_label}, stream {row.stream_label}",
            f"quantizer {row.quantizer_label}, calibration {row.calibration_label}, stream {row.stream_label}",
        )
    }
    pairs = evidence.comparisons
    pairs = pairs[[each in contexts for each in zip(pairs["task"], pairs["context"], strict=True)]]
    return Evidence(replace(evidence.analysis, comparisons=pairs), kept.reset_index(drop=True))


def least_p(run: Run, tests: int) -> float:
    """Return the smallest Holm-corrected p that so many worst-group tests can have with the run's permutations."""
    return min(1.0, tests / (1 + int(run.study["analysis"]["permutations"]))) if tests else math.nan


def family_sizes(methods: pd.DataFrame, group: str = "class") -> pd.Series:
    """Return, for each row of ``methods``, how many worst-group tests its Holm correction is over."""
    return methods.groupby(["task", "family"])[f"worst_drop_{group}_p"].transform("count")
