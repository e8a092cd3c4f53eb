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
from reports.frames.methods import KEYS


@pytest.fixture(scope="module")
def data(run: Run) -> pd.DataFrame:
    return MeanAgainstWorst().data(run)


def test_the_numbers_are_those_of_the_summary_without_the_references(run: Run, data: pd.DataFrame) -> None:
    summary = summarise(run).set_index(KEYS)
    for group in ("class", "domain"):
        own = data[data["group"] == group].set_index(KEYS)
        columns = [column for column in own.columns if column in summary.columns]
        pd.testing.assert_frame_equal(own[columns], summary.loc[own.index, columns])
        for name, column in {"worst": "", "worst_drop": "_value", "null": "_null", "p_holm": "_p_holm"}.items():
            expected = summary.loc[own.index, f"worst_drop_{group}{column}"]
            pd.testing.assert_series_equal(own[name], expected, check_names=False)
        assert len(summary) - len(own) == 2
    assert not ((data["network"] == "full precision") & (data["adapter_label"] == "none")).any()


def test_only_what_is_beyond_chance_is_coloured(data: pd.DataFrame) -> None:
    reread = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    with style.applied():
        figure = MeanAgainstWorst().draw(reread)
    assert len(figure.axes) == 4
    for axes, ((_, group), own) in zip(figure.axes, reread.groupby(["task", "group"], sort=False), strict=True):
        marks = {
            (line.get_marker(), line.get_markerfacecolor()): np.sort(line.get_xdata())
            for line in axes.get_lines()
            if line.get_marker() in ("o", "D", "|")
        }
        beyond = own["p_holm"] < 0.05
        assert beyond.any() or group == "domain"
        assert not beyond.all()
        np.testing.assert_allclose(marks["D", style.ALERT], np.sort(own.loc[beyond, "worst_drop"]) * 100)
        np.testing.assert_allclose(marks["D", "white"], np.sort(own.loc[~beyond, "worst_drop"]) * 100)
        np.testing.assert_allclose(marks["o", style.INK], np.sort(own["drop"]) * 100)
        np.testing.assert_allclose(marks["|", style.INK], np.sort(own["null"]) * 100)


def test_one_task_fits_one_column_unless_its_labels_do_not(data: pd.DataFrame) -> None:
    one = data[(data["task"] == "digits/vit") & (data["group"] == "class")]
    with style.applied():
        figure = MeanAgainstWorst().draw(one)
        assert figure.get_figwidth() == style.COLUMN
        left, right = figure.axes[0].get_xlim()
        assert left < 100 * one[["drop_low", "worst_low"]].min().min()  # no end of an interval is out of sight
        assert 100 * one[["drop_high", "worst_high"]].max().max() < right
        long = one.assign(adapter_label=one["adapter_label"] + " with a name of considerable length")
        assert MeanAgainstWorst().draw(long).get_figwidth() == style.PAGE
        longer = one.assign(adapter_label=one["adapter_label"] + " with no end" * 12)
        assert MeanAgainstWorst().draw(longer).get_figwidth() == style.PAGE


def test_streams_have_panels_of_their_own(data: pd.DataFrame) -> None:
    own = data[data["group"] == "class"]
    both = pd.concat([own, own.assign(stream_label="reversed")], ignore_index=True)
    with style.applied():
        figure = MeanAgainstWorst().draw(both)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert sorted(titles) == [
        f"{task}\n{stream}" for task in ("digits/resnet", "digits/vit") for stream in ("reversed", "usual")
    ]
    with style.applied(style.Appearance(column=3.25, page=3.25, font_size=11)):  # some on a page of their own
        pages = MeanAgainstWorst().pages(both)
        figures = [MeanAgainstWorst().draw(page) for page in pages]
    named = [axes.get_title(loc="left").splitlines()[-1] for figure in figures for axes in figure.axes]
    assert min(page["stream_label"].nunique() for page in pages) == 1
    assert named == [stream for page in pages for stream in page["stream_label"].unique()]


def test_every_grouping_has_panels_of_its_own(data: pd.DataFrame) -> None:
    with style.applied():
        figure = MeanAgainstWorst().draw(data)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"{task}\nworst {group}" for task in ("digits/resnet", "digits/vit") for group in ("class", "domain")
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
