import io

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.store import Run
from reports import style
from reports.appearance import Appearance
from reports.figures.error_heatmap import MEAN, ErrorHeatmap
from reports.frames.methods import labelled


@pytest.fixture(scope="module")
def data(run: Run) -> pd.DataFrame:
    return ErrorHeatmap().data(run)


def test_a_cell_is_the_mean_over_the_trials_of_its_method(run: Run, data: pd.DataFrame) -> None:
    trials = labelled(run).query("task == 'digits/vit' and network == 'rtn W4A4' and adapter_label == 'tent'")
    errors = []
    for trial in trials["trial"]:
        records = pq.read_table(run.folder / "records" / f"{trial}.parquet").to_pandas().query("domain == 'fog'")
        errors.append((records["prediction"] != records["label"]).mean())
    cell = data.query("task == 'digits/vit' and network == 'rtn W4A4' and adapter_label == 'tent' and domain == 'fog'")
    assert cell["error"].item() == pytest.approx(np.mean(errors))
    assert cell["trials"].item() == len(errors) == 2


def test_the_mean_weighs_corruptions_alike_and_leaves_clean_out(data: pd.DataFrame) -> None:
    for _, method in data.groupby(["task", "network", "adapter_label"]):
        errors = method.set_index("domain")["error"]
        assert errors[MEAN] == pytest.approx(errors.drop([MEAN, "clean"]).mean())


def test_columns_are_in_the_usual_order(data: pd.DataFrame) -> None:
    domains = data.drop_duplicates("domain").sort_values("domain_order")["domain"]
    usual = [
        "clean",
        "gaussian_noise",
        "shot_noise",
        "defocus_blur",
        "zoom_blur",
        "snow",
        "fog",
        "contrast",
        "pixelate",
    ]
    assert list(domains) == [*usual, MEAN]


def test_what_is_drawn_is_what_the_csv_holds(data: pd.DataFrame) -> None:
    reread = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    with style.applied():
        figure = ErrorHeatmap().draw(reread)
    drawn = [text.get_text() for axes in figure.axes for text in axes.texts]
    for error in reread["error"]:
        drawn.remove(f"{error * 100:.1f}" if error < 0.9995 else "100")
    headings = [" ".join(text.get_text().split()) for text in figure.texts]
    assert headings == ["digits/resnet, error (%)", "digits/vit, error (%)"]
    assert {"noise", "weather", "digital", "fog", "rtn W4A4"} <= set(drawn)
    assert not any(text.replace(".", "").isdigit() for text in drawn)


def test_corruptions_that_nobody_knows_come_after_the_others(tmp_path) -> None:
    folder = make_run(
        tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["zebra", "apple", "fog"], images=20
    )
    data = ErrorHeatmap().data(store.load(folder))
    domains = data.drop_duplicates("domain").sort_values("domain_order")["domain"]
    assert list(domains) == ["fog", "apple", "zebra", MEAN]


def test_a_clean_stream_has_no_mean_over_corruptions(tmp_path) -> None:
    folder = make_run(tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["clean"], images=20)
    data = ErrorHeatmap().data(store.load(folder))
    assert set(data["domain"]) == {"clean"}
    with style.applied():
        figure = ErrorHeatmap().draw(data)
    assert figure.get_figwidth() < style.COLUMN


def test_long_names_leave_room_for_whole_numbers(data: pd.DataFrame) -> None:
    long = data.assign(network=data["network"] + " with a calibration set whose name takes much room" * 3)
    with style.applied(Appearance(page=6.0)):  # of a page of 7 inches, names in lines leave room for a digit more
        figure = ErrorHeatmap().draw(long)
    drawn = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert f"{data['error'].max() * 100:.0f}" in drawn
    assert all(axes.get_position().width * figure.get_figwidth() > 0.18 * 9 for axes in figure.axes)


def test_numbers_in_narrow_columns_stand_upright_inside_their_cells(data: pd.DataFrame) -> None:
    with style.applied(Appearance(page=3.25, font_size=8)):
        figure = ErrorHeatmap().draw(data)
        figure.draw_without_rendering()
        texts = [text for axes in figure.axes for text in axes.texts if text.get_text().replace(".", "").isdigit()]
        sizes = [text.get_window_extent() for text in texts]
    columns = [axes.bbox.width / axes.get_xlim()[1] for axes in figure.axes if axes.texts]
    assert len(texts) == len(data)
    assert {text.get_rotation() for text in texts} == {90}
    assert max(size.width for size in sizes) <= max(columns)


def test_networks_that_met_other_streams_are_shown_on_the_first_alone(tmp_path) -> None:
    folder = make_run(
        tmp_path, tasks=["a"], adapters=["none"], streams=["usual", "reversed"], domains=["fog", "snow"], images=20
    )
    run = store.load(folder)
    first = run.trials["stream_label"].iloc[0]
    shown = ErrorHeatmap().data(run)
    rows = run.trials.to_dict("records")
    for row in rows:  # one network on one stream alone: nobody else's mean may change
        if row["quantizer"] == "rtn" and row["stream_label"] != first:
            row |= {"status": "failed", "reason": "made up"}
    store.write_trials(folder, rows)
    pd.testing.assert_frame_equal(ErrorHeatmap().data(store.load(folder)), shown)
    assert shown["trials"].max() == run.trials["seed"].nunique()
