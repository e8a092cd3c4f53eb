"""One method against its rivals: the comparisons at equal bits that an audit asks for, corrected as one question."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.statistics import holm

CONTEST_COLUMNS = (
    *("task", "target", "rival", "bits", "calibration_label", "adapter_label", "stream_label"),
    *("test", "unit", "n", "p", "p_holm", "difference", "low", "high", "shown", "level", "note"),
)


def contests_of(comparisons: pd.DataFrame, target: Collection[str]) -> pd.DataFrame:
    """Return the comparisons of a quantizer with others at its bits, in the order of ``comparisons.csv``.

    Parameters
    ----------
    comparisons : ``comparisons.csv``.
    target : the quantizer's labels.

    Returns
    -------
    A row per pair of which one alone is the target's. ``difference``, ``low`` and ``high`` are of the error of
    ``target`` minus that of ``rival``; ``p_holm`` is Holm's over all rows, and ``shown`` follows from it.
    """
    quantizers = comparisons[comparisons["factor"] == "quantizer"]
    first, second = (quantizers[side].isin(target) for side in ("a", "b"))
    chosen = quantizers[(first != second) & quantizers["bits"].notna()]
    is_a = first[chosen.index]
    sign = is_a.map({True: 1.0, False: -1.0})
    low, high = chosen["low"].astype(float) * sign, chosen["high"].astype(float) * sign
    contests = chosen.assign(
        target=chosen["a"].where(is_a, chosen["b"]),
        rival=chosen["b"].where(is_a, chosen["a"]),
        p_holm=holm(chosen["p"].astype(float)),
        difference=chosen["difference"].astype(float) * sign,
        low=low.where(is_a, high),
        high=high.where(is_a, low),
    )
    contests = contests.assign(shown=shown(contests["p_holm"], contests["low"], contests["high"]), level=LEVEL)
    return contests[list(CONTEST_COLUMNS)].reset_index(drop=True)
