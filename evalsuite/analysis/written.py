"""The tables of a run as its report has written them, where they are of its trials as they are now; else made anew."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from evalsuite.analysis._settings import Settings, baselines, first_calibrations
from evalsuite.analysis.comparisons import COMPARISON_COLUMNS, comparisons_of
from evalsuite.analysis.outcomes import COMBINATION, read_outcomes
from evalsuite.analysis.summary import SUMMARY_COLUMNS, summary_of
from evalsuite.files import read_csv
from evalsuite.oracles import without_oracles
from evalsuite.store import Run

_COLUMNS = {"summary": SUMMARY_COLUMNS, "comparisons": COMPARISON_COLUMNS}
_TEXT = (
    *COMBINATION,
    *("bits", "unit", "family", "question", "factor", "context", "a", "b", "test", "effect_name", "note"),
    *("worst_class", "worst_drop_class", "worst_domain", "worst_drop_domain", "worst_class_note"),
)
_TOLERANCE = 1e-9  # a CSV holds a number in all its digits


def summary_and_comparisons(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``summary.csv`` and ``comparisons.csv`` of a run, as files where its report has written them.

    The files are taken where they have the columns of this version and one row, with the same number of seeds and the
    same error, for every method combination of which a trial is done: those of an earlier state of the run have not.

    Raises
    ------
    RequestError
        If the run's records, which are then needed, are broken.
    """
    written = _read(run)
    if written is not None and _is_of(written["summary"], run):
        return written["summary"], written["comparisons"]
    outcomes, settings, unadapted, first = read_outcomes(run), Settings.of(run), baselines(run), first_calibrations(run)
    return summary_of(outcomes, unadapted, settings), comparisons_of(outcomes, unadapted, first, settings)


def _read(run: Run) -> Mapping[str, pd.DataFrame] | None:
    """Return the tables of a report that are in a run's folder; None unless all are there and whole."""
    found = {}
    for name, columns in _COLUMNS.items():
        try:
            found[name] = read_csv(run.folder / f"{name}.csv", _TEXT)
        except (OSError, ValueError):  # of pandas, of an encoding
            return None
        if not {*columns} <= {*found[name].columns}:
            return None
    return found


def _is_of(summary: pd.DataFrame, run: Run) -> bool:
    trials = without_oracles(run.trials)
    done = trials[trials["status"] == "done"]
    keys = list(COMBINATION)
    if done.empty or summary.duplicated(keys).any():
        return False
    now = done.groupby(keys, sort=False).agg(seeds=("seed", "size"), error=("error", "mean")).reset_index()
    known = summary[[*keys, "seeds", "error"]]
    both = now.merge(known, on=keys, how="outer", suffixes=("", "_known"))
    same = np.isclose(both["error"].astype(float), both["error_known"].astype(float), rtol=0, atol=_TOLERANCE)
    return bool(same.all() and (both["seeds"] == both["seeds_known"]).all())
