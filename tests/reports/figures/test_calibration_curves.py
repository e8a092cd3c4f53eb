import json

import numpy as np
import pandas as pd
import pytest

from evalsuite.store import Run
from reports import style
from reports.figures.calibration_curves import CalibrationCurves, _curves
from reports.frames.calibration_draws import by_draw


def test_a_curve_is_an_option_with_three_values(study_run: Run) -> None:
    data = CalibrationCurves().data(study_run)
    assert set(data["option"]) == {"size"}
    assert sorted(data["value"].unique()) == [16, 64, 256]
    draws = by_draw(study_run).query("quantizer_label == 'rtn W4A4' and adapter_label == 'none'")
    for row in data.query("quantizer_label == 'rtn W4A4'").itertuples():
        own = draws.loc[draws["calibration_label"] == row.calibration_label, "error"]
        assert row.draws == 2
        assert row.error == pytest.approx(own.mean())
        half = 12.706 * own.std() / np.sqrt(2)
        assert row.error_high - row.error == pytest.approx(half, rel=1e-3)


def test_a_set_without_the_step_stands_at_the_edge(study_run: Run) -> None:
    data = CalibrationCurves().data(study_run)
    edge = data[data["value"] == 16].assign(value=np.nan)
    with style.applied():
        figure = CalibrationCurves().draw(pd.concat([data, edge], ignore_index=True))
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["none", "16", "64", "256"]
    assert figure.axes[0].get_xscale() == "log"


def test_of_many_curves_every_option_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.figures.calibration_curves._MOST", 2)
    noise = [
        [{"name": "noise", "options": {"corruption": name, "severity": severity}}]
        for name in ("fog", "snow")
        for severity in (1, 3, 5)
    ]
    sizes = [[{"name": "calibration", "options": {"size": size}}] for size in (16, 32, 64)]
    steps = [json.dumps(each) for each in [*noise, *sizes]]
    sets = pd.DataFrame({"task": "a", "calibration_label": steps, "steps": steps})
    curves = _curves(sets).drop_duplicates("curve")
    assert list(zip(curves["option"], curves["rest"], strict=True)) == [("severity", "fog"), ("size", "")]
