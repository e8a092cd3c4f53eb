"""Each calibration draw for itself, and which class is worst in most of them."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS


def by_draw(run: Run) -> pd.DataFrame:
    """Return ``calibration_draws.csv``: a row per (method combination, seed) whose reference is done."""
    return evidence(run).estimates["calibration_draws"]


def worst_classes(run: Run) -> pd.DataFrame:
    """Return a row per method combination of several draws: the class most often worst, and in how many of them.

    Columns: ``worst_class``, ``times``, ``draws``. Of classes that are worst equally often the first is named.
    """
    table = evidence(run).estimates["across_draws"]
    return table.loc[table["draws"] > 1, [*KEYS, "worst_class", "times", "draws"]].reset_index(drop=True)
