"""Which classes quantization harms, and which of them more than chance explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from evalsuite.metrics import group_means, group_sums
from evalsuite.outcomes import Outcome, Rows, pooled
from evalsuite.randomness import numpy_generator
from reports import style
from reports.evidence import outcomes_of
from reports.layout import pages, panel, text_width, wrapped
from reports.methods import KEYS, ORDER, combinations, with_room

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

_ROW = 0.3  # inches
_ACROSS = 3
_LEAST = 1.2  # inches of a panel, whatever its labels take
_HEAD, _FOOT = 0.25, 0.38  # inches
_MANY = 50  # classes, whose dots are drawn smaller
_METHOD = ["task", "stream_label", "network", *ORDER]
_COLUMNS = [*_METHOD, "class", "class_order", "images", "drop", "mean_drop", "low", "high"]

Pairs = list[tuple[Outcome, Outcome]]


@dataclass(frozen=True)
class ClassDrops:
    """Drop of every class against what chance alone would give.

    A dot is a class, a row a quantized network without adaptation; the line is the mean drop. The grey band
    holds all classes at once in 95 % of the cases where quantization harms all classes alike. A diamond beyond
    it is a class that chance does not explain; the worst one is named.
    """

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, network, class), for the first stream of the task that is done.

        ``drop`` is a fraction: error minus the full-precision error on the same images, over all domains
        and seeds. ``low`` and ``high`` bound the drops of *all* classes together in 95 % of the permutations
        that exchange whole images between classes (our construction, no paper's).
        """
        arranged = with_room(combinations(run).query("unadapted and not full_precision")).set_index(KEYS)
        outcomes = outcomes_of(run)
        first: dict[tuple[str, str], tuple[Pairs, dict[Any, Any]]] = {}
        for each in outcomes.combinations:
            key = (each.task, each.calibration, each.quantizer, each.adapter, each.stream)
            pairs = outcomes.paired_with_reference(each) if key in arranged.index else []
            if pairs:
                place = arranged.loc[[key]].reset_index().iloc[0]
                first.setdefault((each.task, place["network"]), (pairs, place[_METHOD].to_dict()))
        found, methods = [pairs for pairs, _ in first.values()], [method for _, method in first.values()]
        tasks = [method["task"] for method in methods]
        frames = []
        shown = [[own for own, _ in pairs] for pairs in found]
        for rows, members in outcomes.batches(zip(tasks, shown, strict=True)):
            frame = _classes(rows, [found[member] for member in members], run)
            own = pd.DataFrame([methods[member] for member in members])
            frames.append(own.merge(frame, left_index=True, right_on="method").drop(columns="method"))
        if not frames:
            return pd.DataFrame(columns=_COLUMNS)
        return pd.concat(frames).sort_values([*ORDER, "class_order"], ignore_index=True)[_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by network where one printed page is too small."""
        return pages(data, _height, ["task"], ["network"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a panel per task side by side, a row per network, a dot per class."""
        tasks = list(data["task"].unique())
        networks = data.drop_duplicates("network").sort_values("network_order")["network"]
        rows = {name: place + 0.5 for place, name in enumerate(networks)}
        across = min(len(tasks), _ACROSS)
        left, gap = text_width([wrapped(name, _ROW) for name in rows]) + 0.12, 0.15
        width = style.COLUMN if across == 1 and left < style.COLUMN / 2 else style.PAGE
        width = max(width, left + across * (_LEAST + gap))
        inner = (width - left - gap * across) / across
        height = len(rows) * _ROW
        figure = Figure(figsize=(width, _height(data)))
        low, high = data[["drop", "low"]].min().min() * 100, data[["drop", "high"]].max().max() * 100
        margin = 0.05 * (high - low) or 1.0
        for place, task in enumerate(tasks):
            x, y = left + (place % across) * (inner + gap), _HEAD + (place // across) * (height + _HEAD + _FOOT)
            axes = panel(figure, x, y, inner, height)
            axes.set(title=task, xlim=(low - margin, high + margin), ylim=(len(rows), 0))
            _panel(axes, data[data["task"] == task], rows, inner)
            axes.set_xlabel("drop of a class (points)")
            axes.set_yticks(list(rows.values()), [wrapped(name, _ROW) for name in rows] if place % across == 0 else [])
        return figure


def _height(data: pd.DataFrame) -> float:
    down = -(-data["task"].nunique() // _ACROSS)
    return down * (data["network"].nunique() * _ROW + _HEAD + _FOOT)


def _classes(rows: Rows, pairs: list[Pairs], run: Run) -> pd.DataFrame:
    """Return a row per (method, class) for methods that share their rows."""
    differences = np.column_stack([pooled(own for own, _ in each) - pooled(ref for _, ref in each) for each in pairs])
    codes, names = rows.group("class")
    _, first, image = np.unique(rows.image, return_index=True, return_inverse=True)
    order = np.argsort(codes[first], kind="stable")
    sums = group_sums(differences, image, len(first))[order]
    sizes = np.bincount(image)[order]
    _, starts, images = np.unique(codes[first][order], return_index=True, return_counts=True)
    settings = run.study["analysis"]
    generator = numpy_generator(settings["seed"], "class_drops", rows.task)
    low, high = chance_band(sums, sizes, starts, generator, permutations=settings["permutations"])
    drops, _ = group_means(differences, codes, len(names))
    frames = [
        pd.DataFrame(
            {
                "method": method,
                "class": names,
                "class_order": range(len(names)),
                "images": images,
                "drop": drops[:, method],
                "mean_drop": differences[:, method].mean(),
                "low": low[method],
                "high": high[method],
            }
        )
        for method in range(len(pairs))
    ]
    return pd.concat(frames, ignore_index=True)


def chance_band(
    sums: NDArray[np.float64],
    sizes: NDArray[np.int64],
    starts: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    permutations: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the means of all groups lie together in 95 % of the permutations of images over groups.

    Parameters
    ----------
    sums : (N, M) sum of the paired differences of an image, in M methods; the images of a group stand
        together.
    sizes : (N,) the image's number of rows.
    starts : (G,) where each group begins.

    Returns
    -------
    The 2.5 % quantile of the smallest group mean and the 97.5 % quantile of the largest, (M,) each.
    """
    smallest, largest = np.empty((2, permutations, sums.shape[1]))
    for draw in range(permutations):
        order = generator.permutation(len(sums))
        rows = np.add.reduceat(sizes[order], starts)
        means = np.add.reduceat(sums[order], starts) / rows[:, None]
        smallest[draw], largest[draw] = means.min(axis=0), means.max(axis=0)
    return np.quantile(smallest, 0.025, axis=0), np.quantile(largest, 0.975, axis=0)


def _panel(axes: Axes, data: pd.DataFrame, rows: dict[str, float], inches: float) -> None:
    axes.axvline(0, color=style.MUTED, lw=0.6)
    for network, own in data.groupby("network", sort=False):
        y, percent = rows[str(network)], own[["drop", "mean_drop", "low", "high"]] * 100
        low, high = percent["low"].iloc[0], percent["high"].iloc[0]
        axes.barh(y, high - low, 0.7, low, color=style.FAINT)
        axes.plot([percent["mean_drop"].iloc[0]] * 2, [y - 0.35, y + 0.35], color=style.INK, lw=1)
        aside = y + ((own["class_order"] * 0.618) % 1 - 0.5) * 0.5  # spread evenly, the same on every drawing
        beyond = percent["drop"] > high
        size = 2.6 if len(own) <= _MANY else 1.6
        axes.plot(percent["drop"][~beyond], aside[~beyond], "o", ms=size, mfc="white", mec=style.INK, mew=0.6)
        axes.plot(percent["drop"][beyond], aside[beyond], "D", ms=size + 0.6, color=style.ALERT, mew=0)
        worst = int(percent["drop"].to_numpy().argmax())
        if beyond.iloc[worst]:
            place = (percent["drop"].iloc[worst], aside.iloc[worst])
            name = str(own["class"].iloc[worst])
            left, right = axes.get_xlim()
            room = (right - place[0]) / (right - left) * inches
            away, side = (4, "left") if text_width([name]) + 4 / 72 < room else (-4, "right")
            halo = [withStroke(linewidth=1.5, foreground="white")]
            axes.annotate(name, place, (away, 0), textcoords="offset points", va="center", ha=side, path_effects=halo)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
