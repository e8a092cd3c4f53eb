"""Error against how much there is of something in the calibration set: images, contamination, severity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from evalsuite.hashing import canonical_json
from reports import style
from reports.frames.calibration_sets import calibration_sets, kind_of_change
from reports.frames.evidence import evidence
from reports.frames.methods import labelled, readable
from reports.frames.views import QUANTIZERS, first_stream, views
from reports.layout import across, grid, grid_height, legend_columns, legend_height, pages, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_CURVE = ["task", "curve", "step", "option", "rest"]
_LINE = ["quantizer_label", "quantizer_order", "value"]
_COLUMNS = [*_CURVE, *_LINE, "calibration_label", "draws", *("error", "error_low", "error_high")]
_COLUMNS += ["worst_drop", "worst_drop_low", "worst_drop_high"]
_MEASURES = {"error": "mean error (%)", "worst_drop": "worst-class drop (points)"}
_MOST = 6  # curves of a task
_HEIGHT = 2.1  # inches of a panel
_LOG = 10  # values that span more than this factor go on a logarithmic axis


@dataclass(frozen=True)
class CalibrationCurves:
    """How much of it: size, contamination, severity.

    Mean error and drop of the worst class against one number of the calibration set, all else equal, without
    adaptation; points at the left edge beside a broken line: the set without that step. The worst class is that of
    each calibration draw. Bands are 95 % t intervals over calibration draws for these test images; with one draw
    there are none.
    """

    order: ClassVar[int] = 50

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, curve, quantizer, value), for each task's first stream.

        A curve is a numeric option of a calibration step that takes three values at least while the rest of the
        set (``rest``) stays the same; of more than six the first of every option come first. Where the rest
        alone is a set too, its ``value`` is missing. Fractions.
        """
        sets = _curves(calibration_sets(run))
        chosen = first_stream(views(run))
        chosen = chosen[(chosen["view"] == QUANTIZERS) & ~chosen["reference"]]
        if chosen.empty:
            chosen = _only(run)
        lines = chosen[["task", "stream_label", "adapter_label", "quantizer_label", "line_order"]]
        lines = lines.rename(columns={"line_order": "quantizer_order"})
        data = sets.merge(evidence(run).estimates["across_draws"], on=["task", "calibration_label"])
        data = data.merge(lines, on=["task", "stream_label", "adapter_label", "quantizer_label"])[_COLUMNS]
        return data.sort_values(["task", "curve", "quantizer_order", "value"], kind="stable", ignore_index=True)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task and by curve where one printed page is too small."""
        curve = ["task", "curve"]
        return pages(data, lambda own: grid_height(2 * own.groupby(curve).ngroups, _HEIGHT), ["task"], curve)

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw two panels per curve, a line per quantizer."""
        curves = list(data.groupby(["task", "curve"], sort=False))
        columns = across(2 * len(curves), ax)
        canvas, places = grid(2 * len(curves), _HEIGHT, ax=ax)
        room = canvas.width / columns - style.scaled(0.5)
        handles: dict[str, Any] = {}
        for number, (_, own) in enumerate(curves):
            first = own.iloc[0]
            for axes, (measure, label) in zip(places[2 * number : 2 * number + 2], _MEASURES.items(), strict=True):
                handles |= _panel(axes, own, measure)
                axes.set_ylabel(label)
                axes.set_xlabel(_said(first))
            named = kind_of_change(str(first["step"]))
            named = f"{first['task']}: {named}" if data["task"].nunique() > 1 else named
            named = named + (f" ({first['rest']})" if first["rest"] else "")
            places[2 * number].set_title(title(named, room))
        shown = list(handles.values())
        options: dict[str, Any] = {"handles": shown, "ncols": legend_columns(shown, canvas.width - 0.3)}
        canvas.figure.legend(loc="outside lower left", columnspacing=1.0, **options)
        canvas.grow(legend_height(shown, canvas.width - 0.3))
        return canvas.whole


def _said(first: pd.Series) -> str:
    option, step = str(first["option"]), kind_of_change(str(first["step"]))
    return "calibration images" if option == step == "size" else f"{readable(option)} ({readable(str(first['step']))})"


