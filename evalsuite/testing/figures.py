"""What every figure owes, on a run that its author has."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.files import write_csv
from evalsuite.optional_members import order_of, pages_of
from evalsuite.store import Run
from evalsuite.testing._check import (
    Check,
    Failed,
    NotApplicable,
    changed_state,
    check_methods,
    factory,
    global_state,
    make,
    questions_about,
    require,
)


@dataclass(frozen=True)
class _Subject:
    fresh: Callable[[], Any]
    run: Run

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """What the figure draws of the run."""
        return _frame(self.fresh(), self.run)


def check_figure(figure: Any, run: Run) -> None:
    """Raise AssertionError with every failed check of a figure and its mend; parameters as below."""
    require(figure_checks(figure, run), figure)


def figure_checks(figure: Any, run: Run) -> list[Check]:
    """Check that a figure keeps its contract.

    Parameters
    ----------
    figure : a class, an instance, an entry point's name, ``package.module:Class`` or ``path.py:Class``.
    run : of which it is drawn, as :func:`evalsuite.load` gives it.

    Raises
    ------
    RequestError
        If the figure cannot be found or made.
    """
    subject = _Subject(factory("figures", figure), run)
    asked = {
        "it has data and draw": (_members, "Write the methods of evalsuite.plugins.Figure."),
        "data gives a frame": (_data, "Return a pandas.DataFrame; an empty one where there is nothing to draw."),
        "data are the same again": (_again, "Draw random numbers from a fixed seed."),
        "draw needs the CSV alone": (_drawn, "Draw what the frame holds, in columns that a CSV can hold."),
        "no figure is left open": (_closed, "Make matplotlib.figure.Figure(), not pyplot's."),
        "it has a title": (_title, "Write a docstring: the first line is the title, the rest the caption."),
        "the process is left as it was": (_process, "Put back what you set."),
    }
    return make(questions_about(subject, asked))


def _frame(figure: Any, run: Run) -> pd.DataFrame:
    data = figure.data(run)
    if not isinstance(data, pd.DataFrame):
        raise Failed(f"data gives a {type(data).__name__}: expected a pandas.DataFrame")
    return data


def _members(subject: _Subject) -> None:
    check_methods(subject.fresh, ("data", "draw"))
    order_of(subject.fresh())


def _data(subject: _Subject) -> None:
    _ = subject.frame


def _again(subject: _Subject) -> None:
    if not subject.frame.equals(_frame(subject.fresh(), subject.run)):
        raise Failed("data gave another frame the second time")


def _read_back(data: pd.DataFrame) -> pd.DataFrame:
    with tempfile.TemporaryDirectory(prefix="evalsuite-") as folder:
        file = Path(folder) / "figure.csv"
        write_csv(file, data)
        return pd.read_csv(file, keep_default_na=True)


def _drawn(subject: _Subject) -> None:
    from matplotlib.figure import Figure

    figure = subject.fresh()
    for page in pages_of(figure, subject.frame.copy()):
        if page.empty:
            raise NotApplicable("this run has nothing for it")
        before = page.copy()
        drawn = figure.draw(page)
        if not isinstance(drawn, Figure):
            raise Failed(f"draw gives a {type(drawn).__name__}: expected a matplotlib.figure.Figure")
        if not drawn.axes:
            raise Failed("draw gives a figure without axes")
        if not page.equals(before):
            raise Failed("draw changed the frame")
    figure.draw(_read_back(subject.frame))


def _closed(subject: _Subject) -> None:
    from matplotlib import pyplot

    figure, before, data = subject.fresh(), pyplot.get_fignums(), subject.frame.copy()
    if data.empty:
        raise NotApplicable("this run has nothing for it")
    figure.draw(data)
    opened = set(pyplot.get_fignums()) - set(before)
    for number in opened:
        pyplot.close(number)
    if opened:
        raise Failed(f"{len(opened)} figures of pyplot's are left open")


def _title(subject: _Subject) -> None:
    cls = type(subject.fresh())
    text = (cls.__dict__.get("__doc__") or "").strip()
    if not text or text.startswith(f"{cls.__name__}("):
        raise Failed("it has no docstring")


def _process(subject: _Subject) -> None:
    import matplotlib

    figure = subject.fresh()
    before, settings = global_state(), dict(matplotlib.rcParams)
    data = _frame(figure, subject.run)
    if not data.empty:
        figure.draw(data)
    changed = changed_state(before)
    changed += ["matplotlib's settings"] if dict(matplotlib.rcParams) != settings else []
    if changed:
        raise Failed(f"changed: {', '.join(changed)}")
