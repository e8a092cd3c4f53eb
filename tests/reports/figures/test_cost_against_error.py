import io

import numpy as np
import pandas as pd
import pytest

from evalsuite.store import Run
from reports import style
from reports.figures.cost_against_error import CostAgainstError


def reread(data: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(data.to_csv(index=False)))


def test_the_front_holds_what_nothing_beats(study_run: Run) -> None:
    data = CostAgainstError().data(study_run).set_index("line")
    assert list(data.index) == ["none", "zoa", "zoa activation shift off"]
    assert data["best_forwards_per_batch"].to_dict() == {"none": True, "zoa": True, "zoa activation shift off": False}
    with style.applied():
        figure = CostAgainstError().draw(reread(CostAgainstError().data(study_run)))
    marks = [line for line in figure.axes[0].get_lines() if line.get_marker() not in ("", "None", None)]
    np.testing.assert_allclose([line.get_ydata()[0] for line in marks], data["error"] * 100)


@pytest.mark.parametrize("most", [28.0, 4000.0])
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(study_run: Run, most: float) -> None:
    data = CostAgainstError().data(study_run)
    data.loc[data["line"] == "zoa", ["forwards_per_batch", "seconds_per_image"]] *= most
    with style.applied():
        figure = CostAgainstError().draw(data)
        for axes in figure.axes[:2]:
            low, high = axes.get_xlim()
            shown = [float(text.get_text()) for text in axes.get_xticklabels()]
            assert len([tick for tick in shown if low <= tick <= high]) >= 2
