"""What adapters do to a network's error on a stream, what they cost, and whether they see the domain change."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalsuite.analysis.detection import WITHIN
from reports.frames.evidence import evidence, once
from reports.frames.methods import KEYS, ORDER, each_row

if TYPE_CHECKING:
    from evalsuite.store import Run

_ALIKE = ["task", "calibration_label", "quantizer_label", "stream_label"]
_COSTS = ["forwards_per_batch", "backwards_per_batch", "seconds_per_image"]
_TESTED = ["difference", "low", "high", "p", "n", "note"]
_COUNTED = ("hits", "changes", "alarms", "others")
_COUNTS = [f"{name}_{within}" for within in WITHIN for name in _COUNTED]
_RATES = ["hit_rate", "false_alarm_rate"]
_COLUMNS = [
    *(*KEYS, "network", *ORDER, "error", "unadapted_error", *_TESTED),
    *(*_COSTS, "seconds_ratio", "trials", "collapsed", "moved", *_COUNTS, *_RATES),
]
_MODULES, _ROOT = "adapted_modules", "(root)"  # the network's own parameters have no module's name


@once
def adaptation(run: Run) -> pd.DataFrame:
    """Return a row per adapter, network and stream of which the unadapted network is there too, in the study's order.

    Returns
    -------
    ``difference`` (adapted minus unadapted error), ``low``, ``high``, ``p``, ``n`` and ``note`` are those of
    ``comparisons.csv``, ``p`` being corrected over the adapters of one network and stream.
    ``seconds_ratio`` is the time an image over that without adaptation. ``collapsed`` counts the ``trials`` that did;
    ``moved`` says which modules' parameters the adapter changed. ``hits_K``, ``changes_K``, ``alarms_K`` and
    ``others_K``, for reports within K batches, and the rates within one batch are those of ``detections.csv``, missing
    where that has no row.
    """
    found = evidence(run)
    methods = found.methods
    bases = {tuple(getattr(row, name) for name in _ALIKE): row for row in each_row(methods[methods["unadapted"]])}
    facts = _by_combination(run)
    rows = []
    for row in each_row(methods[~methods["unadapted"]]):
        key = tuple(getattr(row, name) for name in _ALIKE)
        if key not in bases or pd.isna(row.error):
            continue
        base = bases[key]
        tested = found.against_unadapted(row, str(base.adapter_label))
        own = {name: getattr(row, name) for name in (*KEYS, "network", *ORDER, "error", *_COSTS)}
        own |= {name: getattr(tested, name, None) for name in _TESTED} | {"unadapted_error": base.error}
        own["seconds_ratio"] = row.seconds_per_image / base.seconds_per_image if base.seconds_per_image else None
        rows.append(own | facts[tuple(getattr(row, name) for name in KEYS)])
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    numbers = [name for name in _COLUMNS if name not in (*KEYS, "network", "note", "moved")]
    return frame.astype(dict.fromkeys(numbers, float))


def _by_combination(run: Run) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return what is counted over the trials of each method combination that are done."""
    trials = run.trials[run.trials["status"] == "done"]
    facts = {}
    for key, rows in trials.groupby(KEYS, sort=False):
        facts[tuple(map(str, key))] = {
            "trials": len(rows),
            "collapsed": int(rows["collapsed_at"].notna().sum()),
            "moved": _moved(rows["adapter_facts"].dropna()),
        }
    for row in each_row(evidence(run).estimates["detections"]):
        counts = {f"{name}_{row.within}": getattr(row, name) for name in _COUNTED}
        rates = {name: getattr(row, name) for name in _RATES} if row.within == WITHIN[0] else {}
        facts[tuple(str(getattr(row, name)) for name in KEYS)] |= counts | rates
    return facts


def _moved(told: Iterable[str]) -> str:
    """Say which modules an adapter changed the parameters of in any trial: their number, the first and the last."""
    modules = list(dict.fromkeys(name or _ROOT for facts in told for name in json.loads(facts).get(_MODULES, ())))
    if len(modules) < 3:
        return ", ".join(modules)
    return f"{len(modules)}: {modules[0]} to {modules[-1]}"
