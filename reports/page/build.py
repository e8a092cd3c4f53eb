"""The report of a run: analysis, figures and tables on disk, and one self-contained page that says what was found."""

from __future__ import annotations

import inspect
import itertools
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite import registry, store
from evalsuite.environment import available_cores
from evalsuite.errors import RequestError
from evalsuite.files import remove_left, write_csv, write_text
from evalsuite.optional_members import order_of, pages_of
from evalsuite.plugins import Figure
from evalsuite.store import Run
from evalsuite.study.report import FORMATS, Report
from reports import style
from reports.appearance import Appearance
from reports.frames.evidence import evidence, outcomes_of
from reports.frames.kept_images import flip_pictures
from reports.latex import write_tables
from reports.page.drawing import Drawing, Leaf
from reports.page.helpers import Helpers, spared
from reports.page.pictures import Picture, in_html, in_words
from reports.page.run_page import contents, render
from reports.selection import Selection

_LARGE = 120  # trials, below which another process costs more than it saves
_MOST_HELPERS = 3  # a process holds a quarter of a gigabyte, and pages are few


def write_report(
    folder: Path,
    *,
    figures: Sequence[str] | None = None,
    out: Path | None = None,
    report: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``summary.csv``, ``comparisons.csv``, ``rankings.csv``, figures, tables and the page of a run.

    Parameters
    ----------
    folder : the run's folder.
    figures : names of figures; by default all that are installed.
    out : where to write, by default the run's folder.
    report : what replaces values of the study's table ``[report]``, as :class:`evalsuite.study.report.Report` has them.

    Returns
    -------
    The path of ``index.html``.

    Raises
    ------
    RequestError
        If ``folder`` is no run's folder or a broken one, a figure's name is unknown, or ``out`` cannot be written
        to; nothing is written then.
    """
    run = store.load(folder)
    asked = Report.of(run.study["settings"].get("report", {}) | dict(report or {}))
    named = figures if figures is not None else asked.figures or None
    chosen = _installed() if named is None else list(dict.fromkeys(named))
    plugins = {name: registry.load("figures", name) for name in chosen}
    place = run.folder if out is None else Path(out)
    look = Appearance.of(asked)
    with style.applied(look):  # what is wrong with it is said before anything is written
        pass
    with spared() as spare, Helpers(chosen, _helpers(run)) as helpers:
        outcomes_of(run, helpers.spread)
        drawing, found = Drawing(helpers), evidence(run, lambda tables: helpers.promise(tables).result)
        spare()
        selection, shots = Selection.of(run, asked), flip_pictures(run)
        for each in (place, place / "figures", place / "tables"):
            _make_writable(each)
        remove_left(place)
        found.analysis.write(place)
        with style.applied(look):
            added = {
                name: _add(drawing, name, make(), run, place / "figures", selection) for name, make in plugins.items()
            }
            write_tables(run, found, place / "tables", selection)
        omitted = [name for name, (_, pages) in added.items() if not pages]
        shown = [(each, pages) for each, pages in added.values() if each]
        # The helpers draw while the rest of the page is made.
        content = contents(run, [each for each, _ in shown], omitted, selection, shots)
        sheets = iter(drawing.sheets())
    for picture, pages in shown:
        picture.sheets.extend(itertools.islice(sheets, pages))
    page = place / "index.html"
    write_text(page, render(content))
    return page


def _helpers(run: Run) -> int:
    return min(available_cores() - 1, _MOST_HELPERS) if len(run.trials) >= _LARGE else 0


def _installed() -> list[str]:
    """Return the names of all figures in the order that they say themselves; those that say none follow by name."""
    return sorted(registry.names("figures"), key=lambda name: (_order(registry.load("figures", name)), name))


def _order(figure: Callable[..., object]) -> float:
    order = order_of(figure)
    return math.inf if order is None else order


def _make_writable(folder: Path) -> None:
    if folder.name in ("figures", "tables") and folder.is_symlink():  # of a run from elsewhere: into any folder
        raise RequestError(f"{folder} is a symbolic link, to {folder.readlink()}: expected a folder; remove the link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(
            f"cannot write to {folder} ({error.strerror}): expected a folder that is writable or can be made"
        ) from error


def _add(
    drawing: Drawing, name: str, figure: Figure, run: Run, folder: Path, selection: Selection
) -> tuple[Picture | None, int]:
    """Hand in the pages of a figure; return it without them, and their number."""
    data = selection.of_frame(figure.data(run))
    if data.empty:
        return None, 0
    stem = re.sub(r"[^\w.-]+", "_", name.rpartition(":")[2])
    write_csv(folder / f"{stem}.csv", data)
    title, _, caption = (inspect.getdoc(type(figure)) or name).partition("\n\n")
    title, caption = " ".join(title.split()), " ".join(caption.split())
    alt = f"{in_words(title)} {in_words(caption.partition('. ')[0])} All numbers are in figures/{stem}.csv."
    pages = pages_of(figure, data)
    for number, part in enumerate(pages, start=1):
        said = alt if len(pages) == 1 else f"{alt} Page {number} of {len(pages)}."
        drawing.add(Leaf(name, part, folder, stem if number == 1 else f"{stem}_{number}", said))
    _remove_pages(folder, stem, len(pages))
    return Picture(stem, in_words(title), in_html(caption), []), len(pages)


def _remove_pages(folder: Path, stem: str, pages: int) -> None:
    """Remove the pages beyond ``pages`` that an earlier report of the same run left."""
    number = pages + 1
    while left := [file for suffix in FORMATS if (file := folder / f"{stem}_{number}.{suffix}").is_file()]:
        for file in left:
            file.unlink()
        number += 1
