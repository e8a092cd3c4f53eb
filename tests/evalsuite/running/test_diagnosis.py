import json
import shutil

import numpy as np
import pandas as pd
import pytest
from _dummies import plugins
from _dummies.studies import execute, raw, tiny

from evalsuite import store
from evalsuite.analysis import analyse
from evalsuite.analysis.diagnoses import DIAGNOSIS_COLUMNS
from evalsuite.diagnoses import CALIBRATION, read_diagnoses
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.running.diagnosis import spread
from evalsuite.running.merge import merge
from evalsuite.study.file import parse
from evalsuite.study.schema import study_schema

DIGITS = {
    "tasks": ["digits/resnet"],
    "seeds": [0, 1],
    "gate": {"points": 0},
    "quantizer": [{"method": "full_precision"}, {"method": "rtn", "bits": ["W4A4", "MXFP4"]}],
    "adapter": [{"method": ["none", "bn_adapt"]}],
    "stream": [{"protocol": "continual", "images": 12, "batch_size": 12, "corruptions": ["contrast", "fog"]}],
}


def study(images, **changes):
    return tiny(**DIGITS | changes, diagnosis={"images": images})


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    execute(study(0), folder)
    return folder


@pytest.fixture(scope="module")
def diagnosed(plain, tmp_path_factory):
    """The run, asked for its diagnosis after it was done, and what of it was there before."""
    before = {file: file.read_bytes() for file in (plain / "records").iterdir()}
    execute(study(4), plain)
    return plain, before


def files(folder):
    return {file: file.stat().st_mtime_ns for file in (folder / "diagnosis").iterdir()}


def table_of(folder):
    return analyse(store.load(folder)).estimates["diagnosis"]


def test_a_run_that_is_done_gets_it_and_keeps_its_records(diagnosed):
    folder, before = diagnosed
    assert {file: file.read_bytes() for file in before} == before
    assert len(files(folder)) == 4  # two quantizers, two seeds; adapters share their network
    rows = table_of(folder)
    assert tuple(rows.columns) == DIAGNOSIS_COLUMNS
    assert rows["domain"].drop_duplicates().tolist() == [CALIBRATION, "contrast", "fog"]
    assert (rows["images"] == 4).all()
    assert (rows["seeds"] == 2).all()
    assert not rows.duplicated(["quantizer_label", "layer", "domain"]).any()
    formats = rows["quantizer_label"] == "rtn MXFP4"
    inner = rows["activation_bits"] == 4
    assert rows.loc[formats, "unused"].isna().all()
    assert rows.loc[~formats & inner, "unused"].between(0, 1).all()
    assert rows.loc[rows["domain"] == CALIBRATION, "calibration_snr_db"].isna().all()


def test_domains_stand_beside_the_same_layer_on_calibration_images(diagnosed):
    rows = table_of(diagnosed[0])
    rows = rows[rows["quantizer_label"] == "rtn W4A4"]
    own = rows.set_index(["layer", "domain"])
    for layer in rows["layer"].unique():
        for name in ("snr_db", "unused", "clipped"):
            assert own.loc[(layer, "fog"), f"calibration_{name}"] == own.loc[(layer, CALIBRATION), name]
    changed = rows["unused"] - rows["calibration_unused"]
    pd.testing.assert_series_equal(rows["unused_change"], changed, check_names=False)


def test_what_is_there_is_not_measured_again_and_what_is_asked_anew_is(diagnosed):
    folder, _ = diagnosed
    before = files(folder)
    execute(study(4), folder)
    assert files(folder) == before
    broken = min(before)
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(RequestError, match="not a whole diagnosis"):
        list(read_diagnoses(folder))
    with pytest.warns(DamageWarning, match="diagnosed again"):
        execute(study(4), folder)
    after = files(folder)
    assert {file for file in after if after[file] != before.get(file)} == {broken}


def test_runs_that_are_merged_have_the_diagnosis_of_both(diagnosed, tmp_path):
    folder, other = diagnosed[0], tmp_path / "other"
    shutil.copytree(folder, other)
    for file in (other / "diagnosis").iterdir():  # as if the other part had shown something else
        file.rename(file.with_stem(f"{file.stem.partition('-')[0]}-other"))
    min((other / "diagnosis").iterdir()).unlink()
    merge(tmp_path / "merged", [folder, other])
    assert len(files(tmp_path / "merged")) == 7
    pd.testing.assert_frame_equal(table_of(tmp_path / "merged"), table_of(folder))


def test_a_network_that_cannot_be_looked_into_costs_no_trial(tmp_path):
    one = {"adapter": [{"method": "none"}], "quantizer": [{"method": plugins.SCALED, "bits": "W4A4"}]}
    outcome = execute(tiny(**one, diagnosis={"images": 4}), tmp_path)
    assert outcome.failed == 0
    assert table_of(tmp_path).empty
    analyse(store.load(tmp_path)).write(tmp_path)
    assert not (tmp_path / "diagnosis.csv").exists()


def test_off_is_the_default_and_leaves_a_study_as_it_was():
    assert "diagnosis" not in tiny().as_dict()
    assert tiny(diagnosis={"images": 0}).as_dict() == tiny().as_dict()
    assert tiny(diagnosis={"images": 8}).as_dict()["diagnosis"] == {"images": 8}
    assert json.dumps(study_schema()["properties"]["diagnosis"])
    for wrong in ({"images": 1}, {"images": -2}, {"pictures": 3}, {"images": "all"}):
        with pytest.raises(RequestError, match=r"\[diagnosis\]"):
            parse(raw(diagnosis=wrong))


def test_images_are_spread_evenly():
    for size, count in ((5, 5), (100, 3), (7, 2)):
        places = spread(size, count)
        assert (places[0], places[-1], len(np.unique(places))) == (0, size - 1, count)
        assert np.ptp(np.diff(places)) <= 1
