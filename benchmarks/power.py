"""Whether the images that a power analysis asks for tell a planted difference: 70 to 90 % of simulated studies.

python benchmarks/power.py [--repetitions 200] [--points 2 5 10] [--layouts 0 1 2 3] [--family 1]

Two methods make errors by the probit model of ``levels.py``, one of them by 2, 5 or 10 points more, under domains of
unequal difficulty; in several calibration draws each method has a shift of its own. A pilot of ``PILOT`` images is
recorded, ``images_needed`` asks for images, and studies of so many new images go through the tables' own rule:
both tests, corrected, and the interval. A figure is over
``PILOTS`` pilots, the repetitions divided among them. Pilots that ask for no number up to ``LARGE`` are counted apart,
with the rate at ``LARGE`` images and the draws that would do with them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
from report import Figure, main, note
from scipy import stats

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.analysis.comparisons import gap_tests
from evalsuite.analysis.outcomes import Layout, Rows
from evalsuite.statistics import Need, draws_needed, images_needed

POINTS, RATES, LAYOUTS = (2, 5, 10), (0.1, 0.2, 0.4), ((1, 1), (15, 1), (15, 5), (1, 5))  # domains, draws
PILOT, PILOTS, LARGE = 400, 10, 8000
HARDNESS, TASTE = 0.4, 0.3  # shares of the variance: an image's for both methods, an image's for one method
SHIFT, SEVERITY = 0.02, 0.3  # standard deviations of a method's draws and of domains
ROWS = 4_000_000  # held at once


class Study:
    """A made-up study: two methods of which the first errs more by ``gap``."""

    def __init__(self, rate: float, gap: float, domains: int, draws: int) -> None:
        self.domains, self.draws = domains, draws
        severity = SEVERITY * stats.norm.ppf((np.arange(domains) + 0.5) / domains)
        errors = stats.norm.cdf(stats.norm.ppf(rate) + severity)
        wide = np.sqrt(1 + (SHIFT**2 if draws > 1 else 0))
        self.limits = [stats.norm.ppf(each)[:, None, None] * wide for each in (errors + gap, errors)]

    def gaps(self, images: int, columns: int, generator: np.random.Generator) -> np.ndarray:
        """Return (draws x domains x images, columns) differences."""
        hard = np.sqrt(HARDNESS) * generator.normal(size=(images, columns))
        wrong = []
        for limit in self.limits:
            taste = np.sqrt(TASTE) * generator.normal(size=(images, columns))
            own = (SHIFT if self.draws > 1 else 0) * generator.normal(size=(self.draws, 1, 1, columns))
            rest = generator.standard_normal((self.draws, self.domains, images, columns), np.float32)
            wrong.append(hard + taste + own + np.sqrt(1 - HARDNESS - TASTE) * rest < limit)
        return np.subtract(*wrong, dtype=np.int8).reshape(-1, columns)

    def rows(self, images: int) -> Rows:
        """Return what the rows of so many images belong to."""
        image = np.tile(np.arange(images, dtype=np.int32), self.domains)
        domain = np.repeat(np.arange(self.domains, dtype=np.int16), images)
        names = tuple((f"domain {index:02}", 1) for index in range(self.domains))
        layout = Layout(names, domain, image, image % 10)
        return Rows("made up", (layout,) * self.draws, [str(index) for index in range(10)])


def planned(study: Study, gap: float, family: int, generator: np.random.Generator) -> tuple[Need, Need | None]:
    """Return the images that a pilot asks for, and where none do the draws that would do with ``LARGE`` images."""
    rows = study.rows(PILOT)
    recorded = study.gaps(PILOT, 1, generator)[:, 0], rows.image, rows.domain, rows.replicate
    level = LEVEL / family
    need = images_needed(*recorded, generator=generator, level=level, size=gap, most=LARGE)
    if need.number is not None or study.draws == 1:
        return need, None
    return need, draws_needed(*recorded, generator=generator, level=level, size=gap, n_images=LARGE)


def claims(study: Study, images: int, repetitions: int, family: int, generator: np.random.Generator) -> np.ndarray:
    """Return which of the studies claim a difference."""
    rows, settings = study.rows(images), Settings(seed=0, permutations=0, bootstrap=1000)
    step, found = max(1, ROWS // len(rows.image)), []
    for start in range(0, repetitions, step):
        tested = gap_tests(rows, study.gaps(images, min(step, repetitions - start), generator), settings)
        p, low, high = (np.array([values[name] for values in tested], float) for name in ("p", "low", "high"))
        found.append(shown(np.minimum(family * p, 1), low, high))
    return np.concatenate(found)


def measure(
    data_root: str | None,
    repetitions: int = 200,
    points: Sequence[int] = POINTS,
    layouts: Sequence[int] = tuple(range(len(LAYOUTS))),
    family: int = 1,
) -> list[Figure]:
    figures = []
    for layout, gap, rate in itertools.product(layouts, points, RATES):
        domains, draws = LAYOUTS[layout]
        study = Study(rate, gap / 100, domains, draws)
        generator = np.random.default_rng([domains, draws, gap, round(100 * rate), family])
        needs = [planned(study, gap / 100, family, generator) for _ in range(PILOTS)]
        told, limited = [], []
        for need, _ in needs:
            rates = told if need.number is not None else limited
            rates.append(claims(study, need.number or LARGE, repetitions // PILOTS, family, generator).mean())
        numbers = [need.number for need, _ in needs if need.number is not None]
        said = (
            [f"{min(numbers)} to {max(numbers)} images asked for, median {np.median(numbers):.0f}"] if numbers else []
        )
        if limited:
            draws_asked = ", ".join(str(more.number) for _, more in needs if more is not None)
            said.append(
                f"{len(limited)} of {PILOTS} pilots ask for no number: {100 * np.mean(limited):.0f} % at {LARGE}"
            )
            said += [f"draws asked for {draws_asked}"] if draws_asked else []
        name = f"{gap} points at {rate:.0%}, {domains} domains, {draws} draws"
        value = 100 * float(np.mean(told)) if told else None
        figures.append(Figure(name, value, "%", at_least=70, at_most=90, note="; ".join(said)))
        note(f"{name}: {value} ({figures[-1].note})")
    return figures


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repetitions", type=int, default=200, help="simulated studies of a figure")
    parser.add_argument("--points", type=int, nargs="+", default=POINTS, help="planted differences")
    every = tuple(range(len(LAYOUTS)))
    parser.add_argument("--layouts", type=int, nargs="+", default=every, help=f"of (domains, draws) {LAYOUTS}, from 0")
    parser.add_argument("--family", type=int, default=1, help="tests of the family, Holm's first factor")


if __name__ == "__main__":
    main(measure, __doc__, options)
