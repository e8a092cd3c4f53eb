"""What adapters do to a network's error on a stream, what they cost, and whether they see the domain change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evalsuite.metrics import ChangeDetection, change_detection
from evalsuite.streams import batch_starts
from reports.frames.evidence import evidence, once
from reports.frames.methods import KEYS, ORDER, as_rows, each_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evalsuite.store import Run

WITHIN = (1, 2)
"""Batches that a report of a new domain may take; the first is that of the tables."""

_ALIKE = ["task", "calibration_label", "quantizer_label", "stream_label"]
_COSTS = ["forwards_per_batch", "backwards_per_batch", "seconds_per_image"]
_TESTED = ["difference", "low", "high", "p", "n", "note"]
_COUNTS = [f"{name}_{within}" for within in WITHIN for name in ("hits", "changes", "alarms", "others")]
_COLUMNS = [
    *(*KEYS, "network", *ORDER, "error", "unadapted_error", *_TESTED),
    *(*_COSTS, "seconds_ratio", "trials", "collapsed", "moved", *_COUNTS, "hit_rate", "false_alarm_rate"),
]
_COLLAPSE = "collapse:"  # how the warning of the harness begins
_MODULES, _ROOT = "adapted_modules", "(root)"  # the network's own parameters have no module's name


@once
def adaptation(run: Run) -> pd.DataFrame:
    """Return a row per adapter, network and stream of which the unadapted network is there too, in the study's order.

    Returns
    -------
    ``difference`` (adapted minus unadapted error), ``low``, ``high``, ``p``, ``n`` and ``note`` are those of
    ``comparisons.csv``, ``p`` being corrected over the adapters of one network and stream.
    ``seconds_ratio`` is the time an image over that without adaptation. ``collapsed`` counts the ``trials`` with that
    warning; ``moved`` says which modules' parameters the adapter changed. ``hits_K``, ``changes_K``, ``alarms_K`` and
    ``others_K`` are summed over seeds, for reports within K batches (:func:`evalsuite.metrics.change_detection`),
    missing where the adapter says nothing of domains or the stream has no stretches of one domain; ``hit_rate`` and
    ``false_alarm_rate`` are those within one batch.
    """
    found = evidence(run)
    methods = found.methods
    bases = methods[methods["unadapted"]].set_index(_ALIKE)
    facts = _by_combination(run)
    rows = []
    for row in each_row(methods[~methods["unadapted"]]):
        key = tuple(getattr(row, name) for name in _ALIKE)
        if key not in bases.index or pd.isna(row.error):
            continue
        base = bases.loc[key]
        tested = found.against_unadapted(row, str(base["adapter_label"]))
        own = {name: getattr(row, name) for name in (*KEYS, "network", *ORDER, "error", *_COSTS)}
        own |= {name: getattr(tested, name, None) for name in _TESTED} | {"unadapted_error": base["error"]}
        own["seconds_ratio"] = row.seconds_per_image / base["seconds_per_image"] if base["seconds_per_image"] else None
        rows.append(own | facts[tuple(getattr(row, name) for name in KEYS)])
    frame = pd.DataFrame(rows, columns=_COLUMNS[:-2])
    numbers = [name for name in _COLUMNS[:-2] if name not in (*KEYS, "network", "note", "moved")]
    frame = frame.astype(dict.fromkeys(numbers, float))
    return frame.assign(
        hit_rate=frame["hits_1"] / frame["changes_1"].where(frame["changes_1"] > 0),
        false_alarm_rate=frame["alarms_1"] / frame["others_1"].where(frame["others_1"] > 0),
    )


def _by_combination(run: Run) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return what is counted over the trials of each method combination that are done."""
    trials = run.trials[run.trials["status"] == "done"]
    seen = _detections(run, trials)
    found = {}
    for key, own in trials.groupby(KEYS, sort=False):
        counts: dict[str, Any] = {
            "trials": len(own),
            "collapsed": sum(_collapsed(warnings) for warnings in own["warnings"]),
            "moved": _moved(own["adapter_facts"].dropna()),
        }
        for place, within in enumerate(WITHIN):
            known = [seen[trial][place] for trial in own["trial"] if trial in seen]
            for name in ("hits", "changes", "alarms", "others") if known else ():
                counts[f"{name}_{within}"] = sum(getattr(each, name) for each in known)
        found[tuple(map(str, key))] = counts
    return found


def _moved(told: Iterable[str]) -> str:
    """Say which modules an adapter changed the parameters of in any trial: their number, the first and the last."""
    modules = list(dict.fromkeys(name or _ROOT for facts in told for name in json.loads(facts).get(_MODULES, ())))
    if len(modules) < 3:
        return ", ".join(modules)
    return f"{len(modules)}: {modules[0]} to {modules[-1]}"


def _collapsed(warnings: Any) -> bool:
    return isinstance(warnings, str) and any(part.startswith(_COLLAPSE) for part in warnings.split("; "))


def _detections(run: Run, trials: pd.DataFrame) -> dict[str, list[ChangeDetection]]:
    """Return, by trial whose adapter tells when it saw a new domain, how well it did, for each of ``WITHIN``."""
    streams: dict[str, NDArray[np.int64]] = {}
    found = {}
    for row, told in _telling(trials):
        digest = row["stream_digest"]
        if digest not in streams:
            streams[digest] = _domains(run, row["trial"])
        domain = streams[digest]
        starts = batch_starts(len(domain), int(row["stream.batch_size"]))
        # In a mixed stream nearly every image is of another domain than the last: there is no change to see.
        if len(starts) != row["batches"] or np.count_nonzero(np.diff(domain)) > len(starts):
            continue
        judged = _judged(np.diff(np.append(starts, len(domain))), int(told.get("unjudged", 0)))
        reported = told["domain_changes"]
        found[row["trial"]] = [change_detection(domain, starts, reported, judged, within=each) for each in WITHIN]
    return found


def _telling(trials: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the trials whose adapter says when it saw a new domain, on streams in equal batches and without resets."""
    if "stream.batch_size" not in trials.columns:
        return
    sizes = pd.to_numeric(trials["stream.batch_size"], errors="coerce")
    own = trials.assign(**{"stream.batch_size": sizes})[sizes.notna() & trials["adapter_facts"].notna()]
    for row in as_rows(own):
        told, reset = json.loads(row["adapter_facts"]), row.get("stream.reset")
        # A reset makes the adapter begin anew, so that it has nothing to compare the next batch with.
        if "domain_changes" in told and (pd.isna(reset) or str(reset).strip('"') == "never"):
            yield row, told


def _domains(run: Run, trial: str) -> NDArray[np.int64]:
    """Return the domain (T,) of each image, in stream order."""
    records: pd.DataFrame = run.records_of(trial, ["position", "domain", "severity"]).to_pandas()
    records = records.sort_values("position")
    return pd.factorize(records["domain"].astype(str) + " " + records["severity"].astype(str))[0].astype(np.int64)


def _judged(sizes: NDArray[np.int64], unjudged: int) -> NDArray[np.bool_]:
    """Return which batches were judged: an adapter that leaves some out leaves out the smallest."""
    least = np.sort(sizes)[unjudged - 1] if unjudged else 0
    return sizes > least
