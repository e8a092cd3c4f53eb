"""Where in its stream each row of a trial lies: its batch, its round, its stretch. Read once per stream.

All trials of one task, stream and seed show the same images in the same order, so what is known of one trial's order is
known of theirs; an :class:`~evalsuite.analysis.outcomes.Outcome` has its rows by domain and image instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis.outcomes import Combination, Int8Array, Outcomes, Rows, pooled
from evalsuite.statistics import group_bounds
from evalsuite.store import Run
from evalsuite.streams import round_of

T = TypeVar("T")
Panel = tuple[str, str]
"""A task and a stream, by label."""

_COLUMNS = ["image", "position", "domain", "severity", "batch", "reset", "round"]


@dataclass(frozen=True, eq=False)
class StreamRows:
    """A trial's stream, (T,) arrays in its order.

    Attributes
    ----------
    names : the corruptions, sorted, that ``name`` counts through.
    image, name, severity : what is shown.
    batch, round : numbers from 0; None where the run was recorded before these were, or a round cannot be known.
    """

    names: tuple[str, ...]
    image: NDArray[np.int64]
    name: NDArray[np.int64]
    severity: NDArray[np.int64]
    batch: NDArray[np.int64] | None
    round: NDArray[np.int64] | None

    @cached_property
    def domain(self) -> NDArray[np.int64]:
        """Number of the domain, that is of the corruption at its severity; order and gaps mean nothing."""
        return self.name * (int(self.severity.max()) + 1) + self.severity

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Which position each row of an outcome has."""
        return np.lexsort((np.arange(len(self.image)), self.image, self.severity, self.name))

    @cached_property
    def starts(self) -> NDArray[np.int64] | None:
        """Position at which each batch begins, where batches are known."""
        return None if self.batch is None else np.flatnonzero(np.diff(self.batch, prepend=-1))

    @cached_property
    def stretch(self) -> NDArray[np.int64]:
        """Number of the stretch, from 0, which shows one domain without a break."""
        return np.cumsum(np.diff(self.domain, prepend=self.domain[0]) != 0)


def stream_rows(run: Run, row: Any) -> StreamRows:
    """Read the stream of one row of ``run.trials``, by column, from its records."""
    table = run.records_of(str(row["trial"]), _COLUMNS).to_pandas().sort_values("position")
    labels = table["domain"].astype(str).to_numpy()
    names, name = np.unique(labels, return_inverse=True)
    batch, number = (None if table[column].isna().any() else _whole(table[column]) for column in ("batch", "round"))
    rounds = row.get("stream.rounds")
    if number is None and isinstance(rounds, int | float | np.number) and rounds > 1:
        number = round_of(_whole(table["position"]), len(table), int(rounds))
    return StreamRows(tuple(names), _whole(table["image"]), name, _whole(table["severity"]), batch, number)


def _whole(values: pd.Series[Any]) -> NDArray[np.int64]:
    return values.to_numpy().astype(np.int64)


def panels(outcomes: Outcomes) -> dict[Panel, list[Combination]]:
    """Return the method combinations by task and stream."""
    found: dict[Panel, list[Combination]] = {}
    for combination in outcomes.combinations:
        found.setdefault((combination.task, combination.stream), []).append(combination)
    return found


def streams_of(run: Run, outcomes: Outcomes, combinations: Sequence[Combination]) -> dict[int, StreamRows]:
    """Return the streams of combinations that share one, by seed."""
    trials = {seed: outcome.trial for each in combinations for seed, outcome in reversed(each.outcomes.items())}
    rows = run.trials.set_index("trial", drop=False)
    return {
        seed: outcomes.once(("stream", trial), partial(stream_rows, run, rows.loc[trial]))
        for seed, trial in sorted(trials.items())
    }


@dataclass(frozen=True, eq=False)
class Curve:
    """Errors of M combinations by group of rows, (G, M), with 95 % intervals, and how many images a group has, (G,)."""

    error: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    images: NDArray[np.int64]
    group: NDArray[np.int64]

    def frames(self, combinations: Sequence[Combination]) -> Iterator[pd.DataFrame]:
        """Yield a frame per combination, a row per group."""
        for place, combination in enumerate(combinations):
            columns = {name: getattr(self, name)[:, place] for name in ("error", "low", "high")}
            yield pd.DataFrame(combination.labels | {"group": self.group} | columns | {"images": self.images})


def alike(
    outcomes: Outcomes, combinations: Sequence[Combination]
) -> Iterator[tuple[Rows, list[int], list[Combination], Int8Array]]:
    """Group combinations on one stream by their seeds; yields rows, seeds, combinations and (N, M) what was wrong."""
    by_seeds: dict[tuple[int, ...], list[Combination]] = {}
    for combination in combinations:
        by_seeds.setdefault(tuple(combination.outcomes), []).append(combination)
    for seeds, members in by_seeds.items():
        items = [(each.task, list(each.outcomes.values())) for each in members]
        for rows, places in outcomes.batches(items):
            wrong = np.column_stack([pooled(members[place].outcomes.values()) for place in places])
            yield rows, list(seeds), [members[place] for place in places], wrong


def in_rows(
    streams: dict[int, StreamRows], seeds: Sequence[int], value: Callable[[StreamRows], NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return what ``value`` says of each image of a stream, in the order of the rows of these seeds, end to end."""
    return np.concatenate([value(streams[seed])[streams[seed].order] for seed in seeds])


def curve(wrong: Int8Array, group: NDArray[np.int64], rows: Rows) -> Curve:
    """Return errors by group of rows: the mean over images of an image's mean, with bounds over images and seeds.

    Parameters
    ----------
    wrong : (N, M), 1 where a combination is wrong.
    group : (N,) each row's group.

    Notes
    -----
    The bounds are those of :func:`evalsuite.statistics.group_bounds`, 95 % for one group; they hold the error always.
    """
    numbers, code = np.unique(group, return_inverse=True)
    pairs, pair = np.unique(np.stack([code, rows.image]), axis=1, return_inverse=True)
    of_image = _means(wrong.astype(np.float64), pair.ravel(), pairs.shape[1])
    error = _means(of_image, pairs[0], len(numbers))
    bounds = group_bounds(wrong, code, rows.image, rows.replicate, signed=False)
    low, high = np.minimum(bounds.low, error), np.maximum(bounds.high, error)
    return Curve(error, low, high, np.bincount(pairs[0], minlength=len(numbers)), numbers)


def _means(values: NDArray[np.float64], group: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    sizes = np.bincount(group, minlength=groups)
    return np.stack([np.bincount(group, column, groups) for column in values.T], axis=1) / sizes[:, None]
