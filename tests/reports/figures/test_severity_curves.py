import io

import numpy as np
import pandas as pd

from evalsuite.store import Run
from reports import style
from reports.figures.severity_curves import SeverityCurves
from reports.frames.views import QUANTIZERS


def records(run: Run, adapter: str = "zoa", quantizer: str = "rtn W4A4", calibration: str = "size 64") -> pd.DataFrame:
    trials = run.trials.query(
        "quantizer_label == @quantizer and adapter_label == @adapter and calibration_label == @calibration"
    )
    own = run.records[run.records["trial"].isin(trials["trial"])]
    return own.assign(wrong=own["prediction"] != own["label"])


def test_severities_are_means_over_the_records(study_run: Run) -> None:
    data = SeverityCurves().data(study_run)
    assert set(data["view"]) == {QUANTIZERS, "rtn W4A4"}
    errors = records(study_run).groupby("severity")["wrong"].mean()
    own = data.query("view == 'rtn W4A4' and line == 'zoa'").set_index("severity")
    np.testing.assert_allclose(own["error"], errors)
    assert list(own.index) == [0, 1, 3, 5]
    assert list(own["corruptions"]) == [0, 3, 3, 3]
    assert (own["low"] <= own["error"]).all()
    with style.applied():
        figure = SeverityCurves().draw(pd.read_csv(io.StringIO(data.to_csv(index=False))))
    assert len(figure.axes) == 2
    assert len(figure.axes[0].get_lines()) == 4


def test_two_severities_are_no_curve(run: Run) -> None:
    assert SeverityCurves().data(run).empty
