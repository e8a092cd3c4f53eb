"""Drawing pages of figures, here and in processes beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from evalsuite import registry
from evalsuite.files import write_bytes
from reports import style
from reports.page.helpers import Helpers, Promise
from reports.page.pictures import Sheet, embedded

_REM_PER_INCH = 8  # 7-point print becomes 12-pixel text


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
    drawing.set_layout_engine("none")  # every file is laid out as the first one was, once
    for suffix in style.current().formats:
        if suffix == "svg":
            write_bytes(leaf.folder / f"{leaf.name}.svg", vectors)
        else:
            style.save(drawing, leaf.folder / f"{leaf.name}.{suffix}")
    return Sheet(leaf.name, leaf.alt, embedded(vectors), drawing.get_figwidth() * _REM_PER_INCH)


@dataclass(frozen=True, eq=False)
class _Page:
    """A page to be drawn, and all that decides how it looks."""

    leaf: Leaf
    look: style.Appearance
    settings: dict[Any, Any]
    """What is set in matplotlib, which may be more than the look that is applied says."""

    @classmethod
    def of(cls, leaf: Leaf) -> _Page:
        settings = {name: mpl.rcParams[name] for name in mpl.rcParams if "backend" not in name}
        return cls(leaf, style.current(), settings)

    def do(self) -> Sheet:
        with mpl.rc_context(self.settings), style.applied(self.look):
            return draw(self.leaf)


class Drawing:
    """Draws pages in the order in which they are handed in, with the processes that there are beside this one."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers
        self._pages: list[Promise[Sheet]] = []

    def add(self, leaf: Leaf) -> None:
        """Hand in a page; where there is no helper it is drawn at once."""
        page = self._helpers.promise(_Page.of(leaf))
        self._pages.append(page)
        if not self._helpers:
            page.begin_here()

    def sheets(self) -> list[Sheet]:
        """Draw what is left and return all pages."""
        for page in self._pages:
            page.begin_here()
        return [page.result() for page in self._pages]
