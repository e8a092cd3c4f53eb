"""What a figure compares: quantizers all else equal, and adapters on one quantized network."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import evidence

VIEW = ["task", "view", "stream_label"]
QUANTIZERS = "quantizers"
"""The view that has the networks without adaptation; another is named after the network that its adapters are on."""


def views(run: Run) -> pd.DataFrame:
    """Return ``views.csv``: the method combinations drawn against each other, a row per (task, view, stream, line)."""
    return evidence(run).estimates["views"]


def first_stream(views: pd.DataFrame) -> pd.DataFrame:
    """Keep each task's first stream."""
    first = views.drop_duplicates("task")[["task", "stream_label"]]
    return views.merge(first, on=["task", "stream_label"])
