"""What quantization costs under shift against what it costs on clean images."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import evidence, once
from reports.frames.methods import KEYS, labelled


@once
def shift_excess(run: Run) -> pd.DataFrame:
    """Return ``shift_excess.csv`` for each task's first stream; ``network`` is the label of each network."""
    excess = evidence(run).estimates["shift_excess"]
    trials = labelled(run)
    names = trials.loc[trials["unadapted"], [*KEYS, "network"]].drop_duplicates(KEYS)
    first = trials.drop_duplicates("task")[["task", "stream_label"]]
    return excess.merge(names, on=KEYS).merge(first, on=["task", "stream_label"])
