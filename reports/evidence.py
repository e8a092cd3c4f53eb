"""The analysis of a run, made once and shared by figures, tables and page."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis import Analysis, analyse
from evalsuite.store import Run
from reports.methods import KEYS, combinations, each_row

LEVEL = 0.05
"""An effect is claimed where its Holm-corrected p is below this."""


@dataclass(frozen=True)
class Comparison:
    """The error of ``a`` minus that of ``b`` on the same images, fractions; NaN where there is no number."""

    difference: float
    low: float
    high: float
    p: float
    """Holm-corrected."""
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
    methods : ``summary`` with the columns, and in the order, of :func:`reports.methods.combinations`.
    """

    analysis: Analysis
    methods: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """``summary.csv``."""
        return self.analysis.summary

    @property
    def comparisons(self) -> pd.DataFrame:
        """``comparisons.csv``."""
        return self.analysis.comparisons

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


def evidence(run: Run) -> Evidence:
    """Return the analysis of a run; made anew only where the run's trials have changed on disk."""
    return _evidence(run, (run.folder / "trials.parquet").stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _evidence(run: Run, changed: int) -> Evidence:
    found = analyse(run)
    return Evidence(found, combinations(run).merge(found.summary, on=KEYS))


def least_p(run: Run, methods: int) -> float:
    """Return the smallest Holm-corrected p that so many worst-group tests can have with the run's permutations."""
    return min(1.0, methods / (1 + int(run.study["analysis"]["permutations"]))) if methods else math.nan
