"""Whether adapters see the domain change: what they reported, held against what the stream showed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.adaptation.batches import flags
from evalsuite.analysis._settings import Settings
from evalsuite.analysis.outcomes import COMBINATION, Combination, Outcomes
from evalsuite.analysis.stream_rows import StreamRows, stream_rows
from evalsuite.metrics import ChangeDetection, change_detection
from evalsuite.store import Run

WITHIN = (1, 2)
"""Batches that a report of a new domain may take."""
DETECTION_COLUMNS = (
    *(*COMBINATION, "within", "trials", "hits", "changes", "alarms", "others"),
    *("hit_rate", "false_alarm_rate"),
)
_CHANGES, _JUDGED = "domain_changes", "judged_batches"


def detections_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return a row per method combination whose adapter says when it saw a new domain, and per ``WITHIN``.

    Returns
    -------
    ``hits``, ``changes``, ``alarms`` and ``others`` summed over ``trials``, one a seed
    (:func:`evalsuite.metrics.change_detection`); ``hit_rate`` hits of changes, ``false_alarm_rate`` alarms of others.
    Left out are streams in which nearly every image is of another domain than the last, so that there is no change to
    see, and what was recorded before records said their batch.
    """
    rows = run.trials.set_index("trial", drop=False)
    streams: dict[str, StreamRows] = {}
    found = [
        combination.labels | _counted(detections, within)
        for combination in outcomes.combinations
        if (detections := list(_detections(run, rows, combination, streams)))
        for within in WITHIN
    ]
    frame = pd.DataFrame(found, columns=list(DETECTION_COLUMNS[:-2]))
    return frame.assign(
        hit_rate=frame["hits"] / frame["changes"].where(frame["changes"] > 0),
        false_alarm_rate=frame["alarms"] / frame["others"].where(frame["others"] > 0),
    )


def _counted(detections: list[dict[int, ChangeDetection]], within: int) -> dict[str, int]:
    names = ("hits", "changes", "alarms", "others")
    sums = {name: sum(getattr(trial[within], name) for trial in detections) for name in names}
    return {"within": within, "trials": len(detections)} | sums


def _detections(
    run: Run, rows: pd.DataFrame, combination: Combination, streams: dict[str, StreamRows]
) -> Iterator[dict[int, ChangeDetection]]:
    """Yield how well the adapter did in each trial, by ``WITHIN``; ``streams``: those read already, by digest."""
    for outcome in combination.outcomes.values():
        row: Any = rows.loc[outcome.trial]
        facts = json.loads(row["adapter_facts"]) if isinstance(row["adapter_facts"], str) else {}
        if _CHANGES not in facts:
            continue
        digest = str(row["stream_digest"])
        if digest not in streams:
            streams[digest] = stream_rows(run, row)
        stream = streams[digest]
        if stream.starts is None or stream.stretch[-1] > len(stream.starts):
            continue
        judged = flags(facts[_JUDGED], len(stream.starts)) if _JUDGED in facts else None
        table = run.records_of(outcome.trial, ["position", "reset"]).to_pandas().sort_values("position")
        resets = table["reset"].to_numpy(np.bool_)[stream.starts]
        yield {
            within: change_detection(stream.domain, stream.starts, facts[_CHANGES], judged, resets, within=within)
            for within in WITHIN
        }
