"""Networks on engines against their simulation."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import evidence, once
from reports.frames.methods import unadapted_first


@once
def engine_gaps(run: Run) -> pd.DataFrame:
    """Return ``engine_gaps.csv`` of the networks without adaptation, for each task's first stream.

    ``network`` is their label; the row about all images has the ``domain`` "" and comes before those of its domains.
    """
    return unadapted_first(run, evidence(run).estimates["engine_gaps"])


def over_all_images(gaps: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that are about all images."""
    return gaps[gaps["domain"].fillna("") == ""]  # a CSV holds nothing there
