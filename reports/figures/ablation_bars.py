"""What each option of a method is worth: one switched, all else equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from evalsuite.analysis.families import IN_COMMON, context_in_words
from evalsuite.bits import BitPolicy
from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, as_rows, labelled, readable
from reports.layout import Canvas, broken, column, legend_height, line_height, pages, text_width, x_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_ROW = 0.17  # inches
_HEAD, _FOOT = 0.16, 0.36  # inches, above and below a block
_RIGHT = 0.12  # inches, for half a number at the end of the axis
_MOST = 0.55  # of the width, for labels
_COLUMNS = [
    *("task", "kind", "method", "network", "context", *IN_COMMON, "base", "option", "from", "to"),
    *("difference", "low", "high", "p_holm", "shown", "test", "unit", "n"),
]
_TESTED = ("difference", "low", "high", "shown", "test", "unit", "n")


@dataclass(frozen=True)
class AblationBars:
    """Options switched, one at a time.

    Change of the mean error in points where one option of a method takes another value and everything else stays; to
    the left of 0 the change helps. Bars are 95 % intervals of the paired difference over test images and,
    where there are several, calibration draws. Filled: shown (Holm-corrected p < 0.05 and an interval without 0);
    hollow: not shown.
    """

    order: ClassVar[int] = 130

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, context, method, option's other value) against the first of its method in the study.

        Options are the columns ``quantizer.OPTION``, those of the bit policy, and ``adapter.OPTION``. For each task's
        first stream and the first calibration set; quantizers without adaptation.
        """
        found = evidence(run)
        rows = []
        for kind, base, other, option in _switched(_first(labelled(run))):
            comparison = found.between(kind, other, base[f"{kind}_label"])
            if comparison is None or np.isnan(comparison.difference):
                continue
            common: dict[str, Any] = {name: base[name] for name in IN_COMMON} | {f"{kind}_label": None}
            rows.append(
                {name: getattr(comparison, name) for name in _TESTED}
                | {"task": base["task"], "kind": kind, "method": base[kind], "base": base[f"{kind}_label"]}
                | {"network": base["quantizer_label"] if kind == "adapter" else "", "p_holm": comparison.p}
                | {"option": option, "from": _worded(base[option]), "to": _worded(other[option])}
                | {"context": context_in_words(common), **common}
            )
        return pd.DataFrame(rows, columns=_COLUMNS)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by method where one printed page is too small."""
        return pages(data, _height, ["task"], ["task", "base"], ["to", "option"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a block of rows per task and method, a row per switch and, where there are several, network."""
        plan = _Plan.of(data, column(ax))
        canvas = Canvas.of(plan.width, plan.height, ax)
        limits = min(0.0, data["low"].min() * 100), max(0.0, data["high"].max() * 100)
        margin = 0.05 * (limits[1] - limits[0]) or 1.0
        top = plan.legend
        for block in plan.blocks:
            top += line_height(block.heading) + style.scaled(_HEAD)
            axes = canvas.panel(plan.left, top, plan.width - plan.left - _RIGHT, len(block.rows) * plan.row)
            axes.set(xlim=(limits[0] - margin, limits[1] + margin), ylim=(len(block.rows) - 0.5, -0.5))
            axes.axvline(0, color=style.MUTED, lw=0.6)
            for y, row in enumerate(block.rows):
                axes.hlines(y, row["low"] * 100, row["high"] * 100, color=style.INK, lw=0.8)
                look: dict[str, Any] = {"mfc": style.INK if row["shown"] else "white", "mec": style.INK, "mew": 0.7}
                axes.plot(row["difference"] * 100, y, "o", ms=3.6, **look)
            axes.set_yticks(range(len(block.rows)), block.labels)
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            canvas.text(0, top - 0.05, block.heading, weight="bold", va="bottom")
            if block is plan.blocks[-1]:
                x_label(axes, "change of the mean error (points)")
            else:
                axes.tick_params(labelbottom=False)
            top += len(block.rows) * plan.row
        canvas.legend(_handles())
        return canvas.whole


