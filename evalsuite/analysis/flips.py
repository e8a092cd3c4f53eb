"""``flips.csv``, ``confusions.csv``, ``mistakes.csv``: what the worst class and the worst domain are made of.

All are of negative flips (:mod:`evalsuite.flips`) on each task's first stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.outcomes import COMBINATION, GROUPS, Combination, Int8Array, Outcome, Outcomes, Rows, pooled
from evalsuite.flips import largest_drop, negative_flips, surest
from evalsuite.store import Run

FLIP_COLUMNS = (
    *COMBINATION,
    *("group", "name", "drop", "rows", "flips", "repairs"),
    *("before_low", "before", "before_high", "after_low", "after", "after_high"),
)
CONFUSION_COLUMNS = (*COMBINATION, "name", "prediction", "share", "reference_share", "rows")
MISTAKE_COLUMNS = (
    *(*COMBINATION, "group", "name", "image", "domain", "severity", "label", "prediction", "before", "after"),
)
_QUARTILES = (25, 50, 75)


@dataclass(frozen=True, eq=False)
class _Paired:
    """A combination beside its reference, row by row, the seeds end to end."""

    labels: dict[str, str]
    rows: Rows
    own: tuple[Outcome, ...]
    reference: tuple[Outcome, ...]

    @property
    def wrong(self) -> tuple[Int8Array, Int8Array]:
        """(N,) of the combination and of the reference."""
        return pooled(self.own), pooled(self.reference)

    @property
    def predictions(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        own, reference = ([each.prediction for each in side] for side in (self.own, self.reference))
        return np.concatenate(own), np.concatenate(reference)

    @property
    def confidences(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        own, reference = ([each.confidence for each in side] for side in (self.own, self.reference))
        return np.concatenate(own), np.concatenate(reference)

    @property
    def flipped(self) -> NDArray[np.bool_]:
        return negative_flips(*self.wrong)


@dataclass(frozen=True, eq=False)
class _Worst:
    """The group of one grouping that loses most."""

    paired: _Paired
    group: str
    name: str
    inside: NDArray[np.bool_]
    """(N,) its rows."""


def flips_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return how many rows of the worst class and domain flip, and how sure both networks were of these.

    Returns
    -------
    A row per method combination and grouping. ``group`` is the grouping, ``name`` the group with the largest ``drop``
    (a fraction), ``rows`` its number of rows, ``flips`` those that the reference got right and the combination wrong,
    ``repairs`` the reverse. ``before`` is the median probability that the reference gave to the right class of what
    flips, ``after`` that which the combination gave to the wrong one, ``_low`` and ``_high`` their quartiles; NaN where
    nothing flips. Nothing of it is tested.
    """
    found = []
    for worst in _worst_groups(run, outcomes):
        (wrong, reference), inside = worst.paired.wrong, worst.inside
        flips = worst.paired.flipped & inside
        quartiles = [_quartiles(values[flips]) for values in reversed(worst.paired.confidences)]
        counts = (int(inside.sum()), int(flips.sum()), int(negative_flips(reference, wrong)[inside].sum()))
        drop = float(np.mean(wrong[inside], dtype=float) - np.mean(reference[inside], dtype=float))
        found.append((*worst.paired.labels.values(), worst.group, worst.name, drop, *counts, *sum(quartiles, ())))
    return pd.DataFrame(found, columns=list(FLIP_COLUMNS))


def confusions_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return what the worst class of each method combination is taken for.

    Returns
    -------
    A row per combination and class that is predicted for the worst class, ``name``, the most frequent first:
    ``prediction``, its ``share`` of the class's ``rows``, and ``reference_share``, that in the reference's predictions.
    """
    found = []
    for worst in _worst_groups(run, outcomes):
        if worst.group != "class":
            continue
        classes, size = worst.paired.rows.classes, int(worst.inside.sum())
        own, reference = (Counter(side[worst.inside].tolist()) for side in worst.paired.predictions)
        for code in sorted(own | reference, key=lambda code: (-own[code], -reference[code], code)):
            shares = (own[code] / size, reference[code] / size)
            found.append((*worst.paired.labels.values(), worst.name, _named(classes, code), *shares, size))
    return pd.DataFrame(found, columns=list(CONFUSION_COLUMNS))


def mistakes_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return the negative flips of the worst class and domain that the combination was surest of, the surest first.

    Returns
    -------
    A row per combination, grouping and flip, :data:`evalsuite.flips.OF_A_GROUP` at most: ``image`` (index of the test
    image), ``domain`` and ``severity``, ``label`` and ``prediction`` by name, and the probabilities that the reference
    gave to the label, ``before``, and the combination to its prediction, ``after``. A run keeps pictures of these
    (``examples.npz``).
    """
    found = []
    for worst in _worst_groups(run, outcomes):
        rows, (own, reference) = worst.paired.rows, worst.paired.confidences
        prediction, _ = worst.paired.predictions
        label = np.concatenate([layout.label for layout in rows.layouts])
        for row in surest(worst.paired.flipped & worst.inside, own, rows.domain, rows.image):
            which = (int(rows.image[row]), *rows.domains[rows.domain[row]])
            named = (rows.classes[label[row]], _named(rows.classes, int(prediction[row])))
            sure = (float(reference[row]), float(own[row]))
            found.append((*worst.paired.labels.values(), worst.group, worst.name, *which, *named, *sure))
    return pd.DataFrame(found, columns=list(MISTAKE_COLUMNS))


def _named(classes: Sequence[str], code: int) -> str:
    """Return a class's name; a network may have more outputs than its task has classes."""
    return classes[code] if code < len(classes) else f"output {code}"


def _quartiles(values: NDArray[np.float32]) -> tuple[float, ...]:
    known = values[np.isfinite(values)]
    if not len(known):
        return (np.nan,) * len(_QUARTILES)
    return tuple(float(each) for each in np.percentile(known.astype(float), _QUARTILES))


def _worst_groups(run: Run, outcomes: Outcomes) -> list[_Worst]:
    """Return the worst class and domain of every combination on its task's first stream, where there are several."""
    return outcomes.once("worst groups", lambda: [w for each in _paired(run, outcomes) for w in _worst_of(each)])


def _paired(run: Run, outcomes: Outcomes) -> list[_Paired]:
    order = {label: place for place, label in enumerate(run.trials["stream_label"].unique())}
    members = [each for each in outcomes.combinations if not each.is_reference]
    first: dict[str, str] = {}
    for each in sorted(members, key=lambda each: order[each.stream]):
        first.setdefault(each.task, each.stream)
    found = []
    for each in members:
        pairs = outcomes.paired_with_reference(each) if first[each.task] == each.stream else []
        if pairs:
            own, reference = zip(*pairs, strict=True)
            found.append(_Paired(each.labels, _rows(outcomes, each, own), own, reference))
    return found


def _rows(outcomes: Outcomes, combination: Combination, own: tuple[Outcome, ...]) -> Rows:
    """Return the rows of outcomes; combinations that show the same share them."""
    layouts = tuple(each.layout for each in own)
    return outcomes.once(("rows", *map(id, layouts)), lambda: outcomes.rows(combination.task, layouts))


def _worst_of(paired: _Paired) -> list[_Worst]:
    found = []
    for group in GROUPS:
        codes, names = paired.rows.group(group)
        if len(names) > 1:
            code = largest_drop(codes, *paired.wrong)
            found.append(_Worst(paired, group, names[code], codes == code))
    return found
