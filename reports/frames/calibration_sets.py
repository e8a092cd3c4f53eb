"""What the calibration sets of a run are, how they differ from the study's first one, and what that changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evalsuite.analysis.claims import LEVEL
from evalsuite.analysis.outcomes import Combination, Outcome, pooled
from evalsuite.hashing import canonical_json
from evalsuite.metrics import group_means
from evalsuite.statistics import difference_bounds, largest_mean_bounds
from reports.frames.evidence import evidence, once, outcomes_of
from reports.frames.methods import as_rows, labelled, readable

if TYPE_CHECKING:
    from evalsuite.store import Run

FACTORS = {
    "calibration": "size",
    "balanced": "class composition",
    "long_tail": "class composition",
    "noise": "noise",
    "other_data_set": "out of distribution",
    "synthetic": "out of distribution",
    "augmentation": "augmentation",
    "sampling": "sampling",
}
"""What people call the change that a step makes; a step that is not here goes by its own name."""
SEVERAL = "several steps"

_CHUNK = 32  # calibration sets whose values are held at once
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
    the first set (``FACTORS``), empty for the first; ``level`` is the label without what it has in common with that
    of the first.
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
    places = {name: place for place, name in enumerate(["", *dict.fromkeys(FACTORS.values())])}
    others = [name for name in frame["factor"].unique() if name not in places]
    places |= {name: len(places) + place for place, name in enumerate(others)}
    return frame.assign(factor_order=frame["factor"].map(places))[_SETS]


def factor(steps: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    """Return what kind of step of a calibration set is not in the first one, or is missing from it."""
    own, base = ({canonical_json(step): str(step["name"]) for step in each} for each in (steps, first))
    differing = [name for text, name in own.items() if text not in base]
    differing = differing or [name for text, name in base.items() if text not in own]
    kinds = {FACTORS.get(name, readable(name)) for name in differing}
    return kinds.pop() if len(kinds) == 1 else SEVERAL


@once
def effects(run: Run) -> pd.DataFrame:
    """Return what each calibration set changes against the study's first one, a row per network without adaptation.

    For a task's first stream. ``difference``, ``low``, ``high``, ``p_holm`` (Holm over the sets of one network),
    ``n``, ``unit`` and ``note`` are of ``comparisons.csv``, for the mean error. ``worst_change`` is the largest drop
    of a class (``worst_class``) minus the largest one with the first set (``first_worst_class``), over the ``draws``
    done for both, with an interval that holds whichever classes are the worst
    (:func:`evalsuite.statistics.largest_mean_bounds`) and is wide. Fractions.
    """
    sets = calibration_sets(run)
    comparisons = evidence(run).comparisons
    pairs = comparisons[comparisons["factor"] == "calibration"]
    tested = {(row["task"], row["context"], row["a"]): row for row in as_rows(pairs)}
    columns = ["difference", "low", "high", "n", "unit", "note"]
    rows: list[dict[str, Any]] = []
    for quantizer, found in _families(run):
        base, others = found[0], found[1:]
        context = f"quantizer {base.quantizer}, adapter {base.adapter}, stream {base.stream}"
        for other, worst in zip(others, _worst_changes(run, base, others), strict=True):
            own = tested[base.task, context, other.calibration]
            rows.append(
                {"task": base.task, "stream_label": base.stream, "adapter_label": base.adapter}
                | {"quantizer_label": base.quantizer, "quantizer_order": quantizer, "bits": base.facts["bits"]}
                | {"calibration_label": other.calibration, "first": base.calibration, "sets": len(others)}
                | {name: own[name] for name in columns}
                | {"p_holm": own["p_holm"]}
                | worst
            )
    if not rows:
        return pd.DataFrame(columns=_EFFECTS)
    frame = pd.DataFrame(rows).merge(sets, on=["task", "calibration_label"])
    tasks = {task: place for place, task in enumerate(sets["task"].unique())}
    frame = frame.assign(task_order=frame["task"].map(tasks))
    by = ["task_order", "factor_order", "calibration_order", "quantizer_order"]
    return frame.sort_values(by, ignore_index=True)[_EFFECTS]


def _families(run: Run) -> Iterator[tuple[int, list[Combination]]]:
    """Yield the calibration sets of each unadapted network in a task's first stream, the study's first set first."""
    trials = labelled(run)
    unadapted = set(trials.loc[trials["unadapted"], "adapter_label"])
    streams = trials.drop_duplicates("task").set_index("task")["stream_label"].to_dict()
    quantized = trials.loc[~trials["full_precision"], "quantizer_label"].unique().tolist()
    first = calibration_sets(run).drop_duplicates("task").set_index("task")["calibration_label"].to_dict()
    families: dict[tuple[str, str, str], list[Combination]] = {}
    for each in outcomes_of(run).combinations:
        if each.quantizer in quantized and each.adapter in unadapted and each.stream == streams[each.task]:
            families.setdefault((each.task, each.quantizer, each.adapter), []).append(each)
    for found in families.values():
        if len(found) > 1 and found[0].calibration == first[found[0].task]:
            yield quantized.index(found[0].quantizer) + 1, found


def _worst_changes(run: Run, base: Combination, others: list[Combination]) -> list[dict[str, Any]]:
    """Return the columns on the worst class, of each of ``others`` against ``base``."""
    outcomes = outcomes_of(run)
    references = {seed: ref for seed, name in base.references.items() if (ref := outcomes.by_trial.get(name))}
    both = [_common(base, other, references) for other in others]
    found: list[dict[str, Any]] = [{"draws": len(seeds)} for seeds in both]
    items = [(base.task, [references[seed] for seed in seeds]) for seeds in both]
    for rows, members in outcomes.batches(items):
        right = pooled(items[members[0]][1])
        codes, names = rows.group("class")
        for start in range(0, len(members), _CHUNK):
            part = members[start : start + _CHUNK]
            own = np.column_stack([pooled(others[k].outcomes[seed] for seed in both[k]) for k in part]) - right[:, None]
            first = pooled(base.outcomes[seed] for seed in both[part[0]]) - right
            (drops, _), (base_drops, _) = (group_means(each, codes, len(names)) for each in (own, first))
            worst, base_worst = drops.argmax(axis=0), int(base_drops.argmax())
            bounds = difference_bounds(
                *(
                    largest_mean_bounds(each, codes, rows.image, rows.replicate, level=1 - LEVEL / 2, signed=True)
                    for each in (own, first)
                )
            )
            for k, member in enumerate(part):
                change = float(drops[worst[k], k] - base_drops[base_worst])
                found[member] |= {
                    "worst_class": names[worst[k]],
                    "worst_drop": float(drops[worst[k], k]),
                    "first_worst_class": names[base_worst],
                    "first_worst_drop": float(base_drops[base_worst]),
                    "worst_change": change,
                    "worst_low": float(bounds.low[k]),
                    "worst_high": float(bounds.high[k]),
                }
    return found


def _common(base: Combination, other: Combination, references: dict[int, Outcome]) -> list[int]:
    """Return the seeds of which both and their reference are done, none unless all show the same images."""
    seeds = [seed for seed in other.outcomes if seed in base.outcomes and seed in references]
    shown = [{id(each[seed].layout) for each in (base.outcomes, other.outcomes, references)} for seed in seeds]
    return seeds if all(len(layouts) == 1 for layouts in shown) else []
