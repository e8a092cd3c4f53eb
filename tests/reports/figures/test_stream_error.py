import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.store import Run
from reports import style
from reports.figures.stream_error import StreamError
from reports.frames.methods import labelled

DOMAINS = ["fog", "snow", "contrast"]


def small(folder, **options) -> Run:
    settings = {"tasks": ["a"], "adapters": ["none", "tent"], "streams": ["usual"], "domains": DOMAINS, "images": 40}
    return store.load(make_run(folder, **(settings | options)))


def rewritten(run: Run, change: Callable[[pd.DataFrame], pd.DataFrame], seed: int | None = None) -> Run:
    """Change the records of a run, or of its trials of one seed."""
    rows = store.read_rows(run.folder)
    for trial, row in rows.items():
        if seed is None or row["seed"] == seed:
            records = change(run.records_of(trial).to_pandas().astype({"domain": str, "family": str}))
            columns: dict[str, Any] = {name: records[name].to_numpy() for name in records if name != "trial"}
            for name in ("domain", "family"):
                columns[name] = pa.array(records[name]).dictionary_encode()
            store.write_trial(run.folder, row, columns)
    return store.load(run.folder)


@pytest.fixture(scope="module")
def data(run: Run) -> pd.DataFrame:
    return StreamError().data(run)


def test_the_network_with_the_fewest_bits_and_its_reference(data: pd.DataFrame) -> None:
    assert set(data.loc[~data["reference"], "network"]) == {"rtn W4A4"}
    references = data[data["reference"]]
    assert set(zip(references["network"], references["adapter_label"], strict=True)) == {("full precision", "none")}


def test_of_equal_bits_the_network_with_most_adapters(tmp_path) -> None:
    run = small(tmp_path)
    trials = run.trials
    trials.loc[(trials["quantizer_label"] == "rtn W4A4") & (trials["adapter"] == "tent"), "status"] = "failed"
    assert set(StreamError().data(run).query("not reference")["network"]) == {"adaround W4A4"}


def test_an_error_is_that_of_the_records_of_its_domain(run: Run, data: pd.DataFrame) -> None:
    trials = labelled(run).query("task == 'digits/vit' and network == 'rtn W4A4' and adapter_label == 'tent'")["trial"]
    records = run.records[run.records["trial"].isin(trials) & (run.records["domain"] == "snow")]
    row = data.query("task == 'digits/vit' and adapter_label == 'tent' and shown == 'snow' and not reference")
    assert row["error"].item() == pytest.approx((records["prediction"] != records["label"]).mean())
    assert row["images"].item() == 60
    assert row["low"].item() < row["error"].item() < row["high"].item()


def test_stretches_follow_the_stream(tmp_path) -> None:
    data = StreamError().data(small(tmp_path, streams=["usual", "reversed"]))
    for stream, order in (("usual", DOMAINS), ("reversed", DOMAINS[::-1])):
        shown = data[data["stream_label"] == stream].drop_duplicates("stretch").sort_values("stretch")
        assert list(shown["shown"]) == order


def test_severities_are_named_where_they_differ(tmp_path) -> None:
    run = rewritten(
        small(tmp_path),
        lambda records: records.assign(severity=np.where(records["domain"] == "fog", 3, 5).astype(np.int8)),
    )
    assert set(StreamError().data(run)["shown"]) == {"fog 3", "snow 5", "contrast 5"}


def test_seeds_with_different_orders_are_averaged_by_place(tmp_path) -> None:
    last = np.int32(len(DOMAINS) * 40 - 1)
    run = rewritten(
        small(tmp_path, seeds=(0, 1)), lambda records: records.assign(position=last - records["position"]), seed=1
    )
    data = StreamError().data(run)
    assert sorted(data["shown"].unique()) == ["no. 1", "no. 3", "snow"]


def test_a_mixed_stream_is_cut_into_24_equal_stretches(tmp_path) -> None:
    count = np.int32(len(DOMAINS))
    run = rewritten(
        small(tmp_path, images=80),
        lambda records: records.assign(position=records["image"] * count + records["position"] // np.int32(80)),
    )
    data = StreamError().data(run)
    assert sorted(data["stretch"].unique()) == list(range(24))
    assert data.query("stretch == 23")["shown"].unique() == ["240 images"]


def test_what_is_drawn_is_what_the_csv_holds(data: pd.DataFrame) -> None:
    reread = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    with style.applied():
        figure = StreamError().draw(reread)
    for axes, (_, own) in zip(figure.axes, reread.groupby(["task", "stream_label"], sort=False), strict=True):
        drawn = np.concatenate([line.get_ydata() for line in axes.get_lines()])
        np.testing.assert_allclose(np.sort(drawn), np.sort(own["error"] * 100))
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] >= own["high"].max() * 100


def test_few_domains_fit_one_column(tmp_path) -> None:
    data = StreamError().data(small(tmp_path))
    with style.applied():
        assert StreamError().draw(data).get_figwidth() == style.COLUMN


def test_three_panels_leave_no_empty_fourth(data: pd.DataFrame) -> None:
    third = data[data["task"] == "digits/vit"].assign(task="third")
    with style.applied():
        assert len(StreamError().draw(pd.concat([data, third])).axes) == 3


def test_no_quantized_network_no_figure(tmp_path) -> None:
    assert StreamError().data(small(tmp_path, quantizers=[("full_precision", "FP32")])).empty
