"""How often every test rejects a true null, and every interval misses the truth, over a grid of simulated studies.

python benchmarks/levels.py [--simulations 1000] [--rows 2000000] [--quick] [--out benchmarks/levels.csv]

Two (rankings: four) methods that are equally good make errors on the same images, by a probit model in which an image
is hard, or hard for one method, under all domains; in several calibration draws each method has a shift of its own.
At 5 %, nothing should be above 6.5 % but for the simulation's own noise, which ``most`` allows for (99.9 % of the
binomial at 5 %). Large cells get fewer simulations, ``--rows`` divided by the rows of one; the last column says how
many. The numbers are made up.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from evalsuite import statistics
from evalsuite.metrics import group_means

IMAGES, CLASSES, RATES = (1, 2, 5, 10, 20, 50, 200), (2, 10, 100), (0.01, 0.1, 0.5)
LAYOUTS = ((1, 1), (15, 1), (1, 5), (15, 5))  # domains, calibration draws
HARDNESS, TASTE = 0.4, 0.3  # shares of the variance: an image's for all methods, an image's for one method
SHIFT = 0.15  # standard deviation of a method's calibration draws
PERMUTATIONS = 199
LEAST = 20  # simulations of a cell; larger ones are left out


def errors(
    generator: np.random.Generator, images: int, domains: int, draws: int, rate: float, methods: int, columns: int
) -> list[np.ndarray]:
    """Errors (draws * domains * images, columns) of each method."""
    shift = SHIFT if draws > 1 else 0.0
    limit = stats.norm.ppf(rate) * np.sqrt(1 + shift**2)
    hard = np.sqrt(HARDNESS) * generator.normal(size=(1, 1, images, columns))
    found = []
    for _ in range(methods):
        own = shift * generator.normal(size=(draws, 1, 1, columns))
        taste = np.sqrt(TASTE) * generator.normal(size=hard.shape)
        noise = np.sqrt(1 - HARDNESS - TASTE) * generator.normal(size=(draws, domains, images, columns))
        found.append((hard + taste + own + noise < limit).astype(np.int8).reshape(-1, columns))
    return found


def cell(
    generator: np.random.Generator, per_class: int, classes: int, rate: float, domains: int, draws: int, columns: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (statistic, whether it rejected or missed) of the simulations of one cell."""
    images = per_class * classes
    a, b, c, d = errors(generator, images, domains, draws, rate, 4, columns)
    image = np.tile(np.arange(images), domains * draws)
    label, draw = image % classes, np.repeat(np.arange(draws), domains * images)
    domain = np.tile(np.repeat(np.arange(domains), images), draws)
    gaps = a - b
    yield "worst class p", _rejected(_worst(a, b, label, image, draw, generator).p)
    found = _worst(a, b, label, image, draw, generator)
    yield "worst class interval", (found.low > 0) | (found.high < 0)
    for name, bounds, truth in (
        ("error interval", statistics.mean_bounds(a, image, draw, signed=False), rate),
        ("difference interval", statistics.mean_bounds(gaps, image, draw), 0.0),
    ):
        yield name, (bounds.low > truth) | (bounds.high < truth)
    miss = 0.025 / classes
    of_classes = statistics.group_bounds(gaps, label, image, draw, below=miss, above=miss)
    worst, each = of_classes.mean.argmax(axis=0), np.arange(columns)
    yield "worst drop interval", (of_classes.low[worst, each] > 0) | (of_classes.high[worst, each] < 0)
    null = statistics.worst_group_null(gaps, label, image, generator, permutations=PERMUTATIONS)
    yield "worst class drop p", _rejected(null.p)
    if domains == draws == 1:
        counts = (np.count_nonzero(gaps == side, axis=0) for side in (1, -1))
        yield "McNemar p", _rejected([statistics.mcnemar_exact(*pair).p for pair in zip(*counts, strict=True)])
        return
    swapped = statistics.swap_test(gaps, image, draw)
    if domains == 1:
        yield "swap p", _rejected(swapped)
        return
    null = statistics.worst_group_null(gaps, domain, image, generator, permutations=PERMUTATIONS)
    yield "worst domain drop p", _rejected(null.p)
    by_domain = [group_means(side, domain, domains)[0] for side in (a, b, c, d)]
    p = [statistics.wilcoxon_signed_rank(*pair).p for pair in zip(by_domain[0].T, by_domain[1].T, strict=True)]
    yield "Wilcoxon p alone, not reported", _rejected(p)
    yield "paired p", _rejected(np.maximum(p, swapped))
    tables, rows = np.stack(by_domain, axis=2), np.stack([a, b, c, d], axis=2)
    ranked = [statistics.friedman_nemenyi(tables[:, column]).p for column in range(columns)]
    exchanged = [statistics.exchange_test(rows[:, column], image, draw) for column in range(columns)]
    yield "Friedman p alone, not reported", _rejected(ranked)
    yield "ranking p", _rejected(np.maximum(ranked, exchanged))


