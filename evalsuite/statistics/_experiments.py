"""Experiments that might have been: what is recorded of two methods, and the same study made anew in other sizes.

*Ours.* A study made anew has other images, drawn from the recorded ones with all their rows, and other calibration
draws, whose effects are normal with the recorded variance. What is simulated are sums over images, so that a study of
any size costs as much as the recorded one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from evalsuite.errors import RequestError
from evalsuite.metrics import FloatArray, group_sums
from evalsuite.statistics._units import ELEMENTS, codes, columns

_STEEPEST = 200.0
"""Of the weights exp(t x difference): beyond, all weight is on the images that differ most."""


class OutOfReach(RequestError):
    """A size of difference that no weights of the recorded images have."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What is recorded of the differences of two methods, images with equal rows together.

    A share is the mean over rows of what is above 0 (first), or of what is below (second, as a positive number).
    """

    chance: FloatArray
    """(K,) with which an image of this kind is drawn."""
    shares: FloatArray
    """(K, 2) of the image's rows."""
    by_domain: FloatArray
    """(K, D) mean difference, the domains' means drawn together as far as they differ by chance."""
    rows: int
    """Rows of an image in one draw."""
    domains: int
    draws: int
    inside: FloatArray
    """(2, 2) covariance of an image's shares over draws, on average, the draws' own effects included in neither."""
    between: FloatArray
    """(2, 2) covariance of the draws' effects."""


@dataclass(frozen=True, eq=False)
class Studies:
    """Some simulated studies of n images and d draws, R of them."""

    n: int
    draws: int
    times: FloatArray
    """(R, K) how many images of a kind there are."""
    mean: FloatArray
    """(R, 2) shares."""
    shares: FloatArray
    """(R, K, 2) of an image of a kind, with the effects of the study's draws."""
    off: FloatArray
    """(R, d, 2) the draws' shares less their mean."""
    by_domain: FloatArray
    """(R, D) mean differences."""


def measured(
    differences: ArrayLike, images: ArrayLike, domains: ArrayLike, replicates: ArrayLike, size: float | None
) -> Measured:
    """Return what (N,) differences hold, images weighted so that their mean is ``size``, unless that is None.

    Raises RequestError for differences beyond -1, 0, 1, a layout that is not crossed, or a size out of reach.
    """
    array, single = columns(differences, images=images, domains=domains, replicates=replicates)
    if not single or not np.isin(array, (-1, 0, 1)).all():
        raise RequestError("differences: expected (N,) of -1, 0 and 1, wrong minus the other's wrong")
    cells, rows = _cells(array, images, domains, replicates)
    n, d = cells.shape[:2]
    shares = cells.mean(axis=2)
    inside, between = _of_draws(shares)
    by_image = np.concatenate([shares.mean(axis=1), (cells[..., 0] - cells[..., 1]).mean(axis=1)], axis=1)
    kinds, times = np.unique(np.round(by_image, 12), axis=0, return_counts=True)
    chance = _weights(kinds[:, 0] - kinds[:, 1], times / n, size)
    by_domain = _drawn_together(kinds[:, 2:], chance, n)
    return Measured(chance, kinds[:, :2], by_domain, rows, cells.shape[2], d, inside, between)