@dataclass(frozen=True)
class _Block:
    heading: str
    rows: list[dict[str, Any]]
    labels: list[str]


@dataclass(frozen=True)
class _Plan:
    """Where everything goes, in inches."""

    width: float
    left: float
    """Room for the labels."""
    row: float
    legend: float
    blocks: list[_Block]

    @classmethod
    def of(cls, data: pd.DataFrame, width: float) -> _Plan:
        blocks = []
        for _, own in data.groupby(["task", "base"], sort=False):
            rows = as_rows(own)
            heading = broken(f"{rows[0]['task']}: {rows[0]['base']}", width, bold=True)
            blocks.append(_Block(heading, rows, [broken(label, _MOST * width) for label in _labels(rows)]))
        labels = [label for block in blocks for label in block.labels]
        row = max([style.scaled(_ROW), *(line_height(label) + 0.03 for label in labels)])
        return cls(width, text_width(labels) + 0.12, row, legend_height(_handles(), width), blocks)

    @property
    def height(self) -> float:
        """Height of the figure."""
        heads = sum(line_height(block.heading) + style.scaled(_HEAD) for block in self.blocks)
        return self.legend + heads + sum(len(block.rows) for block in self.blocks) * self.row + style.scaled(_FOOT)


def _height(data: pd.DataFrame) -> float:
    return _Plan.of(data, column()).height


def _handles() -> list[Line2D]:
    marks = {"shown": style.INK, "not shown": "white"}
    return [Line2D([], [], ls="", marker="o", ms=3.6, mfc=c, mec=style.INK, label=n) for n, c in marks.items()]


def _labels(rows: list[dict[str, Any]]) -> list[str]:
    networks = [str(row["network"]) for row in rows]
    several = len(set(networks)) > 1
    return [_label(row) + (f", {name}" if several else "") for row, name in zip(rows, networks, strict=True)]


def _first(trials: pd.DataFrame) -> pd.DataFrame:
    """Keep a trial of each combination of a task's first stream and first calibration set, quantized."""
    quantized = trials[~trials["full_precision"]]
    usual = quantized.drop_duplicates("task")[["task", "stream_label", "calibration_label"]]
    return quantized.merge(usual, on=["task", "stream_label", "calibration_label"]).drop_duplicates(KEYS)


def _switched(trials: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], str]]:
    """Yield (kind, base, other, option) for settings of one plugin that differ in one option."""
    policy = BitPolicy.options()
    options = {
        "quantizer": [name for name in trials.columns if name in policy or name.startswith("quantizer.")],
        "adapter": [name for name in trials.columns if name.startswith("adapter.")],
    }
    # Quantizers are compared without adaptation, adapters on each network.
    alike = {"quantizer": ["quantizer", "bits", "adapter_label"], "adapter": ["adapter", "quantizer_label"]}
    for kind, names in options.items():
        own = trials[trials["unadapted"]] if kind == "quantizer" else trials[~trials["unadapted"]]
        for _, family in own.groupby(["task", *alike[kind]], sort=False):
            settings = as_rows(family.drop_duplicates(f"{kind}_label"))
            base = settings[0]
            for other in settings[1:]:
                differing = [name for name in names if not _equal(base[name], other[name])]
                if len(differing) == 1:
                    yield kind, base, other, differing[0]


def _equal(a: Any, b: Any) -> bool:
    return bool((pd.isna(a) and pd.isna(b)) if pd.isna(a) or pd.isna(b) else a == b)


def _worded(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else readable(str(value))


def _label(row: dict[str, Any]) -> str:
    name = readable(str(row["option"]).rpartition(".")[2])
    if row["to"] in ("on", "off"):
        return f"{name} {row['to']}"
    return f"{name} {row['from']} \N{RIGHTWARDS ARROW} {row['to']}"
