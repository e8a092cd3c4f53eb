"""Is the worst group worse than chance makes the worst of so many groups?"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from evalsuite.metrics import COLUMNS, FloatArray, exact_type, group_means, group_sums
from evalsuite.statistics._units import ELEMENTS, codes, columns

# Measured once; they only decide which of two ways to the same distribution is taken.
_NS_PER_DEAL, _NS_PER_CELL = 300, 80


@dataclass(frozen=True, eq=False)
class WorstGroupNull:
    """The largest group mean against its distribution where all groups are alike; shapes () or (M,)."""

    observed: FloatArray
    group: NDArray[np.int64]
    """The group's code, the lowest of equals."""
    null: FloatArray
    """Expectation of the largest group mean under the null."""
    p: FloatArray
    unit: str
    """``image``: whole images change groups; ``group within image``: an image's groups change places."""
    n: int
    """Images."""
    permutations: int
    maxima: FloatArray
    """(permutations,) or (permutations, M): the largest group means under the null."""


def worst_group_null(
    differences: ArrayLike,
    groups: ArrayLike,
    images: ArrayLike,
    generator: np.random.Generator,
    *,
    permutations: int = 2000,
) -> WorstGroupNull:
    """Permutation null of the largest group mean of paired differences.

    A maximum over many small groups is high by sampling noise alone. This says how high, where quantization
    harms all groups alike, and how often noise alone gives what was observed:
    p = (1 + number of permuted maxima >= observed) / (1 + permutations).

    Parameters
    ----------
    differences : (N,) or (N, M) paired differences, for example wrong minus the reference's wrong; M columns
        (methods) share the permutations.
    groups : (N,) group codes.
    images : (N,) test image of the row.

    Notes
    -----
    The construction is ours, no paper's. Rows of one image are dependent, so single rows are never exchanged.
    The rows of an image in a group make a *cell*, which stays whole, its number of rows included. If every
    image is in one group (class), cells are exchanged between images; a group keeps its number of images. If
    some image is in several (domain), cells are exchanged within each image, so that what an image is like
    cancels; images that are in one group only then stay in place. That is valid, but without power if most
    images are in one group.
    """
    array, single = columns(differences, groups=groups, images=images)
    names, group = codes(groups)
    image_names, image = codes(images)
    cells = _Cells.of(array, group, image, len(names))
    within = len(cells.group) > len(image_names)
    means, _ = group_means(array, group, len(names))
    observed = means.max(axis=0)
    maxima = _permuted_maxima(cells, within, permutations, generator)
    # Sums of fractions may differ in their last digit with the order; whole numbers do not.
    reached = maxima >= observed - 1e-12 * np.abs(observed)
    p = (1 + reached.sum(axis=0)) / (1 + permutations)
    worst, null = names[means.argmax(axis=0)], maxima.mean(axis=0)
    if single:
        observed, worst, null, p, maxima = observed[0], worst[0], null[0], p[0], maxima[:, 0]
    return WorstGroupNull(
        np.asarray(observed),
        np.asarray(worst),
        np.asarray(null),
        np.asarray(p),
        unit="group within image" if within else "image",
        n=len(image_names),
        permutations=permutations,
        maxima=maxima,
    )


