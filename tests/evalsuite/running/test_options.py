import os

import pandas as pd
import pytest
from _dummies.studies import QUIET, execute, tiny

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.running import harness


def test_impossible_requests_write_nothing(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RequestError, match="expected 1 to 30"):
        execute(tiny(calibration=[{"protocol": "calibration", "size": 31}]), folder)
    with pytest.raises(RequestError, match="the test set has 48"):
        execute(tiny(stream=[{"protocol": "continual", "images": 49}]), folder)
    with pytest.raises(RequestError, match="workers = -1"):
        execute(tiny(), folder, workers=-1)
    with pytest.raises(RequestError, match="device 'abacus'"):
        harness.execute(tiny(), folder, device="abacus", console=QUIET)
    assert not folder.exists()


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write to"):
        execute(tiny(), tmp_path / "file" / "run")


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_impossible_ways_to_run_are_refused(limit, tmp_path):
    with pytest.raises(RequestError, match=r"a time limit of .* s: expected more than 0"):
        execute(tiny(), tmp_path / "run", time_limit=limit)
    with pytest.raises(RequestError, match=r"a memory limit of .* GB: expected more than 0"):
        execute(tiny(), tmp_path / "run", workers=2, memory_limit=limit)
    with pytest.raises(RequestError, match="a memory limit in this process: expected worker processes"):
        execute(tiny(), tmp_path / "run", memory_limit=1)
    with pytest.raises(RequestError, match="2 workers in this process: expected 1"):
        execute(tiny(), tmp_path / "run", workers=2, in_process=True)
    assert not (tmp_path / "run").exists()


UNADAPTED = {"quantizer": [{"method": "full_precision"}], "adapter": [{"method": "none"}]}


def test_runs_share_images_through_a_folder(tmp_path, monkeypatch):
    from evalsuite.running import domain_images

    made = []
    corrupt = domain_images.corrupt
    monkeypatch.setattr(domain_images, "corrupt", lambda *a, **b: made.append(a[1]) or corrupt(*a, **b))
    study = tiny(**UNADAPTED)
    for name in ("one", "two"):
        execute(study, tmp_path / name, cache=tmp_path / "shared")
        assert not (tmp_path / name / ".work" / "images").exists()
    one, two = (store.load(tmp_path / name).records for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert sorted(made) == ["brightness", "contrast", "gaussian_noise"]
    assert len(list((tmp_path / "shared" / "images").iterdir())) == 3
    assert "EVALSUITE_CACHE" not in os.environ


def test_a_shared_folder_keeps_to_its_size_but_for_the_present_run(tmp_path, monkeypatch):
    images = tmp_path / "shared" / "images"
    images.mkdir(parents=True)
    (images / "old.npy").write_bytes(b"0" * 1000)
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "shared"))
    execute(tiny(**UNADAPTED), tmp_path / "one", cache_gigabytes=1)
    assert (images / "old.npy").is_file()
    assert len(list(images.iterdir())) == 4
    execute(tiny(**UNADAPTED), tmp_path / "two", cache_gigabytes=0)
    assert not (images / "old.npy").exists()
    assert len(list(images.iterdir())) == 3
    with pytest.raises(RequestError, match="cache of -1 gigabytes"):
        execute(tiny(), tmp_path / "three", cache_gigabytes=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write to .*file"):
        execute(tiny(**UNADAPTED), tmp_path / "three", cache=tmp_path / "file")


def test_overrides_need_a_study_file(tmp_path):
    with pytest.raises(RequestError, match="expected none with a study that is checked already"):
        execute(tiny(), tmp_path, overrides=["seeds=[1]"])
