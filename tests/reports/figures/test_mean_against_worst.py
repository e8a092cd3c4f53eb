import io

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import summarise
from evalsuite.store import Run
from reports import style
from reports.figures.mean_against_worst import MeanAgainstWorst
from reports.methods import KEYS


@pytest.fixture(scope="module")
def data(run: Run) -> pd.DataFrame:
    return MeanAgainstWorst().data(run)


def test_the_numbers_are_those_of_the_summary_without_the_references(run: Run, data: pd.DataFrame) -> None:
    summary = summarise(run).set_index(KEYS)
    own = data.set_index(KEYS)
    columns = [column for column in own.columns if column in summary.columns]
    pd.testing.assert_frame_equal(own[columns], summary.loc[own.index, columns])
    assert len(summary) - len(own) == 2
    assert not ((data["network"] == "full precision") & (data["adapter_label"] == "none")).any()


def test_only_what_is_beyond_chance_is_coloured(data: pd.DataFrame) -> None:
    reread = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    with style.applied():
        figure = MeanAgainstWorst().draw(reread)
    assert len(figure.axes) == 2
    for axes, (_, own) in zip(figure.axes, reread.groupby("task", sort=False), strict=True):
        marks = {
            line.get_markerfacecolor(): np.sort(line.get_xdata())
            for line in axes.get_lines()
            if line.get_marker() in ("o", "D")
        }
        beyond = own["worst_drop_class_p_holm"] < 0.05
        assert beyond.any()
        assert not beyond.all()
        np.testing.assert_allclose(marks[style.ALERT], np.sort(own.loc[beyond, "worst_drop_class_value"]) * 100)
        np.testing.assert_allclose(marks[style.MUTED], np.sort(own.loc[~beyond, "worst_drop_class_value"]) * 100)
        np.testing.assert_allclose(marks[style.INK], np.sort(own["drop"]) * 100)
        np.testing.assert_allclose(marks["white"], np.sort(own["worst_drop_class_null"]) * 100)


def test_one_task_fits_one_column_unless_its_labels_do_not(data: pd.DataFrame) -> None:
    one = data[data["task"] == "digits/vit"]
    with style.applied():
        assert MeanAgainstWorst().draw(one).get_figwidth() == style.COLUMN
        long = one.assign(adapter_label=one["adapter_label"] + " with a name of considerable length")
        assert MeanAgainstWorst().draw(long).get_figwidth() == style.PAGE
        longer = one.assign(adapter_label=one["adapter_label"] + " with no end" * 12)
        assert MeanAgainstWorst().draw(longer).get_figwidth() > style.PAGE


def test_streams_have_panels_of_their_own(data: pd.DataFrame) -> None:
    both = pd.concat([data, data.assign(stream_label="reversed")], ignore_index=True)
    with style.applied():
        figure = MeanAgainstWorst().draw(both)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert sorted(titles) == [
        f"{task}\n{stream}" for task in ("digits/resnet", "digits/vit") for stream in ("reversed", "usual")
    ]


def test_full_precision_alone_leaves_nothing_to_draw(tmp_path) -> None:
    folder = make_run(
        tmp_path,
        tasks=["a"],
        quantizers=[("full_precision", "FP32")],
        adapters=["none"],
        streams=["usual"],
        domains=["fog"],
        images=20,
    )
    assert MeanAgainstWorst().data(store.load(folder)).empty


def test_where_nothing_differs_there_is_still_an_axis(data: pd.DataFrame) -> None:
    numbers = data.select_dtypes("float").columns
    with style.applied():
        figure = MeanAgainstWorst().draw(data.assign(**dict.fromkeys(numbers, 0.0)))
    assert figure.axes[0].get_xlim() == (-1, 1)
