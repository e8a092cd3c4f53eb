"""Outcomes of method combinations made of arrays, where a test needs them just so and no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite.analysis.outcomes import Combination, Int8Array, Outcome, Outcomes
from evalsuite.analysis.reading import Layout

CLASSES = 4


def layout(image: NDArray[np.int64], domain: NDArray[np.int64], digest: str = "layout") -> Layout:
    """Return the layout of rows (N,) of images and domains, both whole numbers; an image's class is its rest by 4."""
    order = np.lexsort((image, domain))
    domains = tuple((f"domain {number}", 5) for number in range(int(domain.max()) + 1))
    label = (image % CLASSES).astype(np.int32)
    return Layout(domains, domain[order].astype(np.int16), image[order].astype(np.int32), label[order], {}, digest)


def square(images: int, domains: int) -> Layout:
    """Return the layout of so many images, each under each of so many domains."""
    return layout(np.tile(np.arange(images), domains), np.repeat(np.arange(domains), images))


def combination(
    quantizer: str, layouts: Mapping[int, Layout], wrong: Mapping[int, ArrayLike], calibration: str = "128 images"
) -> Combination:
    """Return a quantizer's outcomes, by seed, where ``wrong`` says (N,) which rows of a layout it got wrong."""
    outcomes = {}
    for seed, own in layouts.items():
        missed: Int8Array = np.asarray(wrong[seed]).astype(np.int8)
        said = np.where(missed, (own.label + 1) % CLASSES, own.label).astype(np.int32)
        name = f"{quantizer} {calibration} {seed}"
        outcomes[seed] = Outcome(name, own, missed, said, np.ones(len(missed), np.float32))
    references = {seed: f"full {calibration} {seed}" for seed in layouts}
    return Combination("task", calibration, quantizer, "none", "usual", outcomes, references, {"bits": "W4A4"})


def outcomes(combinations: Sequence[Combination]) -> Outcomes:
    """Return what an analysis reads of a run, of these combinations of one task."""
    known = {one.trial: one for each in combinations for one in each.outcomes.values()}
    return Outcomes(list(combinations), known, {"task": [f"class {number}" for number in range(CLASSES)]})
