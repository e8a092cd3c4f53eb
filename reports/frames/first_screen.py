"""What the first screen of a run's page shows: every network beside chance, and every pair of network and adapter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import Evidence, family_sizes, least_p, with_room
from reports.frames.methods import KEYS

_EDGES = ("drop_low", "drop_high", "worst_drop_class_low", "worst_drop_class_high")


def networks(run: Run, evidence: Evidence) -> pd.DataFrame:
    """Return the quantized networks of every task on its first stream, the least reliable first.

    Returns
    -------
    Rows of ``evidence.methods`` without adaptation (where a task has none such: with it), of the first calibration set
    where there are many, with ``chance_high``: the largest drop of a class that is not shown to be beyond chance
    (``high`` of ``group_drops.csv``), NaN where no test was made. A fraction.
    """
    shown = with_room(evidence)
    parts = [by_reliability(run, shown, str(task)) for task in run.trials["task"].unique()]
    rows = pd.concat(parts, ignore_index=True) if parts else by_reliability(run, shown, "")  # no trial has ended
    drops = evidence.estimates["group_drops"]
    edges = drops[drops["group"] == "class"].drop_duplicates(KEYS).set_index(KEYS)["high"].rename("chance_high")
    return rows.join(edges.astype(float), on=KEYS)


def span(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the least and the largest drop that a picture of networks has to show, 0 among them; fractions."""
    values = rows[[*_EDGES, "drop", "worst_drop_class_value"]].to_numpy(float)
    values = values[~np.isnan(values)]
    return (min(0.0, float(values.min())), max(0.0, float(values.max()))) if len(values) else (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Matrix:
    """Networks down, adapters across, of one task and stream."""

    task: str
    stream: str
    adapters: tuple[str, ...]
    rows: pd.DataFrame
    """Rows of ``Evidence.methods``, network by network."""


def matrices(evidence: Evidence) -> list[Matrix]:
    """Return a matrix for every task and stream, in the study's order, the first calibration set where there are many.

    The unadapted full-precision network, from which drops are counted, stays as a row. All have the same adapters: one
    that a task's networks refuse shows that by its column.
    """
    methods = with_room(evidence).methods
    adapters = tuple(map(str, methods.sort_values("adapter_order")["adapter_label"].unique()))
    grouped = methods.groupby(["task", "stream_label"], sort=False)
    return [Matrix(str(task), str(stream), adapters, own) for (task, stream), own in grouped]


def by_reliability(run: Run, evidence: Evidence, task: str) -> pd.DataFrame:
    """Return a task's quantized networks, unadapted if there are such, the least reliable in its worst class first.

    Those beyond chance come before the others, then the largest drop decides, then the mean drop. All are of one
    stream: that of the first.
    """
    methods = evidence.methods[evidence.methods["task"] == task]
    methods = methods.assign(least_p=[least_p(run, int(tests)) for tests in family_sizes(methods)])
    own = methods[~methods["full_precision"]]
    own = own[own["unadapted"]] if own["unadapted"].any() else own
    own = own.assign(beyond=own["worst_drop_class_shown"])
    own = worst_first(own)
    return own[own["stream_label"] == own["stream_label"].iloc[0]] if len(own) else own


def worst_first(methods: pd.DataFrame) -> pd.DataFrame:
    """Sort networks: those beyond chance first, then :func:`largest_drop_first`."""
    return largest_drop_first(methods).sort_values("beyond", ascending=False, kind="stable")


def largest_drop_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by the largest drop of a class, then by the mean drop.

    Where classes have an image or two, many networks lose all of one.
    """
    return rows.sort_values(["worst_drop_class_value", "drop"], ascending=False, kind="stable")
