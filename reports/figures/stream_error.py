"""Error along the stream: what adaptation gains, and whether it lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from evalsuite.streams import CLEAN
from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, each_row, labelled, readable
from reports.layout import across, grid, grid_height, legend_columns, legend_height, pages, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_HEIGHT, _LEGEND = 2.45, 0.3  # inches, of a panel and above all
_NAMES, _NAME = 18, 0.17  # stretches whose names stand side by side, and the room of a slanting one, inches
_PANEL = ["task", "stream_label"]
_METHOD = ["network", "adapter_label", "adapter_order", "reference", "oracle"]


@dataclass(frozen=True)
class StreamError:
    """Error along the stream.

    Error on each stretch of the stream, in the order in which the network meets it, for the network with the
    fewest bits. Bars are 95 % intervals over the images of a stretch; the lines share their images, so two of
    them may differ clearly although their bars overlap. Dashed: in grey full precision without adaptation, in colour an
    oracle, an adapter that is told the labels and so is no method.
    """

    order: ClassVar[int] = 110

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, stream, adapter, stretch of the stream).

        Stretches, errors and intervals are those of ``stream_errors.csv``; streams that no adapter met are left out.
        Of several networks with equally few bits, the one with most adapters is taken, then the first.
        ``reference`` marks the full-precision, unadapted network, ``oracle`` adapters that are told the labels.
        """
        chosen = _chosen(labelled(run, with_oracles=True)).drop_duplicates([*KEYS, "reference"])
        errors = evidence(run).estimates["stream_errors"].merge(chosen[[*KEYS, *_METHOD[:1], *_METHOD[2:]]], on=KEYS)
        columns = [*_PANEL, *_METHOD, "stretch", "shown", "error", "low", "high", "images"]
        order = ["reference", "adapter_order", "stretch"]
        frames = [
            panel.assign(shown=_named(panel)).sort_values(order, ignore_index=True)[columns]
            for _, panel in errors.groupby(_PANEL, sort=False)
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task and by stream where one printed page is too small."""
        return pages(
            data,
            lambda own: grid_height(own.groupby(_PANEL).ngroups, _HEIGHT) + style.scaled(_LEGEND),
            ["task"],
            _PANEL,
        )

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a panel per task and stream, a line per adapter."""
        panels = list(data.groupby(_PANEL, sort=False))
        columns = across(len(panels), ax)
        canvas, places = grid(len(panels), _HEIGHT, wide=data["stretch"].nunique() > 6, ax=ax)
        room = canvas.width / columns - style.scaled(0.6)
        for axes in places[1:]:
            axes.sharey(places[0])
        for axes, ((task, stream), own) in zip(places, panels, strict=True):
            _panel(axes, own, int(room / style.scaled(_NAME)))
            network = own.loc[~own["reference"], "network"].iloc[0]
            axes.set_title(title(f"{task}, {network}\n{stream}", room))
        for axes in places[::columns]:
            axes.set_ylabel("error (%)")
        places[0].set_ylim(bottom=0)
        handles = {str(line.get_label()): line for axes in places for line in axes.get_lines()}
        shown = list(handles.values())
        options: dict[str, Any] = {"handles": shown, "ncols": legend_columns(shown, canvas.width - 0.6)}
        canvas.figure.legend(loc="outside upper left", columnspacing=1.2, **options)
        canvas.grow(legend_height(shown, canvas.width - 0.6))
        return canvas.whole


def _chosen(trials: pd.DataFrame) -> pd.DataFrame:
    """Keep the trials of the network with the fewest bits per task and stream, and their references."""
    done = trials[trials["status"] == "done"]
    quantized = done[~done["full_precision"]]
    methods = quantized[~quantized["oracle"]]
    number = methods.groupby([*_PANEL, "network"])["adapter_label"].transform("nunique")
    best = methods.assign(fewer=-number).sort_values(["weight_bits", "activation_bits", "fewer", "network_order"])
    best = best[number.loc[best.index] > 1].drop_duplicates(_PANEL)[[*_PANEL, "network"]]
    own = quantized.merge(best, on=[*_PANEL, "network"])
    references = done[done["trial"].isin(own["reference"])]
    return pd.concat([references.assign(reference=True), own.assign(reference=False)], ignore_index=True)


def _named(panel: pd.DataFrame) -> pd.Series:
    """Say what each stretch of a panel shows: a domain, or how far the stream has come."""
    several = panel.loc[panel["domain"] != CLEAN, "severity"].dropna().nunique() > 1
    cut = panel["domain"].isna().all()
    names = {}
    for row in each_row(panel.drop_duplicates("stretch")):
        if cut:
            names[row.stretch] = f"{row.until:,} images"
        elif pd.isna(row.domain) or (several and pd.isna(row.severity)):
            names[row.stretch] = f"no. {row.stretch + 1}"
        else:
            names[row.stretch] = readable(row.domain) + (f" {row.severity:.0f}" if several else "")
    return panel["stretch"].map(names)


def _panel(axes: Axes, data: pd.DataFrame, names: int) -> None:
    references, adapted = data[data["reference"]], data[~data["reference"]]
    for network, own in references.groupby("network"):
        label = f"{network}, {own['adapter_label'].iloc[0]}"
        axes.plot(own["stretch"], own["error"] * 100, color=style.MUTED, ls=(0, (4, 2)), lw=0.9, label=label, zorder=1)
    orders = sorted(adapted["adapter_order"].unique())
    for place, order in enumerate(orders):
        own, look = adapted[adapted["adapter_order"] == order], style.look(order)
        x, percent = own["stretch"] + _aside(place, len(orders)), own[["error", "low", "high"]] * 100
        axes.vlines(x, percent["low"], percent["high"], color=look.colour, lw=0.6, alpha=0.55)
        mark: dict[str, Any] = {"marker": look.marker, "ms": 3.2, "mec": "white", "mew": 0.4}
        line: dict[str, Any] = {"color": look.colour, "ls": look.line, "lw": 0.9}
        if own["oracle"].any():
            mark, line["ls"] = {}, style.TOLD
        axes.plot(x, percent["error"], label=own["adapter_label"].iloc[0], **line, **mark)
    ticks = data.drop_duplicates("stretch").sort_values("stretch")
    ticks = ticks.iloc[:: -(-len(ticks) // max(1, min(names, _NAMES)))]
    axes.set_xticks(ticks["stretch"], ticks["shown"], rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(axis="y")


def _aside(place: int, number: int) -> float:
    """Move the methods of one stretch apart, so that their intervals do not hide each other."""
    return 0.3 * ((place + 0.5) / number - 0.5)
