"""The page of several runs and audits: a leaderboard of each task, verdicts, and how each was made."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import pandas as pd

from evalsuite import __version__
from evalsuite.analysis.verdict import Claim, Question, Standing
from evalsuite.collection import AuditEntry, Board, Collection, RunEntry
from evalsuite.files import write_csv, write_json, write_text
from evalsuite.isolation import printable
from reports.page.cells import Cell, Column, Table, interval_column, number_column, table_of, text_column
from reports.page.filters import OTHERS, choices
from reports.page.strips import Axis, Mark, Strip
from reports.page.templates import own, template
from reports.words import collection as words
from reports.words.audit_page import clean, few, headline, joined
from reports.words.audit_tiles import GLYPHS, TITLES, short, signed
from reports.words.numbers import NOTHING, count, interval, is_missing, number, points

_DROP = interval_column("", "drop", "drop_low", "drop_high")
_DROPS = ("drop", "drop_low", "drop_high", *(f"worst_drop_class_{edge}" for edge in ("value", "low", "high")))
_GRAVEST: tuple[Standing, ...] = ("worse", "better", "not told apart", "not tested")
_UNFOLDED = 6  # audits that are seen at once


def write_collection(found: Collection, out: Path) -> Path:
    """Write the page of a collection, and beside it its tables as ``.csv`` and all of it as ``.json``.

    Parameters
    ----------
    found : what there is.
    out : the page's file; the others have its name with other endings.

    Raises
    ------
    RequestError
        If they cannot be written.
    """
    page = _render(found, out.resolve().parent)
    write_csv(out.with_suffix(".csv"), rows_of(found))
    write_json(out.with_suffix(".json"), facts_of(found))
    write_text(out, page)
    return out


def rows_of(found: Collection) -> pd.DataFrame:
    """Return a row per result: the number of its table, what that saw, its run, and the columns of standings."""
    parts = []
    for place, board in enumerate(found.boards, start=1):
        seen = {name: value for name, value in vars(board.seen).items() if isinstance(value, str)}
        own_runs = [found.runs[run] for run in board.rows["run"]]
        facts = {"run": [found.names[run] for run in board.rows["run"]], "study_hash": [e.study_hash for e in own_runs]}
        parts.append(board.rows.assign(**facts).assign(table=place, **{f"seen_{key}": seen[key] for key in seen}))
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["table", "run"])
    return frame[["table", *(name for name in frame if name != "table")]]


def facts_of(found: Collection) -> dict[str, Any]:
    """Return all of a collection as plain values, for programs."""
    rows = rows_of(found).astype(object)
    tables = [
        {
            "task": board.task,
            "differs": list(board.differs),
            "seen": vars(board.seen),
            "rows": _plain(rows[rows["table"] == place]),
        }
        for place, board in enumerate(found.boards, start=1)
    ]
    return {
        "schema_version": 1,
        "tables": tables,
        "runs": [_run_facts(found.names[place], run) for place, run in enumerate(found.runs)],
        "audits": [_audit_facts(each) for each in found.audits],
        "left_out": [{"folder": str(each.folder), "reason": each.reason} for each in found.left_out],
    }


def _plain(rows: pd.DataFrame) -> list[dict[str, Any]]:
    kept = rows[[name for name in rows if name != "table" and not str(name).startswith("seen_")]]
    return [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in kept.to_dict("records")]


def _run_facts(name: str, run: RunEntry) -> dict[str, Any]:
    left = ("rows", "seen")
    plain = {key: value for key, value in vars(run).items() if key not in left}
    return {"run": name} | plain | {key: str(plain[key]) for key in ("folder", "page") if plain[key] is not None}


def _audit_facts(each: AuditEntry) -> dict[str, Any]:
    verdict = each.verdict
    kept = ("target", "target_label", "profile", "reached", "summary", "rivals", "bits", "tasks", "seeds", "versions")
    standings = {question: _tally(verdict.claims, question) for question in get_args(Question)}
    return {
        "folder": str(each.folder),
        "page": str(each.page) if each.page else None,
        "written": each.written,
        **{name: getattr(verdict, name) for name in kept},
        "standings": {question: tally for question, tally in standings.items() if tally},
    }


def _tally(claims: Sequence[Claim], question: str) -> dict[Standing, int]:
    own_claims = [claim.standing for claim in claims if claim.question == question]
    return {standing: own_claims.count(standing) for standing in _GRAVEST if standing in own_claims}


def _render(found: Collection, place: Path) -> str:
    everything = [board.rows for board in found.boards]
    rows = pd.concat(everything, ignore_index=True) if everything else pd.DataFrame(columns=["run"])
    rows = rows.assign(run_name=[found.names[run] for run in rows["run"]])
    dimensions = {"task": ("task", "Task"), "run": ("run_name", "Run"), **OTHERS}
    boards, first = [], 0
    for number_, board in enumerate(found.boards, start=1):
        boards.append((board, _board(number_, board, found, place, first)))
        first += len(board.rows)
    return template("collection.html.j2").render(
        words=words,
        folders=", ".join(printable(str(each)) for each in found.folders),
        brief=words.brief(found),
        tiles=words.tiles(found),
        boards=boards,
        audits=[_card(each, place) for each in found.audits],
        unfolded=_UNFOLDED,
        verdicts=_verdicts(found, place) if found.audits else None,
        runs=_runs(found, place) if found.runs else None,
        left_out=_left_out(found) if found.left_out else None,
        methods=choices(rows, dimensions, "all tables") if len(rows) else {"dimensions": [], "methods": [], "note": ""},
        version=__version__,
        css=own("page.css") + own("tiles.css") + own("run.css") + own("collection.css"),
        js=own("page.js") + own("run.js"),
    )


def address(page: Path | None, place: Path) -> str:
    """Return where a page is, seen from a folder, as an address; empty without a page."""
    return quote(Path(os.path.relpath(page.resolve(), place)).as_posix()) if page else ""


def _board(number_: int, board: Board, found: Collection, place: Path, first: int) -> Table:
    rows = board.rows.assign(
        run_name=[printable(found.names[run]) for run in board.rows["run"]],
        href=[address(found.runs[run].page, place) for run in board.rows["run"]],
    )
    axis = Axis.over(value for name in _DROPS for value in rows[name].astype(float))
    several = [
        text_column(label, field)
        for label, field in (("Stream", "stream_label"), ("Calibration set", "calibration_label"))
        if rows.loc[~rows["full_precision"].astype(bool), field].nunique() > 1
    ]
    sets = rows["calibration_change"].notna().any()
    columns = [
        text_column("Quantizer", "quantizer_label"),
        text_column("Adapter", "adapter_label"),
        interval_column("Mean error (%)", "error", "error_low", "error_high"),
        Column("Mean drop ● in points, and that of the worst class ◆", partial(_drops, axis=axis), True, axis),
        Column("Drop of worst class (points), ◆ beyond chance", _worst, numeric=True),
        Column("Run", lambda row: Cell(short(row.run_name, 36), row.run_name, row.href)),
        *([Column("Calibration sensitivity (points)", _calibration, numeric=True)] if sets else []),
        text_column("Bits", "bits"),
        *several,
        number_column("Draws", "seeds", grouped=True),
    ]
    images = sorted({int(each) for each in rows["images"]})
    one = "" if sets else " Every network saw one calibration set."
    caption = f"{' or '.join(f'{each:,}' for each in images)} images a stream. {words.ORDER}{one}"
    title = f"Results of {count(len(set(rows['run'])), 'run')} on {board.task}"
    return table_of(
        f"board-{number_}",
        title,
        caption,
        columns,
        rows,
        lambda frame: [str(first + row) for row in range(len(frame))],
    )


def _drops(row: Any, axis: Axis) -> Cell:
    worst = words.worst_class(row)
    beyond = bool(worst) and bool(row.worst_drop_class_shown)
    said = f"mean drop {points(row.drop)}"
    if not is_missing(row.drop_low):
        said += f" ({interval(row.drop_low, row.drop_high)})"
    edges = (row.worst_drop_class_low, row.worst_drop_class_high)
    strip = Strip(
        axis,
        Mark(axis.maybe(row.drop), axis.both(row.drop_low, row.drop_high), "mean"),
        Mark(
            axis.maybe(row.worst_drop_class_value) if worst else None,
            axis.both(*edges) if worst else None,
            "beyond" if beyond else "within",
        ),
        f"{said}; {worst}" if worst else said,
    )
    return replace(_DROP.cell(row), strip=strip)


def _worst(row: Any) -> Cell:
    text = words.worst_class(row)
    beyond = bool(text) and bool(row.worst_drop_class_shown)
    return Cell(
        text or NOTHING, repr(float(row.worst_drop_class_value)) if text else "", kind="worse" if beyond else ""
    )


def _calibration(row: Any) -> Cell:
    if is_missing(row.calibration_change):
        return Cell(NOTHING, "")
    edges = f"{number(row.calibration_low * 100)} to {number(row.calibration_high * 100)}"
    shown = bool(row.calibration_shown)
    text = f"{signed(row.calibration_change)} ({edges}), {row.calibration_set}{'' if shown else ', not shown'}"
    return Cell(text, repr(float(row.calibration_change)), kind="worse" if shown and row.calibration_change > 0 else "")


@dataclass(frozen=True)
class _Card:
    """An audit as a tile."""

    title: str
    href: str
    state: str
    standing: str
    summary: str
    lines: tuple[str, ...]


def _card(each: AuditEntry, place: Path) -> _Card:
    verdict = clean(each.verdict)
    rivals = f"against {few(verdict.rivals, 'rival')}" if verdict.rivals else "against no rival"
    asked = joined([f"profile {verdict.profile}", ", ".join(verdict.bits), few(list(verdict.tasks), "task"), rivals])
    return _Card(
        short(verdict.target_label, 60),
        address(each.page, place),
        headline(verdict),
        "better" if verdict.reached else "worse",
        verdict.summary,
        (asked, each.written),
    )


def _verdicts(found: Collection, place: Path) -> Table:
    rows = pd.DataFrame({"verdict": [clean(each.verdict) for each in found.audits]})
    rows = rows.assign(href=[address(each.page, place) for each in found.audits])
    rows = rows.assign(written=[each.written for each in found.audits])
    columns = [
        Column("Target", lambda row: Cell(short(row.verdict.target_label), row.verdict.target_label, row.href)),
        Column("Verdict", lambda row: _plain_cell(headline(row.verdict), "" if row.verdict.reached else "worse")),
        *(Column(title, _standing(question)) for question, title in TITLES.items()),
        Column("Trials lost", _lost, numeric=True),
        Column("Bits", lambda row: _plain_cell(", ".join(row.verdict.bits))),
        Column("Tasks", lambda row: _plain_cell(", ".join(row.verdict.tasks)), wide=True),
        Column("Rivals", lambda row: _plain_cell(", ".join(row.verdict.rivals)), wide=True),
        Column("Profile", lambda row: _plain_cell(row.verdict.profile)),
        text_column("Written", "written"),
    ]
    caption = (
        "How many claims of each question say that the target is ▼ worse than a rival, ▲ better, ≈ not told apart, "
        "○ not tested. Audits are not ranked: each has its own rivals."
    )
    return table_of("verdicts", "Verdicts", caption, columns, rows)


def _plain_cell(text: str, kind: str = "") -> Cell:
    return Cell(text or NOTHING, text, kind=kind)


def _standing(question: Question) -> Callable[[Any], Cell]:
    def cell(row: Any) -> Cell:
        tally = _tally(row.verdict.claims, question)
        said = "  ".join(f"{GLYPHS[standing]} {number_}" for standing, number_ in tally.items())
        return _plain_cell(said, next((each for each in ("worse", "better") if each in tally), ""))

    return cell


def _lost(row: Any) -> Cell:
    trials = row.verdict.trials
    lost, all_of = trials.failed + trials.refused, trials.done + trials.failed + trials.refused
    return Cell(f"{lost:,} of {all_of:,}", repr(float(lost)))


def _runs(found: Collection, place: Path) -> Table:
    entries = [vars(run) | {"name_": found.names[number_]} for number_, run in enumerate(found.runs)]
    rows = pd.DataFrame(entries).assign(href=[address(run.page, place) for run in found.runs])
    columns = [
        Column("Run", lambda row: Cell(printable(row.name_), row.name_, row.href)),
        Column("Study", lambda row: _plain_cell(printable(row.name))),
        Column("Settings' hash", lambda row: _plain_cell(row.study_hash)),
        text_column("Written", "written"),
        Column("Trials", _trials, numeric=True),
        Column("Images a stream", lambda row: _several(row.images), numeric=True),
        Column("Draws (seeds)", lambda row: Cell(f"{len(row.seeds):,}", repr(float(len(row.seeds)))), numeric=True),
        Column("Tasks", lambda row: _plain_cell(printable(", ".join(row.tasks))), wide=True),
        Column("evalsuite", lambda row: _plain_cell(printable(row.versions.get("evalsuite", "")))),
        Column("torch", lambda row: _plain_cell(printable(row.versions.get("torch", "")))),
        Column("Device", lambda row: _plain_cell(printable(str(row.hardware.get("device", ""))))),
        Column("Title", lambda row: _plain_cell(printable(row.title)), wide=True),
        Column("Command", lambda row: _plain_cell(printable(row.command)), wide=True),
    ]
    caption = (
        "Two runs with the same hash of their settings ask the same. Written: when the run's table of trials was, by "
        "its file (UTC)."
    )
    return table_of("runs", "How each run was made", caption, columns, rows)


def _trials(row: Any) -> Cell:
    said = ", ".join(f"{number_:,} {status}" for status, number_ in row.trials.items())
    return Cell(said, repr(float(sum(row.trials.values()))))


def _several(values: Sequence[int]) -> Cell:
    return Cell(" or ".join(f"{each:,}" for each in values) or NOTHING, repr(float(max(values, default=0))))


def _left_out(found: Collection) -> Table:
    rows = pd.DataFrame([{"folder": str(each.folder), "reason": each.reason} for each in found.left_out])
    columns = [
        Column("Folder", lambda row: _plain_cell(printable(row.folder)), wide=True),
        text_column("Reason", "reason", wide=True),
    ]
    return table_of("left-out", "Left out", "What is under the folders and is not shown.", columns, rows)
