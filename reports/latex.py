"""The LaTeX tables of a report, each with its numbers beside it as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.analysis.families import IN_COMMON, context_in_words
from evalsuite.files import write_csv, write_text
from evalsuite.groups import ALWAYS
from evalsuite.isolation import printable
from evalsuite.store import Run
from reports import style
from reports.frames.adaptation import adaptation
from reports.frames.evidence import Evidence
from reports.frames.methods import KEYS, each_row, labelled, readable
from reports.frames.rankings import chosen_rankings
from reports.frames.rivals import best_of_rivals
from reports.selection import Selection
from reports.tabular import Block, Column, digits_for, floats
from reports.words.numbers import CONFIDENCE_PERCENT, MINUS, is_missing, number, p_bound

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # at the start of a row they belong to the \\ before it
}
_NOTHING = "--"
_RANKED_TOGETHER = ["task", "factor", *IN_COMMON]
_OF_A_GROUP = (
    *("worst_{}", "worst_{}_error", "cvar10_{}", "worst_drop_{}", "worst_drop_{}_value", "worst_drop_{}_null"),
    *("worst_drop_{}_p_holm", "worst_drop_{}_shown"),
)


def write_tables(run: Run, evidence: Evidence, folder: Path, selection: Selection | None = None) -> None:
    """Write ``mean_error``, ``worst_group``, ``rankings`` and ``adaptation`` into a folder, as ``.tex`` and ``.csv``.

    A table without a row is none, and one that an earlier report left there is removed.
    """
    frames = mean_error(run, evidence), worst_group(evidence), rankings(evidence), adaptation(run)
    chosen = chosen_rankings(run)
    if selection is not None:
        frames, chosen = tuple(map(selection.of_frame, frames)), selection.of_frame(chosen)  # type: ignore[assignment]
    mean, worst, ranked, adapted = frames
    tables = [
        ("mean_error", mean, mean_error_tex(mean)),
        ("worst_group", worst, worst_group_tex(worst, evidence.groups)),
    ]
    if len(ranked) and len(chosen):
        tables.append(("rankings", ranked, rankings_tex(chosen)))
    if len(adapted):
        tables.append(("adaptation", adapted, adaptation_tex(adapted)))
    for name in {"rankings", "adaptation"} - {name for name, _, _ in tables}:
        for suffix in ("csv", "tex"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    for name, table, text in tables:
        write_csv(folder / f"{name}.csv", table)
        write_text(folder / f"{name}.tex", text)


def escape(text: str) -> str:
    """Return text in which LaTeX sees no command, no end of a paragraph and no character that cannot be seen."""
    return "".join(_ESCAPES.get(character, character) for character in printable(text))


def mean_error(run: Run, evidence: Evidence) -> pd.DataFrame:
    """Return a row per method: its mean error, and how it compares with its column and its row.

    ``best`` is the quantized network with the lowest error among those with the same task, stream, bits,
    calibration set and adapter, where there are two at least; ``not_distinct`` marks the others of them of
    which ``comparisons.csv`` does not show that they are worse (its column ``shown``).
    ``adapted`` marks methods shown to differ from the same network without adaptation.
    """
    methods = evidence.methods
    table = methods[["task", "stream_label", "network", "adapter_label", "error", "error_low", "error_high"]].copy()
    table = pd.concat([table, best_of_rivals(evidence)], axis=1).assign(adapted=False)
    trials = labelled(run)
    for unadapted in trials.loc[trials["unadapted"], "adapter_label"].unique():
        for row in each_row(methods.loc[methods["adapter_label"] != unadapted, KEYS]):
            found = evidence.against_unadapted(row, unadapted)
            if found is not None and found.shown:
                table.loc[row.Index, "adapted"] = True
    return table


def mean_error_tex(table: pd.DataFrame) -> str:
    """Return the LaTeX of :func:`mean_error`: networks by adapters, a block per task and stream."""
    adapters = list(table["adapter_label"].unique())
    digits = digits_for(table["error_low"], table["error_high"])
    blocks = []
    for (task, stream), own in table.groupby(["task", "stream_label"], sort=False):
        cells = {(row.network, row.adapter_label): _error_cell(row, digits) for row in each_row(own)}
        rows = [
            (escape(str(name)), *(cells.get((name, each), _NOTHING) for each in adapters))
            for name in own["network"].unique()
        ]
        blocks.append(Block(f"{escape(str(task))}, stream {escape(str(stream))}", tuple(rows)))
    caption = (
        rf"Behind $\pm$: half the width of its {CONFIDENCE_PERCENT}\,\% interval over test images and, where there are "
        r"several, calibration draws. "
        r"\textbf{Bold}: lowest in its column of the quantizers with equal bits and calibration set; $\dagger$: not "
        r"shown to differ from that one; $\ast$: shown to differ from the same network without adaptation. Shown: "
        rf"Wilcoxon over domains or McNemar over images, Holm-corrected $p < {LEVEL:g}$ (over the quantizers of equal "
        r"bits, for $\ast$ over "
        r"the adapters of the row), and an interval of the difference without 0."
    )
    columns = [Column(escape(str(name))) for name in adapters]
    return floats("mean_error", r"Mean error in \%.", caption, "Network", columns, blocks)


def _error_cell(row: Any, digits: int) -> str:
    value = number(row.error * 100, digits)
    value = rf"\textbf{{{value}}}" if row.best else value
    marks = ",".join(mark for mark, yes in ((r"\dagger", row.not_distinct), (r"\ast", row.adapted)) if yes)
    marks = f"$^{{{marks}}}$" if marks else ""
    return rf"{value}{marks} {{\scriptsize$\pm$ {number((row.error_high - row.error_low) * 50, digits)}}}"


def worst_group(evidence: Evidence) -> pd.DataFrame:
    """Return a row per method with the columns of ``summary.csv`` on its worst class, domain and other groups."""
    columns = [kind.format(group) for group in evidence.groups for kind in _OF_A_GROUP]
    return evidence.methods[["task", "stream_label", "network", "adapter_label", *columns]].copy()


def worst_group_tex(table: pd.DataFrame, groups: Sequence[str] = ALWAYS) -> str:
    """Return the LaTeX of :func:`worst_group`: a table per grouping, of its worst drop; the CSV has the rest."""
    return "\n".join(_worst_group_floats(table, group) for group in groups)


def _worst_group_floats(table: pd.DataFrame, group: str) -> str:
    drop = f"worst_drop_{group}"
    digits = style.current().digits
    digits = 1 if digits is None else digits  # a worst drop's interval is in summary.csv alone
    blocks = _blocks(table, lambda row: _group_cells(row, group, digits))
    caption = (
        r"Drop in points: error minus that of the full-precision, unadapted network "
        r"on the same images, in the group with the largest drop; chance: its expectation where all groups are harmed "
        r"alike; $p$: permutation test, Holm-corrected over the networks with one calibration set, or the adapters of "
        rf"one network, on one stream, in bold below {LEVEL:g}."
    )
    columns = [Column("drop"), Column(escape(readable(group)), "l"), Column("chance"), Column("$p$")]
    title = f"Worst {escape(readable(group))}."
    return floats(drop.replace("drop_", "group_"), title, caption, "Adapter", columns, blocks)


def _group_cells(row: Any, group: str, digits: int) -> list[str]:
    def rate(column: str) -> str:
        value = getattr(row, column.format(group))
        return _NOTHING if is_missing(value) else _signed(number(value * 100, digits))

    name, p = getattr(row, f"worst_drop_{group}"), getattr(row, f"worst_drop_{group}_p_holm")
    tested = _tested(p)
    return [
        rate("worst_drop_{}_value"),
        escape(readable(name)) if isinstance(name, str) else "",
        rate("worst_drop_{}_null"),
        rf"\textbf{{{tested}}}" if getattr(row, f"worst_drop_{group}_shown") else tested,
    ]


def _tested(p: float) -> str:
    """Return p in three digits, none of which hides on which side of the level it lies."""
    if is_missing(p):
        return _NOTHING
    bound = p_bound(p)
    return f"{p:.3f}" if bound is None else f"$<${bound:g}"


def _blocks(
    table: pd.DataFrame, cells: Callable[[Any], list[str]], title: Callable[[Any], str] | None = None
) -> list[Block]:
    """Return a block per task, stream and network, a row per adapter; ``title`` says more of a network by its row."""
    several = table.groupby("task")["stream_label"].nunique().max() > 1
    networks: dict[tuple[str, str, str], list[Any]] = {}
    for row in each_row(table):  # of the whole table at once: a frame a network would take longer than all the rest
        networks.setdefault((row.task, row.stream_label, row.network), []).append(row)
    return [
        Block(
            escape(str(network)) + (title(own[0]) if title else ""),
            tuple((escape(str(row.adapter_label)), *cells(row)) for row in own),
            escape(", ".join([str(task), *([str(stream)] if several else [])])),
        )
        for (task, stream, network), own in networks.items()
    ]


def adaptation_tex(table: pd.DataFrame) -> str:
    """Return the LaTeX of :func:`reports.frames.adaptation.adaptation`: what changes, then what it costs."""
    digits = digits_for(table["low"], table["high"])
    changes = (
        r"Error in \% with the adapter, that without it by the network; change in points with its "
        rf"{CONFIDENCE_PERCENT}\,\% interval over test images and, where there are several, calibration "
        r"draws; $p$: Wilcoxon over domains or McNemar over images, "
        r"Holm-corrected over the adapters of one network on one stream, bold where a change is shown."
    )
    costs = (
        r"Passes per batch; time, 1 without adaptation; collapsed trials; changes of domain seen with their first "
        r"batch, and false alarms in other batches, in \%."
    )
    first = [Column("error"), Column("change"), Column("interval", "l"), Column("$p$")]
    second = [Column(name) for name in ("fwd", "bwd", "time", "coll.", "seen", "false")]
    changed = _blocks(
        table,
        lambda row: _change_cells(row, digits),
        lambda row: f", {_rate(row.unadapted_error, digits)} without",
    )
    return "\n".join(
        [
            floats("adaptation", "Adaptation against none.", changes, "Adapter", first, changed),
            floats("adaptation_cost", "What adaptation costs.", costs, "Adapter", second, _blocks(table, _cost_cells)),
        ]
    )


def _rate(value: float, digits: int = 1) -> str:
    return _NOTHING if is_missing(value) else _signed(number(value * 100, digits))


def _change_cells(row: Any, digits: int) -> list[str]:
    tested = _tested(row.p)
    ends = "" if is_missing(row.low) else f"{_rate(row.low, digits)} to {_rate(row.high, digits)}"
    return [
        *(_rate(value, digits) for value in (row.error, row.difference)),
        rf"{{\scriptsize {ends}}}" if ends else "",
        rf"\textbf{{{tested}}}" if shown(row.p, row.low, row.high) else tested,
    ]


def _cost_cells(row: Any) -> list[str]:
    return [
        number(row.forwards_per_batch),
        number(row.backwards_per_batch),
        _NOTHING if is_missing(row.seconds_ratio) else number(row.seconds_ratio),
        f"{row.collapsed:.0f}/{row.trials:.0f}",
        _rate(row.hit_rate),
        _rate(row.false_alarm_rate),
    ]


def _signed(text: str) -> str:
    return text.replace(MINUS, "$-$")


def rankings(evidence: Evidence) -> pd.DataFrame:
    """Return the rows of ``rankings.csv`` for which Friedman's test has a number, the lowest mean rank first."""
    table = evidence.rankings
    table = table[table["critical_difference"].notna()]
    together = table.groupby(_RANKED_TOGETHER, sort=False, dropna=False)
    table = table.assign(place=together.ngroup(), best=table["mean_rank"] == together["mean_rank"].transform("min"))
    return table.sort_values(["place", "mean_rank"], kind="stable").drop(columns="place")


