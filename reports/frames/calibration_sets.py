"""What the calibration sets of a run are, how they differ from the study's first one, and what that changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json
from evalsuite.optional_members import factor_of
from reports.frames.evidence import evidence, once
from reports.frames.methods import labelled, readable

if TYPE_CHECKING:
    from evalsuite.store import Run

SEVERAL = "several steps"

_TESTED = ["difference", "low", "high", "p_holm", "n", "unit", "note"]
_SETS = ["task", "calibration_label", "calibration_order", "factor", "factor_order", "level", "steps"]
_EFFECTS = [
    *("task", "stream_label", "adapter_label", "quantizer_label", "quantizer_order", "bits"),
    *("calibration_label", "calibration_order", "factor", "factor_order", "level", "first"),
    *("difference", "low", "high", "p_holm", "n", "unit", "note", "draws"),
    *("worst_class", "worst_drop", "first_worst_class", "first_worst_drop"),
    *("worst_change", "worst_low", "worst_high", "sets"),
]


@once
def calibration_sets(run: Run) -> pd.DataFrame:
    """Return a row per (task, calibration set) that a quantizer saw, in the study's order; the first is the baseline.

    Returns
    -------
    ``steps`` is the column ``calibration`` of ``trials.parquet``; ``factor`` is the kind of step that differs from
    the first set (its steps' ``factor``), empty for the first; ``level`` is the label without what it has in common
    with that of the first.
    """
    trials = labelled(run)
    own = trials[~trials["full_precision"]].drop_duplicates(["task", "calibration_label"])
    rows: list[dict[str, Any]] = []
    for task, sets in own.groupby("task", sort=False):
        first = sets.iloc[0]
        for order, (label, steps) in enumerate(zip(sets["calibration_label"], sets["calibration"], strict=True)):
            rows.append(
                {
                    "task": task,
                    "calibration_label": label,
                    "calibration_order": order,
                    "factor": factor(json.loads(steps), json.loads(first["calibration"])) if order else "",
                    "level": readable(str(label).removeprefix(f"{first['calibration_label']}, ")),
                    "steps": steps,
                }
            )
    frame = pd.DataFrame(rows, columns=[name for name in _SETS if name != "factor_order"])
    places = {name: place for place, name in enumerate(dict.fromkeys(["", *frame["factor"]]))}
    return frame.assign(factor_order=frame["factor"].map(places))[_SETS]


def factor(steps: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    """Return what kind of step of a calibration set is not in the first one, or is missing from it."""
    own, base = ({canonical_json(step): str(step["name"]) for step in each} for each in (steps, first))
    differing = [name for text, name in own.items() if text not in base]
    differing = differing or [name for text, name in base.items() if text not in own]
    kinds = {kind_of_change(name) for name in differing}
    return kinds.pop() if len(kinds) == 1 else SEVERAL


def kind_of_change(step: str) -> str:
    """Return what kind of change an installed calibration step makes, as its class says; else its own name.

    A report runs no code that a run's files name: they may be a stranger's, and a step may not be installed here.
    """
    if step not in registry.names("protocols"):
        return readable(step)
    try:
        return factor_of(registry.load("protocols", step)) or readable(step)
    except RequestError:  # a package that is broken here
        return readable(step)


@once
def effects(run: Run) -> pd.DataFrame:
    """Return what each calibration set changes against the study's first one, a row per network without adaptation.

    For a task's first stream. ``difference``, ``low``, ``high``, ``p_holm`` (Holm over the sets of one network),
    ``n``, ``unit`` and ``note`` are of ``comparisons.csv``, for the mean error. ``worst_change`` is the largest drop
    of a class (``worst_class``) minus the largest one with the first set (``first_worst_class``), over the ``draws``
    done for both, with an interval that holds whichever classes are the worst
    (:func:`evalsuite.statistics.largest_mean_bounds`) and is wide. Fractions.
    """
    sets, found = calibration_sets(run), evidence(run)
    changes = found.estimates["calibration_changes"].drop(columns="shown")
    if changes.empty:
        return pd.DataFrame(columns=_EFFECTS)
    pairs = found.comparisons[found.comparisons["factor"] == "calibration"]
    tested = pairs.rename(columns={"a": "calibration_label", "b": "first"} | {"calibration_label": "varied"})
    alike = ["task", "quantizer_label", "adapter_label", "stream_label", "calibration_label", "first"]
    frame = changes.merge(tested[[*alike, *_TESTED]], on=alike)
    frame = frame.merge(sets, on=["task", "calibration_label"])
    trials = labelled(run)
    quantized = trials.loc[~trials["full_precision"], "quantizer_label"].unique()
    places = {label: place + 1 for place, label in enumerate(quantized)}
    tasks = {task: place for place, task in enumerate(sets["task"].unique())}
    frame = frame.assign(task_order=frame["task"].map(tasks), quantizer_order=frame["quantizer_label"].map(places))
    by = ["task_order", "factor_order", "calibration_order", "quantizer_order"]
    return frame.sort_values(by, ignore_index=True)[_EFFECTS]
