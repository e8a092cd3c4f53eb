import io

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import HARMED_CLASS, make_run

from evalsuite import store
from evalsuite.randomness import numpy_generator
from evalsuite.store import Run
from reports import style
from reports.figures.class_drops import ClassDrops, chance_band
from reports.methods import labelled


@pytest.fixture(scope="module")
def data(run: Run) -> pd.DataFrame:
    return ClassDrops().data(run)


def test_only_quantized_networks_without_adaptation(data: pd.DataFrame) -> None:
    assert list(data["network"].unique()) == ["rtn W8A8", "rtn W4A4", "adaround W4A4"]
    assert len(data) == 2 * 3 * 10


def test_a_drop_is_that_of_the_records(run: Run, data: pd.DataFrame) -> None:
    trials = labelled(run).query("task == 'digits/resnet' and network == 'rtn W4A4' and unadapted")
    gaps = []
    records = run.records.assign(wrong=run.records["prediction"] != run.records["label"])
    for own, reference in zip(trials["trial"], trials["reference"], strict=True):
        both = [records[(records["trial"] == trial) & (records["label"] == 4)] for trial in (own, reference)]
        gaps.append(both[0]["wrong"].mean() - both[1]["wrong"].mean())
    row = data.query("task == 'digits/resnet' and network == 'rtn W4A4' and class_order == 4")
    assert row["drop"].item() == pytest.approx(np.mean(gaps))
    assert row["class"].item() == "class 4"
    assert row["images"].item() == 6


def test_the_harmed_class_alone_is_beyond_the_band(data: pd.DataFrame) -> None:
    low_bits = data[data["network"] == "rtn W4A4"]
    beyond = low_bits[low_bits["drop"] > low_bits["high"]]
    assert set(beyond["class"]) == {f"class {HARMED_CLASS}"}
    assert (data["low"] <= data["mean_drop"]).all()
    assert (data["mean_drop"] <= data["high"]).all()


def test_where_all_groups_are_alike_the_band_holds_all_of_them_nineteen_times_in_twenty() -> None:
    starts, sizes = np.array([0, 12, 20]), np.full(30, 3)
    inside = 0
    for trial in range(200):
        sums = numpy_generator(0, "data", trial).integers(-1, 3, (30, 1)).astype(float)
        low, high = chance_band(sums, sizes, starts, numpy_generator(0, "band", trial), permutations=100)
        means = np.add.reduceat(sums[:, 0], starts) / np.add.reduceat(sizes, starts)
        inside += bool(np.all((means >= low - 1e-12) & (means <= high + 1e-12)))
    assert 0.89 <= inside / 200 <= 1.0


def test_equal_images_leave_chance_no_room() -> None:
    low, high = chance_band(
        np.full((6, 2), 0.5), np.full(6, 1), np.array([0, 3]), numpy_generator(0, "x"), permutations=5
    )
    np.testing.assert_array_equal(low, [0.5, 0.5])
    np.testing.assert_array_equal(high, [0.5, 0.5])


def test_what_is_drawn_is_what_the_csv_holds(data: pd.DataFrame) -> None:
    reread = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    with style.applied():
        figure = ClassDrops().draw(reread)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["digits/resnet", "digits/vit"]
    for axes, (_, own) in zip(figure.axes, reread.groupby("task", sort=False), strict=True):
        dots = np.concatenate([line.get_xdata() for line in axes.get_lines() if line.get_marker() in ("o", "D")])
        np.testing.assert_allclose(np.sort(dots), np.sort(own["drop"] * 100))
        assert "class 3" in {text.get_text() for text in axes.texts}


def test_no_quantized_network_no_figure(tmp_path) -> None:
    only = make_run(
        tmp_path, tasks=["a"], quantizers=[("full_precision", "FP32")], streams=["usual"], domains=["fog"], images=20
    )
    assert ClassDrops().data(store.load(only)).empty


def test_where_nothing_differs_there_is_still_an_axis(data: pd.DataFrame) -> None:
    with style.applied():
        figure = ClassDrops().draw(data.assign(drop=0.0, mean_drop=0.0, low=0.0, high=0.0))
    assert figure.axes[0].get_xlim() == (-1, 1)
