"""Which classes a stream shows, how often and in what order: pure functions of label arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray
from protocols.composition import long_tail_counts

MOST_SLOTS = 100

Labels = NDArray[np.integer[Any]]


def sorted_order(labels: Labels) -> NDArray[np.intp]:
    """Order images by class, those of a class as they were: (n,) positions in the (n,) labels from 0."""
    # NumPy sorts 8 and 16 bits by radix, many times faster than 64.
    return np.argsort(labels.astype(np.min_scalar_type(int(labels.max()))), kind="stable")


def _numbered(labels: Labels) -> tuple[IntArray, IntArray]:
    """Return the classes present, rising, and the place of each label among them."""
    present = np.bincount(labels) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[labels]


def long_tail(labels: IntArray, total: int, ratio: float, generator: np.random.Generator) -> IntArray:
    """Choose ``total`` images whose class frequencies fall exponentially from head to tail.

    The counts are those of :func:`protocols.composition.long_tail_counts`; which class has which is drawn. Of each
    class the first images of the test set are taken.

    Parameters
    ----------
    labels : (N,) labels of the test set.
    total : images to choose.
    ratio : the head's share over the tail's, from 1.

    Returns
    -------
    (total,) indices into ``labels``, rising.

    Raises
    ------
    RequestError
        If a class has fewer images than its count, or its count is none.
    """
    classes, number = _numbered(labels)
    counts = generator.permutation(long_tail_counts(total, len(classes), ratio))
    available = np.bincount(number)
    for wrong, so_many in ((counts == 0, "fewer"), (counts > available, "more")):
        if wrong.any():
            first = int(wrong.argmax())
            raise RequestError(
                f"a long tail of ratio {ratio:g} over {total} images takes {counts[first]} of class {classes[first]}, "
                f"{so_many} than 1 to {available[first]}, what the test set has: expected another ratio or size"
            )
    by_class = sorted_order(number)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(available) - available, available)
    return np.sort(by_class[place < counts[number[by_class]]])


def dirichlet_order(
    labels: Labels, concentration: float, slots: int | None, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Order images so that classes come in clusters, as in Gong et al. 2022 (NOTE, arXiv 2208.05117).

    Time is cut into slots; the images of a class are spread over them by shares drawn from a symmetric Dirichlet
    distribution, as also in Yuan et al. 2023 (RoTTA, arXiv 2303.13899). A small concentration puts a class into one
    slot, a large one spreads it evenly. *Ours*: an image's slot is drawn by its class's shares, slots may differ in
    length, and inside a slot the order stays that of ``labels``.

    Parameters
    ----------
    labels : (n,) labels in a random order.
    concentration : the Dirichlet distribution's parameter, above 0; both papers use 0.1.
    slots : their number; None takes the number of classes, at most 100.

    Returns
    -------
    (n,) positions in ``labels``.
    """
    classes, number = _numbered(labels)
    slots = min(len(classes), MOST_SLOTS) if slots is None else slots
    ends = generator.dirichlet(np.full(slots, concentration), len(classes)).cumsum(axis=1).clip(max=1.0)
    ends[:, -1] = 1.0
    # One search for all classes: class c's shares lie between c and c + 1.
    places = (np.arange(len(classes))[:, None] + ends).ravel()
    slot = np.searchsorted(places, number + generator.random(len(labels)), side="right") - number * slots
    return sorted_order(slot)


def burst_order(labels: Labels, bursts: int, length: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Gather images of one class into runs that begin at random times; all others keep their order.

    Classes are drawn, for every burst anew, from those that have enough images left. The images are taken from where
    they were, so that none is shown more often. A run may touch further images of its class, or another run.

    Parameters
    ----------
    labels : (n,) labels in stream order.
    bursts, length : number of runs, and images in each.

    Returns
    -------
    (n,) positions in ``labels``.

    Raises
    ------
    RequestError
        If no class has enough images left.
    """
    number = _numbered(labels)[1]
    free = np.bincount(number)
    # A random order within each class; bursts of a class take its images from the end.
    anyhow = generator.permutation(len(labels))
    by_class = anyhow[sorted_order(number[anyhow])]
    first = np.cumsum(free) - free
    runs = np.empty((bursts, length), dtype=np.intp)
    for run in runs:
        able = np.flatnonzero(free >= length)
        if not len(able):
            raise RequestError(
                f"bursts = {bursts} of {length} images of one class: no class has so many left among the {len(labels)} "
                f"images, of {len(free)} classes, that they are taken from"
            )
        chosen = generator.choice(able)
        free[chosen] -= length
        run[:] = by_class[first[chosen] + free[chosen] :][:length]
    others = np.delete(np.arange(len(labels)), runs.ravel())
    before = generator.integers(0, len(others) + 1, bursts)
    place = np.concatenate([np.arange(len(others)) + 0.5, np.repeat(before, length)])
    return np.concatenate([others, runs.ravel()])[np.argsort(place, kind="stable")]
