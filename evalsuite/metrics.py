"""What is measured: pure functions of arrays, no files, no randomness.

``N`` is the number of rows (predictions), ``G`` the number of groups. Rates and probabilities are 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from evalsuite._checks import comparable, finite
from evalsuite.errors import RequestError

FloatArray = NDArray[np.float64]

COLUMNS = 64  # of a matrix product at a time: as many fit the processor's cache
_FLOAT32_EXACT = 2**24
_ROUNDING = 1e-3  # by how much probabilities in half precision may leave 0..1, or miss a sum of 1


@dataclass(frozen=True)
class WorstGroup:
    """The group with the highest value."""

    index: int
    value: float
    size: int
    """Rows in the group."""


@dataclass(frozen=True)
class ChangeDetection:
    """How well an adapter saw that the domain changed, in batches."""

    hits: int
    """Changes that were reported in time."""
    changes: int
    alarms: int
    """Reports where nothing had changed."""
    others: int
    """Judged batches where nothing had changed."""


def _rows(**arrays: ArrayLike) -> tuple[NDArray[Any], ...]:
    found = tuple(np.asarray(array) for array in arrays.values())
    if len({array.shape for array in found}) > 1 or found[0].ndim != 1 or found[0].size == 0:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(arrays, found, strict=True))
        raise RequestError(f"{shapes}: expected one shape (N,) with N at least 1")
    return comparable(**dict(zip(arrays, found, strict=True)))


def _whole(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return whole numbers; nothing is rounded to one."""
    numbers = np.asarray(values)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise RequestError(f"{name} of type {numbers.dtype}: expected whole numbers")
    return numbers.astype(np.int64)


