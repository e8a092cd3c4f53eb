import io

import pandas as pd
import pytest

from evalsuite.store import Run
from reports import style
from reports.figures.ablation_bars import AblationBars
from reports.frames.evidence import evidence


def reread(data: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(data.to_csv(index=False)))


def test_an_ablation_switches_one_option(study_run: Run) -> None:
    data = AblationBars().data(study_run)
    assert set(data["option"]) == {"adapter.activation_shift"}
    assert set(zip(data["from"], data["to"], strict=True)) == {("on", "off")}
    assert list(data["network"]) == ["rtn W4A4", "adaround W4A4", "gptq W4A4"]
    errors = evidence(study_run).summary.set_index(["calibration_label", "quantizer_label", "adapter_label"])["error"]
    for row in data.itertuples():
        off, on = (errors["size 64", row.network, name] for name in ("zoa activation shift off", "zoa"))
        assert row.difference == pytest.approx(off - on)
        assert row.low < row.difference < row.high
    with style.applied():
        figure = AblationBars().draw(reread(data))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        f"activation shift off, {name}" for name in data["network"]
    ]
