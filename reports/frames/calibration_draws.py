"""Each calibration draw for itself: error, drop, and which class is worst."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evalsuite.analysis.outcomes import COMBINATION, pooled
from evalsuite.metrics import group_means
from evalsuite.store import Run
from reports.frames.evidence import once, outcomes_of

_COLUMNS = [*COMBINATION, "seed", "error", "drop", "worst_drop", "worst_class"]


@once
def by_draw(run: Run) -> pd.DataFrame:
    """Return a row per (method combination, seed) whose reference is done; the references themselves have none.

    ``worst_class`` is the class with the largest drop in this draw, ``worst_drop`` that drop. Fractions.
    """
    outcomes = outcomes_of(run)
    found = [each for each in outcomes.combinations if not each.is_reference]
    pairs = [outcomes.paired_with_reference(each) for each in found]
    frames = []
    for rows, members in outcomes.batches(
        (each.task, [own for own, _ in both]) for each, both in zip(found, pairs, strict=True)
    ):
        wrong = np.column_stack([pooled(own for own, _ in pairs[member]) for member in members])
        drops = wrong - np.column_stack([pooled(ref for _, ref in pairs[member]) for member in members])
        seeds = len(rows.layouts)
        errors, _ = group_means(wrong, rows.replicate, seeds)
        means, _ = group_means(drops, rows.replicate, seeds)
        codes, names = rows.group("class")
        classes, _ = group_means(drops, rows.replicate * len(names) + codes, seeds * len(names))
        table = classes.reshape(seeds, len(names), -1)
        worst = np.nanargmax(table, axis=1)
        for column, member in enumerate(members):
            each = found[member]
            trials = {outcome.trial: seed for seed, outcome in each.outcomes.items()}
            own: dict[str, Any] = {name: getattr(each, name.removesuffix("_label")) for name in COMBINATION} | {
                "seed": [trials[outcome.trial] for outcome, _ in pairs[member]],
                "error": errors[:, column],
                "drop": means[:, column],
                "worst_drop": np.nanmax(table[:, :, column], axis=1),
                "worst_class": [names[code] for code in worst[:, column]],
            }
            frames.append(pd.DataFrame(own))
    return pd.concat(frames, ignore_index=True)[_COLUMNS] if frames else pd.DataFrame(columns=_COLUMNS)


@once
def worst_classes(run: Run) -> pd.DataFrame:
    """Return a row per method combination of several draws: the class most often worst, and in how many of them.

    Columns: ``worst_class``, ``times``, ``draws``. Of classes that are worst equally often the first is named.
    """
    own = by_draw(run).groupby(list(COMBINATION), sort=False)["worst_class"]
    table = own.agg(worst_class=lambda names: names.mode().iloc[0], times=_most, draws="size").reset_index()
    return table[table["draws"] > 1].reset_index(drop=True)


def _most(names: pd.Series) -> int:
    return int(names.value_counts().iloc[0])
