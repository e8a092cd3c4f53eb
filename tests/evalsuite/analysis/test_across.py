from __future__ import annotations

import numpy as np
import pytest
from _dummies.runs import make_run

from evalsuite import analysis, store
from evalsuite.errors import RequestError
from evalsuite.files import write_json

SMALL = {"tasks": ("digits/vit",), "streams": ("usual",), "adapters": ("none", "tent")}


def test_a_run_equals_itself(tmp_path):
    runs = [store.load(make_run(tmp_path / name, **SMALL)) for name in ("a", "b")]
    found = analysis.compare_runs(runs)
    assert tuple(found.columns) == analysis.across.ACROSS_COLUMNS
    assert len(found) == 8
    assert (found["difference"] == 0).all()
    assert found["note"].str.contains("0 of 15 pairs differ").all()
    assert set(found["a"]) == {"b"}
    np.testing.assert_allclose(found["error_a"], found["error_b"])


def test_a_version_that_is_better_is_found(tmp_path):
    old = store.load(
        make_run(tmp_path / "old", **SMALL, images=120, quantizers=(("full_precision", "FP32"), ("rtn", "W4A4")))
    )
    new = store.load(
        make_run(tmp_path / "new", **SMALL, images=120, quantizers=(("full_precision", "FP32"), ("rtn", "W4A4")))
    )
    row = new.trials[(new.trials["quantizer"] == "rtn") & (new.trials["adapter"] == "none")].iloc[0].to_dict()
    records = {name: values.to_numpy() for name, values in new.records_of(row["trial"]).to_pandas().items()}
    del records["trial"]
    mended = np.where(records["image"] % 3 == 0, records["label"], records["prediction"])
    store.write_trial(new.folder, {"trial": row["trial"]}, records | {"prediction": mended.astype(np.int32)})
    found = analysis.compare_runs([old, new]).set_index(["quantizer_label", "adapter_label"])
    better = found.loc[("rtn W4A4", "none")]
    assert better["difference"] < 0
    assert better["high"] < 0
    assert better["p_holm"] < 0.01
    assert better["error_a"] - better["error_b"] == pytest.approx(better["difference"])
    assert found.loc[("rtn W4A4", "tent"), "difference"] == 0


def test_other_images_are_refused(tmp_path):
    first = store.load(make_run(tmp_path / "a", **SMALL))
    fewer = store.load(make_run(tmp_path / "b", **SMALL, images=30))
    with pytest.raises(RequestError, match="showed other images; expected the same stream"):
        analysis.compare_runs([first, fewer])
    tasks = {"digits/vit": first.study["tasks"]["digits/vit"] | {"data_digest": "other"}}
    write_json(fewer.folder / "study.json", fewer.study | {"tasks": tasks})
    with pytest.raises(RequestError, match="the images of digits/vit differ"):
        analysis.compare_runs([first, store.load(fewer.folder)])


def test_runs_without_anything_in_common_are_refused(tmp_path):
    first = store.load(make_run(tmp_path / "a", **SMALL))
    other = store.load(make_run(tmp_path / "b", **SMALL | {"tasks": ("digits/resnet",)}))
    with pytest.raises(RequestError, match="no combination of task"):
        analysis.compare_runs([first, other])
    with pytest.raises(RequestError, match="1 run to compare"):
        analysis.compare_runs([first])
