import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports import layout, style
from reports.layout import GAP, Rows, broken, legend_below, pages, panel, size, text_width, title


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


@given(st.text("abc dW%5", max_size=60), st.floats(0.2, 3))
def test_a_text_is_broken_and_nothing_of_it_is_lost(text: str, inches: float) -> None:
    lines = broken(text, inches).split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width([line]) <= inches or len(line) == 1 for line in lines)
    assert broken("on 50 %", text_width(["on 50"])) == "on\n50 %"


def test_text_width_is_that_of_the_longest_line() -> None:
    assert text_width(["wide text", "x\nwide text"]) == text_width(["wide text"])
    assert text_width([]) == 0


@pytest.mark.parametrize("math", [False, True])
@given(st.text("aWi$_^1 '", min_size=1, max_size=40).filter(str.strip))
def test_text_is_as_wide_as_it_is_drawn_whether_dollars_are_mathematics_or_not(math: bool, text: str) -> None:
    with style.applied(), mpl.rc_context({"text.parse_math": math}):
        figure = Figure(dpi=300)
        try:
            drawn = figure.text(0, 0, text).get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 300
        except ValueError:  # no mathematics
            assume(False)
        assert 0.99 * drawn - 0.01 <= text_width([text]) <= 1.08 * drawn + 0.02


@pytest.fixture
def tall() -> pd.DataFrame:
    """Three tasks of four streams; what is drawn of a stream takes 1.8 inches."""
    names = [(task, stream) for task in "cab" for stream in range(4)]
    return pd.DataFrame(names, columns=["task", "stream"])


def test_pages_hold_what_fits_in_the_order_of_the_data(tall: pd.DataFrame) -> None:
    assert [len(page) for page in pages(tall, lambda own: 1.8 * len(own), ["task"])] == [4, 4, 4]
    assert [len(page) for page in pages(tall, lambda own: 0.9 * len(own), ["task"])] == [8, 4]
    cut = pages(tall, lambda own: 3.6 * len(own), ["task"], ["stream"])
    assert [len(page) for page in cut] == [2] * 6
    pd.testing.assert_frame_equal(pd.concat(cut), tall)


def test_pages_hold_about_as_much_each(tall: pd.DataFrame) -> None:
    alone = tall.assign(stream=range(12))
    assert [len(page) for page in pages(alone, lambda own: 0.7 * len(own), ["stream"])] == [6, 6]
    uneven = pages(alone, lambda own: 0.5 + (own["stream"] < 2).sum() * 3 + 0.55 * len(own), ["stream"])
    assert [len(page) for page in uneven] == [2, 10]  # where that would take another page, each is as full as may be


def test_what_fits_or_cannot_be_cut_stays_whole(tall: pd.DataFrame) -> None:
    assert pages(tall, lambda own: 0.1 * len(own), ["task"])[0] is tall
    assert [len(page) for page in pages(tall, lambda own: 99.0, ["task"])] == [4, 4, 4]


def test_a_title_breaks_where_its_panel_ends() -> None:
    text = "digits/vit, rtn W4A4\nusual order, severity 5, long tail 10, 4 bursts of 16"
    with style.applied():
        lines = title(text, 2.0).splitlines()
        assert lines[0] == "digits/vit, rtn W4A4"
        assert " ".join(lines) == text.replace("\n", " ")
        assert text_width(lines, bold=True) * 8 / 7 <= 2.0
        assert title(text, 9.0) == text
        parts = title("unbreakable" * 9, 1.0).splitlines()  # a word that is too long for a line is broken itself
        assert "".join(parts) == "unbreakable" * 9
        assert text_width(parts, bold=True) * 8 / 7 <= 1.0


def test_a_legend_has_the_columns_that_fit() -> None:
    with style.applied():
        axes = Figure(figsize=(3.4, 2)).add_subplot()
        for name in ("a", "b", "c", "a name of considerable length, longer than others"):
            axes.plot([0], [0], label=name)
        legend_below(axes, 6.0)
        wide = axes.get_legend()
        legend_below(axes, 3.4)
        narrow = axes.get_legend()
    assert wide is not None
    assert narrow is not None
    assert wide._ncols == 4
    assert 1 <= narrow._ncols < 4


def test_panels_of_different_tasks_stand_on_different_lines() -> None:
    panels = [(f"{task}{k}", pd.DataFrame({"task": [task]})) for task in "ab" for k in range(4)]
    arranged = [[name for name, _ in line] for line in layout.lines(panels, layout.even(4, 3), ["task"])]
    assert arranged == [["a0", "a1"], ["a2", "a3"], ["b0", "b1"], ["b2", "b3"]]
    assert [len(line) for line in layout.lines(panels, 3, [])] == [3, 3, 2]
    assert [layout.even(panels, 3) for panels in range(1, 8)] == [1, 2, 3, 2, 3, 3, 3]
