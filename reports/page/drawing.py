"""Drawing pages of figures, here and in processes beside this one that were made ready while it analysed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from evalsuite import registry
from evalsuite.files import write_bytes
from reports import style
from reports.page.pictures import Sheet, embedded

_REM_PER_INCH = 8  # 7-point print becomes 12-pixel text
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from reports.page.drawing import serve; serve()"


@dataclass(frozen=True, eq=False)
class Leaf:
    """What becomes a printed page of a figure."""

    figure: str
    """The plugin's name."""
    data: pd.DataFrame
    folder: Path
    name: str
    """Of its files, without the ending."""
    alt: str


def draw(leaf: Leaf) -> Sheet:
    """Draw a page in the look that is applied, and write its files."""
    drawing = registry.load("figures", leaf.figure)().draw(leaf.data)
    vectors = style.svg(drawing)
    for suffix in style.current().formats:
        if suffix == "svg":
            write_bytes(leaf.folder / f"{leaf.name}.svg", vectors)
        else:
            style.save(drawing, leaf.folder / f"{leaf.name}.{suffix}")
    return Sheet(leaf.name, leaf.alt, embedded(vectors), drawing.get_figwidth() * _REM_PER_INCH)


class Drawing:
    """Draws pages in the order in which they are handed in, with ``helpers`` processes beside this one.

    A page that a helper does not bring whole and without a warning is drawn again here, so that errors and warnings
    are those of this process. A helper ends when its line to this process does, whatever ends that.
    """

    def __init__(self, figures: Sequence[str], helpers: int) -> None:
        self._helpers = [_Helper(figures) for _ in range(helpers)]
        self._waiting: deque[tuple[int, Leaf]] = deque()
        self._sheets: dict[int, Sheet] = {}
        self._added = 0

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *error: object) -> None:
        for helper in self._helpers:
            helper.end()

    def add(self, leaf: Leaf) -> None:
        """Hand in a page; where there is no helper it is drawn at once."""
        self._waiting.append((self._added, leaf))
        self._added += 1
        if not self._helpers:
            self._draw_one()
        self._look()

    def sheets(self) -> list[Sheet]:
        """Draw what is left and return all pages."""
        while self._waiting:
            self._draw_one()
            self._look()
        for helper in self._helpers:
            if helper.busy:
                self._take(helper)
        while self._waiting:
            self._draw_one()
        return [self._sheets[place] for place in range(self._added)]

    def _draw_one(self) -> None:
        place, leaf = self._waiting.popleft()
        self._sheets[place] = draw(leaf)

    def _look(self) -> None:
        for helper in self._helpers:
            if helper.busy and helper.has_answered():
                self._take(helper)
            if self._waiting and not helper.busy and helper.begin(*self._waiting[0]):
                self._waiting.popleft()

    def _take(self, helper: _Helper) -> None:
        place, leaf, sheet = helper.answer()
        if sheet is None:
            self._waiting.append((place, leaf))
        else:
            self._sheets[place] = sheet


class _Helper:
    """A process that draws one page at a time, and the line to it."""

    def __init__(self, figures: Sequence[str]) -> None:
        self._line, other = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), str(other.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what a plugin prints is no output of the command
            pass_fds=[other.fileno()],
        )
        other.close()
        self._at: tuple[int, Leaf] | None = None
        self._lost = False
        with suppress(OSError):  # it is dead, which its first page will tell
            self._line.send(list(figures))

    @property
    def busy(self) -> bool:
        """Whether it is at a page."""
        return self._at is not None

    def begin(self, place: int, leaf: Leaf) -> bool:
        """Give it a page; tell whether it could be given."""
        try:
            if not self._lost:
                self._line.send((_settings(), style.current(), leaf))
                self._at = place, leaf
        except Exception:  # it is dead, or something of the page cannot be sent
            self._lost = True
        return self.busy

    def has_answered(self) -> bool:
        """Whether :meth:`answer` need not wait."""
        try:
            return self._line.poll()
        except OSError:
            return True

    def answer(self) -> tuple[int, Leaf, Sheet | None]:
        """Wait for the page that it is at; None instead of a page that it does not bring."""
        assert self._at is not None
        (place, leaf), self._at = self._at, None
        try:
            sheet: Sheet | None = self._line.recv()
        except Exception:  # it has died
            self._lost, sheet = True, None
        return place, leaf, sheet

    def end(self) -> None:
        """Close the line, on which the process ends."""
        self._line.close()
        self._process.wait()


def _settings() -> dict[Any, Any]:
    """What is set in matplotlib, which may be more than the look that is applied says."""
    return {name: mpl.rcParams[name] for name in mpl.rcParams if "backend" not in name}


def serve() -> None:
    """Draw what comes along the line whose number is the second argument, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    line = Connection(int(sys.argv[2]))
    with suppress(EOFError, OSError):
        for name in line.recv():
            with suppress(Exception):  # it is loaded again when it is drawn
                registry.load("figures", name)
        while True:
            line.send(_attempt(*line.recv()))


def _attempt(settings: dict[Any, Any], look: style.Appearance, leaf: Leaf) -> Sheet | None:
    try:
        with warnings.catch_warnings(record=True) as warned, mpl.rc_context(settings), style.applied(look):
            sheet = draw(leaf)
    except Exception:  # the process that asked draws it again, and says what is wrong
        return None
    return None if warned else sheet
