"""The LaTeX tables of a report, each with its numbers beside it as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.analysis.families import IN_COMMON, context_in_words
from evalsuite.files import write_csv, write_text
from evalsuite.groups import ALWAYS
from evalsuite.isolation import printable
from evalsuite.store import Run
from reports.frames.adaptation import adaptation
from reports.frames.evidence import Evidence
from reports.frames.methods import each_row, labelled, readable
from reports.frames.rivals import best_of_rivals
from reports.words.numbers import CONFIDENCE_PERCENT, MINUS, is_missing, number

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


def write_tables(run: Run, evidence: Evidence, folder: Path) -> None:
    """Write ``mean_error``, ``worst_group``, ``rankings`` and, where there are adapters, ``adaptation``.

    Each as ``.tex`` and ``.csv`` into a folder.
    """
    mean, worst, ranked, adapted = mean_error(run, evidence), worst_group(evidence), rankings(evidence), adaptation(run)
    tables = [
        ("mean_error", mean, mean_error_tex(mean)),
        ("worst_group", worst, worst_group_tex(worst, evidence.groups)),
        ("rankings", ranked, rankings_tex(ranked)),
    ]
    if len(adapted):
        tables.append(("adaptation", adapted, adaptation_tex(adapted)))
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
        for row in each_row(methods[methods["adapter_label"] != unadapted]):
            found = evidence.against_unadapted(row, unadapted)
            table.loc[row.Index, "adapted"] |= found is not None and found.shown
    return table


def mean_error_tex(table: pd.DataFrame) -> str:
    """Return the LaTeX of :func:`mean_error`: networks by adapters, a block per task and stream."""
    adapters = list(table["adapter_label"].unique())
    blocks = []
    for (task, stream), own in table.groupby(["task", "stream_label"], sort=False):
        cells = {(row.network, row.adapter_label): _error_cell(row) for row in each_row(own)}
        networks = own["network"].unique()
        rows = [[escape(name), *(cells.get((name, each), _NOTHING) for each in adapters)] for name in networks]
        blocks.append((f"{escape(str(task))}, stream {escape(str(stream))}", rows))
    caption = (
        rf"Mean error in \% with the half-width of its {CONFIDENCE_PERCENT}\,\% bootstrap interval over test images. "
        r"\textbf{Bold}: lowest in its column of the quantizers with equal bits and calibration set; $\dagger$: not "
        r"shown to differ from that one; $\ast$: shown to differ from the same network without adaptation. Shown: "
        rf"Wilcoxon over domains, Holm-corrected $p < {LEVEL:g}$ (over the quantizers of equal bits, for $\ast$ over "
        r"the adapters of the row), and an interval of the difference without 0."
    )
    head = [_line(["Network", *map(escape, adapters)])]
    return _float("mean_error", caption, "l" + "r" * len(adapters), head, blocks)


def _error_cell(row: Any) -> str:
    value = number(row.error * 100)
    value = rf"\textbf{{{value}}}" if row.best else value
    marks = ",".join(mark for mark, yes in ((r"\dagger", row.not_distinct), (r"\ast", row.adapted)) if yes)
    marks = f"$^{{{marks}}}$" if marks else ""
    return rf"{value}{marks} {{\scriptsize$\pm$ {number((row.error_high - row.error_low) * 50)}}}"


def worst_group(evidence: Evidence) -> pd.DataFrame:
    """Return a row per method with the columns of ``summary.csv`` on its worst class, domain and other groups."""
    columns = [kind.format(group) for group in evidence.groups for kind in _OF_A_GROUP]
    return evidence.methods[["task", "stream_label", "network", "adapter_label", *columns]].copy()


def worst_group_tex(table: pd.DataFrame, groups: Sequence[str] = ALWAYS) -> str:
    """Return the LaTeX of :func:`worst_group`: two groupings side by side, as many tables as they need."""
    pairs = [groups[start : start + 2] for start in range(0, len(groups), 2)]
    names = ["worst_group", *(f"worst_group_{number}" for number in range(2, len(pairs) + 1))]
    return "\n".join(_worst_group_float(table, pair, name) for pair, name in zip(pairs, names, strict=True))


def _worst_group_float(table: pd.DataFrame, groups: Sequence[str], label: str) -> str:
    blocks = []
    for (task, stream), own in table.groupby(["task", "stream_label"], sort=False):
        rows = [
            [name, escape(row.adapter_label), *(cell for group in groups for cell in _group_cells(row, group))]
            for name, row in _named(own)
        ]
        blocks.append((f"{escape(str(task))}, stream {escape(str(stream))}", rows))
    caption = (
        r"Worst groups. Error and CVaR (mean of the worst 10\,\% of groups) in \%; drop in points: error minus that of "
        r"the full-precision, unadapted network on the same images, in the group with the largest drop; chance: its "
        r"expectation where all groups are harmed alike; $p$: permutation test, Holm-corrected over the networks with "
        rf"one calibration set, or the adapters of one network, on one stream, in bold below {LEVEL:g}."
    )
    names = ["error", "", "CVaR", "drop", "", "chance", "$p$"]
    titles = [rf"\multicolumn{{7}}{{c}}{{Worst {escape(group)}}}" for group in groups]
    rules = [rf"\cmidrule(lr){{{start}-{start + 6}}}" for start in range(3, 3 + 7 * len(groups), 7)]
    head = [_line(["", "", *titles]), " ".join(rules), _line(["Network", "Adapter", *names * len(groups)])]
    return _float(label, caption, "ll" + "rlrrlrr" * len(groups), head, blocks)


def _group_cells(row: Any, group: str) -> list[str]:
    def rate(column: str) -> str:
        value = getattr(row, column.format(group))
        return _NOTHING if is_missing(value) else _signed(number(value * 100))

    def name(column: str) -> str:
        value = getattr(row, column.format(group))
        return escape(readable(value)) if isinstance(value, str) else ""

    p = getattr(row, f"worst_drop_{group}_p_holm")
    tested = _NOTHING if is_missing(p) else r"$<$0.001" if p < 0.001 else f"{p:.3f}"
    return [
        rate("worst_{}_error"),
        name("worst_{}"),
        rate("cvar10_{}"),
        rate("worst_drop_{}_value"),
        name("worst_drop_{}"),
        rate("worst_drop_{}_null"),
        rf"\textbf{{{tested}}}" if getattr(row, f"worst_drop_{group}_shown") else tested,
    ]


def adaptation_tex(table: pd.DataFrame) -> str:
    """Return the LaTeX of :func:`reports.frames.adaptation.adaptation`: a block per task and stream, a row a method."""
    blocks = []
    for (task, stream), own in table.groupby(["task", "stream_label"], sort=False):
        rows = [[name, *_adaptation_cells(row)] for name, row in _named(own)]
        blocks.append((f"{escape(str(task))}, stream {escape(str(stream))}", rows))
    caption = (
        r"Adaptation against none. Error in \% without and with the adapter; change in points with its "
        rf"{CONFIDENCE_PERCENT}\,\% bootstrap interval; "
        r"$p$: Wilcoxon over domains or McNemar over images, Holm-corrected over the adapters of one network on one "
        r"stream, bold where a change is shown; passes per batch; time, 1 without adaptation; "
        r"collapsed trials; changes of domain seen with their first batch, and false alarms in other batches, in \%."
    )
    names = ["Network", "Adapter", "without", "with", "change", "", "$p$", "fwd", "bwd", "time", "coll."]
    return _float("adaptation", caption, "llrrrlrrrrrrr", [_line([*names, "seen", "false"])], blocks)


def _adaptation_cells(row: Any) -> list[str]:
    def rate(value: float) -> str:
        return _NOTHING if is_missing(value) else _signed(number(value * 100))

    tested = _NOTHING if is_missing(row.p) else r"$<$0.001" if row.p < 0.001 else f"{row.p:.3f}"
    return [
        escape(row.adapter_label),
        rate(row.unadapted_error),
        rate(row.error),
        rate(row.difference),
        "" if is_missing(row.low) else rf"{{\scriptsize {rate(row.low)} to {rate(row.high)}}}",
        rf"\textbf{{{tested}}}" if shown(row.p, row.low, row.high) else tested,
        number(row.forwards_per_batch),
        number(row.backwards_per_batch),
        _NOTHING if is_missing(row.seconds_ratio) else number(row.seconds_ratio),
        f"{row.collapsed:.0f}/{row.trials:.0f}",
        rate(row.hit_rate),
        rate(row.false_alarm_rate),
    ]


def _named(table: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """Yield each row with its network's name, which is empty below a row of the same network."""
    first = table["network"] != table["network"].shift()
    for row, new in zip(each_row(table), first, strict=True):
        yield escape(row.network) if new else "", row


