"""What the diagnoses of a run's networks found, layer by layer and domain by domain."""

from __future__ import annotations

import pandas as pd

from evalsuite.diagnoses import CALIBRATION
from evalsuite.store import Run
from reports.frames.evidence import evidence, once
from reports.frames.methods import DOMAINS, labelled, with_room

_NETWORK = ["task", "calibration_label", "quantizer_label"]
_ORDER = {CALIBRATION: -1} | DOMAINS


@once
def diagnosis(run: Run) -> pd.DataFrame:
    """Return ``diagnosis.csv`` with ``network``, in the study's order, then by layer and by domain.

    ``column`` numbers the domains that a task's networks were looked into under, calibration images first.
    """
    found = evidence(run).estimates["diagnosis"]
    trials = with_room(labelled(run))
    order = ["task_order", "network_order"]
    # Of a network on an engine the simulation was looked into, which comes under its own label.
    names = trials.drop_duplicates(_NETWORK)[[*_NETWORK, "network", *order]]
    table = found.merge(names, on=_NETWORK)
    table["domain_order"] = table["domain"].map(lambda name: _ORDER.get(str(name), len(DOMAINS)))
    by_domain = ["domain_order", "domain", "severity"]
    columns = table[["task", *by_domain]].drop_duplicates().sort_values(["task", *by_domain])
    columns["column"] = columns.groupby("task").cumcount()
    table = table.merge(columns, on=["task", *by_domain])
    return table.sort_values([*order, "place", "column"], ignore_index=True).drop(columns=["domain_order", *order])


def of_domains(found: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that are about domains, not about calibration images."""
    return found[found["domain"] != CALIBRATION]
