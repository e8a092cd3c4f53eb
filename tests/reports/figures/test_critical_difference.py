import io

import numpy as np
import pandas as pd
import pytest

from evalsuite.store import Run
from reports import style
from reports.figures.critical_difference import CriticalDifference, cliques


def test_cliques_are_the_longest_stretches_of_which_no_two_are_told_apart() -> None:
    data = pd.DataFrame({"mean_rank": [1.0, 1.5, 2.4, 4.0], "place": range(4)})
    assert cliques(data.assign(before=["[2, 3]", "[3]", "[3]", "[]"])) == [(1.0, 1.5), (1.5, 2.4)]
    assert cliques(data.assign(before="[]")) == [(1.0, 4.0)]
    assert cliques(data.assign(before=["[1, 2, 3]", "[2, 3]", "[3]", "[]"])) == []
    # The second is told apart from none: too few images differ.
    assert cliques(data.assign(before=["[3]", "[]", "[3]", "[]"])) == [(1.0, 2.4)]


def test_ranks_drawn_are_those_of_the_csv(study_run: Run) -> None:
    data = pd.read_csv(io.StringIO(CriticalDifference().data(study_run).to_csv(index=False)))
    assert set(data["factor"]) == {"quantizer", "adapter"}
    with style.applied():
        figure = CriticalDifference().draw(data)
    for axes, (_, own) in zip(figure.axes, data.groupby(["task", "factor"], sort=False), strict=True):
        dots = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
        np.testing.assert_allclose(dots, np.sort(own["mean_rank"]))
        words = " ".join(text.get_text() for text in axes.texts).replace("\n", " ")
        assert all(method in words for method in own["method"])
        assert f"CD {own['critical_difference'].iloc[0]:.2f}" in words


def test_labels_stay_inside_the_picture(study_run: Run) -> None:
    with style.applied():
        figure = CriticalDifference().draw(CriticalDifference().data(study_run))
        figure.draw_without_rendering()
        for axes in figure.axes:
            for text in axes.texts:
                box = text.get_window_extent()
                assert box.x0 >= 0
                assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("column", ["mean_rank", "error"])
def test_the_best_comes_first(study_run: Run, column: str) -> None:
    data = CriticalDifference().data(study_run)
    assert (
        data.groupby(["task", "factor"], sort=False)[column]
        .first()
        .lt(data.groupby(["task", "factor"], sort=False)[column].last())
        .all()
    )