def _worst(a: Any, b: Any, *layout: Any) -> statistics.WorstGroupDifference:
    return statistics.worst_group_difference(a, b, *layout, permutations=PERMUTATIONS)


def _rejected(p: Any) -> np.ndarray:
    return np.asarray(p) <= 0.05


def measure(
    simulations: int, most_rows: int, cells: list[tuple[int, int, float, tuple[int, int]]], out: Path
) -> pd.DataFrame:
    """Write and return a row per (statistic, cell): rate, the rate that 99.9 % of exact tests stay below, number."""
    found: list[dict[str, Any]] = []
    table = pd.DataFrame()
    for per_class, classes, rate, (domains, draws) in cells:
        generator = np.random.default_rng([per_class, classes, round(100 * rate), domains, draws])
        rows = per_class * classes * domains * draws
        wanted = min(simulations, most_rows // rows)
        if wanted < LEAST:
            continue
        outcomes: dict[str, list[np.ndarray]] = defaultdict(list)
        step = max(1, min(wanted, 1_000_000 // rows))
        for start in range(0, wanted, step):
            columns = min(step, wanted - start)
            for name, rejected in cell(generator, per_class, classes, rate, domains, draws, columns):
                outcomes[name].append(rejected)
        for name, parts in outcomes.items():
            where = {"images a class": per_class, "classes": classes, "error": rate, "domains": domains, "draws": draws}
            most = stats.binom.ppf(0.999, wanted, 0.05) / wanted
            found.append(
                {"statistic": name, **where, "rate": np.concatenate(parts).mean(), "most": most, "simulations": wanted}
            )
        table = pd.DataFrame(found).sort_values(list(found[0])[:6], kind="stable", ignore_index=True)
        table.round(4).to_csv(out, index=False)
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the worst cell of each statistic and layout, and all cells together."""
    by = table.assign(hits=table["rate"] * table["simulations"]).groupby(["statistic", "domains", "draws"], sort=False)
    pooled = by["hits"].sum() / by["simulations"].sum()
    worst = table.loc[by["rate"].idxmax()].set_index(["statistic", "domains", "draws"])
    worst["cells"], worst["above"], worst["mean rate"] = by.size(), by.apply(_above), pooled
    return worst.reset_index()


def _above(own: pd.DataFrame) -> int:
    return int((own["rate"] > np.maximum(own["most"], 0.065)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--quick", action="store_true", help="a corner of the grid")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    cells = list(itertools.product(IMAGES, CLASSES, RATES, LAYOUTS))
    if arguments.quick:
        cells = list(itertools.product((1, 5, 20), (2, 10), (0.1,), LAYOUTS))
    # In any order, so that what is there after an interruption is of all sizes.
    cells = [cells[place] for place in np.random.default_rng(0).permutation(len(cells))]
    table = measure(arguments.simulations, arguments.rows, cells, arguments.out)
    print(summary(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
