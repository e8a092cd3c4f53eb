"""The tables of the page: columns with a head, cells with a text to read and a value to sort by."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import LEVEL
from evalsuite.analysis.families import context_in_words, family_in_words
from evalsuite.store import Run
from reports.frames.evidence import Evidence
from reports.frames.methods import each_row, labelled, readable
from reports.words.numbers import CONFIDENCE_PERCENT, NOTHING, count, is_missing, number

_TESTS = {"wilcoxon": "Wilcoxon", "mcnemar": "McNemar"}


@dataclass(frozen=True)
class Cell:
    """What is read, and what is sorted by (empty: at the end)."""

    text: str
    value: str


@dataclass(frozen=True)
class Column:
    """A head and how a row of the frame becomes a cell."""

    label: str
    cell: Callable[[Any], Cell]
    numeric: bool = False
    wide: bool = False
    """Whether its text may break into lines."""


@dataclass(frozen=True)
class Table:
    """A table of the page; the first cell of a row is its head."""

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def _table(name: str, title: str, caption: str, columns: Sequence[Column], frame: pd.DataFrame) -> Table:
    return Table(name, title, caption, columns, [[each.cell(row) for each in columns] for row in each_row(frame)])


def _text(label: str, field: str, *, wide: bool = False) -> Column:
    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        text = str(value) if isinstance(value, str) and value else NOTHING
        return Cell(text, "" if text == NOTHING else text)

    return Column(label, cell, wide=wide)


def _worded(label: str, words: Callable[[dict[str, Any]], str]) -> Column:
    """What is said of a row, made of several of its fields."""

    def cell(row: Any) -> Cell:
        text = words(vars(row))
        return Cell(text, text)

    return Column(label, cell, wide=True)


def _number(label: str, field: str, *, scale: float = 1.0, digits: int = 1, grouped: bool = False) -> Column:
    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        if is_missing(value):
            return Cell(NOTHING, "")
        return Cell(f"{value:,.0f}" if grouped else number(value * scale, digits), repr(float(value)))

    return Column(label, cell, numeric=True)


def _between(label: str, field: str, low: str, high: str) -> Column:
    """A rate or difference with its interval, times 100."""

    def cell(row: Any) -> Cell:
        value, *edges = (getattr(row, name) for name in (field, low, high))
        if is_missing(value):
            return Cell(NOTHING, "")
        between = " to ".join(number(edge * 100) for edge in edges)
        return Cell(f"{number(value * 100)} ({between})", repr(float(value)))

    return Column(label, cell, numeric=True)


def _p(label: str, field: str) -> Column:
    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        if is_missing(value):
            return Cell(NOTHING, "")
        return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", repr(float(value)))

    return Column(label, cell, numeric=True)


def _group(label: str, field: str) -> Column:
    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        return Cell(readable(value), value) if isinstance(value, str) else Cell(NOTHING, "")

    return Column(label, cell)


def _units(label: str, test: str = "") -> Column:
    """How many of what a test used: 15 domains; ``test``: the field that names it."""

    def cell(row: Any) -> Cell:
        used = count(int(row.n), row.unit)
        name = _TESTS.get(getattr(row, test), getattr(row, test)) if test else ""
        return Cell(f"{name}, {used}" if name else used, repr(float(row.n)))

    return Column(label, cell, numeric=True)


def _of(label: str, field: str, total: str) -> Column:
    """How many of how many."""

    def cell(row: Any) -> Cell:
        own, most = int(getattr(row, field)), int(getattr(row, total))
        return Cell(f"{own:,} of {most:,}", repr(own / most))

    return Column(label, cell, numeric=True)


def _method(frame: pd.DataFrame) -> list[Column]:
    """Columns that name a method; task and stream only where there are several."""
    several = [("Task", "task"), ("Stream", "stream_label")]
    names = [("Network", "network"), ("Adapter", "adapter_label")]
    names += [(label, field) for label, field in several if frame[field].nunique() > 1]
    return [_text(label, field) for label, field in names]


def result_tables(evidence: Evidence, adapted: pd.DataFrame) -> list[Table]:
    """Return the tables of mean errors, worst groups, adaptation and costs, comparisons, rankings.

    ``adapted`` is :func:`reports.frames.adaptation.adaptation`; without a row there is no table of adaptation and
    costs, and without a test no table of rankings.
    """
    methods = evidence.methods
    worst = [_worst(evidence, group) for group in evidence.groups]
    mean = _table(
        "mean",
        "Mean error and drop",
        "Error in %, drop in points against full precision without adaptation, with "
        f"{CONFIDENCE_PERCENT} % intervals; ECE in points.",
        [
            *_method(methods),
            _between("Error (%)", "error", "error_low", "error_high"),
            _between("Drop (points)", "drop", "drop_low", "drop_high"),
            _number("ECE", "ece", scale=100),
            _number("Seeds", "seeds", grouped=True),
            _number("Images", "images", grouped=True),
        ],
        methods,
    )
    ranked = [_rankings(evidence)] if evidence.rankings["p"].notna().any() else []
    adaptation = [_adaptation(adapted), _costs(methods)] if len(adapted) else []
    return [mean, *worst, *adaptation, _comparisons(evidence), *ranked]


def _adaptation(adapted: pd.DataFrame) -> Table:
    changes = [
        _number("Changes seen (%)", "hit_rate", scale=100),
        _number("False alarms (%)", "false_alarm_rate", scale=100),
    ]
    return _table(
        "adaptation",
        "Adaptation against none",
        "Error of each adapter against the same network without adaptation, in points with a "
        f"{CONFIDENCE_PERCENT} % interval; p by Holm over the adapters of one network on one stream; trials that "
        "collapsed; modules whose parameters it changed; and, of adapters that look for changes of domain, the share "
        "that they saw at once and the share of other batches with a false alarm.",
        [
            *_method(adapted),
            _number("Without (%)", "unadapted_error", scale=100),
            _number("With (%)", "error", scale=100),
            _between("Change (points)", "difference", "low", "high"),
            _p("p (Holm)", "p"),
            _number("Time, none = 1", "seconds_ratio"),
            _of("Collapsed", "collapsed", "trials"),
            *([_text("Modules changed", "moved")] if adapted["moved"].astype(bool).any() else []),
            *(changes if adapted["hit_rate"].notna().any() else []),
        ],
        adapted,
    )


def _worst(evidence: Evidence, group: str) -> Table:
    drop = f"worst_drop_{group}"
    return _table(
        f"worst-{re.sub(r'[^A-Za-z0-9]+', '-', group)}",
        f"Worst {group}",
        "Largest drop of a group, what chance alone would give, and the permutation test; then the highest error and "
        "CVaR, the mean of the worst groups, in %.",
        [
            *_method(evidence.methods),
            _group(f"Largest drop: {group}", drop),
            _between("Drop (points)", f"{drop}_value", f"{drop}_low", f"{drop}_high"),
            _number("By chance", f"{drop}_null", scale=100),
            _p("p (Holm)", f"{drop}_p_holm"),
            _group(f"Highest error: {group}", f"worst_{group}"),
            _number("Error (%)", f"worst_{group}_error", scale=100),
            _number("CVaR 10 %", f"cvar10_{group}", scale=100),
            _number("CVaR 25 %", f"cvar25_{group}", scale=100),
            _number("Rows", f"worst_{group}_size", grouped=True),
        ],
        evidence.methods[evidence.methods[f"worst_{group}"].notna()],
    )


def _comparisons(evidence: Evidence) -> Table:
    return _table(
        "comparisons",
        "Comparisons",
        f"Error of the first minus error of the second, in points with a {CONFIDENCE_PERCENT} % interval; p by Holm "
        "over the pairs that answer the same question.",
        [
            _text("First", "a"),
            _text("Second", "b"),
            _text("Task", "task"),
            _worded("Question, and what both have", family_in_words),
            _between("Difference (points)", "difference", "low", "high"),
            _units("Test", "test"),
            _p("p (Holm)", "p_holm"),
            _number("Effect", "effect", digits=2),
            _text("Note", "note", wide=True),
        ],
        evidence.comparisons,
    )


def _rankings(evidence: Evidence) -> Table:
    rankings = evidence.rankings[evidence.rankings["p"].notna()]
    return _table(
        "rankings",
        "Rankings",
        "Mean rank over domains, 1 being the lowest error; methods whose mean ranks differ by more than the critical "
        f"difference differ at {100 * LEVEL:g} % (Nemenyi); p is Friedman's, of all methods with the rest in common.",
        [
            _text("Method", "method"),
            _text("Task", "task"),
            _worded("All have", context_in_words),
            _number("Mean rank", "mean_rank", digits=2),
            _number("Error (%)", "error", scale=100),
            _number("Critical difference", "critical_difference", digits=2),
            _p("p", "p"),
            _units("Over"),
        ],
        rankings,
    )


def _costs(methods: pd.DataFrame) -> Table:
    return _table(
        "costs",
        "Cost of adaptation",
        "Passes per batch, time per image (simulated quantization: compare only within this table), what changes and "
        "what is kept beside the model.",
        [
            *_method(methods),
            _number("Forwards", "forwards_per_batch"),
            _number("Backwards", "backwards_per_batch"),
            _number("ms per image", "seconds_per_image", scale=1000, digits=2),
            _number("Adapted parameters", "adapted_parameters", grouped=True),
            _number("Bytes kept", "state_bytes", grouped=True),
        ],
        methods,
    )


def missing_table(run: Run) -> Table | None:
    """Return the trials that failed or were refused, with the reasons; None if there are none."""
    trials = labelled(run)
    missing = trials[trials["status"] != "done"]
    if missing.empty:
        return None
    return _table(
        "trials-missing",
        "Failed and refused trials",
        "A failed trial is tried again by the next run; a refused one is a combination that a method declines.",
        [
            *_method(trials),
            _number("Seed", "seed", grouped=True),
            _text("Status", "status"),
            _text("Reason", "reason", wide=True),
        ],
        missing,
    )
