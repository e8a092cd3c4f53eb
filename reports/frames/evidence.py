"""The analysis of a run, made once and shared by figures, tables and page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

from evalsuite.analysis import Analysis, Beside, analyse, claims
from evalsuite.analysis.families import IN_COMMON, VARIES, worst_group_families
from evalsuite.analysis.outcomes import Outcomes, Spread, read_outcomes
from evalsuite.store import Run
from reports.frames import methods
from reports.frames.methods import KEYS, as_rows, combinations

P = ParamSpec("P")
T = TypeVar("T")


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
    test: str = ""
    unit: str = ""

    @property
    def shown(self) -> bool:
        """Whether a difference may be claimed: :func:`evalsuite.analysis.claims.shown`."""
        return bool(claims.shown(self.p, self.low, self.high))

    @property
    def lowers(self) -> bool:
        """Whether it may be claimed that the error of ``a`` is the lower one."""
        return self.shown and self.difference < 0

    @property
    def apart(self) -> bool:
        """Whether the interval over images excludes zero."""
        return bool(claims.excludes_zero(self.low, self.high))

    def reversed(self) -> Comparison:
        """Return the comparison of ``b`` with ``a``."""
        return replace(self, difference=-self.difference, low=-self.high, high=-self.low)


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
        return self.between("adapter", _labels(method), unadapted)

    def against_quantizer(self, method: Any, other: str) -> Comparison | None:
        """Compare a row of ``methods`` with another quantizer under the same calibration set, adapter and stream."""
        return self.between("quantizer", _labels(method), other)

    def between(self, varied: str, labels: Mapping[str, Any], other: str) -> Comparison | None:
        """Compare a method with another that differs in one thing; None if nothing did.

        Parameters
        ----------
        varied : ``quantizer``, ``adapter`` or ``calibration``.
        labels : the columns ``KEYS`` of the method, which is ``a``.
        other : the label of ``b``.
        """
        common = _common(varied, labels)
        label = labels[f"{varied}_label"]
        comparison = self._by_pair.get((*common, label, other))
        if comparison is None and (comparison := self._by_pair.get((*common, other, label))) is not None:
            comparison = comparison.reversed()
        return comparison

    @functools.cached_property
    def _by_pair(self) -> dict[tuple[str | None, ...], Comparison]:
        return {
            (*_common(VARIES.get(row["factor"], row["factor"]), row), row["a"], row["b"]): Comparison(
                *(row[name] for name in ("difference", "low", "high", "p_holm", "n")),
                *(row[name] if isinstance(row[name], str) else "" for name in ("note", "test", "unit")),
            )
            for row in as_rows(self.comparisons)
        }


def _labels(method: Any) -> dict[str, Any]:
    return {name: getattr(method, name) for name in KEYS}


def _common(varied: str, labels: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return what is compared, and all that methods compared have in common."""
    return varied, labels["task"], *(None if name == f"{varied}_label" else labels[name] for name in IN_COMMON)


def once(make: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Wrap what is made of a run so that it is made anew only where the run's trials have changed on disk.

    What is given beside the run says how it is made, not what.
    """
    kept: dict[tuple[Run, int], T] = {}

    @functools.wraps(make)
    def cached(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = run, run.changed
        if key not in kept:
            made = make(run, *args, **kwargs)
            kept.clear()
            kept[key] = made
        return kept[key]

    return cached


@once
def outcomes_of(run: Run, spread: Spread | None = None) -> Outcomes:
    """Return what :func:`evalsuite.analysis.outcomes.read_outcomes` reads; ``spread``: beside this process."""
    return read_outcomes(run, spread=spread)


@once
def evidence(run: Run, beside: Beside | None = None) -> Evidence:
    """Return the analysis of a run; ``beside``: where half of it is made, see :func:`evalsuite.analysis.analyse`."""
    found = analyse(run, outcomes_of(run), beside)
    return Evidence(found, combinations(run).merge(found.summary, on=KEYS))


def with_room(evidence: Evidence) -> Evidence:
    """Keep the study's first calibration set alone where a task has more networks than words have room for.

    The first set is what the study takes for granted; the others are compared with it elsewhere
    (:mod:`reports.words.answers`). No p changes, for none is corrected over several sets but where sets are compared.
    """
    kept = methods.with_room(evidence.methods)
    if len(kept) == len(evidence.methods):
        return evidence
    known = {_common(varied, row) for row in as_rows(kept) for varied in ("quantizer", "adapter")}
    pairs = evidence.comparisons
    pairs = pairs[[_common(VARIES.get(row["factor"], row["factor"]), row) in known for row in as_rows(pairs)]]
    return Evidence(replace(evidence.analysis, comparisons=pairs), kept.reset_index(drop=True))


def least_p(run: Run, tests: int) -> float:
    """Return the smallest Holm-corrected p that so many worst-group tests can have with the run's permutations."""
    return float(claims.least_permutation_p(tests, int(run.study["analysis"]["permutations"])))


def family_sizes(methods: pd.DataFrame, group: str = "class") -> pd.Series:
    """Return, for each row of ``methods``, how many worst-group tests its Holm correction is over."""
    return methods.groupby(worst_group_families(methods))[f"worst_drop_{group}_p"].transform("count")