def error(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of (N,) predictions that are not the label."""
    truth, predicted = _rows(labels=labels, predictions=predictions)
    return float(np.mean(truth != predicted))


def drop(wrong: ArrayLike, reference_wrong: ArrayLike) -> float:
    """Error minus the reference's error on the same (N,) rows; positive where the reference is better."""
    own, reference = _rows(wrong=wrong, reference_wrong=reference_wrong)
    return float(np.mean(own, dtype=np.float64) - np.mean(reference, dtype=np.float64))


def flip_rate(predictions: ArrayLike, reference_predictions: ArrayLike) -> float:
    """Share of (N,) rows whose prediction differs from the reference's, right or wrong."""
    own, reference = _rows(predictions=predictions, reference_predictions=reference_predictions)
    return float(np.mean(own != reference))


def negative_log_likelihood(loss: ArrayLike) -> float:
    """Mean of the (N,) cross-entropy losses, in nats."""
    (values,) = _rows(loss=loss)
    return float(np.mean(values, dtype=np.float64))


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the Brier score of (N, C) class probabilities: mean squared distance from the label's unit vector, 0..2.

    Brier 1950, summed over classes. Raises RequestError unless there is a label 0..C-1 for each row, and all
    probabilities are within 0..1.
    """
    given, truth = np.asarray(probabilities), _whole("labels", labels)
    if given.ndim != 2 or len(given) == 0 or truth.shape != (len(given),):
        raise RequestError(f"probabilities {given.shape}, labels {truth.shape}: expected (N, C) and (N,), N at least 1")
    shares = _shares("probability", given)
    if truth.min() < 0 or truth.max() >= shares.shape[1]:
        raise RequestError(f"labels from {truth.min()} to {truth.max()}: expected 0 to {shares.shape[1] - 1}")
    own = shares[np.arange(len(truth)), truth]
    return float(np.mean(np.square(shares).sum(axis=1) - 2 * own + 1))


def mean_corruption_error(errors: ArrayLike, reference_errors: ArrayLike) -> float:
    """Return the mCE: (corruptions, severities) errors summed over severities, relative to a reference's, averaged.

    Hendrycks and Dietterich 2019, arXiv 1903.12261, section 4.3; 1 is the reference itself. Which network is the
    reference is part of the number and must be named beside it. A severity that is NaN in both plays no part. Raises
    RequestError for shapes that differ or a corruption under which the reference makes no error.
    """
    own, reference = np.asarray(errors, np.float64), np.asarray(reference_errors, np.float64)
    if own.ndim != 2 or own.size == 0 or own.shape != reference.shape or (np.isnan(own) != np.isnan(reference)).any():
        raise RequestError(
            f"errors {own.shape} and {reference.shape}: "
            "expected (corruptions, severities) twice, NaN in both or neither"
        )
    finite(errors=own[~np.isnan(own)], reference_errors=reference[~np.isnan(reference)])
    base = np.nansum(reference, axis=1)
    if (base <= 0).any():
        raise RequestError(f"the reference makes no error under corruption {int(np.argmin(base))}: no mCE against it")
    return float(np.mean(np.nansum(own, axis=1) / base))


def adaptation_gain(wrong: ArrayLike, adapted_wrong: ArrayLike) -> float:
    """Error without adaptation minus error with it, on the same (N,) rows; positive where adaptation helps."""
    return drop(wrong, adapted_wrong)


def forgetting(errors: ArrayLike) -> FloatArray:
    """Return what (rounds, domains) errors lost since each domain's best earlier round, (domains,).

    Last error minus the least of the earlier ones: positive where what was reached has been forgotten, negative
    where the last round is the best (Chaudhry et al. 2018, arXiv 1801.10112, section 3, with errors for accuracies).
    """
    table = np.asarray(errors, np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise RequestError(f"errors of shape {table.shape}: expected (rounds, domains) of at least two rounds")
    finite(errors=table)
    lost: FloatArray = table[-1] - table[:-1].min(axis=0)
    return lost


def change_detection(
    domain: ArrayLike,
    starts: ArrayLike,
    reported: ArrayLike,
    judged: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    *,
    within: int = 1,
) -> ChangeDetection:
    """Count the changes of domain along a stream that were reported in time, and the false alarms.

    The domain changes with every batch, but the first, that shows a domain of which the batch before it has no image. A
    hit is a report in one of the ``within`` batches from there on, the next change excluded; every other report is a
    false alarm. The definitions are ours.

    Parameters
    ----------
    domain : (T,) each image's domain, in stream order.
    starts : (B,) position at which each batch begins, rising from 0.
    reported : numbers of the batches, from 0, with which a change was reported.
    judged : (B,) whether the batch was judged at all, by default all; the first never counts. A change in batches that
        were not judged is missed.
    resets : (B,) whether the adapter began anew before the batch, by default never. It then has nothing to compare the
        batch with, as with the first: no change is counted there, and an earlier one must be reported before.
    within : batches that a report may take.

    Raises
    ------
    RequestError
        If ``starts`` do not rise from 0 within the stream, ``judged`` or ``resets`` has another length, or ``within``
        is below 1.
    """
    (shown,), first = comparable(domain=domain), _whole("starts", starts)
    if len(first) == 0 or first[0] != 0 or (np.diff(first) <= 0).any() or first[-1] >= len(shown) or within < 1:
        raise RequestError(
            f"{len(first)} batches of {len(shown)} images, within {within}: expected starts that rise from 0 within "
            "the stream, and within 1 or more"
        )
    told_of = _whole("reported", reported)
    if len(told_of) and not 0 <= told_of.min() <= told_of.max() < len(first):
        raise RequestError(f"reported {told_of.tolist()}: expected numbers of batches, 0 to {len(first) - 1}")
    looked, fresh = _flags("judged", judged, len(first), True), _flags("resets", resets, len(first), False)
    fresh[0] = True
    looked &= ~fresh
    batches = [set(batch.tolist()) for batch in np.split(shown, first[1:])]
    begins = [number for number in np.flatnonzero(~fresh) if batches[number] - batches[number - 1]]
    ends = np.append(np.union1d(begins, np.flatnonzero(fresh)), len(first)).astype(np.int64)
    told = np.zeros(len(first), np.bool_)
    told[told_of] = True
    in_time, hits = np.zeros(len(first), np.bool_), 0
    for number in begins:
        window = slice(number, min(number + within, int(ends[ends > number][0])))
        in_time[window] = True
        hits += bool(told[window].any())
    others = looked & ~in_time
    return ChangeDetection(hits, len(begins), int(np.count_nonzero(told & others)), int(np.count_nonzero(others)))


def exact_type(values: NDArray[Any]) -> type[np.float32 | np.float64]:
    """Return float32 where it can sum these rows exactly (few enough whole numbers), else float64.

    Whole numbers also sum to the same digit in any order, so that results do not depend on threads.
    """
    if values.dtype.kind not in "biu" and not np.array_equal(values, np.rint(values)):
        return np.float64
    largest = max(abs(float(values.max(initial=0))), abs(float(values.min(initial=0))))
    return np.float32 if largest * len(values) < _FLOAT32_EXACT else np.float64


def group_sums(values: NDArray[Any], groups: NDArray[Any], n_groups: int) -> FloatArray:
    """Sum (N,) or (N, M) rows by their group 0..n_groups-1; gives (n_groups,) or (n_groups, M)."""
    if values.ndim == 1:
        return np.bincount(groups, weights=values, minlength=n_groups).astype(np.float64)
    kind = exact_type(values)
    rows = len(values)
    members = sparse.csr_array((np.ones(rows, kind), (groups, np.arange(rows))), shape=(n_groups, rows))
    sums = np.empty((n_groups, values.shape[1]))
    for start in range(0, values.shape[1], COLUMNS):
        block = slice(start, start + COLUMNS)
        sums[:, block] = members @ values[:, block].astype(kind)
    return sums


def group_means(values: ArrayLike, groups: ArrayLike, n_groups: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Mean value of each group and its size.

    Parameters
    ----------
    values : (N,) or (N, M).
    groups : (N,) integers 0..n_groups-1.

    Returns
    -------
    Means (n_groups,) or (n_groups, M), NaN for a group without rows, and sizes (n_groups,).
    """
    (numbers,), codes = finite(values=values), _whole("groups", groups)
    if len(codes) != len(numbers) or (codes.size and not 0 <= codes.min() <= codes.max() < n_groups):
        raise RequestError(f"groups: expected {len(numbers)} integers from 0 to {n_groups - 1}")
    sizes = np.bincount(codes, minlength=n_groups)
    sums = group_sums(numbers, codes, n_groups)
    with np.errstate(invalid="ignore"):
        return sums / (sizes if sums.ndim == 1 else sizes[:, None]), sizes


def worst_group(means: ArrayLike, sizes: ArrayLike) -> WorstGroup:
    """Return the group with the highest of (G,) mean errors or drops; the first of equals, never an empty one."""
    values, counts = np.asarray(means), np.asarray(sizes)
    if values.shape == counts.shape:
        values = np.where((counts == 0) & ~np.isfinite(values), 0, values)  # the mean of no rows
    values, counts = _rows(means=values, sizes=counts)
    candidates = np.where(counts > 0, values, -np.inf)
    index = int(np.argmax(candidates))
    if counts[index] == 0:
        raise RequestError(f"all {len(counts)} groups are empty: expected at least one row")
    return WorstGroup(index, float(values[index]), int(counts[index]))


def _present(values: ArrayLike) -> FloatArray:
    numbers = np.asarray(values, np.float64)
    (kept,) = finite(values=numbers[~np.isnan(numbers)])
    if kept.size == 0:
        raise RequestError("no group has a value: expected at least one")
    return kept


def cvar(values: ArrayLike, level: float) -> float:
    """Mean of the worst (highest) ``level`` fraction of (G,) group values, empty (NaN) groups left out.

    The conditional value at risk, or expected shortfall, of the uniform distribution over the groups
    (Rockafellar and Uryasev 2002): where ``level * G`` is not whole, the last group counts by its fraction.
    """
    if not 0 < level <= 1:
        raise RequestError(f"level {level}: expected more than 0 and at most 1")
    worst_first = np.sort(_present(values))[::-1]
    mass = level * len(worst_first)
    shares = np.clip(mass - np.arange(len(worst_first)), 0, 1)
    return float(shares @ worst_first / mass)


def between_group_deviation(values: ArrayLike) -> float:
    """Return the standard deviation of (G,) group values, empty (NaN) groups left out.

    The groups are all there are, not a sample of groups, so the divisor is G. Sampling noise within the
    groups is included.
    """
    return float(np.std(_present(values)))


def ece(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: Literal["width", "mass"] = "width"
) -> float:
    """Return the expected calibration error: |accuracy - confidence| of confidence bins, weighted by their rows.

    Parameters
    ----------
    confidence : (N,) probability of the predicted class, 0..1.
    correct : (N,) whether the prediction is the label.
    bins : number of bins; a bin contains its upper edge.
    binning : bins of equal width over 0..1 (Guo et al., arXiv 1706.04599), or of equal numbers of rows
        (Nixon et al., arXiv 1904.01685; equal confidences stay together).

    Notes
    -----
    Edges are rounded as the confidences are: 0.1 as float32 is above 0.1 as float64, and lies on the edge all the same.

    Raises
    ------
    RequestError
        If a confidence is not within 0..1 (a percentage, NaN), ``correct`` is not true or false, ``bins`` is no whole
        number from 1, or ``binning`` is another.
    """
    sure, right = _rows(confidence=confidence, correct=correct)
    _refuse_other_bins(bins, binning)
    sure = _shares("confidence", sure)
    if not np.isin(right, (0, 1)).all():
        raise RequestError("correct: expected true or false (1 or 0) for every row")
    edges = _edges_of_width(sure, bins) if binning == "width" else _edges_of_mass(sure, bins)
    bin_of_row = np.searchsorted(edges, sure, side="left")
    gaps = np.bincount(bin_of_row, weights=right.astype(np.float64) - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def _refuse_other_bins(bins: int, binning: str) -> None:
    if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)) or bins < 1:
        raise RequestError(f"bins = {bins!r}: expected a whole number from 1")
    if binning not in ("width", "mass"):
        raise RequestError(f"binning = {binning!r}: expected 'width' or 'mass'")


