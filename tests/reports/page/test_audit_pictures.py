import math
from itertools import pairwise

import matplotlib.colors
import numpy as np
import pytest
from _dummies import verdicts

from reports import style
from reports.frames.audit import differences, losses
from reports.page.audit_pictures import NARROW, WIDE, draw_differences, draw_losses, gravest, pictures
from reports.words.audit_page import clean

MARKERS = {"better": "^", "worse": "v", "not told apart": "o"}


def dots(axes):
    return [line for line in axes.lines if line.get_marker() in MARKERS.values()]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_dot_stands_where_the_difference_is_and_its_shape_says_the_standing(width):
    data = differences(verdicts.fragile())
    with style.applied():
        figure = draw_differences(data, width)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Mean error", "Worst class"]
    for axes, question in zip(figure.axes, ("mean", "worst class"), strict=True):
        own = data[data["question"] == question]
        found = dots(axes)
        assert [float(dot.get_xdata()[0]) for dot in found] == pytest.approx(list(own["estimate"]))
        assert [dot.get_marker() for dot in found] == [MARKERS[each] for each in own["standing"]]
        spans = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] != 0]
        drawn = np.array([line.get_xdata() for line in spans])
        np.testing.assert_allclose(drawn, own[["low", "high"]])
        low, high = axes.get_xlim()
        assert low < min(0, own["low"].min())
        assert high > max(0, own["high"].max())


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", ["fragile", "hostile"])
def test_labels_lie_within_the_picture_and_rows_do_not_touch(name, width):
    verdict = clean(verdicts.ALL[name]())
    with style.applied():
        figure = draw_differences(differences(verdict), width)
        figure.canvas.draw()
        whole = figure.bbox
        boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    ordered = sorted(boxes, key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 for lower, upper in pairwise(ordered))


@pytest.mark.parametrize("name", ["fragile", "hostile"])
def test_a_bar_is_as_long_as_the_loss_and_what_is_claimed_stands_out_without_colour(name):
    data = losses(clean(verdicts.ALL[name]()))
    with style.applied():
        figure = draw_losses(data, NARROW)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(list(data["drop"]))
    filled = [bar.get_facecolor() != matplotlib.colors.to_rgba("white") for bar in axes.patches]
    bold = [label.get_fontweight() == "bold" for label in axes.get_yticklabels()]
    assert filled == bold == list(data["shown"])
    assert any(filled)
    chance = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in chance] == pytest.approx([data["by_chance"].max()])


def test_losses_without_interval_or_chance_are_drawn_too():
    data = losses(verdicts.fragile()).assign(low=math.nan, high=math.nan, by_chance=math.nan)
    with style.applied():
        figure = draw_losses(data, NARROW)
    assert len(figure.axes[0].patches) == len(data)
    assert len(figure.axes[0].lines) == 1  # zero


def test_the_alternative_text_says_what_the_picture_shows():
    apart, lost = pictures(verdicts.fragile())
    text = apart.alt.replace("\N{NO-BREAK SPACE}", " ")
    assert "Worst class, rtn W4A4: worse, +38.0 points (+32.0 to +44.0)." in text
    assert "three 45.0 (claimed)" in lost.alt
    assert "W4A4" in lost.caption


def test_of_many_rows_no_claim_is_left_out_for_what_is_not_told_apart():
    data = differences(verdicts.hostile())
    kept = gravest(data, most=20)
    claimed = data[data["standing"] != "not told apart"]
    assert len(kept.drop_duplicates(["task", "bits", "rival"])) == 20
    assert 0 < len(claimed) == (kept["standing"] != "not told apart").sum()
    assert kept.index.is_monotonic_increasing
    assert "24 of 30 rows, claims first" in pictures(verdicts.hostile())[0].caption


def test_rivals_whose_shortened_names_are_alike_keep_a_row_each():
    data = differences(verdicts.fragile())
    middles = {"rtn": "1", "brecq": "2"}
    data["rival"] = [f"{'a' * 40}{middles[rival]}{'b' * 40}" for rival in data["rival"]]
    with style.applied():
        figure = draw_differences(data, WIDE)
    assert len({float(dot.get_ydata()[0]) for dot in dots(figure.axes[0])}) == 4


def test_where_there_is_nothing_to_draw_there_is_no_picture():
    assert pictures(verdicts.bare()) == []
    verdict = verdicts.fragile().model_copy(update={"claims": []})
    assert [each.name for each in pictures(verdict)] == ["losses"]
