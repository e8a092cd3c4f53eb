"""What quantization costs under shift against what it costs on clean images."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import evidence, once
from reports.frames.methods import unadapted_first


@once
def shift_excess(run: Run) -> pd.DataFrame:
    """Return ``shift_excess.csv`` for each task's first stream; ``network`` is the label of each network."""
    return unadapted_first(run, evidence(run).estimates["shift_excess"])
