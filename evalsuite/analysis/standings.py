"""What a leaderboard shows of a run: a row per method combination, with what its calibration set may change."""

from __future__ import annotations

import pandas as pd

from evalsuite.analysis.outcomes import COMBINATION
from evalsuite.store import Run

_OF_SUMMARY = ("bits", "seeds", "images", "unit", "error", "error_low", "error_high", "drop", "drop_low", "drop_high")
_OF_CLASS = ("", "_value", "_low", "_high", "_null", "_p_holm", "_shown")
_OF_CHANGE = {
    "calibration_label": "calibration_set",
    "difference": "calibration_change",
    "low": "calibration_low",
    "high": "calibration_high",
    "p_holm": "calibration_p_holm",
    "shown": "calibration_shown",
}
_NETWORK = ["task", "quantizer_label", "adapter_label", "stream_label"]

STANDING_COLUMNS = (
    *COMBINATION,
    "full_precision",
    *_OF_SUMMARY,
    *(f"worst_drop_class{suffix}" for suffix in _OF_CLASS),
    *_OF_CHANGE.values(),
    "calibration_sets",
)


def standings(run: Run, summary: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the columns ``STANDING_COLUMNS`` of every row of a run's ``summary.csv``.

    ``full_precision`` says whether the network is not quantized. ``calibration_change`` is the largest increase of the
    mean error, over the calibration sets of the network but the study's first one, against that one
    (``comparisons.csv``), with its interval, Holm's p over the ``calibration_sets`` compared, and which set it is;
    missing where a network has seen one set. Fractions.
    """
    changes = comparisons[(comparisons["factor"] == "calibration") & comparisons["difference"].notna()]
    largest = changes.loc[changes.groupby(_NETWORK, sort=False)["difference"].idxmax()]
    numbers = changes.groupby(_NETWORK, sort=False).size().rename("calibration_sets").reset_index()
    # What varies is in ``a``: the column of the label is empty, for the two have no set in common.
    named = largest.drop(columns="calibration_label").rename(columns={"a": "calibration_label"})
    named = named[[*_NETWORK, *_OF_CHANGE]].rename(columns=_OF_CHANGE)
    full = set(run.trials.loc[run.trials["weight_bits"].isna(), "quantizer_label"])
    rows = summary.assign(full_precision=summary["quantizer_label"].isin(full))
    rows = rows.merge(named, on=_NETWORK, how="left").merge(numbers, on=_NETWORK, how="left")
    return rows[list(STANDING_COLUMNS)]
