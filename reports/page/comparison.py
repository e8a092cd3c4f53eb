"""The page of runs that were compared: differences with their intervals, what they are of, what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite import __version__
from evalsuite.files import write_text
from evalsuite.isolation import printable
from evalsuite.sameness import DIGESTS, other_digests, other_releases
from evalsuite.store import Run
from reports.frames.methods import each_row
from reports.page.cells import (
    Cell,
    Column,
    Table,
    interval_column,
    number_column,
    p_column,
    table_of,
    text_column,
    units_column,
    worded_column,
)
from reports.page.filters import OTHERS, choices
from reports.page.strips import Axis, Mark, Strip
from reports.page.templates import own, template
from reports.words import comparison as words
from reports.words.audit_tiles import GLYPHS
from reports.words.numbers import NOTHING, count

_WORST = "worst_class_"
_EDGES = ("difference", "low", "high")
_MEAN = interval_column("", *_EDGES)
_SIDES = {"better": "better", "worse": "worse", "not told apart": "within", "not tested": "within"}


def write_comparison(runs: Sequence[Run], found: pd.DataFrame, unpaired: pd.DataFrame, out: Path) -> Path:
    """Write the page of a comparison.

    Parameters
    ----------
    runs : that were compared, the first being the base.
    found : :func:`evalsuite.analysis.across.compare_runs`.
    unpaired : :func:`evalsuite.analysis.across.unpaired`.
    out : the page's file.

    Raises
    ------
    RequestError
        If it cannot be written.
    """
    rows, unpaired = _arranged(_clean(found)), _clean(unpaired)
    dimensions = {"task": ("task", "Task"), "run": ("a", "Later run"), **OTHERS}
    page = template("comparison.html.j2").render(
        words=words,
        title=f"{' and '.join(rows['a'].unique())} against {rows['b'].iloc[0]}",
        facts=", ".join(printable(str(run.folder)) for run in runs),
        brief=words.brief(rows),
        tiles=words.tiles(rows, unpaired),
        tallies=tallies(_clean(found)),
        tables=_tables(rows),
        unpaired=_unpaired(unpaired) if len(unpaired) else None,
        made=_made(runs),
        methods=choices(rows, dimensions, "all tables"),
        version=__version__,
        css=own("page.css") + own("tiles.css") + own("run.css") + own("collection.css"),
        js=own("page.js") + own("run.js"),
    )
    write_text(out, page)
    return out


def _clean(frame: pd.DataFrame) -> pd.DataFrame:
    """Make every text one line of printable characters: labels come from anyone's files."""
    texts = [str(name) for name in frame if frame[name].map(lambda value: isinstance(value, str)).any()]
    return frame.assign(**{name: frame[name].map(_one_line) for name in texts})


