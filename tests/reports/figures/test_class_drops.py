import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import HARMED_CLASS, make_run

from evalsuite import store
from evalsuite.store import Run
from reports import style
from reports.figures.class_drops import ClassDrops
from reports.frames.evidence import evidence
from reports.frames.methods import as_rows, labelled


@pytest.fixture(scope="module")
def data(run: Run) -> pd.DataFrame:
    return ClassDrops().data(run)


def test_only_quantized_networks_without_adaptation(run: Run, data: pd.DataFrame) -> None:
    assert list(data["network"].unique()) == ["rtn W8A8", "rtn W4A4", "adaround W4A4"]
    assert len(data) == 2 * 3 * (10 + run.records["domain"].nunique())


def test_a_drop_is_that_of_the_records(run: Run, data: pd.DataFrame) -> None:
    trials = labelled(run).query("task == 'digits/resnet' and network == 'rtn W4A4' and unadapted")
    gaps = []
    records = run.records.assign(wrong=run.records["prediction"] != run.records["label"])
    for own, reference in zip(trials["trial"], trials["reference"], strict=True):
        both = [records[(records["trial"] == trial) & (records["label"] == 4)] for trial in (own, reference)]
        gaps.append(both[0]["wrong"].mean() - both[1]["wrong"].mean())
    row = data.query("task == 'digits/resnet' and network == 'rtn W4A4' and group == 'class' and name_order == 4")
    assert row["drop"].item() == pytest.approx(np.mean(gaps))
    assert row["name"].item() == "class 4"
    assert row["images"].item() == 6


def test_the_harmed_class_alone_is_beyond_the_band(data: pd.DataFrame) -> None:
    low_bits = data[(data["network"] == "rtn W4A4") & (data["group"] == "class")]
    assert set(low_bits.loc[low_bits["beyond"], "name"]) == {f"class {HARMED_CLASS}"}
    np.testing.assert_array_equal(data["beyond"], data["drop"] > data["high"] + 1e-12)
    assert (data["mean_drop"] <= data["high"]).all()


def test_names_of_worst_groups_stand_beside_their_dots_where_nothing_is(data: pd.DataFrame) -> None:
    own = data[data["task"] == "digits/resnet"].assign(name=lambda frame: frame["name"] + " known")
    with style.applied(style.Appearance(column=3.25, page=3.25, font_size=8.0)):
        figure = ClassDrops().draw(own)
    names = [text for axes in figure.axes for text in axes.texts]
    assert names
    assert all(text.get_horizontalalignment() == "left" for text in names)


def test_a_mark_is_what_the_summary_says_of_the_worst_group(study_run: Run) -> None:
    """One page, one answer: the marks, the other figure and the verdict hold the same corrected p against 5 %."""
    data, methods = ClassDrops().data(study_run), evidence(study_run).methods
    worst = data.loc[data.groupby(["task", "network", "group"])["drop"].idxmax()]
    both = worst.merge(methods, on=["task", "network", "stream_label"], suffixes=("", "_summary"))
    both = both[both["unadapted"]]
    assert len(both) == 2 * methods.query("unadapted and not full_precision")["network"].nunique()
    for row in as_rows(both):
        corrected, p = (row[f"worst_drop_{row['group']}_{name}"] for name in ("p_holm", "p"))
        assert row["beyond"] == (corrected < 0.05)
        assert row["p"] == p
    assert both["beyond"].nunique() == 2


@pytest.mark.parametrize("permutations", [5, 60])
def test_marks_and_summary_agree_where_permutations_are_few(tmp_path: Path, permutations: int) -> None:
    options = {"tasks": ["a"], "adapters": ["none"], "streams": ["usual"], "domains": ["fog"], "images": 120}
    run = store.load(make_run(tmp_path, **options, permutations=permutations, bootstrap=5))
    data = ClassDrops().data(run)
    beyond = data.query("group == 'class'").groupby("network", sort=False)["beyond"].any()
    methods = evidence(run).methods.set_index("network")
    expected = methods["worst_drop_class_p_holm"] < 0.05
    assert beyond.to_dict() == expected[beyond.index].to_dict()
    assert beyond.any() == (permutations == 60)
    assert data["high"].isna().any() == (permutations == 5)


def test_what_is_drawn_is_what_the_csv_holds(data: pd.DataFrame) -> None:
    reread = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    with style.applied():
        figure = ClassDrops().draw(reread)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["digits/resnet"] * 2 + ["digits/vit"] * 2
    for axes, (_, own) in zip(figure.axes, reread.groupby(["task", "group"], sort=False), strict=True):
        dots = np.concatenate([line.get_xdata() for line in axes.get_lines() if line.get_marker() in ("o", "D")])
        np.testing.assert_allclose(np.sort(dots), np.sort(own["drop"] * 100))
        named = own.loc[own["beyond"] & (own["drop"] == own.groupby("network")["drop"].transform("max")), "name"]
        assert {text.get_text() for text in axes.texts} == set(named)
    assert "class 3" in {text.get_text() for axes in figure.axes for text in axes.texts}


def test_no_quantized_network_no_figure(tmp_path) -> None:
    only = make_run(
        tmp_path, tasks=["a"], quantizers=[("full_precision", "FP32")], streams=["usual"], domains=["fog"], images=20
    )
    assert ClassDrops().data(store.load(only)).empty


def test_where_nothing_differs_there_is_still_an_axis(data: pd.DataFrame) -> None:
    with style.applied():
        figure = ClassDrops().draw(data.assign(drop=0.0, mean_drop=0.0, high=0.0))
    assert figure.axes[0].get_xlim() == (-1, 1)
