import io

import pandas as pd

from evalsuite.store import Run
from reports import style
from reports.figures.performance_profile import PerformanceProfile


def test_a_profile_is_a_distribution_function(study_run: Run) -> None:
    data = PerformanceProfile().data(study_run)
    for _, line in data.groupby(["view", "line"]):
        assert line["share"].is_monotonic_increasing
        assert line["share"].iloc[-1] == 1
        assert ((line["low"] <= line["share"] + 1e-9) & (line["share"] <= line["high"] + 1e-9)).all()
        assert line["seeds"].eq(2).all()
        assert line["domains"].eq(10).all()
    with style.applied():
        figure = PerformanceProfile().draw(pd.read_csv(io.StringIO(data.to_csv(index=False))))
    assert figure.axes[0].get_xlim()[1] >= data["threshold"].max() * 100
    with style.applied(style.Appearance(column=3.25, page=3.25, font_size=8)):
        figure = PerformanceProfile().draw(data)
        figure.draw_without_rendering()
        legends = [axes.get_legend() for axes in figure.axes]
        assert max(each.get_window_extent().x1 for each in legends if each is not None) <= figure.bbox.width