def _one_line(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _arranged(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by task, what is claimed first, then by the size of the difference."""
    stands = [{words.standing(row, ""), words.standing(row, _WORST)} for row in each_row(rows)]
    claimed = [0 if stand & {"better", "worse"} else 1 if "not told apart" in stand else 2 for stand in stands]
    tasks = {task: place for place, task in enumerate(rows["task"].unique())}
    keys = pd.DataFrame({"task": rows["task"].map(tasks), "claimed": claimed, "size": -rows["difference"].abs()})
    return rows.loc[keys.sort_values(["task", "claimed", "size"], kind="stable").index].reset_index(drop=True)


def _tables(rows: pd.DataFrame) -> list[tuple[str, Table]]:
    """Return a table per task, all on one axis."""
    sides = [f"{prefix}{name}" for prefix in ("", _WORST) for name in _EDGES]
    axis = Axis.over(value for name in sides for value in rows[name].astype(float))
    tables, first = [], 0
    for place, (task, own_rows) in enumerate(rows.groupby("task", sort=False), start=1):
        tables.append((str(task), _table(place, str(task), own_rows, axis, first)))
        first += len(own_rows)
    return tables


def _table(place: int, task: str, rows: pd.DataFrame, axis: Axis, first: int) -> Table:
    optional = (("Stream", "stream_label"), ("Calibration set", "calibration_label"), ("Later run", "a"))
    columns = [
        text_column("Quantizer", "quantizer_label"),
        text_column("Adapter", "adapter_label"),
        Column(
            "Difference in points of mean error ●, and of the worst class ◆", partial(_picture, axis=axis), True, axis
        ),
        p_column("Its p (Holm)", "p_holm"),
        Column("Mean error", _standing("")),
        interval_column("Worst class, difference", *(f"{_WORST}{name}" for name in _EDGES)),
        p_column("Its p (Holm)", f"{_WORST}p_holm"),
        Column("Worst class", _standing(_WORST)),
        number_column("Later run (%)", "error_a", scale=100),
        number_column("First run (%)", "error_b", scale=100),
        text_column("Bits", "bits"),
        *(text_column(label, field) for label, field in optional if rows[field].nunique() > 1),
        worded_column(
            "Seeds in both", lambda row: f"{row['seeds']} of {max(row['seeds_a'], row['seeds_b'])}", wide=False
        ),
        units_column("Test", "test"),
        text_column("Note", "note", wide=True),
        text_column("Note, worst class", f"{_WORST}note", wide=True),
    ]
    whole = (rows["seeds"] == rows[["seeds_a", "seeds_b"]].max(axis=1)).all()
    empty = {
        each.label for each in columns if "Note" in each.label and not any(each.cell(r).value for r in each_row(rows))
    }
    kept = [each for each in columns if each.label not in empty | ({"Seeds in both"} if whole else set())]
    title, caption = f"Differences on {task}", "Left of zero the later run errs less. Lines: intervals."
    return table_of(
        f"differences-{place}",
        title,
        caption,
        kept,
        rows,
        lambda frame: [str(first + each) for each in range(len(frame))],
    )


def _picture(row: Any, axis: Axis) -> Cell:
    dot, diamond = (
        Mark(
            axis.maybe(getattr(row, f"{prefix}difference")),
            axis.both(getattr(row, f"{prefix}low"), getattr(row, f"{prefix}high")),
            _SIDES[words.standing(row, prefix)],
        )
        for prefix in ("", _WORST)
    )
    return replace(_MEAN.cell(row), strip=Strip(axis, dot, diamond, words.said(row)))


def _standing(prefix: str) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        stand = words.standing(row, prefix)
        return Cell(f"{GLYPHS[stand]} {stand}", stand, kind=stand if stand in ("better", "worse") else "")

    return cell


@dataclass(frozen=True)
class Tallies:
    """How many results are told apart: a row per task, later run and what is compared, a column per bit width."""

    bits: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def tallies(rows: pd.DataFrame) -> Tallies:
    """Count how the later runs stand, by task and bits."""
    bits = tuple(map(str, rows["bits"].unique()))
    several = rows["a"].nunique() > 1
    found = []
    for (task, name), own_rows in rows.groupby(["task", "a"], sort=False):
        for title, prefix in (("mean error", ""), ("worst class", _WORST)):
            cells = tuple(_tally(own_rows[own_rows["bits"] == each], prefix) for each in bits)
            found.append((", ".join([str(task), *([str(name)] if several else []), title]), cells))
    return Tallies(bits, tuple(found))


def _tally(rows: pd.DataFrame, prefix: str) -> Cell:
    stands = [words.standing(row, prefix) for row in each_row(rows)]
    colour = "d2" if "worse" in stands else "g2" if "better" in stands else "d0" if stands else "none"
    return Cell(words.tally(stands) or NOTHING, "", kind=colour)


def _unpaired(frame: pd.DataFrame) -> Table:
    columns = [
        text_column("Task", "task"),
        text_column("Quantizer", "quantizer_label"),
        text_column("Adapter", "adapter_label"),
        text_column("Stream", "stream_label"),
        text_column("Calibration set", "calibration_label"),
        text_column("Only in", "run"),
        text_column("The other run", "reason", wide=True),
    ]
    caption = "Method combinations of which one of the two runs has no result."
    return table_of("unpaired", "In one run only", caption, columns, frame)


def _made(runs: Sequence[Run]) -> Table:
    frame = pd.DataFrame({"run": list(runs), "place": range(len(runs))})
    columns = [
        worded_column("Run", lambda row: printable(str(row["run"].folder)), wide=True),
        worded_column("Role", lambda row: "later" if row["place"] else "first", wide=False),
        worded_column("Study", lambda row: printable(str(row["run"].study["name"])), wide=False),
        worded_column("Trials", lambda row: _trials(row["run"]), wide=False),
        worded_column("evalsuite", lambda row: printable(str(row["run"].study["versions"].get("evalsuite", NOTHING)))),
        worded_column("Differs from the first in", lambda row: _differs(runs[0], row["run"])),
        worded_column("Command", lambda row: printable(str(row["run"].study["command"])) or NOTHING),
    ]
    return table_of("made", "How the runs were made", "What may explain a difference.", columns, frame)


def _trials(run: Run) -> str:
    ends = run.trials["status"].value_counts()
    left = [f"{count(run.left, 'trial')} not ended"] if run.left else []
    return ", ".join([*(f"{number:,} {status}" for status, number in ends.items()), *left])


def _differs(first: Run, run: Run) -> str:
    """Say what two runs do not have in common: digests of their tasks, versions of packages."""
    if run is first:
        return NOTHING
    ours, theirs = first.study["tasks"], run.study["tasks"]
    parts = [
        f"{DIGESTS[name]} of {printable(task)}"
        for task in ours.keys() & theirs.keys()
        for name in other_digests(ours[task], theirs[task])
    ]
    versions = first.study["versions"], run.study["versions"]
    packages = sorted({"evalsuite", *other_releases(*versions)} & {n for n in versions[0] if n in versions[1]})
    parts += [
        printable(f"{name} {versions[1].get(name, '')} for {versions[0].get(name, '')}")
        for name in packages
        if versions[0].get(name) != versions[1].get(name)
    ]
    settings = [each.study["settings"] for each in (first, run)]
    keys = sorted(k for k in settings[0].keys() | settings[1].keys() if settings[0].get(k) != settings[1].get(k))
    parts += [f"the study's {key}" for key in keys if key not in ("name", "title", "description")]
    return ", ".join(parts) or "nothing"
