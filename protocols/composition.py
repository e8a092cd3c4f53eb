"""Class composition of a calibration set: balanced, of some classes only, or long-tailed.

These steps say how many images *and* of which classes, so they take the size themselves: a long tail of 64 images is
one step, not two. A step draws from what the steps before it have left. Its counts are met exactly or the request is
refused; after a random draw of a few images there are too few of some class, which is refused, not approximated.

C is the number of classes that the pool has images of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evalsuite.errors import RequestError, unknown_name
from evalsuite.plugins import IntArray, Pool


@dataclass(frozen=True)
class Balanced:
    """The same number of images of each class, of all classes or of some of them only.

    Where the size is no multiple of the number of classes, counts differ by one; the seed draws which classes have
    one image more.

    Parameters
    ----------
    size : images; 256 (*choice*).
    classes : how many of them, an integer; or which share, 0..1, drawn by the seed; 1.0 is all.
    names : of the classes, in place of ``classes``; empty: none is named.
    """

    factor: ClassVar[str] = "class composition"

    size: int = 256
    classes: int | float = 1.0
    """How many, drawn by the seed: a number, or (written with a point) a share of C, rounded, at least one class."""
    names: tuple[str, ...] = ()
    """Which, by name; takes the place of ``classes``."""

    def __post_init__(self) -> None:
        _check_size(self.size)
        whole = isinstance(self.classes, int)
        if not (self.classes >= 1 if whole else 0 < self.classes <= 1):
            raise RequestError(
                f"classes = {self.classes}: expected a number from 1, or a share above 0.0 and up to 1.0"
            )
        if self.names and (whole or self.classes < 1):
            raise RequestError(f"classes = {self.classes} and names = {list(self.names)}: expected one of the two")
        if len(set(self.names)) < len(self.names):
            raise RequestError(f"names = {list(self.names)}: expected every class once")

    def __str__(self) -> str:
        if self.names:
            return f"{self.size} images of {' and '.join(self.names)} only"
        if isinstance(self.classes, int):
            return f"{self.size} images of {self.classes} class{'es' if self.classes > 1 else ''} only"
        if self.classes < 1:
            return f"{self.size} images of {100 * self.classes:g} % of classes only"
        return f"{self.size} images, balanced"

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Draw the images. Raises RequestError naming a class that has too few."""
        chosen = generator.permutation(self._named(pool) if self.names else present_classes(pool))
        chosen = chosen if self.names else chosen[: self._number(len(chosen))]
        counts = balanced_counts(self.size, len(chosen))
        return draw(pool, indices, chosen, counts, generator, str(self))

    def _number(self, known: int) -> int:
        if not isinstance(self.classes, int):
            return max(1, round(self.classes * known))
        if self.classes > known:
            raise RequestError(f"{self.classes} classes: expected at most {known}, what the pool has images of")
        return self.classes

    def _named(self, pool: Pool) -> IntArray:
        known = {pool.class_name(label): label for label in present_classes(pool).tolist()}
        for name in self.names:
            if name not in known:
                raise unknown_name("class", name, known)
        return np.array([known[name] for name in self.names], dtype=np.int64)


@dataclass(frozen=True)
class LongTail:
    """Class counts that fall off exponentially; the seed draws the order of the classes.

    The profile of Cui et al. 2019 (arXiv 1901.05555) and Cao et al. 2019 (arXiv 1906.07413).

    Parameters
    ----------
    size : images; 256 (*choice*).
    ratio : how many times as many images the most frequent class has as the rarest; 10 (*choice*).
    """

    factor: ClassVar[str] = "class composition"

    size: int = 256
    ratio: float = 10.0
    """Images of the largest class to one of the smallest, before counts are rounded to whole images."""

    def __post_init__(self) -> None:
        _check_size(self.size)
        if not 1 <= self.ratio < math.inf:
            raise RequestError(f"ratio {self.ratio}: expected at least 1")

    def __str__(self) -> str:
        return f"{self.size} images, long tail {self.ratio:g}"

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Draw the images. Raises RequestError naming a class that has too few."""
        order = generator.permutation(present_classes(pool))
        return draw(pool, indices, order, long_tail_counts(self.size, len(order), self.ratio), generator, str(self))


def present_classes(pool: Pool) -> IntArray:
    """Return the labels that the pool has images of, ascending: (C,)."""
    return np.unique(pool.labels).astype(np.int64)


def balanced_counts(size: int, classes: int) -> IntArray:
    """Share ``size`` images out evenly: (classes,) counts that differ by at most one, the larger first."""
    return long_tail_counts(size, classes, 1.0)


def long_tail_counts(size: int, classes: int, ratio: float) -> IntArray:
    """Share ``size`` images out in an exponential profile: (classes,) counts, none larger than the one before.

    Class i of C is due a share proportional to ``ratio ** (-i / (C - 1))``. Shares are rounded by largest remainders,
    so that every count is its share rounded down or up and their sum is ``size``; a class that is due less than one
    image may get none.
    """
    due = ratio ** (-np.arange(classes) / max(classes - 1, 1))
    due *= size / due.sum()
    counts = np.floor(due).astype(np.int64)
    largest = np.argsort(counts - due, kind="stable")
    counts[largest[: size - counts.sum()]] += 1
    return counts


def draw(
    pool: Pool, indices: IntArray, classes: IntArray, counts: IntArray, generator: np.random.Generator, what: str
) -> IntArray:
    """Draw ``counts[k]`` of the images ``indices`` of class ``classes[k]``, without replacement, in random order.

    Raises
    ------
    RequestError
        If a class has too few, with its name, what it has and what was wanted; ``what`` names the request.
    """
    labels = pool.labels[indices]
    drawn = []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        members = indices[labels == label]
        if len(members) < count:
            name = pool.class_name(label)
            raise RequestError(f"{what}: class {name!r} has {len(members)} of the {count} images wanted")
        drawn.append(generator.choice(members, count, replace=False))
    return generator.permutation(np.concatenate(drawn))


def _check_size(size: int) -> None:
    if size < 1:
        raise RequestError(f"calibration size {size}: expected at least 1")