def studies(found: Measured, n: int, draws: int, repetitions: int, generator: np.random.Generator) -> Iterator[Studies]:
    """Yield simulated studies of n images and so many draws, as many at a time as memory holds."""
    chunk = max(1, ELEMENTS // (2 * len(found.chance)))
    center = found.chance @ found.shares
    # With other draws than recorded, an image's mean over draws varies more, or less.
    spread = np.einsum("k,ks->s", found.chance, np.square(found.shares - center))
    own = np.diag(found.inside)
    other = np.maximum(spread + own / draws - own / found.draws, 0)
    factor = np.sqrt(np.divide(other, spread, out=np.ones(2), where=spread > 0))
    kinds = center + (found.shares - center) * factor
    for start in range(0, repetitions, chunk):
        number = min(chunk, repetitions - start)
        times = generator.multinomial(n, found.chance, size=number).astype(np.float64)
        effects = np.zeros((number, draws, 2))
        noise = np.zeros_like(effects)
        if draws > 1:
            effects = _normal(found.between, effects.shape, generator)
            noise = _normal(found.inside / n, effects.shape, generator)
        moved = effects.mean(axis=1)
        off = effects + noise - (effects + noise).mean(axis=1, keepdims=True)
        shares = kinds + moved[:, None]
        by_domain = times @ found.by_domain / n + (moved[:, :1] - moved[:, 1:])
        mean = np.clip(times @ kinds / n + moved, 0, 1)
        yield Studies(n, draws, times, mean, shares, off, by_domain)


def _cells(array: FloatArray, images: ArrayLike, domains: ArrayLike, replicates: ArrayLike) -> tuple[FloatArray, int]:
    """Return shares (images, draws, domains, 2), and the rows of an image in a draw."""
    places = [codes(part)[1] for part in (images, replicates, domains)]
    shape = tuple(int(place.max()) + 1 for place in places)
    cell = np.ravel_multi_index(places, shape)
    rows = np.bincount(cell, minlength=int(np.prod(shape)))
    if rows.min() != rows.max():
        raise RequestError(
            f"{shape[0]} images, {shape[1]} calibration draws, {shape[2]} domains, in {rows.min()} to {rows.max()} "
            "rows each: expected every image equally often in every domain of every draw"
        )
    sides = np.concatenate([np.maximum(array, 0), np.maximum(-array, 0)], axis=1).astype(np.float64)
    each = group_sums(sides, cell, len(rows)) / rows[0]
    return each.reshape(*shape, 2), int(rows[0]) * shape[2]


def _of_draws(shares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the covariances within images over draws and of the draws' effects, of (n, d, 2) shares; 0 for one draw.

    Mean squares of the two-way layout without replication, as in :func:`evalsuite.statistics.two_way_bootstrap`.
    """
    n, d, _ = shares.shape
    if d == 1 or n == 1:
        return np.zeros((2, 2)), np.zeros((2, 2))
    of_draw = shares.mean(axis=0) - shares.mean(axis=(0, 1))
    rest = shares - shares.mean(axis=1, keepdims=True) - of_draw
    inside = np.einsum("nds,ndt->st", rest, rest) / ((n - 1) * (d - 1))
    return inside, _covariance(of_draw.T @ of_draw / (d - 1) - inside / n)


def _covariance(matrix: FloatArray) -> FloatArray:
    """Return the nearest covariance: a negative component adds nothing."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)


def _normal(covariance: FloatArray, shape: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(generator.normal(size=shape) @ (vectors * np.sqrt(np.maximum(values, 0))).T)


def _weights(difference: FloatArray, chance: FloatArray, size: float | None) -> FloatArray:
    """Tilt the chances by exp(t x difference) until the mean difference is ``size``.

    Of all weights that reach it these are the nearest to equal ones (Efron 1981, Canadian Journal of Statistics 9).
    """
    if size is None:
        return chance

    def tilted(steepness: float) -> FloatArray:
        return np.asarray(special.softmax(np.log(chance) + steepness * difference))

    def short(steepness: float) -> float:
        return float(tilted(steepness) @ difference) - size

    if not short(-_STEEPEST) <= 0 <= short(_STEEPEST):
        raise OutOfReach(
            f"size {size:g}: the images differ by {difference.min():g} to {difference.max():g}, and so can no mean"
        )
    return tilted(float(optimize.brentq(short, -_STEEPEST, _STEEPEST)))


def _drawn_together(by_domain: FloatArray, chance: FloatArray, n: int) -> FloatArray:
    """Take from the (K, D) differences what the domains' means differ by because only n images were seen.

    The means' variance is that of the domains and the residual mean square / n; the deviations are scaled to the first.
    """
    domains = by_domain.shape[1]
    if domains == 1 or n == 1:
        return by_domain
    means = chance @ by_domain
    off = means - means.mean()
    rest = by_domain - by_domain.mean(axis=1, keepdims=True) - off
    by_chance = float(chance @ np.square(rest).sum(axis=1)) / ((domains - 1) * (n - 1))
    seen = float(np.square(off).sum()) / (domains - 1)
    kept = np.sqrt(max(seen - by_chance, 0) / seen) if seen > 0 else 1.0
    return np.asarray(by_domain - (1 - kept) * off)
