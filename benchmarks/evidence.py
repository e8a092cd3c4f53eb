"""What the statistics of a large study cost: paired bootstrap and the null of the worst group, median of 3 runs.

python benchmarks/evidence.py

The numbers are made up; they need neither data nor network.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report import Figure, main

from evalsuite.statistics import paired_bootstrap, worst_group_null

REPEATS = 3
IMAGES, DOMAINS, METHODS, DRAWS = 10_000, 15, 20, 10_000
ROWS, GROUPS, PERMUTATIONS = 150_000, 100, 2_000


def measure(data_root: str | None) -> list[Figure]:
    generator = np.random.default_rng(0)
    differences = generator.integers(-1, 2, (DOMAINS * IMAGES, METHODS), dtype=np.int8)
    images = np.tile(np.arange(IMAGES), DOMAINS)
    draws = _seconds(lambda: paired_bootstrap(differences, images, np.random.default_rng(1), draws=DRAWS))
    figures = [Figure(f"{DRAWS:,} paired draws, {DOMAINS} x {IMAGES:,} images x {METHODS} methods", draws, "s", 2.0)]

    own = generator.integers(-1, 2, ROWS, dtype=np.int8)
    classes, once = generator.integers(0, GROUPS, ROWS), np.arange(ROWS)
    domains, recurring = np.divmod(once, ROWS // GROUPS)
    # The bar is for images of one group each; images that are met in every group change places within themselves.
    cases = {
        f"{GROUPS} classes, {ROWS:,} images": (classes, once, 5.0),
        f"{GROUPS} domains of {ROWS // GROUPS:,} images": (domains, recurring, None),
    }
    for case, (groups, units, bar) in cases.items():
        null = _seconds(
            lambda groups=groups, units=units: worst_group_null(
                own, groups, units, np.random.default_rng(2), permutations=PERMUTATIONS
            )
        )
        figures.append(Figure(f"worst-group null, {PERMUTATIONS:,} permutations, {case}", null, "s", bar))
    return figures


def _seconds(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main(measure, __doc__)
