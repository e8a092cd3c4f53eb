"""The tables of the page of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pandas as pd

from evalsuite.analysis.claims import LEVEL
from evalsuite.analysis.families import context_in_words, family_in_words
from reports.frames.evidence import Evidence
from reports.page.cells import (
    Column,
    Table,
    group_column,
    interval_column,
    number_column,
    p_column,
    share_column,
    table_of,
    text_column,
    units_column,
    worded_column,
)
from reports.words.numbers import CONFIDENCE_PERCENT

_Marks = Callable[[pd.DataFrame], Sequence[str]] | None


def _method(frame: pd.DataFrame) -> list[Column]:
    """Columns that name a method; task and stream only where there are several."""
    several = [("Task", "task"), ("Stream", "stream_label")]
    names = [("Network", "network"), ("Adapter", "adapter_label")]
    names += [(label, field) for label, field in several if frame[field].nunique() > 1]
    return [text_column(label, field, holds=label.lower()) for label, field in names]


def result_tables(evidence: Evidence, adapted: pd.DataFrame, marks: _Marks = None) -> list[Table]:
    """Return the tables of mean errors, worst groups, adaptation and costs, comparisons, rankings.

    ``adapted`` is :func:`reports.frames.adaptation.adaptation`; without a row there is no table of adaptation and
    costs, and without a test no table of rankings. ``marks`` says which method combinations rows are about.
    """
    methods = evidence.methods
    worst = [_worst(evidence, group, marks) for group in evidence.groups]
    mean = table_of(
        "mean",
        "Mean error and drop",
        "Error in %, drop in points against full precision without adaptation, with "
        f"{CONFIDENCE_PERCENT} % intervals; ECE in points.",
        [
            *_method(methods),
            interval_column("Error (%)", "error", "error_low", "error_high"),
            interval_column("Drop (points)", "drop", "drop_low", "drop_high"),
            number_column("ECE", "ece", scale=100),
            number_column("Seeds", "seeds", grouped=True),
            number_column("Images", "images", grouped=True),
        ],
        methods,
        marks,
        explained=True,
    )
    ranked = [_rankings(evidence, marks)] if evidence.rankings["p"].notna().any() else []
    adaptation = [_adaptation(adapted, marks), _costs(methods, marks)] if len(adapted) else []
    return [mean, *worst, *adaptation, _comparisons(evidence, marks), *ranked]


def _adaptation(adapted: pd.DataFrame, marks: _Marks) -> Table:
    changes = [
        number_column("Changes seen (%)", "hit_rate", scale=100),
        number_column("False alarms (%)", "false_alarm_rate", scale=100),
    ]
    return table_of(
        "adaptation",
        "Adaptation against none",
        "Error of each adapter against the same network without adaptation, in points with a "
        f"{CONFIDENCE_PERCENT} % interval; p by Holm over the adapters of one network on one stream; trials that "
        "collapsed; modules whose parameters it changed; and, of adapters that look for changes of domain, the share "
        "that they saw at once and the share of other batches with a false alarm.",
        [
            *_method(adapted),
            number_column("Without (%)", "unadapted_error", scale=100),
            number_column("With (%)", "error", scale=100, holds="adapted_error"),
            interval_column("Change (points)", "difference", "low", "high", holds="adapted_difference"),
            p_column("p (Holm)", "p", holds="adapted_p"),
            number_column("Time, none = 1", "seconds_ratio"),
            share_column("Collapsed", "collapsed", "trials"),
            *([text_column("Modules changed", "moved")] if adapted["moved"].astype(bool).any() else []),
            *(changes if adapted["hit_rate"].notna().any() else []),
        ],
        adapted,
        marks,
        explained=True,
    )


def _worst(evidence: Evidence, group: str, marks: _Marks) -> Table:
    drop = f"worst_drop_{group}"
    return table_of(
        f"worst-{re.sub(r'[^A-Za-z0-9]+', '-', group)}",
        f"Worst {group}",
        "Largest drop of a group, what chance alone would give, and the permutation test; then the highest error and "
        "CVaR, the mean of the worst groups, in %.",
        [
            *_method(evidence.methods),
            group_column(f"Largest drop: {group}", drop, holds="worst_drop"),
            interval_column("Drop (points)", f"{drop}_value", f"{drop}_low", f"{drop}_high", holds="worst_drop_value"),
            number_column("By chance", f"{drop}_null", scale=100, holds="worst_drop_null"),
            p_column("p (Holm)", f"{drop}_p_holm", holds="worst_drop_p"),
            group_column(f"Highest error: {group}", f"worst_{group}", holds="worst"),
            number_column("Error (%)", f"worst_{group}_error", scale=100, holds="worst_error"),
            number_column("CVaR 10 %", f"cvar10_{group}", scale=100, holds="cvar"),
            number_column("CVaR 25 %", f"cvar25_{group}", scale=100, holds="cvar"),
            number_column("Rows", f"worst_{group}_size", grouped=True, holds="worst_size"),
        ],
        evidence.methods[evidence.methods[f"worst_{group}"].notna()],
        marks,
        explained=True,
    )


def _comparisons(evidence: Evidence, marks: _Marks) -> Table:
    return table_of(
        "comparisons",
        "Comparisons",
        f"Error of the first minus error of the second, in points with a {CONFIDENCE_PERCENT} % interval; p by Holm "
        "over the pairs that answer the same question.",
        [
            text_column("First", "a", holds="pair"),
            text_column("Second", "b", holds="pair"),
            text_column("Task", "task"),
            worded_column("Question, and what both have", family_in_words, holds="question"),
            interval_column("Difference (points)", "difference", "low", "high"),
            units_column("Test", "test"),
            p_column("p (Holm)", "p_holm"),
            number_column("Effect", "effect", digits=2),
            text_column("Note", "note", wide=True),
        ],
        evidence.comparisons,
        marks,
        explained=True,
    )


def _rankings(evidence: Evidence, marks: _Marks) -> Table:
    rankings = evidence.rankings[evidence.rankings["p"].notna()]
    return table_of(
        "rankings",
        "Rankings",
        "Mean rank over domains, 1 being the lowest error; methods differ whose mean ranks differ by more than the "
        f"critical difference at {100 * LEVEL:g} % (Nemenyi) and that exchanging them within images tells apart; p is "
        "the larger of Friedman's and Cochran's, of all methods with the rest in common.",
        [
            text_column("Method", "method"),
            text_column("Task", "task"),
            worded_column("All have", context_in_words, holds="context"),
            number_column("Mean rank", "mean_rank", digits=2),
            number_column("Error (%)", "error", scale=100),
            number_column("Critical difference", "critical_difference", digits=2),
            p_column("p", "p", holds="friedman_p"),
            units_column("Over", holds="over"),
        ],
        rankings,
        marks,
        explained=True,
    )


def _costs(methods: pd.DataFrame, marks: _Marks) -> Table:
    return table_of(
        "costs",
        "Cost of adaptation",
        "Passes per batch, time per image (simulated quantization: compare only within this table), what changes and "
        "what is kept beside the model.",
        [
            *_method(methods),
            number_column("Forwards", "forwards_per_batch", holds="forwards"),
            number_column("Backwards", "backwards_per_batch", holds="backwards"),
            number_column("ms per image", "seconds_per_image", scale=1000, digits=2),
            number_column("Adapted parameters", "adapted_parameters", grouped=True),
            number_column("Bytes kept", "state_bytes", grouped=True),
        ],
        methods,
        marks,
        explained=True,
    )


def missing_table(trials: pd.DataFrame, marks: _Marks = None) -> Table | None:
    """Return the trials that failed or were refused, with the reasons; None if there are none.

    ``trials`` is :func:`reports.frames.methods.labelled`.
    """
    missing = trials[trials["status"] != "done"]
    if missing.empty:
        return None
    return table_of(
        "trials-missing",
        "Failed and refused trials",
        "A failed trial is tried again by the next run; a refused one is a combination that a method declines.",
        [
            *_method(trials),
            number_column("Seed", "seed", grouped=True),
            text_column("Status", "status"),
            text_column("Reason", "reason", wide=True),
        ],
        missing,
        marks,
        explained=True,
    )
