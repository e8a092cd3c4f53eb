import io

import numpy as np
import pandas as pd

from evalsuite.metrics import forgetting
from evalsuite.store import Run
from reports import style
from reports.figures.recurring_rounds import FORGOTTEN, RecurringRounds


def records(run: Run, adapter: str = "zoa", quantizer: str = "rtn W4A4", calibration: str = "size 64") -> pd.DataFrame:
    trials = run.trials.query(
        "quantizer_label == @quantizer and adapter_label == @adapter and calibration_label == @calibration"
    )
    own = run.records[run.records["trial"].isin(trials["trial"])]
    return own.assign(wrong=own["prediction"] != own["label"])


def test_rounds_are_read_off_positions(study_run: Run) -> None:
    data = RecurringRounds().data(study_run)
    assert set(data["view"]) == {"rtn W4A4"}
    own = records(study_run)
    own = own.assign(round=own["position"] // (own["position"].max() + 1 >> 1) + 1)
    line = data[data["line"] == "zoa"]
    np.testing.assert_allclose(line.query("shows == 'error'")["value"], own.groupby("round")["wrong"].mean())
    table = own.assign(name=own["domain"].astype(str) + " " + own["severity"].astype(str))
    table = table.groupby(["round", "name"], observed=True)["wrong"].mean().unstack()
    lost = line[line["shows"] == FORGOTTEN].set_index("domain")["value"]
    np.testing.assert_allclose(lost[table.columns], forgetting(table.to_numpy()))
    with style.applied():
        figure = RecurringRounds().draw(pd.read_csv(io.StringIO(data.to_csv(index=False))))
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == list(
        data.loc[~data["reference"], "line"].unique()
    )


def test_one_round_cannot_be_forgotten(run: Run) -> None:
    assert RecurringRounds().data(run).empty
