"""``calibration_draws.csv`` and ``across_draws.csv``: each calibration draw for itself, and what draws agree on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from evalsuite.analysis._settings import Settings, Values, differences
from evalsuite.analysis.claims import LEVEL, significant
from evalsuite.analysis.outcomes import COMBINATION, Combination, Outcomes, Rows, pooled
from evalsuite.metrics import FloatArray, group_means
from evalsuite.statistics import kendalls_w
from evalsuite.store import Run

DRAW_COLUMNS = (*COMBINATION, "seed", "error", "drop", "worst_drop", "worst_class")
ACROSS_DRAWS_COLUMNS = (
    *(*COMBINATION, "draws", "error", "error_low", "error_high", "worst_drop", "worst_drop_low", "worst_drop_high"),
    *("worst_class", "times", "w", "p", "shown"),
)


@dataclass(frozen=True, eq=False)
class _Draws:
    """The D draws of a method combination of which the reference is done; fractions."""

    combination: Combination
    seeds: list[int]
    error: FloatArray
    drop: FloatArray
    names: list[str]
    class_drop: FloatArray
    """(D, classes); NaN where a draw shows none of a class."""

    @property
    def worst_drop(self) -> NDArray[np.float64]:
        return np.asarray(np.nanmax(self.class_drop, axis=1))

    @property
    def worst_class(self) -> list[str]:
        return [self.names[code] for code in np.nanargmax(self.class_drop, axis=1)]


def calibration_draws_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return a row per (method combination, seed) whose reference is done; the references themselves have none.

    ``worst_class`` is the class with the largest drop in this draw, ``worst_drop`` that drop. Fractions.
    """
    frames = [
        pd.DataFrame(
            draws.combination.labels
            | {"seed": draws.seeds, "error": draws.error, "drop": draws.drop}
            | {"worst_drop": draws.worst_drop, "worst_class": draws.worst_class}
        )
        for draws in _draws(outcomes)
    ]
    columns = list(DRAW_COLUMNS)
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def across_draws_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return what the calibration draws of each method combination have in common, a row each.

    Returns
    -------
    ``error`` and ``worst_drop`` are means over ``draws``, with 95 % t intervals over draws for these test images,
    within what a mean can be; NaN with one. ``worst_class`` is the class most often worst, the first of several in
    order, in ``times`` draws.
    ``w`` and ``p`` are Kendall's W of the classes ranked by their drop in each draw and its chi-squared p, as
    ``stability_class`` of ``summary.csv``; ``shown`` where p is significant, uncorrected.
    """
    rows: list[Values] = []
    for draws in _draws(outcomes):
        row: Values = {**draws.combination.labels, "draws": len(draws.seeds)}
        for name, values, least in (("error", draws.error, 0), ("worst_drop", draws.worst_drop, -1)):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = np.clip(t_interval(values), least, 1).tolist()
        names = pd.Series(draws.worst_class)
        row |= {"worst_class": names.mode().iloc[0], "times": int(names.value_counts().iloc[0])}
        agreement = kendalls_w(draws.class_drop) if np.isfinite(draws.class_drop).all() else None
        row |= {"w": agreement.w, "p": agreement.p} if agreement else {"w": np.nan, "p": np.nan}
        rows.append(row | {"shown": bool(significant(row["p"]))})
    return pd.DataFrame(rows, columns=list(ACROSS_DRAWS_COLUMNS))


def t_interval(values: FloatArray) -> tuple[float, float, float]:
    """Return mean and 95 % t interval of (D,) values; no interval (NaN) of one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _draws(outcomes: Outcomes) -> list[_Draws]:
    return outcomes.once("calibration draws", lambda: list(_read(outcomes)))


def _read(outcomes: Outcomes) -> Iterator[_Draws]:
    members = [each for each in outcomes.combinations if not each.is_reference]
    pairs = [outcomes.paired_with_reference(each) for each in members]
    for rows, batch in outcomes.batches(
        (each.task, [trial for trial, _ in both]) for each, both in zip(members, pairs, strict=True)
    ):
        wrong = np.column_stack([pooled(trial for trial, _ in pairs[member]) for member in batch])
        drops = differences([pairs[member] for member in batch])
        seeds = len(rows.layouts)
        errors, _ = group_means(wrong, rows.replicate, seeds)
        means, _ = group_means(drops, rows.replicate, seeds)
        table, names = _class_drops(rows, drops)
        for column, member in enumerate(batch):
            seed_of = {outcome.trial: seed for seed, outcome in members[member].outcomes.items()}
            numbers = [seed_of[trial.trial] for trial, _ in pairs[member]]
            yield _Draws(members[member], numbers, errors[:, column], means[:, column], names, table[:, :, column])


def _class_drops(rows: Rows, drops: NDArray[np.int8]) -> tuple[FloatArray, list[str]]:
    """Return the drops (seeds, classes, M) of each class in each seed, and the classes' names."""
    codes, names = rows.group("class")
    seeds = len(rows.layouts)
    means, _ = group_means(drops, rows.replicate * len(names) + codes, seeds * len(names))
    return means.reshape(seeds, len(names), -1), names
