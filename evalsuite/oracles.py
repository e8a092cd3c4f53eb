"""Trials of oracles: adapters that are told the labels, and so are no methods that anything may be compared with."""

from __future__ import annotations

import pandas as pd

ORACLE = "oracle"
"""Column of ``trials.parquet`` in runs with oracles: true for theirs, else null."""


def oracles(trials: pd.DataFrame) -> pd.Series:
    """Return which rows of a table of trials are oracles'."""
    return trials[ORACLE].notna() if ORACLE in trials else pd.Series(False, trials.index)


def without_oracles(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of trials that are of methods."""
    return trials[~oracles(trials)] if ORACLE in trials else trials