@dataclass(frozen=True, eq=False)
class _Cells:
    """The rows of an image in a group, taken together: (cells,) image and group codes, (cells, 1 + M) sums."""

    image: NDArray[np.int64]
    group: NDArray[np.int64]
    sums: FloatArray
    """The number of rows, then the sum of each column."""
    n_groups: int

    @classmethod
    def of(cls, array: FloatArray, group: NDArray[np.int64], image: NDArray[np.int64], n_groups: int) -> _Cells:
        keys, cell = codes(image * n_groups + group)
        sums = np.column_stack([np.bincount(cell, minlength=len(keys)), group_sums(array, cell, len(keys))])
        return cls(keys // n_groups, keys % n_groups, sums, n_groups)


def _permuted_maxima(cells: _Cells, within: bool, permutations: int, generator: np.random.Generator) -> FloatArray:
    """Largest group means (permutations, M) under the null, each column by the faster way to its distribution."""
    n_cells, n_groups = len(cells.group), cells.n_groups
    maxima = np.empty((permutations, cells.sums.shape[1] - 1))
    start = copy.deepcopy(generator)  # every column from the same draws, so that none depends on the others
    shuffled = []
    for column in range(maxima.shape[1]):
        kinds, counts = np.unique(cells.sums[:, [0, column + 1]], axis=0, return_counts=True)
        if within or _NS_PER_DEAL * n_groups * len(kinds) > _NS_PER_CELL * n_cells:
            shuffled.append(column)
        else:
            sizes = np.bincount(cells.group, minlength=n_groups)
            maxima[:, column] = _dealt(kinds, counts, sizes, permutations, copy.deepcopy(start))
    if shuffled:
        blocks = _blocks(cells.image if within else np.zeros(n_cells, np.int64))
        moving = cells.sums[:, [0, *(column + 1 for column in shuffled)]]
        moving = moving.astype(exact_type(moving))
        maxima[:, shuffled] = _shuffled(moving, cells.group, n_groups, blocks, permutations, generator)
    return maxima


def _shuffled(
    cells: NDArray[Any],
    cell_group: NDArray[np.int64],
    n_groups: int,
    blocks: list[NDArray[np.int64]],
    permutations: int,
    generator: np.random.Generator,
) -> FloatArray:
    """Largest group means (permutations, M) where the cells of each block change places."""
    n_cells = len(cells)
    slot = np.argsort(np.argsort(cell_group, kind="stable"))  # where a cell's place is in group order
    ends = np.cumsum(np.bincount(cell_group, minlength=n_groups))
    maxima = np.empty((permutations, cells.shape[1] - 1))
    chunk = max(1, min(ELEMENTS // n_cells, ELEMENTS // (COLUMNS * n_groups)))
    for start in range(0, permutations, chunk):
        stop = min(start + chunk, permutations)
        order = np.empty((stop - start, n_cells), np.int32)
        for members in blocks:
            shuffle = np.argsort(generator.random((stop - start, *members.shape)), axis=-1)
            moved = np.take_along_axis(members[None], shuffle, axis=-1)
            order[:, slot[members].ravel()] = moved.reshape(stop - start, -1)
        maxima[start:stop] = _largest_means(order, ends, cells)
    return maxima


def _dealt(
    kinds: FloatArray,
    counts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    permutations: int,
    generator: np.random.Generator,
) -> FloatArray:
    """Largest group means (permutations,) where all cells change places, drawn as counts of each kind of cell.

    Cells with equal rows and sums are alike, so that a group of a shuffle is a multivariate hypergeometric draw
    from what the groups before it have left: the same distribution without moving a cell.
    """
    left = np.repeat(counts[:, None], permutations, axis=1)
    largest = np.full(permutations, -np.inf)
    for size in sizes:
        wanted = np.full(permutations, size)
        others = left.sum(axis=0)
        rows, total = np.zeros(permutations), np.zeros(permutations)
        for of_kind, (of_rows, of_sum) in zip(left, kinds, strict=True):
            others -= of_kind
            taken = generator.hypergeometric(of_kind, others, wanted)
            of_kind -= taken
            wanted -= taken
            rows += taken * of_rows
            total += taken * of_sum
        np.maximum(largest, total / rows, out=largest)
    return largest


def _blocks(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Positions of equal labels, a row per label, in one array (labels, size) per size."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def _largest_means(order: NDArray[np.int32], ends: NDArray[np.int64], cells: NDArray[Any]) -> FloatArray:
    """Largest group mean (P, M) where the cells lie in each of P orders (P, cells), groups ending at ``ends``."""
    count, n_cells = order.shape
    stops = (np.arange(count)[:, None] * n_cells + ends).ravel()
    pointers = np.concatenate([[0], stops]).astype(np.int32)
    ones = np.ones(order.size, cells.dtype)
    chosen = sparse.csr_array((ones, order.ravel(), pointers), shape=(len(stops), n_cells))
    sizes = (chosen @ cells[:, 0]).astype(np.float64)[:, None]
    largest = []
    for start in range(1, cells.shape[1], COLUMNS):
        sums = chosen @ np.ascontiguousarray(cells[:, start : start + COLUMNS])
        largest.append((sums / sizes).reshape(count, len(ends), -1).max(axis=1))
    return np.concatenate(largest, axis=1)
