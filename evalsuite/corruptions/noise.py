"""Noise that hits every value by itself: gaussian, shot, impulse and speckle.

All a value of such noise depends on is the clean value, so a corruption is a matrix of 256 x 256 probabilities
"grey level g becomes level k". It is computed exactly, once, and sampled by Walker's alias method (1977): two random
bytes a value whatever the distribution, hence the speed. Probabilities are kept to 1/65536.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evalsuite.corruptions.constants import SETS
from evalsuite.corruptions.draws import Draws
from evalsuite.plugins import IntArray, UInt8Array

_GREYS = np.arange(256)
_BLOCK = 1 << 14  # values treated together: few enough to stay in a core's own cache
Probabilities = NDArray[np.float64]


def add_noise(images: UInt8Array, name: str, severity: int, constants: str, draws: Draws) -> UInt8Array:
    """Return the images with each value replaced by a draw from its row of the matrix: (N, H, W, 3) uint8."""
    table = _alias_table(constants, name, severity)
    values, words = images.ravel(), draws.words(images[0].size).ravel()
    out = np.empty_like(values)
    for start in range(0, len(values), _BLOCK):
        part = slice(start, start + _BLOCK)
        word = words[part]
        column = word.astype(np.uint8)
        entry = table.take(values[part].astype(np.uint16) << 8 | column)
        alias = entry.astype(np.uint8)
        # The choice by masks: at random, a branch for each value would be mispredicted half the time.
        kept = np.negative((word < entry & 0xFF00).view(np.uint8))
        out[part] = alias ^ ((alias ^ column) & kept)
    return out.reshape(images.shape)


@functools.lru_cache(maxsize=32)
def _alias_table(constants: str, name: str, severity: int) -> NDArray[np.uint16]:
    """Flat table of 256 x 256 entries ``keep * 256 + alias``.

    A random word's low byte is the column and its high byte the test: the column stays if that is below ``keep``.
    """
    masses = _in_units(transition(constants, name, severity))
    rows = np.arange(256)
    keep = np.zeros((256, 256), np.uint16)
    alias = np.tile(_GREYS.astype(np.uint16), (256, 1))
    # Each round fills the emptiest column of every row from the fullest one; after 255 all hold 256.
    for _ in range(255):
        low, high = masses.argmin(axis=1), masses.argmax(axis=1)
        missing = 256 - masses[rows, low]
        short = missing > 0
        keep[rows[short], low[short]] = 256 - missing[short]
        alias[rows[short], low[short]] = high[short]
        masses[rows, low] = 256
        masses[rows, high] -= missing
    table: NDArray[np.uint16] = (keep << np.uint16(8) | alias).ravel()
    return table


def _in_units(probabilities: Probabilities) -> IntArray:
    """Round each row to multiples of 1/65536 whose sum is 1, by largest remainder."""
    exact = probabilities * 65536
    units = np.floor(exact).astype(np.int64)
    missing = 65536 - units.sum(axis=1)
    rank = np.argsort(np.argsort(units - exact, axis=1, kind="stable"), axis=1)
    rounded: IntArray = units + (rank < missing[:, None])
    return rounded


def transition(constants: str, name: str, severity: int) -> Probabilities:
    """Return the probability that grey level g (row) becomes k (column): (256, 256), rows sum to 1.

    Floating-point results are cut to whole levels towards zero, as the original generators do.
    """
    amount = getattr(SETS[constants], name)[severity - 1]
    return _MATRICES[name](amount)


def _normal(deviations: NDArray[np.float64]) -> Probabilities:
    """Return the matrix of normal noise; ``deviations`` (256,) in grey levels."""
    edges = np.append(_GREYS[:-1] + 1 - _GREYS[:, None], np.full((256, 1), np.inf), axis=1)
    with np.errstate(divide="ignore"):
        below = special.ndtr(edges / deviations[:, None])
    below[deviations == 0] = edges[deviations == 0] > 0
    return np.diff(below, axis=1, prepend=0)


def _gaussian(deviation: float) -> Probabilities:
    return _normal(np.full(256, 255 * deviation))


def _speckle(deviation: float) -> Probabilities:
    return _normal(_GREYS * np.float64(deviation))


def _shot(photons: float) -> Probabilities:
    """Return the matrix of Poisson counts of mean ``photons`` x tone; counts above ``photons`` are white."""
    counts = np.arange(int(photons) + 1)
    means = photons * _GREYS[:, None] / 255
    # As scipy.stats has it, which takes as long to load as all else that a corruption needs.
    mass = np.exp(special.xlogy(counts, means) - special.gammaln(counts + 1) - means)
    mass[:, -1] = special.pdtrc(photons - 1, means[:, 0])
    levels = (counts / photons * 255).astype(np.uint8)
    out = np.zeros((256, 256))
    for level, column in zip(levels, mass.T, strict=True):
        out[:, level] += column
    return out


def _impulse(share: float) -> Probabilities:
    out = np.zeros((256, 256))
    out[_GREYS, (_GREYS / 255.0 * 255).astype(np.uint8)] = 1 - share
    out[:, [0, 255]] += share / 2
    return out


_MATRICES = {"gaussian_noise": _gaussian, "shot_noise": _shot, "impulse_noise": _impulse, "speckle_noise": _speckle}
NAMES = tuple(_MATRICES)