def _signed(text: str) -> str:
    return text.replace(MINUS, "$-$")


def rankings(evidence: Evidence) -> pd.DataFrame:
    """Return the rows of ``rankings.csv`` for which Friedman's test has a number, the lowest mean rank first."""
    table = evidence.rankings
    table = table[table["critical_difference"].notna()]
    place = table.groupby(_RANKED_TOGETHER, sort=False, dropna=False).ngroup()
    return table.assign(place=place).sort_values(["place", "mean_rank"], kind="stable").drop(columns="place")


def rankings_tex(table: pd.DataFrame) -> str:
    """Return the LaTeX of :func:`rankings`: a block per ranking, a row per method."""
    blocks = []
    for (task, *_), own in table.groupby(_RANKED_TOGETHER, sort=False, dropna=False):
        first = own.iloc[0]
        p = "$p<0.001$" if first["p"] < 0.001 else f"$p={first['p']:.3f}$"
        title = f"{escape(str(task))}, {escape(context_in_words(first.to_dict()))}: Friedman {p}, "
        title += f"{first['n']} {first['unit']}s, "
        rows = [_ranking_cells(row, own["mean_rank"].min()) for row in each_row(own)]
        blocks.append((title + f"CD {first['critical_difference']:.2f}", rows))
    caption = (
        r"Mean rank over domains, 1 being the lowest error, and mean error in \%. \textbf{Bold}: the best mean rank; "
        r"$\dagger$: not distinguishable from it, that is within Nemenyi's critical difference (CD) at "
        rf"{100 * LEVEL:g}\,\%."
    )
    return _float("rankings", caption, "lrr", [_line(["Method", "mean rank", "error"])], blocks)


def _ranking_cells(row: Any, best: float) -> list[str]:
    rank = f"{row.mean_rank:.2f}"
    mark = r"$^{\dagger}$" if row.among_best else ""
    rank = rf"\textbf{{{rank}}}" if row.mean_rank == best else rank + mark
    return [escape(row.method), rank, number(row.error * 100)]


def _float(
    name: str, caption: str, columns: str, head: Sequence[str], blocks: Sequence[tuple[str, list[list[str]]]]
) -> str:
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3.5pt}",
        rf"\caption{{{caption}}}\label{{tab:{name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        *head,
    ]
    for title, rows in blocks:
        lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{title}}}}} \\"]
        lines += [_line(row) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