def rankings_tex(table: pd.DataFrame) -> str:
    """Return the LaTeX of :func:`rankings`: a block per ranking, a row per method."""
    blocks = []
    for (task, *_), own in table.groupby(_RANKED_TOGETHER, sort=False, dropna=False):
        first = own.iloc[0]
        tested = _tested(first["p"])
        p = f"$p$ {tested}" if tested.startswith("$") else f"$p={tested}$"
        title = f"{escape(str(task))}, {escape(context_in_words(first.to_dict()))}: all alike {p}, "
        title += f"{first['n']} {first['unit']}s, CD {first['critical_difference']:.2f}"
        rows = [_ranking_cells(row) for row in each_row(own)]
        blocks.append(Block(title, tuple(rows)))
    caption = (
        r"Rank 1 is the lowest error; ranks that a method may have, given which of them differ; and mean error in \%. "
        r"\textbf{Bold}: the best mean rank of all methods that were run; $\dagger$: not told apart from it, for which "
        rf"mean ranks have to differ by more than Nemenyi's critical difference (CD) at {100 * LEVEL:g}\,\%, and "
        r"exchanging the two methods within images has to tell them apart as well (Holm over all pairs)."
    )
    columns = [Column(name) for name in ("mean rank", "ranks", "error")]
    return floats("rankings", "Mean rank over domains.", caption, "Method", columns, blocks)


def _ranking_cells(row: Any) -> tuple[str, ...]:
    rank = f"{row.mean_rank:.2f}"
    mark = r"$^{\dagger}$" if row.among_best else ""
    rank = rf"\textbf{{{rank}}}" if row.best else rank + mark
    ranks = f"{row.best_rank}--{row.worst_rank}" if row.best_rank != row.worst_rank else str(row.best_rank)
    digits = style.current().digits
    return escape(row.method), rank, ranks, number(row.error * 100, 1 if digits is None else digits)
