import dataclasses
import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from evalsuite.store import Run
from reports import style
from reports.frames.evidence import evidence
from reports.frames.first_screen import matrices
from reports.page.filters import Filters
from reports.page.overview import LEGEND, grids, level
from reports.page.pictures import embedded


@pytest.mark.parametrize(
    ("size", "name"),
    [(0.0, "d0"), (-0.99, "d0"), (1.0, "d1"), (-1.0, "g1"), (4.9, "d2"), (-5.0, "g2"), (-20.0, "g3"), (99.0, "d6")],
)
def test_a_colour_stands_for_the_points_that_the_legend_says(size: float, name: str) -> None:
    assert level(size) == name


def test_every_colour_is_in_the_legend_and_in_order() -> None:
    seen = list(dict.fromkeys(level(tenth / 10) for tenth in range(-600, 601)))
    assert seen == [name for name, _ in LEGEND]


def test_an_embedded_drawing_is_whole_needs_no_escaping_and_is_smaller_than_the_file() -> None:
    with style.applied():
        figure = Figure(figsize=(2, 2))
        figure.add_subplot().plot([0.123456, 1.23456], [1, 2], "o-")
        figure.axes[0].bar([0.5], [1.0], hatch="//")
        figure.axes[0].set_title("<a> & 'b' 100 % #1")
        svg = style.svg(figure)
    source = str(embedded(svg))
    assert not set(source) & set('&"#')
    own = ElementTree.fromstring(unquote(source.partition(",")[2]))
    named = [each.attrib["id"] for each in own.iter() if "id" in each.attrib]
    used = re.findall(r"(?:href='#|url\(#)([^')]+)", unquote(source))
    assert sorted(named) == sorted(set(used))
    count = sum(1 for each in ElementTree.fromstring(svg).iter() if "metadata" not in each.tag)
    assert 0.8 * count <= sum(1 for _ in own.iter()) <= count
    assert len(source) < len(svg)


def test_an_adapter_that_a_task_refuses_keeps_its_column(run: Run) -> None:
    found = evidence(run)
    (first, second), stream = found.methods["task"].unique(), found.methods["stream_label"].iloc[0]
    left = found.methods[(found.methods["task"] != second) | (found.methods["adapter_label"] != "tent")]
    drawn = matrices(dataclasses.replace(found, methods=left.reset_index(drop=True)))
    assert [(each.task, each.stream, each.adapters) for each in drawn] == [
        (task, stream, ("none", "tent")) for task in (first, second)
    ]
    shown = grids(drawn, Filters.of(left))
    assert [each.gaps for each in shown] == [False, True]
    assert all(boxes[1] is None for _, boxes in shown[1].rows)
