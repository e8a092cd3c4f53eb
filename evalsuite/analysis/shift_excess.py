"""``shift_excess.csv``: whether a quantized network loses more under shift than it loses on clean images. Ours."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Settings, Values, baselines, differences
from evalsuite.analysis.claims import shown
from evalsuite.analysis.outcomes import COMBINATION, Combination, Int8Array, Outcomes, Rows
from evalsuite.metrics import FloatArray, group_sums
from evalsuite.statistics import Interval, holm, swap_test
from evalsuite.store import Run

SHIFT_EXCESS_COLUMNS = (
    *(*COMBINATION, "bits", "seeds", "images", "unit"),
    *("clean_drop", "clean_low", "clean_high", "shifted_drop", "shifted_low", "shifted_high"),
    *("excess", "low", "high", "p", "p_holm", "shown"),
)
_FAMILY = ["task", "stream_label"]


def shift_excess_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Compare what each quantized network without adaptation loses on shifted and on clean images.

    Returns
    -------
    A row per network and stream that shows clean domains (severity 0) and others. A drop is the network's error minus
    its reference's on the same images, ``clean_drop`` over the rows of clean domains, ``shifted_drop`` over all
    others; ``excess`` is the second minus the first: above 0 where quantization makes the network more fragile, and
    does not only add the same errors everywhere. ``low`` and ``high``: 95 % bootstrap interval over ``unit``. ``p``:
    of a mean of 0, exchanging network and reference within images (:func:`evalsuite.statistics.swap_test` of the rows,
    weighted so that their sum is the excess), ``p_holm`` corrected over the networks of a task and stream; ``shown``
    where both agree. Other corruptions than those shown are not covered by either. Fractions.
    """
    unadapted = {task: adapter for task, (_, adapter) in baselines(run).items()}
    chosen = [each for each in outcomes.combinations if _is_asked(each, unadapted)]
    pairs = [outcomes.paired_with_reference(each) for each in chosen]
    found: dict[int, Values] = {}
    for rows, members in outcomes.batches(
        (each.task, [own for own, _ in pair]) for each, pair in zip(chosen, pairs, strict=True)
    ):
        clean = np.array([severity == 0 for _, severity in rows.domains])[rows.domain]
        if clean.all() or not clean.any():
            continue
        for member, values in zip(
            members, _excesses(differences([pairs[m] for m in members]), clean, rows, settings), strict=True
        ):
            each = chosen[member]
            facts = {"bits": each.facts["bits"], "seeds": len(pairs[member]), "images": len(np.unique(rows.image))}
            found[member] = each.labels | facts | values
    frame = pd.DataFrame([found[member] for member in sorted(found)], columns=list(SHIFT_EXCESS_COLUMNS))
    corrected = frame.groupby(_FAMILY)["p"].transform(lambda p: holm(p.astype(float)))
    return frame.assign(p_holm=corrected, shown=shown(corrected, frame["low"], frame["high"]))


def _is_asked(each: Combination, unadapted: dict[str, str]) -> bool:
    return not each.is_reference and each.adapter == unadapted.get(each.task)


def _excesses(drops: Int8Array, clean: NDArray[np.bool_], rows: Rows, settings: Settings) -> list[Values]:
    """Return the columns of each network, whose drops are the columns of (N, M)."""
    on_clean, shifted = (
        settings.interval(drops, rows, settings.generator("shift excess", rows.task, name), np.flatnonzero(inside))
        for name, inside in (("clean", clean), ("shifted", ~clean))
    )
    of_all = settings.generator("shift excess", rows.task)
    between = excess_interval(drops, clean, rows, of_all, settings).within(-2, 2)  # of two drops
    p = excess_p(drops, clean, rows.image, rows.replicate)
    return [
        {"clean_drop": on_clean.estimate[m], "clean_low": on_clean.low[m], "clean_high": on_clean.high[m]}
        | {"shifted_drop": shifted.estimate[m], "shifted_low": shifted.low[m], "shifted_high": shifted.high[m]}
        | {"excess": between.estimate[m], "low": between.low[m], "high": between.high[m]}
        | {"p": p[m], "unit": between.unit}
        for m in range(drops.shape[1])
    ]


def excess_interval(
    drops: Int8Array, clean: NDArray[np.bool_], rows: Rows, generator: np.random.Generator, settings: Settings
) -> Interval:
    """Return the mean of (N, M) drops on shifted rows minus that on clean ones, with its interval over images.

    What is resampled is how far each image pulls the two means apart (the linear part of their difference: images may
    be clean alone, or shifted alone), so that an image keeps all of its rows.
    """
    means = np.stack([drops[inside].mean(axis=0) for inside in (~clean, clean)])
    excess = means[0] - means[1]
    sizes = np.where(clean, -np.count_nonzero(clean), np.count_nonzero(~clean))[:, None]
    pull = (drops - np.where(clean[:, None], means[1], means[0])) / sizes
    cells, cell = np.unique(rows.image.astype(np.int64) * len(rows.layouts) + rows.replicate, return_inverse=True)
    values: FloatArray = group_sums(pull, cell, len(cells)) * len(cells) + excess
    image, replicate = np.divmod(cells, len(rows.layouts))
    return settings.resampled(values, image, replicate, generator, crossed=rows.crossed)


def excess_p(
    drops: Int8Array, clean: NDArray[np.bool_], image: NDArray[np.int32], replicate: NDArray[np.int64]
) -> FloatArray:
    """Return (M,) p that (N, M) drops have one mean on clean and shifted rows; NaN where too few images differ."""
    many, few = np.count_nonzero(~clean), np.count_nonzero(clean)
    common = math.gcd(many, few)
    weights = np.where(clean, -(many // common), few // common)[:, None]
    return swap_test(drops * weights, image, replicate)
