"""Networks on engines against their simulation."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import evidence, once
from reports.frames.methods import KEYS, labelled


@once
def engine_gaps(run: Run) -> pd.DataFrame:
    """Return ``engine_gaps.csv`` of the networks without adaptation, for each task's first stream.

    ``network`` is their label; the row about all images has the ``domain`` "" and comes before those of its domains.
    """
    gaps = evidence(run).estimates["engine_gaps"]
    trials = labelled(run)
    names = trials.loc[trials["unadapted"], [*KEYS, "network"]].drop_duplicates(KEYS)
    first = trials.drop_duplicates("task")[["task", "stream_label"]]
    return gaps.merge(names, on=KEYS).merge(first, on=["task", "stream_label"])


def over_all_images(gaps: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that are about all images."""
    return gaps[gaps["domain"].fillna("") == ""]  # a CSV holds nothing there