def _curves(sets: pd.DataFrame) -> pd.DataFrame:
    """Return a row per (curve, calibration set): which option of which step takes which value."""
    rows: list[dict[str, Any]] = []
    for task, own in sets.groupby("task", sort=False):
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        alone = {
            canonical_json(json.loads(steps)): label
            for steps, label in zip(own["steps"], own["calibration_label"], strict=True)
        }
        for label, text in zip(own["calibration_label"], own["steps"], strict=True):
            steps = json.loads(text)
            for place, step in enumerate(steps):
                others = steps[:place] + steps[place + 1 :]
                for option, value in step["options"].items():
                    if isinstance(value, bool) or not isinstance(value, int | float):
                        continue
                    fixed = {name: each for name, each in step["options"].items() if name != option}
                    key = canonical_json([others, place, step["name"], fixed]), option
                    rest = ", ".join(str(each) for each in fixed.values() if isinstance(each, str | int | float))
                    found.setdefault(key, []).append(
                        {"step": step["name"], "option": option, "rest": readable(rest), "value": float(value)}
                        | {"calibration_label": label, "without": alone.get(canonical_json(others))}
                    )
        for members in found.values():
            if len({each["value"] for each in members}) < 3:
                continue
            curve = len({row["curve"] for row in rows})
            without = members[0]["without"]
            if without is not None:
                members = [members[0] | {"value": np.nan, "calibration_label": without}, *members]
            rows += [{"task": task, "curve": curve} | each for each in members]
    table = pd.DataFrame(rows, columns=[*_CURVE, "value", "calibration_label"])
    curves = table.drop_duplicates(["task", "curve"])
    turn = curves.groupby(["task", "step", "option"]).cumcount()
    kept = curves.assign(turn=turn).sort_values(["turn", "curve"]).groupby("task", sort=False).head(_MOST)
    return table.merge(kept[["task", "curve"]], on=["task", "curve"])


def _only(run: Run) -> pd.DataFrame:
    """Return the one quantizer of each task, where there are not several to compare."""
    trials = labelled(run)
    own = trials[trials["unadapted"] & ~trials["full_precision"]]
    return own.drop_duplicates("task").assign(line_order=1)


def _panel(axes: Axes, data: pd.DataFrame, measure: str) -> dict[str, Any]:
    values = np.sort(data["value"].dropna().unique())
    logarithmic = values[0] > 0 and values[-1] > _LOG * values[0]
    handles: dict[str, Any] = {}
    if logarithmic:
        axes.set_xscale("log", base=2)
        edge = values[0] * (values[0] / values[-1]) ** 0.14
    else:
        edge = values[0] - 0.2 * (values[-1] - values[0])
    for label, line in data.groupby("quantizer_label", sort=False):
        look = style.look(line["quantizer_order"].iloc[0])
        without, own = line[line["value"].isna()], line[line["value"].notna()]
        mark: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": 3.4, "mec": "white", "mew": 0.4}
        low, high = (own[f"{measure}_{side}"] * 100 for side in ("low", "high"))
        axes.fill_between(own["value"], low, high, color=look.colour, alpha=0.15, lw=0)
        handles[str(label)] = axes.plot(own["value"], own[measure] * 100, ls=look.line, label=str(label), **mark)[0]
        if len(without):
            ends = [without[measure].iloc[0] * 100, own[measure].iloc[0] * 100]
            axes.plot([edge, values[0]], ends, color=look.colour, ls=(0, (1, 1.5)), lw=0.8, zorder=1)
            axes.plot(edge, ends[0], ls="", **mark)
            sides = [without[f"{measure}_{side}"].iloc[0] * 100 for side in ("low", "high")]
            axes.vlines(edge, *sides, color=look.colour, lw=0.7, alpha=0.7)
    labels = [f"{value:g}" for value in values]
    ticks = list(values)
    if data["value"].isna().any():
        ticks, labels = [edge, *ticks], ["none", *labels]
    axes.set_xticks(ticks, labels)
    axes.minorticks_off()
    axes.grid(axis="y")
    return handles
