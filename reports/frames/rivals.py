"""The best of the methods that compete, with what tells it from the others."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.frames.evidence import Evidence
from reports.frames.methods import each_row


def best_of_rivals(evidence: Evidence) -> pd.DataFrame:
    """Return ``best`` and ``not_distinct`` of :func:`mean_error`, for the rows of ``evidence.methods``."""
    methods = evidence.methods
    table = pd.DataFrame({"best": False, "not_distinct": False}, index=methods.index)
    alike = ["task", "stream_label", "bits", "calibration_label", "adapter_label"]
    for _, rivals in methods[~methods["full_precision"]].groupby(alike, sort=False):
        if len(rivals) < 2:
            continue
        best: Any = rivals["error"].idxmin()
        table.loc[best, "best"] = True
        for row in each_row(rivals.drop(index=best)):
            found = evidence.against_quantizer(row, str(rivals.loc[best, "quantizer_label"]))
            table.loc[row.Index, "not_distinct"] = found is None or not found.shown
    return table
