"""The best of the methods that compete, with what tells it from the others."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.frames.evidence import Evidence
from reports.frames.methods import KEYS, each_row


def best_of_rivals(evidence: Evidence) -> pd.DataFrame:
    """Return ``best`` and ``not_distinct`` of :func:`mean_error`, for the rows of ``evidence.methods``.

    Several are ``best`` where their errors are equal. ``not_compared``: those that no test compares with the best, for
    they are run by another engine or met other images.
    """
    methods = evidence.methods
    table = pd.DataFrame({"best": False, "not_distinct": False, "not_compared": False}, index=methods.index)
    alike = ["task", "stream_label", "bits", "calibration_label", "adapter_label"]
    quantized = methods.loc[~methods["full_precision"], [*KEYS, "bits", "error"]]  # few columns: rows are made of them
    best_ones: list[Any] = []
    near: list[Any] = []
    apart: list[Any] = []
    for _, rivals in quantized.groupby(alike, sort=False):
        if len(rivals) < 2:
            continue
        best: Any = rivals["error"].idxmin()
        lowest = rivals["error"] == rivals.loc[best, "error"]
        best_ones.extend(rivals.index[lowest])
        label = str(rivals.loc[best, "quantizer_label"])
        for row in each_row(rivals[~lowest]):
            found = evidence.against_quantizer(row, label)
            near += [row.Index] if found is not None and not found.shown else []
            apart += [row.Index] if found is None else []
    table.loc[best_ones, "best"] = True
    table.loc[near, "not_distinct"] = True
    table.loc[apart, "not_compared"] = True
    return table
