import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reports import style
from reports.layout import GAP, Rows, panel, size, text_width, wrapped


@pytest.fixture
def methods() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "network": ["b", "a", "a"],
            "network_order": [1, 0, 0],
            "adapter_label": ["none", "tent", "none"],
            "adapter_order": [0, 1, 0],
        }
    )


def test_rows_are_grouped_by_network_with_a_gap_between(methods: pd.DataFrame) -> None:
    rows = Rows.of(methods, 0.2)
    assert list(rows.table["adapter_label"]) == ["none", "tent", "none"]
    assert list(rows.table["y"]) == [0, 1, 2 + GAP]
    assert rows.height == 3 + GAP
    np.testing.assert_allclose(rows.centre(methods), [2.5 + GAP, 1.5, 0.5])


def test_labels_stay_inside_the_width_that_was_asked_for(methods: pd.DataFrame) -> None:
    with style.applied():
        rows = Rows.of(methods, 0.2)
        figure = Figure(figsize=(4, 2))
        left = rows.label_width
        axes = panel(figure, left, 0.5, 2, 1)
        rows.label(axes)
        figure.canvas.draw()
        box = axes.get_tightbbox()
    assert box is not None
    assert box.x0 >= 0
    assert axes.get_position().x0 * 4 == pytest.approx(left)
    assert size(axes) == pytest.approx((2, 1))


def test_a_label_gets_as_many_lines_as_there_is_room_for() -> None:
    label = "round to nearest W4A4 (gaussian noise 5, fraction 0.25)"
    assert wrapped(label, 0.13) == label
    assert wrapped(label, 0.5).count("\n") >= 2
    assert wrapped("short", 0.1) == "short"


def test_text_width_is_that_of_the_longest_line() -> None:
    assert text_width(["wide text", "x\nwide text"]) == text_width(["wide text"])
    assert text_width([]) == 0
