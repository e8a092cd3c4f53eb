"""Several runs and audits in words: what was found, why results stand in tables of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from evalsuite.collection import Board, Collection
from reports.frames.first_screen import largest_drop_first
from reports.frames.methods import each_row
from reports.words.audit_tiles import short
from reports.words.first_screen import Tile
from reports.words.numbers import CONFIDENCE_PERCENT, count, is_missing, listed, number, percent, points
from reports.words.verdict import named_class

_NAME = 32  # characters of a name on a tile
_MOST_TASKS = 3
_HASH = 8  # digits of a hash that people compare
_OTHER = {
    "data": "other test images, labels or normalisation",
    "weights": "other weights",
    "source": "other code of the task's own file",
    "corruption": "corrupted images that were made otherwise",
    "libraries": "corrupted images made with other releases of the libraries",
    "shown": "other images, corruptions or severities shown",
}
"""In what results differ that may not be ranked together, by the name in ``Seen``."""
RULE = (
    "Results stand in one table where they saw the same test images and labels, weights and code of the task, the same "
    "corruptions made in the same way, and the same images shown as often; in whatever order. That is read from the "
    "hashes in each run's records."
)
ORDER = "Sorted by mean error, which is not tested."
BEYOND = " \N{BLACK DIAMOND}"
"""Marks a worst class that chance does not explain."""


def brief(found: Collection) -> str:
    """Say in at most sixty words what there is."""
    tasks = {board.seen.task for board in found.boards}
    results = sum(len(board.rows) for board in found.boards)
    parts = [
        f"{count(len(found.runs), 'finished run')} with {count(results, 'result')} on {count(len(tasks), 'task')}",
        f"{count(len(found.audits), 'audit')}",
    ]
    text = f"{listed([part for part in parts if not part.startswith('0')] or ['Nothing that is finished'])}."
    apart = sum(bool(board.differs) for board in found.boards)
    if apart:
        text += f" {count(apart, 'table')} {'is' if apart == 1 else 'are'} kept apart: they did not see the same."
    if found.left_out:
        text += f" {count(len(found.left_out), 'folder')} {'is' if len(found.left_out) == 1 else 'are'} left out."
    return text


def why(board: Board) -> str:
    """Say why a board is not ranked with the first of its task; empty for that."""
    if not board.differs:
        return ""
    others = [_OTHER[name] for name in board.differs if name in _OTHER]
    return f"Not ranked with the first table of this task: {listed(others)}."


def on_what(board: Board) -> str:
    """Name what all results of a board saw."""
    seen = board.seen
    hashes = [("test set", seen.data), ("weights", seen.weights), ("images shown", seen.shown)]
    named = [f"{what} {value[:_HASH]}" for what, value in hashes if value]
    made = ", ".join(f"{name} {value}" for name, value in seen.corruption if value not in ("", "None"))
    packages = ", ".join(f"{name} {value}" for name, value in seen.libraries if value)
    how = f"corrupted images: {made or 'as usual'}" + (f" ({packages})" if packages else "") if seen.corruption else ""
    return "; ".join(filter(None, [", ".join(named), how]))


def tiles(found: Collection) -> list[Tile]:
    """Return the tiles: what is there, and of each task the lowest mean error of a quantized network."""
    return [*_counts(found), *_lowest(found), *_beyond(found)]


def _counts(found: Collection) -> Iterator[Tile]:
    if found.runs or found.left_out:
        places = len(found.runs) + len(found.left_out)
        lines: tuple[str, ...] = (
            f"{count(sum(run.trials.get('done', 0) for run in found.runs), 'trial')} done",
            f"{len(found.left_out) or 'none'} left out" + (", see below" if found.left_out else ""),
        )
        how = "A run is shown where all its trials have ended and none of its records is damaged. Unit: run."
        yield Tile("Runs shown", f"{len(found.runs)} of {places - _verdicts_left(found)}", lines, how, "how-same")
    if found.audits:
        reached = sum(each.verdict.reached for each in found.audits)
        worse = sum(any(claim.standing == "worse" for claim in each.verdict.claims) for each in found.audits)
        lines = (f"{worse or 'none'} worse than a rival in some question",)
        how = "A verdict is reached where no check that spoils numbers failed and trials of the target are done."
        yield Tile("Verdicts reached", f"{reached} of {count(len(found.audits), 'audit')}", lines, how, "how-audits")


def _verdicts_left(found: Collection) -> int:
    return sum(any(audit.folder == left.folder for audit in found.audits) for left in found.left_out)


def _lowest(found: Collection) -> Iterator[Tile]:
    how = (
        "Share of test images that are predicted wrongly, over all domains; the interval is over images, "
        "and the difference from the next is not tested. Unit: test image."
    )
    for board in [each for each in found.boards if not each.differs][:_MOST_TASKS]:
        rows = quantized(board.rows)
        if len(rows):
            best = next(each_row(rows.loc[[rows["error"].idxmin()]]))
            lines = (
                f"{CONFIDENCE_PERCENT} % interval {number(best.error_low * 100)} to {number(best.error_high * 100)}",
                f"{short(best.quantizer_label, _NAME)}, adapter {short(best.adapter_label, _NAME)}",
                f"in {short(found.names[best.run], _NAME)}",
            )
            yield Tile(f"Lowest error, {short(board.task, _NAME)}", percent(best.error), lines, how, "how-error")


def _beyond(found: Collection) -> Iterator[Tile]:
    rows = pd.concat([quantized(board.rows) for board in found.boards]) if found.boards else pd.DataFrame()
    tested = rows[rows["worst_drop_class_p_holm"].notna()] if len(rows) else rows
    if tested.empty:
        return
    shown = tested[tested["worst_drop_class_shown"].astype(bool)]
    lines: tuple[str, ...] = ("no class loses more than chance explains",)
    if len(shown):
        worst = next(each_row(largest_drop_first(shown)))
        name = short(named_class(worst.worst_drop_class), _NAME)
        lines = (
            f"largest: {name}, {points(worst.worst_drop_class_value)}",
            f"{short(worst.quantizer_label, _NAME)}, adapter {short(worst.adapter_label, _NAME)}",
            f"on {short(worst.task, _NAME)} in {short(found.names[worst.run], _NAME)}",
        )
    how = (
        "The largest drop of a class against what exchanging test images between classes gives, p corrected by Holm "
        "over the networks or adapters of its own run. Unit: test image."
    )
    value = f"{len(shown)} of {count(len(tested), 'result')}"
    yield Tile("Worst class beyond chance", value, lines, how, "how-worst", "worse" if len(shown) else "")


def quantized(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of quantized networks."""
    return rows[~rows["full_precision"].astype(bool)]


def worst_class(row: Any) -> str:
    """Say what the worst class of a row loses, with its interval, and which it is; a diamond: beyond chance."""
    if is_missing(row.worst_drop_class_value) or not isinstance(row.worst_drop_class, str):
        return ""
    edges = [row.worst_drop_class_low, row.worst_drop_class_high]
    text = number(row.worst_drop_class_value * 100)
    if not any(map(is_missing, edges)):
        text += f" ({' to '.join(number(edge * 100) for edge in edges)})"
    return f"{text} {named_class(row.worst_drop_class)}{BEYOND if bool(row.worst_drop_class_shown) else ''}"