def _shares(name: str, values: NDArray[Any]) -> FloatArray:
    """Return probabilities as float64; RequestError for what is none, a rounding error beyond 0..1 apart."""
    try:
        numbers: FloatArray = values.astype(np.float64)
    except (TypeError, ValueError) as wrong:
        raise RequestError(f"{name} of type {values.dtype}: expected numbers from 0 to 1") from wrong
    outside = ~((numbers >= -_ROUNDING) & (numbers <= 1 + _ROUNDING))
    if outside.any():
        raise RequestError(f"{name} {numbers[outside].flat[0]:.6g}: expected finite numbers from 0 to 1")
    return numbers


def _edges_of_width(sure: FloatArray, bins: int) -> FloatArray:
    """Inner edges k / bins, as precise as the coarsest type that holds all confidences."""
    edges: FloatArray = np.arange(1, bins) / bins
    for kind in (np.float16, np.float32):
        if np.array_equal(sure, sure.astype(kind)):
            return edges.astype(kind).astype(np.float64)
    return edges


def _edges_of_mass(sure: FloatArray, bins: int) -> FloatArray:
    """Inner edges: the rows that the quantiles k / bins fall on or above, found without rounding."""
    edges: FloatArray = np.sort(sure)[np.arange(1, bins) * (len(sure) - 1) // bins]
    return edges


def _flags(name: str, values: ArrayLike | None, length: int, default: bool) -> NDArray[np.bool_]:
    """Return a copy of (length,) flags, all at the default where none are given."""
    flags = np.full(length, default) if values is None else np.array(values, np.bool_)
    if flags.shape != (length,):
        raise RequestError(f"{name} {flags.shape}: expected {(length,)}, a flag for each batch")
    return flags
