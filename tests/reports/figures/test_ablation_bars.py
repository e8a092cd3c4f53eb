import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.bits import BitPolicy
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


CHANGED = {
    "first_last_bits": 4,
    "per_channel": False,
    "symmetric": True,
    "fold_norm": True,
    "first_bits": 4,
    "last_bits": 4,
    "symmetric_activations": True,
    "per_token": True,
    "overrides": '{"layer1.*":"W8A8"}',
}


def two_settings(folder: Path, **changes: Any) -> Run:
    """Return a run of two settings of one quantizer at the same bits, alike but for ``changes``."""
    quantizers = [("full_precision", "FP32"), ("rtn", "W4A4"), ("adaround", "W4A4")]
    run = make_run(folder, tasks=["digits/vit"], quantizers=quantizers, adapters=["none"], streams=["usual"], images=20)
    rows = store.load(run).trials.to_dict("records")
    policy = BitPolicy(4, 4).as_dict() | {"overrides": "{}"}
    for row in rows:
        if row["quantizer"] != "full_precision":
            other = row["quantizer"] == "adaround"
            row |= policy | {"quantizer": "rtn", "quantizer.range": "minmax", "quantizer.steps": None}
            row |= changes if other else {}
    store.write_trials(run, rows)
    return store.load(run)


def test_every_option_of_the_policy_has_a_case() -> None:
    assert set(CHANGED) == set(BitPolicy.options())
    BitPolicy(4, 4, **(CHANGED | {"overrides": {"layer1.*": "W8A8"}}))


@pytest.mark.parametrize("option", CHANGED)
def test_one_option_of_the_policy_is_a_switch_and_two_are_none(tmp_path: Path, option: str) -> None:
    data = AblationBars().data(two_settings(tmp_path / "one", **{option: CHANGED[option]}))
    assert data["option"].tolist() == [option]
    both = {option: CHANGED[option], "quantizer.range": "mse"}
    assert AblationBars().data(two_settings(tmp_path / "two", **both)).empty


def test_an_option_of_the_method_alone_is_a_switch(tmp_path: Path) -> None:
    data = AblationBars().data(two_settings(tmp_path, **{"quantizer.range": "mse"}))
    assert data[["option", "from", "to"]].to_numpy().tolist() == [["quantizer.range", "minmax", "mse"]]
