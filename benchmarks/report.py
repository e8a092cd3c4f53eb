"""What the scripts of this folder share: figures with their bars, the command line, timing in pairs.

A script NAME.py holds ::

    from report import Figure, main, paired

    def measure(data_root: str | None) -> list[Figure]:
        ...

    if __name__ == "__main__":
        main(measure, __doc__)

It runs alone, ``python benchmarks/NAME.py [--data-root DIR]``, and prints a table of its figures; ``main`` takes a
function that adds options of its own, which ``measure`` gets by keyword. Listed in ``GROUPS``
of ``__main__.py`` it is a part of ``python -m benchmarks [GROUP]... [--data-root DIR]``, which prints one table.
What a script prints besides goes to stderr. A script that cannot measure something (no compiler, no data) gives the
figure with value None and says why in ``note``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Figure:
    """One measured number, and what it should reach."""

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def bar(self) -> str:
        """The bar in words, empty where there is none."""
        parts = [
            f"{sign} {_number(bound)}"
            for sign, bound in (("<=", self.at_most), (">=", self.at_least))
            if bound is not None
        ]
        return ", ".join(parts)

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, ``not measured``, or empty where there is no bar."""
        if self.value is None:
            return "not measured"
        if not self.bar:
            return ""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return "met" if low <= self.value <= high else "missed"


class Paired(NamedTuple):
    """Medians over pairs of runs: seconds of each, and the ratio second / first within a pair."""

    first: float
    second: float
    ratio: float


def paired(first: Callable[[], Any], second: Callable[[], Any], pairs: int = 15) -> Paired:
    """Time two calls in turn after one unmeasured run of each, so that what else the machine does hits both."""
    first(), second()
    times = [(_seconds(first), _seconds(second)) for _ in range(pairs)]
    one, other = (statistics.median(column) for column in zip(*times, strict=True))
    return Paired(one, other, statistics.median(b / a for a, b in times))


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(
    measure: Callable[..., list[Figure]],
    description: str | None,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Run a script from the command line; ``measure`` gets the values of further options by keyword."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"), help="folder with images and weights")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    if add_options is not None:
        add_options(parser)
    arguments = vars(parser.parse_args())
    as_json = arguments.pop("json")
    figures = measure(arguments.pop("data_root"), **arguments)
    if as_json:
        print(json.dumps([dataclasses.asdict(figure) for figure in figures]))
    else:
        print(table(figures))


def note(message: str) -> None:
    """Tell the person who waits, on stderr."""
    print(message, file=sys.stderr, flush=True)


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out as aligned text, a line each."""
    rows = [("figure", "value", "bar", "", "")]
    rows += [
        (
            figure.name,
            "-" if figure.value is None else f"{_number(figure.value)} {figure.unit}".rstrip(),
            figure.bar,
            figure.verdict,
            figure.note,
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
