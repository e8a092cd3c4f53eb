"""Error along the stream: what adaptation gains, and whether it lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from reports import style
from reports.methods import labelled, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

_MOST = 24  # stretches that can be named below a panel
_PANEL = ["task", "stream_label"]
_METHOD = ["network", "adapter_label", "adapter_order", "reference"]


@dataclass(frozen=True)
class StreamError:
    """Error along the stream.

    Error on each stretch of the stream, in the order in which the network meets it, for the network with the
    fewest bits. Bars are 95 % intervals over the images of a stretch; the lines share their images, so two of
    them may differ clearly although their bars overlap. Dashed: full precision without adaptation.
    """

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, stream, adapter, stretch of the stream).

        A stretch shows one domain without a break; where there are more than 24, or where seeds differ in
        their number, the stream is cut into 24 equal ones. Of several networks with equally few bits, the one
        with most adapters is taken, then the first. ``error`` is a fraction, the mean over images and seeds;
        ``low`` and ``high`` are its 95 % interval over images (normal). ``reference`` marks the
        full-precision, unadapted network.
        """
        trials = _chosen(labelled(run))
        records = run.records[run.records["trial"].isin(trials["trial"])]
        shown = records.astype({"trial": str}).merge(trials[["trial", *_PANEL, *_METHOD]], on="trial")
        frames = []
        for (task, stream), own in shown.groupby(_PANEL, sort=False):
            frames.append(_errors(own).assign(task=str(task), stream_label=str(stream)))
        columns = [*_PANEL, *_METHOD, "stretch", "shown", "error", "low", "high", "images"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a panel per task and stream, a line per adapter."""
        panels = list(data.groupby(_PANEL, sort=False))
        wide = data["stretch"].nunique() > 6
        across = 1 if len(panels) == 1 else 2
        down = -(-len(panels) // across)
        width = style.PAGE if wide or across == 2 else style.COLUMN
        figure = Figure(figsize=(width, 2.45 * down + 0.2), layout="constrained")
        places = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for axes, (keys, own) in zip(places, panels, strict=False):
            _panel(axes, own)
            network = own.loc[~own["reference"], "network"].iloc[0]
            axes.set_title(f"{keys[0]}, {network}\n{keys[1]}")
        for axes in places[len(panels) :]:
            axes.remove()
        for axes in places[::across]:
            axes.set_ylabel("error (%)")
        places[0].set_ylim(bottom=0)
        handles = {line.get_label(): line for axes in places for line in axes.get_lines()}
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=6)
        return figure


def _chosen(trials: pd.DataFrame) -> pd.DataFrame:
    """Keep the trials of the network with the fewest bits per task and stream, and their references."""
    done = trials[trials["status"] == "done"]
    quantized = done[~done["full_precision"]]
    number = quantized.groupby([*_PANEL, "network"])["adapter_label"].transform("nunique")
    best = quantized.assign(fewer=-number).sort_values(["weight_bits", "activation_bits", "fewer", "network_order"])
    best = best.drop_duplicates(_PANEL)[[*_PANEL, "network"]]
    own = quantized.merge(best, on=[*_PANEL, "network"])
    references = done[done["trial"].isin(own["reference"])]
    return pd.concat([references.assign(reference=True), own.assign(reference=False)], ignore_index=True)


def _errors(records: pd.DataFrame) -> pd.DataFrame:
    records = records.sort_values(["trial", "position"], ignore_index=True)
    stretch, names = _stretches(records)
    records = records.assign(stretch=stretch, wrong=records["prediction"] != records["label"])
    images = records.groupby([*_METHOD, "stretch", "image"], sort=False)["wrong"].mean()
    of_stretch = images.groupby([*_METHOD, "stretch"], sort=False)
    errors = pd.DataFrame({"error": of_stretch.mean(), "sem": of_stretch.sem(), "images": of_stretch.size()})
    errors = errors.reset_index().sort_values(["reference", "adapter_order", "stretch"], ignore_index=True)
    half = stats.norm.ppf(0.975) * errors.pop("sem").fillna(0)
    low, high = (errors["error"] - half).clip(lower=0), (errors["error"] + half).clip(upper=1)
    return errors.assign(low=low, high=high, shown=errors["stretch"].map(names))


def _stretches(records: pd.DataFrame) -> tuple[pd.Series, dict[int, str]]:
    """Number the stretches of sorted records, and say what each shows: a domain, or how far the stream has come."""
    keys = records[["trial", "domain", "severity"]].astype(str)
    begins = (keys != keys.shift()).any(axis=1)
    stretch = begins.groupby(records["trial"]).cumsum().astype(int) - 1
    numbers = stretch.groupby(records["trial"]).max() + 1
    if numbers.nunique() == 1 and numbers.iloc[0] <= _MOST:
        domain = keys["domain"].map(readable)
        if keys.loc[keys["domain"] != "clean", "severity"].nunique() > 1:
            domain += " " + keys["severity"]
        several = domain.groupby(stretch).nunique() > 1
        first = domain.groupby(stretch).first()
        return stretch, {k: f"no. {k + 1}" if several[k] else first[k] for k in first.index}
    place = records.groupby("trial").cumcount()
    length = records.groupby("trial")["image"].transform("size")
    return place * _MOST // length, {k: f"{length.max() * (k + 1) // _MOST:,} images" for k in range(_MOST)}


def _panel(axes: Axes, data: pd.DataFrame) -> None:
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
        axes.plot(x, percent["error"], color=look.colour, lw=0.9, label=own["adapter_label"].iloc[0], **mark)
    ticks = data.drop_duplicates("stretch").sort_values("stretch")
    axes.set_xticks(ticks["stretch"], ticks["shown"], rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(axis="y")


def _aside(place: int, number: int) -> float:
    """Move the methods of one stretch apart, so that their intervals do not hide each other."""
    return 0.5 * ((place + 0.5) / number - 0.5)
